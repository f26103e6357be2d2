"""Task: what it is, how it is made, its name and context, and what others read of it."""

import asyncio
import contextvars
import gc
import inspect
import io
import sys
import types
import weakref
from collections import abc

import pytest
import velodrome
from differential import tasks, worlds
from differential.compare import check_same, on_both, one_turn, outcome, plain, turns
from differential.futures import wait_for
from differential.tasks import nothing, task_of

either_loop = worlds.either_loop
task_class = tasks.task_class


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

    reported = []
    either_loop.set_exception_handler(lambda loop, context: reported.append(repr(context["task"])))
    coro = nothing()
    with pytest.raises(LookupError):
        task_class(coro, loop=either_loop, name=Bad())
    gc.collect()
    coro.close()
    assert [text.partition(" coro=<nothing()")[0] for text in reported] == ["<Task pending name=None"]
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
