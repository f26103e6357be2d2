"""run_until_complete, run, Runner, policies, asynchronous generators: a loop's life from end to end."""

import asyncio
import contextlib
import contextvars
import gc
import sys
import threading
import warnings

import pytest
import velodrome
from differential import worlds
from differential.compare import check_same, one_turn, outcome, turns

either_loop = worlds.either_loop

RUNS = [
    pytest.param(lambda main, **options: asyncio.Runner(**options).run(main), id="asyncio"),
    pytest.param(velodrome.run, id="velodrome"),
]


async def nothing(value="nothing"):
    return value


# -- run_until_complete ------------------------------------------------------------------------------------


def test_result_and_exception_come_out(either_loop):
    async def fail():
        raise ValueError("no")

    assert either_loop.run_until_complete(nothing()) == "nothing"
    future = either_loop.create_future()
    either_loop.call_soon(future.set_result, "future's")
    assert either_loop.run_until_complete(future) == "future's"
    assert either_loop.run_until_complete(future) == "future's"
    with pytest.raises(ValueError, match="no"):
        either_loop.run_until_complete(fail())
    task = either_loop.create_task(asyncio.sleep(1000))
    either_loop.call_soon(task.cancel, "message")
    with pytest.raises(asyncio.CancelledError, match="message"):
        either_loop.run_until_complete(task)


def test_loop_that_is_stopped_too_early(either_loop):
    future = either_loop.create_future()
    either_loop.call_soon(either_loop.stop)
    with pytest.raises(RuntimeError, match="^Event loop stopped before Future completed.$"):
        either_loop.run_until_complete(future)
    assert future._callbacks is None
    future.set_result(1)
    assert either_loop.run_until_complete(future) == 1


@pytest.mark.parametrize("what", [None, 1, "text", nothing, [], iter(())], ids=repr)
def test_what_cannot_be_run(what):
    def program(loop):
        try:
            loop.run_until_complete(what)
        finally:
            assert len(loop._ready) == 0 and loop._thread_id is None

    assert check_same(program)[0] in ("TypeError", "ValueError")


def test_future_of_another_loop(either_loop):
    other = type(either_loop)()
    future = other.create_future()
    with pytest.raises(ValueError, match="The future belongs to a different loop"):
        either_loop.run_until_complete(future)
    other.close()


def test_awaitable_of_another_kind(either_loop):
    class Awaitable:
        def __await__(self):
            yield
            return "awaited"

    assert either_loop.run_until_complete(Awaitable()) == "awaited"


def test_task_that_main_leaves_behind_goes_on_in_the_next_run(either_loop):
    seen = []

    async def child():
        for number in range(4):
            seen.append(number)
            await asyncio.sleep(0)

    async def main():
        task = asyncio.create_task(child())
        await asyncio.sleep(0)
        return task

    task = either_loop.run_until_complete(main())
    before = len(seen)
    turns(either_loop, 5)
    assert seen == [0, 1, 2, 3] and before < 4 and task.done()


# -- run and Runner ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", RUNS)
def test_run_runs_and_cleans_up(run):
    closed = []
    loops = []

    async def generator():
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.append("generator")

    async def child():
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0)
            closed.append("child")

    async def main():
        loops.append(asyncio.get_running_loop())
        kept.append(generator())
        kept.append(asyncio.create_task(child()))
        await kept[0].__anext__()
        loops[0].run_in_executor(None, closed.append, "executor")
        return "result"

    kept = []
    loop_factory = velodrome.new_event_loop if run is velodrome.run else asyncio.SelectorEventLoop
    with contextlib.ExitStack() as stack:
        if run is velodrome.run:
            assert run(main()) == "result"
        else:
            runner = stack.enter_context(asyncio.Runner(loop_factory=loop_factory))
            assert runner.run(main()) == "result"
    assert sorted(closed) == ["child", "executor", "generator"]
    assert loops[0].is_closed() and kept[1].cancelled()
    assert asyncio._get_running_loop() is None


def test_our_run_uses_our_loop():
    async def main():
        return type(asyncio.get_running_loop())

    assert velodrome.run(main()) is velodrome.Loop
    assert velodrome.run(main(), loop_factory=asyncio.SelectorEventLoop) is asyncio.SelectorEventLoop
    with velodrome.Runner() as runner:
        assert runner.run(main()) is velodrome.Loop
        assert type(runner.get_loop()) is velodrome.Loop
    with velodrome.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        assert runner.run(main()) is asyncio.SelectorEventLoop
    with asyncio.Runner(loop_factory=velodrome.new_event_loop) as runner:
        assert runner.run(main()) is velodrome.Loop
    if sys.version_info >= (3, 12):
        assert asyncio.run(main(), loop_factory=velodrome.new_event_loop) is velodrome.Loop


@pytest.mark.parametrize("debug", [None, False, True])
def test_debug_mode_of_a_run(debug):
    async def main():
        return asyncio.get_running_loop().get_debug()

    expected = asyncio.run(main(), debug=debug)
    assert velodrome.run(main(), debug=debug) is expected
    with velodrome.Runner(debug=debug) as runner:
        assert runner.run(main()) is expected


@pytest.mark.parametrize("what", [None, 1, nothing, "text"], ids=repr)
def test_run_of_what_is_no_coroutine(what):
    kind, message = outcome(asyncio.run, what)
    assert outcome(velodrome.run, what) == (kind, message)
    with velodrome.Runner() as ours, asyncio.Runner() as theirs:
        assert outcome(ours.run, what) == outcome(theirs.run, what)


def test_run_within_a_running_loop_is_refused(either_loop):
    async def main():
        coro = nothing()
        with pytest.raises(RuntimeError) as caught:
            velodrome.run(coro)
        coro.close()
        assert str(caught.value) == "velodrome.run() cannot be called from a running event loop"
        coro = nothing()
        runner = velodrome.Runner()
        with pytest.raises(RuntimeError, match="cannot be called from a running"):
            runner.run(coro)
        coro.close()
        return runner

    either_loop.run_until_complete(main()).close()


def test_runner_keeps_its_loop_and_its_context():
    variable = contextvars.ContextVar("variable", default=0)

    async def count():
        variable.set(variable.get() + 1)
        return variable.get(), asyncio.get_running_loop()

    with velodrome.Runner() as runner:
        first, loop = runner.run(count())
        second, same = runner.run(count())
        assert (first, second) == (1, 2) and loop is same is runner.get_loop()
        third, _ = runner.run(count(), context=contextvars.Context())
        assert third == 1
    assert loop.is_closed() and variable.get() == 0
    with pytest.raises(RuntimeError, match="^Runner is closed$"):
        runner.get_loop()


def test_run_in_another_thread():
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(velodrome.run(asyncio.sleep(0.001, "slept"))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["slept"] * 4


def test_error_out_of_run_comes_with_its_traceback():
    async def inner():
        raise ValueError("no")

    async def main():
        await inner()

    with pytest.raises(ValueError) as caught:
        velodrome.run(main())
    names = [entry.name for entry in caught.traceback]
    assert names[-2:] == ["main", "inner"] and names[0] == "test_error_out_of_run_comes_with_its_traceback"


def test_errors_of_tasks_that_run_cancels_are_reported(caplog):
    async def stubborn():
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            raise ValueError("while cancelled") from None

    async def main():
        kept.append(asyncio.create_task(stubborn()))
        await asyncio.sleep(0)

    kept = []
    velodrome.run(main())
    assert "unhandled exception during asyncio.run() shutdown" in caplog.text


@pytest.mark.skipif(sys.version_info >= (3, 16), reason="policies are gone")
def test_policy():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        before = asyncio.get_event_loop_policy()
        asyncio.set_event_loop_policy(velodrome.EventLoopPolicy())
        try:
            loop = asyncio.new_event_loop()
            assert type(loop) is velodrome.Loop
            loop.close()

            async def main():
                return type(asyncio.get_running_loop())

            assert asyncio.run(main()) is velodrome.Loop
            asyncio.set_event_loop(loop)
            assert asyncio.get_event_loop() is loop
            asyncio.set_event_loop(None)
        finally:
            asyncio.set_event_loop_policy(before)


def test_nothing_of_asyncio_is_patched(run_python):
    code = """
import asyncio, asyncio.tasks, asyncio.futures, asyncio.events, asyncio.base_events, _asyncio
modules = [asyncio, asyncio.tasks, asyncio.futures, asyncio.events, asyncio.base_events, asyncio.runners]
modules += [_asyncio]
before = [dict(vars(module)) for module in modules]
classes = [asyncio.BaseEventLoop, asyncio.AbstractEventLoop, asyncio.Handle, asyncio.SelectorEventLoop]
of_classes = [dict(vars(each)) for each in classes]
import velodrome
async def main():
    await velodrome.sleep(0)
    await asyncio.create_task(asyncio.sleep(0))
velodrome.run(main())
for module, names in zip(modules, before):
    for name, value in names.items():
        assert vars(module)[name] is value, (module, name)
for each, names in zip(classes, of_classes):
    for name, value in names.items():
        assert name.startswith("_abc") or vars(each)[name] is value, (each, name)
print("untouched")
"""
    assert run_python(code).stdout == "untouched\n"


# -- Asynchronous generators -------------------------------------------------------------------------------


async def numbers(closed, name="closed"):
    try:
        for number in range(10):
            yield number
            await asyncio.sleep(0)
    finally:
        await asyncio.sleep(0)
        closed.append(name)


def test_dropped_generator_is_closed_by_the_loop(either_loop):
    closed = []

    async def main():
        async for number in numbers(closed):
            if number == 2:
                break
        gc.collect()
        for _ in range(4):
            await asyncio.sleep(0)
        assert closed == ["closed"]

    either_loop.run_until_complete(main())


def test_shutdown_closes_what_is_open(either_loop):
    closed = []
    kept = [numbers(closed, number) for number in range(3)]

    async def main():
        for generator in kept[:2]:
            await generator.__anext__()

    either_loop.run_until_complete(main())
    assert closed == []
    either_loop.run_until_complete(either_loop.shutdown_asyncgens())
    assert sorted(closed) == [0, 1]


def test_generator_begun_after_the_shutdown_warns(either_loop):
    closed = []

    async def main():
        await either_loop.shutdown_asyncgens()
        generator = numbers(closed)
        with pytest.warns(ResourceWarning, match="was scheduled after loop.shutdown_asyncgens"):
            await generator.__anext__()
        await generator.aclose()

    either_loop.run_until_complete(main())


def test_generator_that_fails_while_it_is_closed():
    def program(loop):
        contexts = []
        loop.set_exception_handler(
            lambda loop, context: contexts.append(
                (context["message"].partition(" at 0x")[0], sorted(context))
            )
        )

        async def bad():
            try:
                yield 1
            finally:
                raise ValueError("while closing")

        async def main():
            generator = bad()
            await generator.__anext__()
            await loop.shutdown_asyncgens()

        loop.run_until_complete(main())
        return contexts

    kind, contexts = check_same(program)
    assert kind == "returned" and len(contexts) == 1


def test_hooks_are_put_back(either_loop):
    def first(generator):
        pass

    def last(generator):
        pass

    async def main():
        hooks = sys.get_asyncgen_hooks()
        assert hooks.firstiter == either_loop._asyncgen_firstiter_hook
        assert hooks.finalizer == either_loop._asyncgen_finalizer_hook

    before = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=first, finalizer=last)
    try:
        either_loop.run_until_complete(main())
        assert sys.get_asyncgen_hooks() == (first, last)
        either_loop.call_soon(lambda: 1 / 0)
        either_loop.set_exception_handler(lambda loop, context: sys.exit(1))
        with pytest.raises(SystemExit):
            either_loop.run_forever()
        assert sys.get_asyncgen_hooks() == (first, last)
    finally:
        sys.set_asyncgen_hooks(*before)
        either_loop.set_exception_handler(None)


def test_generator_dropped_in_another_thread(either_loop):
    closed = []
    box = []

    async def begin():
        box.append(numbers(closed))
        await box[0].__anext__()

    async def wait():
        while not closed:
            await asyncio.sleep(0)

    either_loop.run_until_complete(begin())
    thread = threading.Thread(target=box.clear)
    thread.start()
    thread.join()
    either_loop.run_until_complete(wait())


def test_generator_of_a_closed_loop_is_dropped_quietly(either_loop):
    closed = []
    box = []

    async def begin():
        box.append(numbers(closed))
        await box[0].__anext__()

    loop = type(either_loop)()
    loop.run_until_complete(begin())
    loop.close()
    box.clear()
    gc.collect()
    assert closed == []


# -- The rest of the life ----------------------------------------------------------------------------------


def test_close_twice(either_loop):
    either_loop.close()
    either_loop.close()
    assert either_loop.is_closed() and not either_loop.is_running()


def test_close_in_debug_mode(either_loop, caplog):
    either_loop.set_debug(True)
    either_loop.call_soon(print)
    either_loop.close()
    assert len(either_loop._ready) == 0


def test_loop_closed_by_another_thread(either_loop):
    thread = threading.Thread(target=either_loop.close)
    thread.start()
    thread.join()
    assert either_loop.is_closed()


def test_stop_within_a_task_and_go_on(either_loop):
    seen = []

    async def main():
        for number in range(3):
            seen.append(number)
            either_loop.stop()
            await asyncio.sleep(0)
        return "done"

    task = either_loop.create_task(main())
    for expected in ([0], [0, 1], [0, 1, 2]):
        either_loop.run_forever()
        assert seen == expected
    one_turn(either_loop)
    assert task.result() == "done"


def test_many_runs_of_one_loop(either_loop):
    for number in range(1000):
        assert either_loop.run_until_complete(nothing(number)) == number


def test_warning_for_a_coroutine_that_is_never_awaited(either_loop):
    async def main():
        with pytest.warns(RuntimeWarning, match="coroutine 'nothing' was never awaited"):
            nothing()
            gc.collect()

    either_loop.run_until_complete(main())


def test_never_awaited_coroutine_in_debug_mode_tells_where_it_came_from(either_loop):
    async def main():
        with pytest.warns(RuntimeWarning) as caught:
            nothing()
            gc.collect()
        return str(caught[0].message)

    either_loop.set_debug(True)
    message = either_loop.run_until_complete(main())
    assert "Coroutine created at (most recent call last)" in message and "in main" in message
