"""What a program puts in place of the loop's methods and classes is called where asyncio calls it."""

import asyncio
import contextvars
import time
import types

import pytest
import velodrome
from differential import worlds

either_loop = worlds.either_loop


REPLACED = [
    "call_soon",
    "call_later",
    "call_at",
    "time",
    "create_task",
    "create_future",
    "call_soon_threadsafe",
]


def recorder(name, calls, original):
    def method(*arguments, **options):
        if name == "time":
            calls.append("time")
        elif name in ("create_future", "create_task"):
            calls.append((name, sorted(options)))
        else:
            positional = [argument for argument in arguments if callable(argument)]
            shown = getattr(positional[0], "__qualname__", type(positional[0]).__name__)
            calls.append((name, shown, sorted(options)))
        return original(*arguments, **options)

    return method


async def busy_program(loop):
    """Something of everything that asyncio does through the loop's methods."""

    async def child(future):
        await asyncio.sleep(0)
        return await future

    future = loop.create_future()
    task = asyncio.create_task(child(future))
    loop.call_later(0, future.set_result, 1)
    assert await task == 1
    await asyncio.sleep(0.001)
    other = asyncio.ensure_future(child(future))
    assert await asyncio.gather(other, child(future)) == [1, 1]
    waiter = loop.create_future()
    task = loop.create_task(child(waiter), name="cancelled")
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(loop.create_future(), 0.001)
    event = asyncio.Event()
    loop.call_soon(event.set)
    await event.wait()
    callback = loop.create_future()
    callback.add_done_callback(lambda _: None)
    callback.set_result(None)
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError):
        await asyncio.current_task()
    return "done"


def wakeup_by_another_name(calls):
    """asyncio's C tasks queue steps as `TaskStepMethWrapper`; all that counts is that they do."""
    named = []
    for call in calls:
        if isinstance(call, tuple) and len(call) == 3:
            name = call[1]
            if "step" in name.lower() or "wakeup" in name.lower():
                call = (call[0], "step", call[2])
        named.append(call)
    return named


@pytest.mark.parametrize("name", REPLACED)
@pytest.mark.parametrize("where", ["instance", "subclass"])
def test_replaced_method_is_called_where_asyncio_calls_it(name, where):
    found = {}
    for base in (asyncio.SelectorEventLoop, velodrome.Loop):
        calls = []
        if where == "instance":
            loop = base()
            setattr(loop, name, recorder(name, calls, getattr(loop, name)))
        else:

            def method(self, *arguments, _base=base, _calls=calls, **options):
                original = types.MethodType(getattr(_base, name), self)
                return recorder(name, _calls, original)(*arguments, **options)

            loop = type("Replaced", (base,), {name: method})()
        assert loop.run_until_complete(busy_program(loop)) == "done"
        loop.close()
        found[base] = wakeup_by_another_name(calls)
    ours, theirs = found[velodrome.Loop], found[asyncio.SelectorEventLoop]
    if name == "time":
        # How often a loop looks at its own clock is its own affair, but look it must.
        assert ours and theirs
    else:
        assert ours == theirs


@pytest.mark.parametrize("where", ["instance", "subclass", "class"])
def test_replaced_iteration_is_what_the_loop_runs(where, monkeypatch):
    """Whoever times a loop's iterations puts a `_run_once` around the loop's own."""

    async def main():
        for _ in range(5):
            await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        return "done"

    found = []
    for base in (asyncio.SelectorEventLoop, velodrome.Loop):
        iterations = []
        original = base._run_once

        def _run_once(self, _original=original, _iterations=iterations):
            _iterations.append(self.is_running())
            _original(self)

        if where == "class":
            monkeypatch.setattr(base, "_run_once", _run_once, raising=False)
            loop = base()
        elif where == "subclass":
            loop = type("Replaced", (base,), {"_run_once": _run_once})()
        else:
            loop = base()
            loop._run_once = types.MethodType(_run_once, loop)
        assert loop.run_until_complete(main()) == "done"
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
        found.append(iterations)
    ours, theirs = found
    # asyncio's clock is coarser: it can wait once more for the timer.
    assert set(ours) == {True} and abs(len(ours) - len(theirs)) <= 1


def test_method_replaced_while_the_loop_runs_counts_at_once(either_loop):
    calls = []

    async def main():
        await asyncio.sleep(0)
        either_loop.call_soon = recorder("call_soon", calls, either_loop.call_soon)
        await asyncio.sleep(0)
        assert len(calls) == 1
        del either_loop.call_soon
        await asyncio.sleep(0)
        assert len(calls) == 1

    either_loop.run_until_complete(main())


def test_method_replaced_on_the_class_counts(monkeypatch, loop):
    calls = []
    original = velodrome.Loop.call_soon

    def call_soon(self, *arguments, **options):
        calls.append(arguments)
        return original(self, *arguments, **options)

    monkeypatch.setattr(velodrome.Loop, "call_soon", call_soon, raising=False)
    loop.run_until_complete(asyncio.sleep(0))
    assert len(calls) >= 2


@pytest.mark.parametrize("place", ["instance", "class"])
def test_time_monotonic_in_place_of_the_loops_clock_is_that_clock(place):
    class Loop(velodrome.Loop):
        if place == "class":
            time = time.monotonic

    loop = Loop()
    if place == "instance":
        loop.time = time.monotonic
    task = loop.create_task(velodrome.sleep(0.01, "slept"))
    loop.call_soon(loop.stop)
    loop.run_forever()
    # The sleep is a timer of the loop's own, without a handle, as if nothing had been replaced.
    assert loop._scheduled == []
    before = time.monotonic()
    assert before + 60 <= loop.call_later(60, print).when() <= time.monotonic() + 60
    assert loop.run_until_complete(task) == "slept"
    loop.time = lambda: 1000.0
    assert loop.call_later(1, print).when() == 1001
    loop.close()


@pytest.mark.parametrize("sleep", [asyncio.sleep, velodrome.sleep], ids=["asyncio", "velodrome"])
def test_clock_that_a_program_replaced_is_the_loops_clock(either_loop, sleep):
    now = 1000.0
    either_loop.time = lambda: now
    seen = []

    async def sleeper():
        await sleep(50)
        seen.append("slept")

    either_loop.call_later(10, seen.append, "ten")
    at = either_loop.call_at(1005, seen.append, "five")
    assert at.when() == 1005
    assert either_loop.call_later(1, print).when() == 1001
    task = either_loop.create_task(sleeper())

    def turn():
        either_loop.stop()
        either_loop.run_forever()

    turn()
    assert seen == []
    now = 1005.0
    turn()
    assert seen == ["five"]
    now = 1049.0
    turn()
    assert seen == ["five", "ten"]
    now = 1051.0
    turn()
    turn()
    assert seen == ["five", "ten", "slept"] and task.done()


def test_replaced_create_future_serves_our_sleep():
    made = []

    class Future(asyncio.Future):
        pass

    class Loop(velodrome.Loop):
        def create_future(self):
            made.append(Future(loop=self))
            return made[-1]

    loop = Loop()
    loop.run_until_complete(velodrome.sleep(0.001))
    loop.close()
    assert len(made) == 1 and made[0].done()


def test_replaced_create_task_serves_our_create_task():
    made = []

    class Loop(velodrome.Loop):
        def create_task(self, coro, **options):
            made.append(options)
            return super().create_task(coro, **options)

    async def main():
        task = velodrome.create_task(asyncio.sleep(0, "slept"), name="mine")
        return task.get_name(), await task

    loop = Loop()
    assert loop.run_until_complete(main()) == ("mine", "slept")
    loop.close()
    assert len(made) == 2


@pytest.mark.parametrize("refuses_keywords", [False, True])
@pytest.mark.parametrize("how", ["function", "group"])
def test_a_replaced_create_task_is_given_what_asyncio_gives_it(how, refuses_keywords):
    """Which keywords reach it depends on the version, and whether one that takes none will do."""
    context = contextvars.copy_context()
    given = [{}, {"name": "n"}, {"name": None}, {"context": None}, {"context": context}, {"nme": 1}]
    given += [{"name": "n", "context": context}, {"eager_start": False}]

    def program(aio, kind):
        calls = []

        class Loop(kind):
            def create_task(self, coro, **options):
                calls.append(sorted((name, value is None) for name, value in options.items()))
                if refuses_keywords and options:
                    raise TypeError("no keywords")
                return super().create_task(coro, **options)

        async def by_group(coro, **options):
            async with aio.TaskGroup() as group:
                return group.create_task(coro, **options)

        async def by_function(coro, **options):
            return aio.create_task(coro, **options)

        async def main():
            for options in given:
                calls.append(options)
                coro = asyncio.sleep(0)
                try:
                    task = await (by_group if how == "group" else by_function)(coro, **options)
                    await task
                    calls.append(task.get_name() == "n")
                except* TypeError:
                    calls.append("TypeError")
                    coro.close()

        loop = Loop()
        loop.run_until_complete(main())
        loop.close()
        return calls

    ours, theirs = program(velodrome, velodrome.Loop), program(asyncio, asyncio.SelectorEventLoop)
    assert ours == theirs


def test_replaced_task_class_is_used(monkeypatch, loop):
    """Where a program has put its own class in asyncio.tasks, the loop's tasks are of that class."""

    class Task(asyncio.Task):
        pass

    class Future(asyncio.Future):
        pass

    monkeypatch.setattr(asyncio.tasks, "Task", Task)
    monkeypatch.setattr(asyncio.futures, "Future", Future)

    async def main():
        return type(asyncio.current_task()), type(asyncio.get_running_loop().create_future())

    assert loop.run_until_complete(main()) == (Task, Future)


@pytest.mark.parametrize("installed", [False, True])
def test_a_replaced_run_of_handles_runs_all_of_them(monkeypatch, installed):
    """Tools that time callbacks (aiodebug) put theirs in place of `asyncio.Handle._run`."""

    async def main(module):
        loop, called = asyncio.get_running_loop(), asyncio.Event()
        loop.call_soon(print_nothing, "soon")
        loop.call_soon(print_nothing, "never").cancel()
        loop.call_later(0.001, called.set)
        loop.call_soon_threadsafe(print_nothing, "thread")
        await called.wait()
        await asyncio.gather(*(asyncio.sleep(0) for _ in range(3)))
        return "done"

    def print_nothing(*_arguments):
        pass

    found = []
    for make in (asyncio.SelectorEventLoop, velodrome.new_event_loop):
        seen = []
        class_ = velodrome.Handle if installed and make is velodrome.new_event_loop else asyncio.Handle
        original = class_._run

        def _run(self, _original=original, _seen=seen):
            callback = self._callback
            _seen.append(getattr(callback, "__name__", type(callback).__name__))
            return _original(self)

        monkeypatch.setattr(class_, "_run", _run)
        loop = make()
        assert loop.run_until_complete(main(velodrome)) == "done"
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        monkeypatch.undo()
        names = [name.lower().replace("_", "").replace("methwrapper", "") for name in seen]
        # What wakes asyncio's loop has a handle; ours needs none.
        found.append([name for name in names if name != "readfromself"])
    assert found[0] == found[1]
    assert "printnothing" in found[0] and "taskstep" in found[0]
