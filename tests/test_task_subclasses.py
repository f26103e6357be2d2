"""Subclasses of Task, and instances that nobody initialised: nothing of asyncio's own Task is reached."""

import asyncio
import gc
import os
import sys

import pytest
import velodrome
from differential import worlds
from differential.compare import check_same, outcome
from differential.futures import wait_for
from differential.tasks import ATTRIBUTES, nothing, task_of

either_loop = worlds.either_loop


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
