"""Eager tasks: they run until they first wait, whoever starts them and whatever they raise."""

import asyncio
import contextvars
import sys

import pytest
from differential import tasks, worlds
from differential.compare import check_same, plain
from differential.interpreter import Halt
from differential.tasks import nothing, task_of

either_loop = worlds.either_loop
task_class = tasks.task_class


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
