"""The end of a task: what is reported when it is destroyed, and what it lets go.

And results that others set, as asyncio's tasks take them.
"""

import asyncio
import contextvars
import gc
import weakref

import pytest
import velodrome
from differential import tasks, worlds
from differential.compare import check_same, on_both, one_turn, outcome, plain
from differential.tasks import nothing, task_of

either_loop = worlds.either_loop
task_class = tasks.task_class


# -- Tasks that are destroyed ------------------------------------------------------------------------------


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("stage", ["queued", "waits"])
def test_task_destroyed_while_pending_is_reported_as_by_asyncio(debug, stage):
    def program(loop):
        loop.set_debug(debug)
        reports = []
        loop.set_exception_handler(lambda loop, context: reports.append(context))

        async def forever():
            # Nobody refers to this future but the task.
            await loop.create_future()

        task = task_of(loop, forever(), name="the task")
        gone = weakref.ref(task)
        if stage == "waits":
            one_turn(loop)
        else:
            loop._ready[0].cancel()
            one_turn(loop)
        del task
        gc.collect()
        assert len(reports) == (1 if stage == "waits" else len(reports))
        for context in reports:
            assert isinstance(context["task"], asyncio.Task)
            assert (context.get("source_traceback") is not None) == debug
            assert repr(context["task"]).startswith("<Task pending name='the task' coro=<")
        messages = [(context["message"], list(context)) for context in reports]
        reports.clear()
        del context
        gc.collect()
        return messages, gone() is None

    (kind, what), (found, same) = on_both(program)
    if stage == "waits":
        assert kind == found == "returned" and same == what
        assert what[0][0][0] == "Task was destroyed but it is pending!"


def test_no_report_where_it_is_not_wanted(either_loop, task_class):
    reports = []
    either_loop.set_exception_handler(lambda loop, context: reports.append(context))

    async def forever():
        await either_loop.create_future()

    task = task_class(forever(), loop=either_loop)
    one_turn(either_loop)
    task._log_destroy_pending = False
    del task
    gc.collect()
    assert reports == []


def test_exception_never_retrieved_is_reported_as_by_asyncio():
    def program(loop):
        reports = []
        loop.set_exception_handler(lambda loop, context: reports.append(context))

        async def fail():
            raise ValueError("nobody asked")

        loop.create_task(fail(), name="the task")
        one_turn(loop)
        gc.collect()
        (context,) = reports
        return context["message"], sorted(context), plain(repr(context["future"])), repr(context["exception"])

    kind, (message, *_) = check_same(program)
    assert message == "Task exception was never retrieved"


def test_destroyed_tasks_coroutine_is_closed(either_loop, task_class):
    seen = []
    either_loop.set_exception_handler(lambda loop, context: None)

    async def coroutine():
        try:
            await either_loop.create_future()
        finally:
            seen.append("closed")

    task = task_class(coroutine(), loop=either_loop)
    one_turn(either_loop)
    del task
    gc.collect()
    assert seen == ["closed"]


def test_done_task_lets_go_of_what_its_coroutine_held(either_loop, task_class):
    class Thing:
        pass

    async def coroutine(thing):
        await asyncio.sleep(0)

    thing = Thing()
    gone = weakref.ref(thing)
    task = task_class(coroutine(thing), loop=either_loop)
    del thing
    either_loop.run_until_complete(task)
    assert gone() is None


def test_done_task_is_freed_at_once(either_loop, task_class):
    """By reference counts alone."""

    async def main():
        task = task_class(nothing(), loop=either_loop)
        gone = weakref.ref(task)
        await task
        del task
        # What called us may still refer to it.
        await asyncio.sleep(0)
        return gone() is None

    gc.disable()
    try:
        assert either_loop.run_until_complete(main())
    finally:
        gc.enable()


def test_cycle_through_a_task_is_freed(either_loop, task_class):
    async def coroutine(box):
        box.append(asyncio.current_task())
        await asyncio.sleep(0)
        return box

    def make():
        box = []
        task = task_class(coroutine(box), loop=either_loop)
        task.box = box
        task.add_done_callback(lambda _: box)
        either_loop.run_until_complete(task)
        return weakref.ref(task)

    gone = make()
    gc.collect()
    assert gone() is None


def test_pending_task_in_a_cycle_is_freed(either_loop, task_class):
    either_loop.set_exception_handler(lambda loop, context: None)

    async def coroutine(box):
        box.append(asyncio.current_task())
        box.append(either_loop.create_future())
        await box[1]

    def make():
        task = task_class(coroutine([]), loop=either_loop)
        one_turn(either_loop)
        return weakref.ref(task)

    gone = make()
    gc.collect()
    assert gone() is None
    assert asyncio.all_tasks(either_loop) == set()


def test_all_tasks_sees_no_dead_and_no_done_task(either_loop, task_class):
    async def main():
        done = task_class(nothing(), loop=either_loop)
        pending = task_class(asyncio.sleep(1000), loop=either_loop)
        await done
        assert asyncio.all_tasks() == {asyncio.current_task(), pending}
        pending.cancel()
        await asyncio.wait([pending])
        assert asyncio.all_tasks() == {asyncio.current_task()}

    either_loop.run_until_complete(main())
    assert asyncio.all_tasks(either_loop) == set()


# -- Memory ------------------------------------------------------------------------------------------------


def test_finished_tasks_and_futures_leave_nothing_behind(loop):
    async def child(future):
        await asyncio.sleep(0)
        try:
            return await future
        except asyncio.CancelledError:
            raise

    async def work():
        for _ in range(100):
            future = loop.create_future()
            tasks = [loop.create_task(child(future)) for _ in range(5)]
            await asyncio.sleep(0)
            tasks[0].cancel()
            loop.call_soon(lambda future=future: future.done() or future.set_result(None))
            await asyncio.gather(*tasks, return_exceptions=True)

    def count():
        gc.collect()
        return len(gc.get_objects())

    loop.run_until_complete(work())
    before = count()
    for _ in range(5):
        loop.run_until_complete(work())
    assert count() <= before + 50


@pytest.mark.slow
def test_a_million_tasks_leave_the_memory_where_it_was(run_python):
    code = """
import asyncio, gc, resource, velodrome
async def child():
    await velodrome.sleep(0)
async def work(number):
    for _ in range(number // 1000):
        await asyncio.gather(*[child() for _ in range(1000)])
loop = velodrome.new_event_loop()
loop.run_until_complete(work(100_000))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
loop.run_until_complete(work(1_000_000))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    assert int(run_python(code, timeout=55).stdout) < 4096


@pytest.mark.parametrize("how", ["result", "exception"])
def test_result_set_through_the_future_class(how):
    """As mocks and tests do: a task refuses its own set_result, and the class Future does it all the same."""

    def program(loop, future_class):
        reported = []
        loop.set_exception_handler(lambda _, context: reported.append(type(context["exception"]).__name__))

        async def work():
            await asyncio.sleep(0)

        task = loop.create_task(work())
        if how == "result":
            future_class.set_result(task, 1)
        else:
            future_class.set_exception(task, KeyError("given"))
        end = outcome(lambda: loop.run_until_complete(task))
        loop.run_until_complete(asyncio.sleep(0))
        task.get_coro().close()
        return end, reported, [outcome(lambda: future_class.set_result(thing, 1)) for thing in (task, 3)]

    def run(new_loop, future_class):
        loop = new_loop()
        try:
            return program(loop, future_class)
        finally:
            loop.close()

    plain = run(asyncio.new_event_loop, asyncio.Future)
    ours = run(velodrome.new_event_loop, velodrome.Future)
    assert plain[:2] == ours[:2]
    assert [end[0] for end in plain[2]] == [end[0] for end in ours[2]]


METHODS = {
    "result": (),
    "exception": (),
    "done": (),
    "cancelled": (),
    "get_loop": (),
    "add_done_callback": (print,),
    "remove_done_callback": (print,),
    "cancel": ("message",),
}


class DerivedTask(velodrome.Task):
    pass


@pytest.mark.parametrize("end", ["pending", "returns", "raises", "cancelled"])
@pytest.mark.parametrize("task_class", [velodrome.Task, DerivedTask, asyncio.Task])
def test_methods_of_the_future_class_take_tasks(task_class, end):
    """`map(asyncio.Future.result, tasks)`, or a task's own cancel() that calls the future's."""

    async def work():
        if end == "raises":
            raise KeyError("work")

    def program(new_loop, future_class, task_class):
        loop = new_loop()
        loop.set_exception_handler(lambda _, context: None)
        outcomes = []
        try:
            for name, arguments in METHODS.items():
                task = task_class(work(), loop=loop)
                if end == "cancelled":
                    task.cancel("work")
                if end != "pending":
                    one_turn(loop)
                kind, value = outcome(getattr(future_class, name), task, *arguments)
                shown = "the loop" if value is loop else repr(value)
                outcomes.append((name, kind, shown, task._state, len(task._callbacks or ())))
                one_turn(loop)
                task.get_coro().close()
        finally:
            loop.close()
        return outcomes

    expected = program(asyncio.SelectorEventLoop, asyncio.Future, asyncio.Task)
    found = program(velodrome.new_event_loop, velodrome.Future, task_class)
    assert found == expected


def test_a_callback_added_through_the_future_class_runs_in_its_context(loop):
    variable = contextvars.ContextVar("variable")
    context = contextvars.copy_context()
    context.run(variable.set, "set")
    seen = []
    for future in (loop.create_future(), asyncio.Future(loop=loop)):
        velodrome.Future.add_done_callback(
            future, lambda future: seen.append((variable.get(), future.cancelled())), context=context
        )
        assert velodrome.Future.cancel(future, msg="message")
        assert future._cancel_message == "message"
    one_turn(loop)
    assert seen == [("set", True)] * 2


def test_methods_of_the_future_class_refuse_what_is_no_future():
    for name, arguments in METHODS.items():
        with pytest.raises(TypeError, match=name):
            getattr(velodrome.Future, name)(3, *arguments)


def test_future_class_sets_the_result_of_asyncios_futures(loop):
    future = asyncio.Future(loop=loop)
    velodrome.Future.set_result(future, 1)
    assert future.result() == 1
    with pytest.raises(asyncio.InvalidStateError):
        velodrome.Future.set_exception(future, KeyError())
