"""Steps of a task: what a coroutine may yield and raise, and which task is the current one."""

import asyncio

import pytest
from differential import tasks, worlds
from differential.compare import check_same, one_turn, plain, turns
from differential.futures import wait_for
from differential.interpreter import Halt, Stray
from differential.tasks import nothing, task_of

either_loop = worlds.either_loop
task_class = tasks.task_class


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
