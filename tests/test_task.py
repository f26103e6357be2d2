"""Task: a coroutine's steps, its cancellation, its name; the same answers as asyncio's, on any loop."""

import asyncio
import contextvars
import gc
import inspect
import io
import os
import sys
import types
import weakref
from collections import abc

import pytest
import velodrome
from differential import worlds
from differential.compare import check_same, garbage_stays_young, on_both, one_turn, outcome, plain, turns
from differential.interpreter import Halt, Stray, show
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

either_loop = worlds.either_loop


class Extended(velodrome.Task):
    """A Python subclass."""


# Who it is shows in messages.
Extended.__name__ = Extended.__qualname__ = "Task"


@pytest.fixture(params=["asyncio", "velodrome", "subclass"])
def task_class(request):
    return {"asyncio": asyncio.Task, "velodrome": velodrome.Task, "subclass": Extended}[request.param]


def task_of(loop, coro, **options):
    """A task of the kind that belongs to the loop."""
    class_ = asyncio.Task if isinstance(loop, asyncio.SelectorEventLoop) else velodrome.Task
    return class_(coro, loop=loop, **options)


async def nothing():
    return "nothing"


async def wait_for(future):
    return await future


# -- Random histories ------------------------------------------------------------------------------------

messages = st.sampled_from([None, "message", 5])
steps = st.one_of(
    st.tuples(st.just("turn")),
    st.tuples(st.just("turn")),
    st.tuples(st.just("cancel"), messages),
    st.tuples(st.just("cancel"), messages),
    st.tuples(st.just("uncancel")),
    st.tuples(st.just("finish"), st.sampled_from(["result", "error", "cancel"])),
    st.tuples(st.just("ask"), st.sampled_from(["result", "exception", "cancelled", "done", "cancelling"])),
    st.tuples(st.just("name"), st.sampled_from(["anna", 5, None])),
    st.tuples(st.just("stack")),
    st.tuples(st.just("set"), st.sampled_from(["set_result", "set_exception"])),
    st.tuples(st.just("log"), st.booleans()),
)
#: What the coroutine does when it is cancelled or gets an error, one after the other.
answers = st.lists(st.sampled_from(["again", "return", "raise", "other", "nap"]), max_size=4)

ATTRIBUTES = [
    "_state",
    "_result",
    "_exception",
    "_must_cancel",
    "_log_destroy_pending",
    "_log_traceback",
    "_cancel_message",
    "_asyncio_future_blocking",
]


@garbage_stays_young()
def live(loop, make, answers, history):
    """Put a task through a history; return all that could be seen."""
    seen = []
    reports = []
    loop.set_exception_handler(lambda loop, context: reports.append((context["message"], sorted(context))))
    futures = []

    async def coroutine():
        for answer in [*answers, "end"]:
            future = loop.create_future()
            futures.append(future)
            try:
                seen.append(("got", await future))
                return "result"
            except BaseException as error:
                seen.append(("caught", show(error, tracebacks=False)))
                if answer == "again":
                    continue
                if answer == "return":
                    return "returned"
                if answer == "other":
                    raise LookupError("other") from None
                if answer == "nap":
                    try:
                        await asyncio.sleep(0)
                    except BaseException as second:
                        seen.append(("in the nap", show(second, tracebacks=False)))
                    continue
                raise

    task = make(coroutine(), loop=loop, name="the task")
    task.add_done_callback(lambda done: seen.append(("done", done is task)))
    for step, *arguments in history:
        match step:
            case "turn":
                did = outcome(one_turn, loop)
            case "cancel":
                did = outcome(task.cancel, *arguments)
            case "uncancel":
                did = outcome(task.uncancel)
            case "finish":
                if futures and not futures[-1].done():
                    if arguments[0] == "result":
                        futures[-1].set_result("value")
                    elif arguments[0] == "error":
                        futures[-1].set_exception(KeyError("error"))
                    else:
                        futures[-1].cancel("by the future")
                did = len(futures)
            case "ask":
                did = outcome(lambda name=arguments[0]: show(getattr(task, name)(), tracebacks=False))
            case "name":
                did = outcome(task.set_name, *arguments), task.get_name()
            case "stack":
                did = [frame.f_code.co_name for frame in task.get_stack()]
            case "set":
                did = outcome(getattr(task, arguments[0]), ValueError())
            case "log":
                did = outcome(setattr, task, "_log_destroy_pending", *arguments)
        seen.append((step, did))
        seen.append([show(getattr(task, name), tracebacks=False) for name in ATTRIBUTES])
        seen.append(
            (task.cancelling(), plain(repr(task)), task._fut_waiter is None, task in asyncio.all_tasks(loop))
        )
    outcome(turns, loop, 2)
    finished = task.done()
    task = None
    futures.clear()
    gc.collect(0)
    loop.set_exception_handler(None)
    return seen, reports, finished


@pytest.mark.parametrize("make", [velodrome.Task, Extended])
@settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
@given(answers=answers, history=st.lists(steps, max_size=10))
def test_task_lives_as_asyncios_does(make, answers, history):
    with_asyncio = asyncio.SelectorEventLoop()
    with_velodrome = velodrome.new_event_loop()
    try:
        expected = live(with_asyncio, asyncio.Task, answers, history)
        assert live(with_asyncio, make, answers, history) == expected
        assert live(with_velodrome, make, answers, history) == expected
        assert live(with_velodrome, asyncio.Task, answers, history) == expected
    finally:
        with_asyncio.close()
        with_velodrome.close()


# -- What it is --------------------------------------------------------------------------------------------


def test_task_is_one_of_asyncios(either_loop, task_class):
    task = task_class(nothing(), loop=either_loop)
    assert isinstance(task, asyncio.Task) and isinstance(task, asyncio.Future)
    assert issubclass(task_class, asyncio.Task) and issubclass(task_class, asyncio.Future)
    assert asyncio.isfuture(task) and not asyncio.iscoroutine(task)
    assert inspect.isawaitable(task) and not isinstance(task, (abc.Coroutine, abc.Iterator))
    assert asyncio.ensure_future(task) is task
    assert either_loop.run_until_complete(task) == "nothing"


def test_tasks_of_the_loop_are_ours(loop):
    async def main():
        assert type(asyncio.create_task(nothing())) is velodrome.Task
        assert type(asyncio.ensure_future(nothing())) is velodrome.Task
        assert type(velodrome.create_task(nothing())) is velodrome.Task
        async with asyncio.TaskGroup() as group:
            assert type(group.create_task(nothing())) is velodrome.Task
        return type(asyncio.current_task())

    assert loop.run_until_complete(main()) is velodrome.Task


def test_our_create_task_needs_a_running_loop():
    coro = nothing()
    expected = outcome(asyncio.create_task, coro)
    assert outcome(velodrome.create_task, coro) == expected
    assert expected == ("RuntimeError", "no running event loop")
    coro.close()


def test_our_create_task_on_asyncios_loop():
    async def main():
        task = velodrome.create_task(nothing(), name="mine")
        return type(task), task.get_name(), await task

    loop = asyncio.SelectorEventLoop()
    assert loop.run_until_complete(main()) == (asyncio.Task, "mine", "nothing")
    loop.close()


def test_task_has_attributes_and_weak_references(either_loop, task_class):
    task = task_class(nothing(), loop=either_loop)
    task.anything = "mine"
    assert task.anything == "mine"
    assert weakref.ref(task)() is task and {task: 1}[task] == 1
    either_loop.run_until_complete(task)


def test_class_can_be_subscripted(task_class):
    assert task_class[int].__origin__ is task_class


@pytest.mark.parametrize(
    "call",
    [
        lambda task: task.cancel(1),
        lambda task: task.cancel(1, 2),
        lambda task: task.cancel(msg=1),
        lambda task: task.cancel(message=1),
        lambda task: task.uncancel(1),
        lambda task: task.cancelling(1),
        lambda task: task.set_name(),
        lambda task: task.set_name(value="x"),
        lambda task: task.get_name(1),
        lambda task: task.get_stack(1),
        lambda task: len(task.get_stack(limit=1)),
        lambda task: task.print_stack(limit=1, file=io.StringIO()),
        lambda task: task.print_stack(1),
        lambda task: task.set_result(1),
        lambda task: task.set_result(),
        lambda task: task.set_exception(ValueError()),
        lambda task: task.get_coro(1),
        lambda task: type(task.get_context()).__name__,
        lambda task: setattr(task, "_log_destroy_pending", 1),
        lambda task: setattr(task, "_must_cancel", True),
        lambda task: setattr(task, "_fut_waiter", None),
        lambda task: setattr(task, "_coro", None),
        lambda task: delattr(task, "_log_destroy_pending"),
    ],
)
def test_arguments_are_taken_as_asyncio_takes_them(call):
    def program(loop):
        task = task_of(loop, nothing())
        try:
            return call(task), task._state, task._log_destroy_pending
        finally:
            loop.run_until_complete(asyncio.wait([task]))

    (kind, what), (found, same) = on_both(program)
    assert found == kind
    if kind == "returned":
        assert same == what


@pytest.mark.parametrize(
    "options",
    [
        {"name": None},
        {"name": 5},
        {"name": "name", "context": None},
        {"context": contextvars.copy_context()},
        {"context": 5},
        {"nme": 5},
        {"eager_start": False},
        {"eager_start": True},
        {"eager_start": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("how", ["class", "loop", "function"])
def test_options_are_taken_as_asyncio_takes_them(options, how):
    def program(loop):
        problems = []
        loop.set_exception_handler(lambda loop, context: problems.append(type(context["exception"]).__name__))

        async def main():
            coro = nothing()
            try:
                if how == "class":
                    task = task_of(loop, coro, **options)
                elif how == "loop":
                    task = loop.create_task(coro, **options)
                elif isinstance(loop, velodrome.Loop):
                    task = velodrome.create_task(coro, **options)
                else:
                    task = asyncio.create_task(coro, **options)
            except BaseException:
                coro.close()
                raise
            done_at_once = task.done()
            name = plain(task.get_name())
            for _ in range(3):
                await asyncio.sleep(0)
            done = task.done()
            if not done:
                task.cancel()
                coro.close()
            return name, done_at_once, done

        # (Which error a context that is none makes is another matter.)
        return loop.run_until_complete(main()), len(problems)

    (kind, what), (found, same) = on_both(program)
    assert found == kind
    if kind == "returned":
        assert same == what


@pytest.mark.parametrize("what", [None, 1, "text", nothing, lambda: None, object(), iter(())], ids=repr)
@pytest.mark.parametrize("how", ["class", "loop", "function"])
def test_no_task_without_a_coroutine(what, how):
    def program(loop):
        async def main():
            if how == "class":
                task_of(loop, what)
            elif how == "loop":
                loop.create_task(what)
            elif isinstance(loop, velodrome.Loop):
                velodrome.create_task(what)
            else:
                asyncio.create_task(what)

        loop.run_until_complete(main())

    expected = check_same(program)
    assert expected[0] == "TypeError" and expected[1].startswith("a coroutine was expected, got ")


def test_no_task_of_a_future(either_loop, task_class):
    with pytest.raises(TypeError, match="a coroutine was expected"):
        task_class(either_loop.create_future(), loop=either_loop)


class Coroutine(abc.Coroutine):
    """A coroutine by its methods."""

    def __init__(self, values):
        self.values = list(values)
        self.got = []

    def send(self, value):
        self.got.append(value)
        if not self.values:
            raise StopIteration("sent")
        return self.values.pop(0)

    def throw(self, typ, val=None, tb=None):
        self.got.append(typ)
        raise typ

    def close(self):
        pass

    def __await__(self):
        return self


def test_coroutine_of_a_class_of_its_own(either_loop, task_class):
    coroutine = Coroutine([None, None])
    task = task_class(coroutine, loop=either_loop)
    assert either_loop.run_until_complete(task) == "sent"
    assert coroutine.got == [None] * 3
    assert task.get_coro() is coroutine

    coroutine = Coroutine([None] * 10)
    task = task_class(coroutine, loop=either_loop)
    one_turn(either_loop)
    task.cancel("message")
    turns(either_loop, 2)
    assert task.cancelled() and isinstance(coroutine.got[-1], asyncio.CancelledError)


def test_generator_based_coroutine(either_loop, task_class):
    @types.coroutine
    def old():
        yield
        return (yield from either_loop.create_task(nothing()))

    async def main():
        return await old()

    assert either_loop.run_until_complete(task_class(main(), loop=either_loop)) == "nothing"


def test_coroutine_of_a_c_extension(either_loop, task_class):
    """Such as an asynchronous generator's `asend()`, wrapped as asyncio demands."""

    async def generator():
        yield 1

    async def main():
        return await generator().__anext__()

    assert either_loop.run_until_complete(task_class(main(), loop=either_loop)) == 1


@pytest.mark.parametrize("value", [(1, 2), StopIteration(1), ValueError, None, (1,), KeyError("k"), [], ()])
def test_any_result_arrives_as_it_is(either_loop, task_class, value):
    async def coroutine():
        await asyncio.sleep(0)
        return value

    async def main():
        task = task_class(coroutine(), loop=either_loop)
        assert await task is value
        assert await task is value
        return task.result()

    assert either_loop.run_until_complete(main()) is value


# -- Names -------------------------------------------------------------------------------------------------


def test_names(either_loop, task_class):
    class Named:
        def __str__(self):
            return "shown"

    class Text(str):
        pass

    tasks = [task_class(nothing(), loop=either_loop) for _ in range(3)]
    numbers = [int(task.get_name().removeprefix("Task-")) for task in tasks]
    assert numbers == list(range(numbers[0], numbers[0] + 3))
    tasks.append(task_class(nothing(), loop=either_loop, name="given"))
    assert tasks[-1].get_name() == "given"
    tasks.append(task_class(nothing(), loop=either_loop, name=Named()))
    assert tasks[-1].get_name() == "shown"
    tasks.append(task_class(nothing(), loop=either_loop, name=Text("text")))
    assert tasks[-1].get_name() == "text"
    tasks[0].set_name(123)
    assert tasks[0].get_name() == "123"
    either_loop.run_until_complete(asyncio.wait(tasks))


def test_numbers_are_not_given_twice(loop):
    """Where asyncio's and ours are made in turn."""
    tasks = []
    for number in range(10):
        tasks.append((asyncio.Task if number % 2 else velodrome.Task)(nothing(), loop=loop))
    ours = [task.get_name() for task in tasks if type(task) is velodrome.Task]
    assert len(set(ours)) == 5
    loop.run_until_complete(asyncio.wait(tasks))


def test_name_that_cannot_be_shown(task_class, either_loop):
    class Bad:
        def __str__(self):
            raise LookupError("no name")

    coro = nothing()
    with pytest.raises(LookupError):
        task_class(coro, loop=either_loop, name=Bad())
    coro.close()
    task = task_class(nothing(), loop=either_loop)
    with pytest.raises(LookupError):
        task.set_name(Bad())
    assert task.get_name().startswith("Task-")
    either_loop.run_until_complete(task)
    assert asyncio.all_tasks(either_loop) == set()


# -- Contexts ----------------------------------------------------------------------------------------------


def test_task_runs_in_a_copy_of_its_makers_context(either_loop, task_class):
    variable = contextvars.ContextVar("variable", default="unset")

    async def child():
        before = variable.get()
        variable.set("child's")
        await asyncio.sleep(0)
        return before, variable.get()

    async def main():
        variable.set("parent's")
        task = task_class(child(), loop=either_loop)
        variable.set("changed")
        shared = contextvars.copy_context()
        other = task_class(child(), loop=either_loop, context=shared)
        assert await task == ("parent's", "child's")
        assert await other == ("changed", "child's")
        assert shared[variable] == "child's" and variable.get() == "changed"
        if sys.version_info >= (3, 12):
            assert other.get_context() is shared

    either_loop.run_until_complete(main())
    assert variable.get() == "unset"


# -- Steps -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1, "text", object(), [], 0, False], ids=lambda value: type(value).__name__)
def test_stray_yield(value):
    def program(loop):
        async def main():
            try:
                await Stray(value)
            except RuntimeError as error:
                return plain(str(error))

        return loop.run_until_complete(task_of(loop, main()))

    kind, message = check_same(program)
    assert kind == "returned" and message.startswith("Task got bad yield: ")


def test_stray_yields_of_futures_and_generators():
    def program(loop):
        other = type(loop)()

        async def main():
            problems = []
            for value in (
                loop.create_future(),
                asyncio.Future(loop=loop),
                loop.create_task(nothing()),
                other.create_future(),
                (number for number in ()),
                asyncio.current_task(),
            ):
                try:
                    await Stray(value)
                except RuntimeError as error:
                    problems.append(plain(str(error)))
            return problems

        try:
            return loop.run_until_complete(loop.create_task(main(), name="the task"))
        finally:
            other.close()

    kind, problems = check_same(program)
    assert kind == "returned" and len(problems) == 6


def test_future_of_another_loop():
    def program(loop):
        other = type(loop)()

        async def main():
            problems = []
            for future in (other.create_future(), asyncio.Future(loop=other)):
                with pytest.raises(RuntimeError) as caught:
                    await future
                problems.append(plain(str(caught.value)))
                assert future._callbacks is None
            return problems

        try:
            return loop.run_until_complete(loop.create_task(main(), name="the task"))
        finally:
            other.close()

    kind, problems = check_same(program)
    assert kind == "returned" and "attached to a different loop" in problems[0]


def test_awaiting_oneself():
    """Time and again."""

    def program(loop):
        async def main():
            problems = []
            for _ in range(3):
                try:
                    await asyncio.current_task()
                except RuntimeError as error:
                    problems.append(plain(str(error)))
            return problems

        return loop.run_until_complete(loop.create_task(main(), name="the task"))

    kind, problems = check_same(program)
    assert problems[0].startswith("Task cannot await on itself")


def test_step_of_a_task_that_is_done():
    """Whoever calls its wake-up by hand finds out; the task does not change."""

    def program(loop):
        contexts = []
        loop.set_exception_handler(lambda loop, context: contexts.append(context))
        future = loop.create_future()
        task = loop.create_task(wait_for(future), name="the task")
        one_turn(loop)
        ((wakeup, _),) = future._callbacks
        future.set_result("value")
        assert loop.run_until_complete(task) == "value"
        loop.call_soon(wakeup, future)
        one_turn(loop)
        assert task.result() == "value"
        return [
            (type(context["exception"]).__name__, plain(str(context["exception"]))) for context in contexts
        ]

    kind, ((error, _),) = check_same(program)
    assert (kind, error) == ("returned", "InvalidStateError")


def test_error_in_a_step_is_the_tasks_outcome(either_loop, task_class):
    error = Halt("no")

    async def coroutine():
        raise error

    task = task_class(coroutine(), loop=either_loop)
    one_turn(either_loop)
    assert task.exception() is error


@pytest.mark.parametrize("error", [KeyboardInterrupt("no"), SystemExit("no")])
def test_error_that_stops_the_loop_is_the_tasks_outcome_too(either_loop, task_class, error):
    async def coroutine():
        raise error

    task = task_class(coroutine(), loop=either_loop)
    with pytest.raises(type(error)):
        either_loop.run_forever()
    assert task.exception() is error
    assert asyncio.all_tasks(either_loop) == set() and asyncio.current_task(either_loop) is None
    assert either_loop.run_until_complete(nothing()) == "nothing"


def test_stop_iteration_out_of_a_coroutine(either_loop, task_class):
    async def coroutine():
        raise StopIteration("no")

    task = task_class(coroutine(), loop=either_loop)
    turns(either_loop, 2)
    assert isinstance(task.exception(), RuntimeError)


def test_current_task_within_steps_and_without(either_loop, task_class):
    seen = []

    async def child():
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())
        raise ValueError

    task = task_class(child(), loop=either_loop)
    either_loop.call_soon(lambda: seen.append(asyncio.current_task()))
    turns(either_loop, 2)
    assert seen == [task, None, task]
    assert asyncio.current_task(either_loop) is None
    task.exception()


def test_running_a_step_within_a_step_is_refused(either_loop):
    """Two tasks cannot be current at a time."""
    contexts = []

    async def inner():
        pass

    async def outer():
        task = either_loop.create_task(inner())
        (handle,) = [handle for handle in either_loop._ready if handle._callback.__self__ is task]
        handle._run()
        assert asyncio.current_task() is outer_task
        await task

    either_loop.set_exception_handler(lambda loop, context: contexts.append(context))
    outer_task = either_loop.create_task(outer())
    either_loop.run_until_complete(outer_task)
    assert isinstance(contexts[0]["exception"], RuntimeError)
    assert "while another task" in str(contexts[0]["exception"])


# -- Cancellation ------------------------------------------------------------------------------------------


def test_cancel_before_the_first_step(either_loop, task_class):
    began = []

    async def coroutine():
        began.append(True)

    task = task_class(coroutine(), loop=either_loop)
    assert task.cancel("message") and task._must_cancel and task.cancelling() == 1
    one_turn(either_loop)
    assert task.cancelled() and began == []
    with pytest.raises(asyncio.CancelledError, match="message"):
        task.result()


def test_cancel_reaches_the_innermost_future(either_loop, task_class):
    future = either_loop.create_future()
    tasks = [task_class(wait_for(future), loop=either_loop)]
    for _ in range(3):
        tasks.append(task_class(wait_for(tasks[-1]), loop=either_loop))
    one_turn(either_loop)
    assert tasks[-1].cancel("message")
    assert future.cancelled() and not any(task._must_cancel for task in tasks)
    turns(either_loop, 5)
    assert all(task.cancelled() for task in tasks)
    with pytest.raises(asyncio.CancelledError) as caught:
        tasks[-1].result()
    assert caught.value.args == ("message",)


def test_message_of_the_cancellation_that_arrives():
    def program(loop):
        async def child(inner):
            try:
                await inner
            except asyncio.CancelledError as error:
                return error.args

        seen = []
        for messages in ([None], ["one"], ["one", "two"], [None, "two"], ["one", None], [5]):
            future = loop.create_future()
            task = loop.create_task(child(future))
            one_turn(loop)
            for message in messages:
                seen.append(task.cancel(message) if message is not None else task.cancel())
            turns(loop, 2)
            seen.append((task.result(), task.cancelling(), task._cancel_message))
        return seen

    check_same(program)


@pytest.mark.parametrize("sleep", [asyncio.sleep, velodrome.sleep], ids=["asyncio", "velodrome"])
def test_cancelled_error_has_the_frames_down_to_where_it_was_thrown(either_loop, task_class, sleep):
    async def inner():
        await sleep(1000)

    async def outer():
        await inner()

    async def main():
        task = task_class(outer(), loop=either_loop)
        await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError as error:
            names = []
            traceback = error.__traceback__
            while traceback:
                names.append(traceback.tb_frame.f_code.co_name)
                traceback = traceback.tb_next
            return [name for name in names if name != "sleep"]

    assert either_loop.run_until_complete(main()) == ["main", "outer", "inner"]


def test_cancellation_can_be_denied_and_counted(either_loop, task_class):
    async def stubborn():
        count = 0
        while count < 3:
            try:
                await either_loop.create_future()
            except asyncio.CancelledError:
                count += 1
        return asyncio.current_task().cancelling()

    task = task_class(stubborn(), loop=either_loop)
    one_turn(either_loop)
    for number in range(1, 4):
        assert task.cancel() and task.cancelling() == number
        one_turn(either_loop)
        one_turn(either_loop)
    assert task.result() == 3
    assert [task.uncancel() for _ in range(5)] == [2, 1, 0, 0, 0]
    assert task.cancel() is False and task.cancelling() == 0


def test_cancel_right_before_the_coroutine_returns(either_loop, task_class):
    async def coroutine():
        asyncio.current_task().cancel("message")
        return "too late"

    task = task_class(coroutine(), loop=either_loop)
    one_turn(either_loop)
    assert task.cancelled()
    with pytest.raises(asyncio.CancelledError, match="message"):
        task.result()


def test_cancel_of_a_task_that_cancels_itself(either_loop, task_class):
    async def coroutine():
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    task = task_class(coroutine(), loop=either_loop)
    turns(either_loop, 3)
    assert task.cancelled()


def test_cancel_after_the_future_was_done_and_before_the_task_woke(either_loop, task_class):
    seen = []

    async def coroutine(future):
        try:
            seen.append(await future)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    future = either_loop.create_future()
    task = task_class(coroutine(future), loop=either_loop)
    one_turn(either_loop)
    future.set_result("value")
    assert task.cancel() and task._must_cancel
    one_turn(either_loop)
    assert seen == ["cancelled"] and task.cancelled() and future.result() == "value"


def test_uncancel_before_the_cancellation_was_delivered():
    """From 3.13 on it is taken back."""

    def program(loop):
        async def main():
            task = asyncio.current_task()
            task.cancel()
            task.uncancel()
            seen = [task._must_cancel, task.cancelling()]
            try:
                await asyncio.sleep(0)
                seen.append("went on")
            except asyncio.CancelledError:
                seen.append("cancelled")
            return seen

        return loop.run_until_complete(main())

    check_same(program)


CIRCLE = """
import asyncio, sys, velodrome
new_loop = {"asyncio": asyncio.SelectorEventLoop, "velodrome": velodrome.new_event_loop}[sys.argv[1]]
number = int(sys.argv[2])

async def wait(number):
    await tasks[number]

async def main():
    for each in range(number):
        tasks.append(asyncio.create_task(wait((each + 1) % number)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    try:
        print(tasks[0].cancel())
    except RecursionError:
        print("RecursionError")
    for task in tasks:
        task._log_destroy_pending = False

tasks = []
loop = new_loop()
loop.run_until_complete(main())
loop.close()
tasks.clear()
print("alive", flush=True)
"""


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("name", ["asyncio", "velodrome"])
def test_cancelling_tasks_that_await_each_other_is_no_crash(run_python, name, number):
    assert run_python(CIRCLE, name, number).stdout == "RecursionError\nalive\n"


DEEP = """
import asyncio, gc, sys, velodrome
new_loop = {"asyncio": asyncio.SelectorEventLoop, "velodrome": velodrome.new_event_loop}[sys.argv[1]]
number = int(sys.argv[2])

async def wait(inner):
    await inner

async def main():
    inner = asyncio.get_running_loop().create_future()
    tasks = []
    for _ in range(number):
        inner = asyncio.create_task(wait(inner))
        tasks.append(inner)
    await asyncio.sleep(0)
    try:
        print(inner.cancel())
    except RecursionError:
        print("RecursionError")
    for task in tasks:
        task._log_destroy_pending = False
    if sys.argv[3] == "in order":
        # So that nothing is freed recursively.
        while tasks:
            tasks.pop().get_coro().close()

loop = new_loop()
loop.run_until_complete(main())
loop.close()
gc.collect()
print("alive", flush=True)
"""


@pytest.mark.parametrize("name", ["asyncio", "velodrome"])
def test_cancelling_a_long_chain_of_tasks_is_no_crash(run_python, name):
    """Asking one to cancel asks the next, and the machine's stack has an end."""
    lines = run_python(DEEP, name, 100_000, "in order").stdout.splitlines()
    assert lines in (["True", "alive"], ["RecursionError", "alive"])


def test_short_chains_are_cancelled_whole(either_loop):
    future = either_loop.create_future()
    inner = future
    tasks = []
    for _ in range(100):
        inner = either_loop.create_task(wait_for(inner))
        tasks.append(inner)
    one_turn(either_loop)
    assert inner.cancel() and future.cancelled()
    turns(either_loop, 102)
    assert all(task.cancelled() for task in tasks)


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
        messages = [(context["message"], sorted(context)) for context in reports]
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


# -- What others read --------------------------------------------------------------------------------------


def test_attributes_that_others_read(either_loop, task_class):
    future = either_loop.create_future()
    coro = wait_for(future)
    task = task_class(coro, loop=either_loop, name="the task")
    assert task._coro is coro and task._loop is either_loop and task._state == "PENDING"
    assert task._fut_waiter is None and task._must_cancel is False and task._callbacks is None
    assert task._log_destroy_pending is True and task._asyncio_future_blocking is False
    assert task._source_traceback is None and task._cancel_message is None
    one_turn(either_loop)
    assert task._fut_waiter is future
    task.add_done_callback(print)
    assert task._callbacks[0][0] is print
    assert isinstance(task._callbacks[0][1], contextvars.Context)
    task.remove_done_callback(print)
    assert task._callbacks is None
    future.set_result("value")
    assert task._fut_waiter is future
    one_turn(either_loop)
    assert task._state == "FINISHED" and task._result == "value" and task._exception is None
    assert task._fut_waiter is None and task._coro is coro


def test_task_shows_itself_as_asyncios_does():
    def program(loop):
        shown = []
        future = loop.create_future()
        task = task_of(loop, wait_for(future), name="the task")
        shown.append(repr(task))
        one_turn(loop)
        task.add_done_callback(wait_for)
        shown.append(repr(task))
        shown.append(repr(future))
        waiting = task_of(loop, wait_for(task), name="another")
        one_turn(loop)
        shown += [repr(task), repr(waiting)]
        task.remove_done_callback(wait_for)
        waiting.cancel()
        shown += [repr(task), repr(waiting)]
        turns(loop, 3)
        shown += [repr(task), repr(waiting), repr(future)]

        async def fail():
            shown.append(repr(asyncio.current_task()))
            raise ValueError("no")

        failed = task_of(loop, fail(), name="failed")
        one_turn(loop)
        shown.append(repr(failed))
        failed.exception()
        return [plain(text) for text in shown]

    def named(text):
        # The wake-up is a method of asyncio's task, a function of ours.
        return text

    (kind, expected), (found, same) = on_both(program)
    assert kind == found == "returned"
    assert [named(text) for text in same] == [named(text) for text in expected]


def test_stacks(either_loop, task_class):
    async def inner(future):
        await future

    async def outer(future):
        await inner(future)

    future = either_loop.create_future()
    task = task_class(outer(future), loop=either_loop)
    one_turn(either_loop)
    assert [frame.f_code.co_name for frame in task.get_stack()] == ["outer"]
    out = io.StringIO()
    task.print_stack(file=out)
    assert "Stack for <Task pending" in out.getvalue() and "await inner(future)" in out.getvalue()
    future.set_exception(ValueError("no"))
    turns(either_loop, 2)
    out = io.StringIO()
    task.print_stack(file=out)
    assert "Traceback for <Task finished" in out.getvalue() and "in inner" in out.getvalue()
    assert [frame.f_code.co_name for frame in task.get_stack()] == ["outer", "inner"]
    task.exception()


# -- Subclasses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [asyncio.Task, velodrome.Task])
def test_overridden_methods_of_a_subclass_are_called(either_loop, base):
    calls = []

    class Task(base):
        def cancel(self, msg=None):
            calls.append(("cancel", msg))
            return super().cancel(msg)

        def add_done_callback(self, callback, *, context=None):
            calls.append("add_done_callback")
            return super().add_done_callback(callback, context=context)

        def result(self):
            calls.append("result")
            return super().result()

        def set_name(self, value):
            calls.append("set_name")
            super().set_name(value)

    async def main():
        inner = Task(asyncio.sleep(0, "slept"), loop=either_loop)
        assert await inner == "slept"
        assert calls == ["add_done_callback", "result"] or calls == ["add_done_callback", "result", "result"]
        calls.clear()
        inner = Task(asyncio.sleep(1000), loop=either_loop)
        outer = either_loop.create_task(wait_for(inner))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        outer.cancel("message")
        await asyncio.wait([outer])
        assert inner.cancelled()
        assert calls[:2] == ["add_done_callback", ("cancel", "message")]

    either_loop.run_until_complete(main())


def test_subclass_with_its_own_constructor(either_loop):
    class Task(velodrome.Task):
        def __init__(self, coro, *, extra, **options):
            self.extra = extra
            super().__init__(coro, **options)
            self.after = self.get_name()

        def __del__(self):
            deleted.append(self.extra)

    deleted = []
    task = Task(nothing(), extra=5, loop=either_loop, name="named")
    assert either_loop.run_until_complete(task) == "nothing"
    assert (task.extra, task.after) == (5, "named")
    del task
    gc.collect()
    assert deleted == [5]


@pytest.mark.parametrize(
    "call",
    [
        lambda task: task.get_coro(),
        lambda task: task.get_name(),
        lambda task: task.cancel(),
        lambda task: task.cancelling(),
        lambda task: task.uncancel(),
        lambda task: task.result(),
        lambda task: task.done(),
        lambda task: repr(task),
        lambda task: task.get_loop(),
        lambda task: task.get_stack(),
        lambda task: task.get_context(),
        lambda task: iter(task),
        lambda task: task.set_name("name"),
        lambda task: task.add_done_callback(print),
        lambda task: [getattr(task, name) for name in ATTRIBUTES],
    ],
)
def test_task_that_was_not_initialised_is_no_crash(call):
    """Also what comes from asyncio's class must not look into fields that nobody filled in."""
    task = velodrome.Task.__new__(velodrome.Task)
    assert outcome(call, task)[0] in (
        *("returned", "RuntimeError", "InvalidStateError", "AttributeError", "TypeError", "AssertionError"),
    )


@pytest.mark.parametrize("name", sorted(set(dir(asyncio.Task)) - set(dir(object))))
def test_nothing_of_asyncios_task_is_inherited(name):
    """asyncio's own methods would look into a structure that is not filled in."""
    if name in ("__del__", "__annotations__", "_asyncio_awaited_by"):
        pytest.skip("looked up elsewhere, or a part of the base that is filled in")
    owner = next(class_ for class_ in velodrome.Task.__mro__ if name in vars(class_))
    assert owner is velodrome.Task


@pytest.mark.parametrize("name", sorted(set(dir(asyncio.Future)) - set(dir(object))))
def test_nothing_of_asyncios_future_is_inherited(name):
    if name in ("__del__", "__annotations__", "_asyncio_awaited_by"):
        pytest.skip("looked up elsewhere, or a part of the base that is filled in")
    owner = next(class_ for class_ in velodrome.Future.__mro__ if name in vars(class_))
    assert owner is velodrome.Future


UNBOUND = """
import asyncio, sys, velodrome
async def coroutine():
    pass
loop = velodrome.new_event_loop()
task = velodrome.Task(coroutine(), loop=loop)
method = getattr(asyncio.Task, sys.argv[1])
for instance in (task, velodrome.Future(loop=loop)):
    try:
        method(instance)
    except BaseException as error:
        pass
print("alive", flush=True)
"""


@pytest.mark.parametrize(
    "name",
    [
        *("done", "cancelled", "result", "exception", "get_loop", "cancel", "__repr__", "__iter__"),
        *(
            "get_name",
            "get_coro",
            "get_context",
            "cancelling",
            "uncancel",
            "get_stack",
            "_make_cancelled_error",
        ),
    ],
)
def test_methods_of_asyncios_class_on_our_task(run_python, name):
    """`asyncio.Task.cancel(task)` and the like, as some wrappers call them: any answer, but no crash."""
    if not hasattr(asyncio.Task, name):
        pytest.skip(f"this Python's tasks have no {name}")
    if name == "get_coro" and os.environ.get("VELODROME_LAYOUT") == "0" and sys.version_info < (3, 12):
        pytest.skip("the same, where the field is not filled in")
    if name == "get_context" and sys.version_info < (3, 14):
        pytest.skip("it reads its field unchecked, on an uninitialised task of asyncio's too")
    assert run_python(UNBOUND, name).stdout == "alive\n"


def test_initialising_again():
    def program(loop):
        task = task_of(loop, nothing(), name="first")
        loop.run_until_complete(task)
        coro = nothing()
        try:
            task.__init__(coro, loop=loop, name="second")
        except BaseException:
            coro.close()
            raise
        return task.done(), task.get_name(), loop.run_until_complete(task)

    check_same(program)


# -- Eager tasks -------------------------------------------------------------------------------------------

eager = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")


@eager
def test_eager_task_runs_until_it_first_waits(either_loop, task_class):
    seen = []
    variable = contextvars.ContextVar("variable", default="unset")

    async def child():
        seen.append(("begins", asyncio.current_task() is not main_task, variable.get()))
        variable.set("child's")
        await asyncio.sleep(0)
        seen.append(("goes on", variable.get()))
        return "result"

    async def main():
        task = task_class(child(), loop=either_loop, eager_start=True)
        seen.append(("made", asyncio.current_task() is main_task, variable.get()))
        assert task in asyncio.all_tasks() and not task.done() and task.get_coro() is not None
        assert await task == "result"
        task = task_class(nothing(), loop=either_loop, eager_start=True)
        assert task.done() and task.result() == "nothing" and task not in asyncio.all_tasks()

    main_task = either_loop.create_task(main())
    either_loop.run_until_complete(main_task)
    assert seen == [
        ("begins", True, "unset"),
        ("made", True, "unset"),
        ("goes on", "child's"),
    ]


@pytest.mark.skipif(
    sys.version_info < (3, 13), reason="asyncio 3.12 crashes when it is asked for the coroutine"
)
def test_eager_tasks_attributes_when_it_is_done_at_once():
    def program(loop):
        async def main():
            task = task_of(loop, nothing(), eager_start=True, name="the task")
            return task.get_coro() is None, plain(repr(task)), task.get_stack(), task._fut_waiter

        return loop.run_until_complete(main())

    check_same(program)


@eager
@pytest.mark.parametrize("error", [ValueError("no"), asyncio.CancelledError("no"), Halt("no")])
def test_eager_task_that_fails_at_once(either_loop, task_class, error):
    async def fail():
        raise error

    async def main():
        me = asyncio.current_task()
        task = task_class(fail(), loop=either_loop, eager_start=True)
        assert task.done() and asyncio.current_task() is me
        with pytest.raises(type(error)):
            await task

    either_loop.run_until_complete(main())


@eager
@pytest.mark.parametrize("error", [KeyboardInterrupt("no"), SystemExit("no")])
def test_eager_task_that_stops_the_loop(error):
    def program(loop):
        async def fail():
            raise error

        async def main():
            me = asyncio.current_task()
            try:
                task_of(loop, fail(), eager_start=True)
            except BaseException as caught:
                assert caught is error
                return "raised", asyncio.current_task() is me
            return "not raised"

        return loop.run_until_complete(main())

    check_same(program)


@eager
def test_eager_start_of_a_loop_that_does_not_run(either_loop, task_class):
    task = task_class(nothing(), loop=either_loop, eager_start=True)
    assert not task.done()
    assert either_loop.run_until_complete(task) == "nothing"


@eager
def test_eager_tasks_within_eager_tasks(either_loop, task_class):
    order = []

    async def nested(depth):
        order.append(("begins", depth))
        me = asyncio.current_task()
        if depth:
            task = task_class(nested(depth - 1), loop=either_loop, eager_start=True)
            assert asyncio.current_task() is me
            await task
        else:
            await asyncio.sleep(0)
        order.append(("ends", depth))

    async def main():
        await task_class(nested(5), loop=either_loop, eager_start=True)

    either_loop.run_until_complete(main())
    assert order == [("begins", depth) for depth in range(5, -1, -1)] + [
        ("ends", depth) for depth in range(6)
    ]


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


def test_future_class_sets_the_result_of_asyncios_futures(loop):
    future = asyncio.Future(loop=loop)
    velodrome.Future.set_result(future, 1)
    assert future.result() == 1
    with pytest.raises(asyncio.InvalidStateError):
        velodrome.Future.set_exception(future, KeyError())
