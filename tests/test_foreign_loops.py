"""Our tasks, futures and sleeps on loops that are not ours; everybody's tasks and futures on each."""

import asyncio
import contextvars
import sys

import pytest
import velodrome
from differential.python_loop import PythonLoop
from differential.worlds import uvloop

LOOPS = {
    "asyncio": asyncio.SelectorEventLoop,
    "velodrome": velodrome.new_event_loop,
    "python": PythonLoop,
    "uvloop": uvloop and uvloop.new_event_loop,
}


@pytest.fixture(params=LOOPS)
def any_loop(request):
    if LOOPS[request.param] is None:
        pytest.skip("uvloop is not installed")
    loop = LOOPS[request.param]()
    yield loop
    loop.close()


class Extended(velodrome.Task):
    pass


TASKS = {
    "ours": velodrome.Task,
    "extended": Extended,
    "asyncio's": asyncio.Task,
    "python's": asyncio.tasks._PyTask,
}
FUTURES = {
    "ours": velodrome.Future,
    "asyncio's": asyncio.Future,
    "python's": asyncio.futures._PyFuture,
}
any_task = pytest.mark.parametrize("task_class", TASKS.values(), ids=TASKS)
our_task = pytest.mark.parametrize("task_class", [velodrome.Task, Extended])
any_future = pytest.mark.parametrize("future_class", FUTURES.values(), ids=FUTURES)


async def wait_for(future):
    return await future


def run(loop, task_class, coro):
    return loop.run_until_complete(task_class(coro, loop=loop))


# -- Our tasks ---------------------------------------------------------------------------------------------


@our_task
def test_our_task_runs(any_loop, task_class):
    variable = contextvars.ContextVar("variable", default="unset")

    async def main():
        variable.set("the task's")
        assert asyncio.get_running_loop() is any_loop
        assert asyncio.current_task() is task
        assert asyncio.all_tasks() == {task}
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        await velodrome.sleep(0.001)
        assert asyncio.current_task() is task
        return variable.get()

    task = task_class(main(), loop=any_loop, name="the task")
    assert task.get_loop() is any_loop and task.get_name() == "the task"
    assert any_loop.run_until_complete(task) == "the task's"
    assert asyncio.all_tasks(any_loop) == set() and variable.get() == "unset"


@our_task
def test_our_task_fails_and_is_cancelled(any_loop, task_class):
    async def fail():
        await asyncio.sleep(0)
        raise ValueError("no")

    async def main():
        with pytest.raises(ValueError):
            await task_class(fail(), loop=any_loop)
        task = task_class(asyncio.sleep(1000), loop=any_loop)
        await asyncio.sleep(0)
        assert task.cancel("message") and task.cancelling() == 1
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert caught.value.args == ("message",) or caught.value.args == ()
        assert task.cancelled()
        task = task_class(asyncio.sleep(1000), loop=any_loop)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    run(any_loop, task_class, main())


@our_task
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_error_that_stops_the_loop(any_loop, task_class, error):
    async def fail():
        raise error

    task = task_class(fail(), loop=any_loop)
    with pytest.raises(error):
        any_loop.run_until_complete(task)
    assert isinstance(task.exception(), error)


@our_task
def test_our_tasks_together(any_loop, task_class):
    """The standard library's primitives, over tasks that a factory makes."""
    order = []

    async def worker(name, lock, queue):
        async with lock:
            order.append((name, "begins"))
            await asyncio.sleep(0)
            order.append((name, "ends"))
        await queue.put(name)
        return name

    async def main():
        lock, queue = asyncio.Lock(), asyncio.Queue(1)
        gathered = asyncio.gather(*[worker(number, lock, queue) for number in range(3)])
        assert [await queue.get() for _ in range(3)] == [0, 1, 2]
        assert await gathered == [0, 1, 2]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0, number)) for number in range(3)]
        assert [task.result() for task in tasks] == [0, 1, 2]
        assert all(type(task) is task_class for task in tasks)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.sleep(1000)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(1000), 0.001)
        assert await asyncio.shield(asyncio.sleep(0, "shielded")) == "shielded"
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(1000))
                group.create_task(wait_for(failed))
        return "done"

    any_loop.set_task_factory(lambda loop, coro, **options: task_class(coro, loop=loop, **options))
    failed = velodrome.Future(loop=any_loop)
    failed.set_exception(ValueError("no"))
    assert any_loop.run_until_complete(main()) == "done"
    any_loop.set_task_factory(None)
    assert order == [(number, what) for number in range(3) for what in ("begins", "ends")]


@our_task
def test_two_tasks_take_turns(any_loop, task_class):
    order = []

    async def worker(name):
        for number in range(3):
            order.append((name, number))
            await velodrome.sleep(0)

    async def main():
        left = task_class(worker("left"), loop=any_loop)
        right = task_class(worker("right"), loop=any_loop)
        await left
        await right

    run(any_loop, task_class, main())
    assert order == [(name, number) for number in range(3) for name in ("left", "right")]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
@our_task
def test_our_eager_tasks(any_loop, task_class):
    async def main():
        me = asyncio.current_task()
        done = task_class(wait_for(finished), loop=any_loop, eager_start=True)
        assert done.done() and asyncio.current_task() is me
        waits = task_class(asyncio.sleep(0, "slept"), loop=any_loop, eager_start=True)
        assert not waits.done() and waits in asyncio.all_tasks()
        return await done, await waits

    finished = velodrome.Future(loop=any_loop)
    finished.set_result("finished")
    assert run(any_loop, task_class, main()) == ("finished", "slept")


# -- Everybody's futures under everybody's tasks -----------------------------------------------------------


@any_task
@any_future
@pytest.mark.parametrize("finish", ["result", "error", "cancel", "done before"])
def test_any_task_awaits_any_future(any_loop, task_class, future_class, finish):
    async def main():
        future = future_class(loop=any_loop)
        task = task_class(wait_for(future), loop=any_loop)
        if finish == "done before":
            future.set_result("before")
            assert await task == "before"
            return
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert task._fut_waiter is future and len(future._callbacks) == 1
        if finish == "result":
            future.set_result("result")
            assert await task == "result"
        elif finish == "error":
            future.set_exception(ValueError("no"))
            with pytest.raises(ValueError):
                await task
        else:
            future.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert task.cancelled()

    any_loop.run_until_complete(main())


@any_task
@any_future
def test_cancelling_any_task_cancels_any_future(any_loop, task_class, future_class):
    async def main():
        future = future_class(loop=any_loop)
        task = task_class(wait_for(future), loop=any_loop)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert task.cancel("message")
        assert future.cancelled()
        with pytest.raises(asyncio.CancelledError) as caught:
            future.result()
        assert caught.value.args == ("message",)
        await asyncio.wait([task])
        assert task.cancelled()

    any_loop.run_until_complete(main())


@any_task
@pytest.mark.parametrize("inner_class", TASKS.values(), ids=TASKS)
def test_any_task_awaits_any_task(any_loop, task_class, inner_class):
    async def main():
        inner = inner_class(asyncio.sleep(0.001, "slept"), loop=any_loop)
        assert await task_class(wait_for(inner), loop=any_loop) == "slept"
        inner = inner_class(velodrome.sleep(1000), loop=any_loop)
        outer = task_class(wait_for(inner), loop=any_loop)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        outer.cancel()
        await asyncio.wait([outer])
        assert inner.cancelled() and outer.cancelled()

    any_loop.run_until_complete(main())


@any_task
@any_future
def test_future_of_another_loop_is_refused(any_loop, task_class, future_class):
    async def main():
        with pytest.raises(RuntimeError, match="attached to a different loop"):
            await task_class(wait_for(future), loop=any_loop)

    other = PythonLoop()
    future = future_class(loop=other)
    any_loop.run_until_complete(main())


@any_task
@any_future
def test_stray_yield_of_a_future_is_refused(any_loop, task_class, future_class):
    class Stray:
        def __await__(self):
            yield future_class(loop=any_loop)

    async def stray():
        await Stray()

    async def main():
        with pytest.raises(RuntimeError, match="yield was used instead of yield from"):
            await task_class(stray(), loop=any_loop)

    any_loop.run_until_complete(main())


@pytest.mark.parametrize("sleep", [asyncio.sleep, velodrome.sleep], ids=["asyncio", "velodrome"])
@any_task
def test_any_task_sleeps(any_loop, task_class, sleep):
    async def main():
        assert await task_class(sleep(0, "gave way"), loop=any_loop) == "gave way"
        before = any_loop.time()
        assert await task_class(sleep(0.002, "slept"), loop=any_loop) == "slept"
        assert any_loop.time() >= before + 0.001
        task = task_class(sleep(1000), loop=any_loop)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    any_loop.run_until_complete(main())


def test_our_sleep_through_a_loops_public_methods():
    calls = []

    class Loop(PythonLoop):
        def call_later(self, delay, callback, *args, context=None):
            calls.append(("call_later", delay, len(args)))
            return super().call_later(delay, callback, *args, context=context)

        def create_future(self):
            calls.append("create_future")
            return super().create_future()

    loop = Loop()
    assert loop.run_until_complete(velodrome.sleep(0.001, "slept")) == "slept"
    assert calls == ["create_future", ("call_later", 0.001, 2)]
    loop.close()


# -- Futures alone -----------------------------------------------------------------------------------------


@any_future
def test_callbacks_go_through_the_loops_call_soon(future_class):
    calls = []

    class Loop(PythonLoop):
        def call_soon(self, callback, *args, context=None):
            calls.append((callback, args, context))
            return super().call_soon(callback, *args, context=context)

    loop = Loop()
    future = future_class(loop=loop)
    context = contextvars.copy_context()
    future.add_done_callback(print, context=context)
    future.add_done_callback(id)
    future.set_result(1)
    assert [call[:2] for call in calls] == [(print, (future,)), (id, (future,))]
    assert calls[0][2] is context and isinstance(calls[1][2], contextvars.Context)
    loop.ready.clear()


@pytest.mark.parametrize("class_", [velodrome.Task, velodrome.Future])
def test_steps_and_callbacks_are_asked_of_a_loop_that_fails(class_):
    """An error of the loop's call_soon comes out where it was called."""

    class Broken(PythonLoop):
        broken = True

        def call_soon(self, callback, *args, context=None):
            if self.broken:
                raise LookupError("broken")
            return super().call_soon(callback, *args, context=context)

    loop = Broken()
    if class_ is velodrome.Task:
        coro = wait_for(None)
        with pytest.raises(LookupError):
            velodrome.Task(coro, loop=loop)
        coro.close()
    else:
        future = velodrome.Future(loop=loop)
        future.add_done_callback(print)
        with pytest.raises(LookupError):
            future.set_result(1)
        assert future.done() and future._callbacks is None


def test_least_of_a_loop():
    """Futures need get_debug(), call_soon() and call_exception_handler(), and nothing else."""

    class Least:
        def __init__(self):
            self.called = []
            self.reports = []

        def get_debug(self):
            return False

        def call_soon(self, callback, *args, context):
            self.called.append((callback, args))

        def call_exception_handler(self, context):
            self.reports.append(context["message"])

    loop = Least()
    future = velodrome.Future(loop=loop)
    future.add_done_callback(print)
    future.set_exception(ValueError("no"))
    assert loop.called == [(print, (future,))]
    loop.called.clear()
    del future
    assert loop.reports == ["Future exception was never retrieved"]
    task = velodrome.Task(wait_for(velodrome.Future(loop=loop)), loop=loop)
    ((step, arguments),) = loop.called
    assert arguments == ()
    asyncio._set_running_loop(loop)
    try:
        step()
        assert task._fut_waiter is not None
        loop.called.clear()
        task._fut_waiter.set_result("result")
        ((wakeup, arguments),) = loop.called
        wakeup(*arguments)
    finally:
        asyncio._set_running_loop(None)
    assert task.result() == "result"


@pytest.mark.parametrize("name", ["velodrome", "asyncio"])
def test_debug_mode_of_a_foreign_loop(name):
    loop = PythonLoop()
    loop.set_debug(True)
    future = (velodrome if name == "velodrome" else asyncio).Future(loop=loop)
    task = (velodrome if name == "velodrome" else asyncio).Task(wait_for(future), loop=loop)
    assert future._source_traceback[-1].name == "test_debug_mode_of_a_foreign_loop"
    assert task._source_traceback[-1].name == "test_debug_mode_of_a_foreign_loop"
    task._log_destroy_pending = False
    task.get_coro().close()


# -- Everybody's tasks on ours -----------------------------------------------------------------------------


@any_task
@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
def test_any_task_on_our_loop(loop, task_class, debug):
    async def child(number):
        await asyncio.sleep(0)
        return number

    async def main():
        numbers = await asyncio.gather(*[task_class(child(number), loop=loop) for number in range(10)])
        assert numbers == list(range(10))
        async with asyncio.timeout(10):
            await velodrome.sleep(0.001)
        future = loop.create_future()
        loop.call_soon(future.set_result, "result")
        return await future

    if task_class is asyncio.tasks._PyTask and sys.version_info >= (3, 14):
        pytest.skip(
            "Python's tasks have a register of their own since 3.14: asyncio.timeout() does not see them"
        )
    loop.set_debug(debug)
    assert run(loop, task_class, main()) == "result"
