"""Cancellation of tasks: whom it reaches, with which message, and what can be done about it."""

import asyncio

import pytest
import velodrome
from differential import tasks, worlds
from differential.compare import check_same, one_turn, turns
from differential.futures import wait_for

either_loop = worlds.either_loop
task_class = tasks.task_class


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


def logging_cancel(base):
    """A class derived from this one, and the arguments that its cancel() is called with."""
    called = []

    class Logging(base):
        def cancel(self, *arguments, **keywords):
            called.append((arguments, keywords))
            return super().cancel(*arguments, **keywords)

    return Logging, called


def test_what_is_cancelled_is_called_with_the_arguments_that_asyncio_gives():
    """So what takes no message, or by another name, can be awaited."""

    def program(loop):
        aio = velodrome if isinstance(loop, velodrome.Loop) else asyncio
        future_class, called = logging_cancel(aio.Future)
        task_class, tasks_called = logging_cancel(aio.Task)
        outcomes = []

        async def forever():
            await loop.create_future()

        async def cancelled_before_it_awaits(future):
            aio.current_task().cancel("early")
            await future

        async def gathers(future):
            await aio.gather(future)

        async def groups(_):
            async with aio.TaskGroup() as group:
                group.create_task(forever())

        async def waits(future):
            await aio.wait_for(future, 0 if aio.current_task().get_name() == "waits" else 1000)

        async def main():
            for awaits in (wait_for, cancelled_before_it_awaits, gathers, waits, groups):
                for message in ((), ("message",), (None,)):
                    task = loop.create_task(awaits(future_class(loop=loop)), name=awaits.__name__)
                    for _ in range(3):
                        await aio.sleep(0)
                    task.cancel(*message)
                    outcomes.append([type(each) for each in await aio.gather(task, return_exceptions=True)])
            return called, tasks_called, outcomes

        loop.set_task_factory(lambda loop, coro, **options: task_class(coro, loop=loop, **options))
        return loop.run_until_complete(main())

    _, (called, tasks_called, _) = check_same(program)
    assert (("message",), {}) in called and ((), {"msg": "message"}) in called
    assert ((), {}) in tasks_called


def test_cancel_that_a_future_or_task_was_given_is_called():
    """As trio-asyncio gives futures one that asks trio to end what they stand for."""

    def program(aio, loop):
        called = []

        def give(name, awaited, passes_on):
            original = awaited.cancel

            def cancel(*arguments, **keywords):
                called.append((name, arguments, keywords))
                return original(*arguments, **keywords) if passes_on else True

            awaited.cancel = cancel
            return awaited

        async def until_cancelled(future):
            try:
                await future
            except asyncio.CancelledError as error:
                called.append(("cancelled", error.args))
                raise

        async def fails():
            raise KeyError

        async def waits(name, passes_on):
            future = give(f"future {name}", loop.create_future(), passes_on)
            task = give(f"task {name}", loop.create_task(until_cancelled(future)), True)
            await asyncio.sleep(0)
            return future, task

        async def main():
            for passes_on in (True, False):
                future, task = await waits("alone", passes_on)
                task.cancel("message")
                loop.call_later(0.01, lambda future=future: future.done() or future.set_result(None))
                called.append((await aio.gather(task, return_exceptions=True))[0])
            _, task = await waits("gathered", True)
            gathered = aio.gather(task, loop.create_future())
            gathered.cancel("gather")
            called.append((await aio.gather(gathered, return_exceptions=True))[0])
            _, task = await waits("waited for", True)
            with pytest.raises(asyncio.TimeoutError):
                await aio.wait_for(task, 0.001)
            current = give("current", asyncio.current_task(), True)
            with pytest.raises(asyncio.TimeoutError):
                async with aio.timeout(0.001):
                    await loop.create_future()
            del current.cancel
            with pytest.raises(ExceptionGroup):
                async with aio.TaskGroup() as group:
                    give("grouped", group.create_task(until_cancelled(loop.create_future())), True)
                    group.create_task(fails())

        loop.run_until_complete(main())
        return [repr(entry) for entry in called]

    def run(aio, loop):
        try:
            return program(aio, loop)
        finally:
            loop.close()

    expected = run(asyncio, asyncio.new_event_loop())
    assert len(expected) > 10
    assert run(velodrome, velodrome.new_event_loop()) == expected


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
