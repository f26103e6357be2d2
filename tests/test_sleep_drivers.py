"""A sleep is driven by any task, by `await` and `yield from`, or by hand: by its send, throw and close."""

import asyncio
import gc
import sys
import types
import warnings
import weakref
from collections import abc

import pytest
import velodrome
from differential import worlds
from differential.compare import on_both, one_turn, outcome, turns
from differential.sleeps import either_sleep

either_loop = worlds.either_loop


@either_sleep
@pytest.mark.parametrize("task_class", [asyncio.Task, asyncio.tasks._PyTask, velodrome.Task])
def test_any_task_can_sleep(either_loop, task_class, sleep):
    async def nested():
        return await sleep(0.001, "slept")

    assert either_loop.run_until_complete(task_class(sleep(0.001, "slept"), loop=either_loop)) == "slept"
    assert either_loop.run_until_complete(task_class(sleep(0, "slept"), loop=either_loop)) == "slept"
    assert either_loop.run_until_complete(task_class(nested(), loop=either_loop)) == "slept"


@either_sleep
@pytest.mark.parametrize("task_class", [asyncio.Task, asyncio.tasks._PyTask, velodrome.Task])
def test_any_task_can_be_cancelled_while_it_sleeps(either_loop, task_class, sleep):
    async def nested():
        await sleep(1000)

    for coroutine in (sleep(1000), nested()):
        task = task_class(coroutine, loop=either_loop)
        one_turn(either_loop)
        future = weakref.ref(task._fut_waiter)
        assert task.cancel("message") and future().cancelled()
        turns(either_loop, 2)
        with pytest.raises(asyncio.CancelledError) as caught:
            task.result()
        del caught
        assert task.cancelled()
        assert [timer for timer in either_loop._scheduled if not timer.cancelled()] == []
        del task, coroutine
        gc.collect()
        assert future() is None


@either_sleep
def test_bare_send(either_loop, sleep):
    """What it yields is a future of the running loop, and not the coroutine itself."""
    seen = []

    def drive():
        nap = sleep(0.001, "slept")
        future = nap.send(None)
        assert asyncio.isfuture(future) and future is not nap and future.get_loop() is either_loop
        assert future._asyncio_future_blocking is True
        future._asyncio_future_blocking = False
        assert nap.cr_running is False and nap.cr_await is not None

        def done(future):
            try:
                nap.send(None)
            except StopIteration as stop:
                seen.append(stop.value)
            either_loop.stop()

        future.add_done_callback(done)

    either_loop.call_soon(drive)
    either_loop.run_forever()
    assert seen == ["slept"]


@either_sleep
def test_bare_send_of_sleep_zero_needs_no_loop(sleep):
    nap = sleep(0, "slept")
    assert nap.send(None) is None
    with pytest.raises(StopIteration) as caught:
        nap.send(None)
    assert caught.value.value == "slept"
    nap = sleep(-1)
    assert next(nap.__await__()) is None
    with pytest.raises(StopIteration) as caught:
        nap.send(None)
    assert caught.value.value is None


@either_sleep
def test_its_iterator_has_the_methods_of_a_coroutines(sleep):
    iterator = sleep(0).__await__()
    assert isinstance(iterator, abc.Iterator) and iter(iterator) is iterator
    assert iterator.__next__() is None
    with pytest.raises(ValueError):
        iterator.throw(ValueError)
    iterator.close()


@either_sleep
def test_awaited_by_the_await_of_a_class(either_loop, sleep):
    class Wrapped:
        def __init__(self, delay):
            self.delay = delay

        def __await__(self):
            result = yield from sleep(self.delay, "slept").__await__()
            return [result]

    class Passed:
        def __await__(self):
            return sleep(0.001, "slept").__await__()

    async def main():
        return await Wrapped(0), await Wrapped(0.001), await Passed()

    assert either_loop.run_until_complete(main()) == (["slept"], ["slept"], "slept")
    task = either_loop.create_task(asyncio.wait_for(Wrapped(1000), 1000))
    turns(either_loop, 3)
    task.cancel()
    turns(either_loop, 5)
    assert task.cancelled() and [timer for timer in either_loop._scheduled if not timer.cancelled()] == []


@either_sleep
def test_awaited_by_a_generator_based_coroutine(either_loop, sleep):
    @types.coroutine
    def old():
        return (yield from sleep(0.001, "slept"))

    async def main():
        return await old()

    assert either_loop.run_until_complete(main()) == "slept"


@either_sleep
def test_without_a_running_loop(sleep):
    nap = sleep(1)
    with pytest.raises(RuntimeError, match="^no running event loop$"):
        nap.send(None)
    nap.close()


@either_sleep
def test_resumed_too_early(either_loop, sleep):
    async def main():
        nap = sleep(1000)
        future = nap.send(None)
        with pytest.raises(RuntimeError, match="^await wasn't used with future$"):
            nap.send(None)
        # Python's coroutine is over with that; ours must be no worse than over.
        with pytest.raises((RuntimeError, StopIteration)):
            nap.send(None)
        future.cancel()
        nap.close()

    either_loop.run_until_complete(main())
    assert [timer for timer in either_loop._scheduled if not timer.cancelled()] == []


@either_sleep
def test_sleep_is_awaited_once(either_loop, sleep):
    async def main():
        for delay in (0, 0.001):
            nap = sleep(delay)
            await nap
            with pytest.raises(RuntimeError, match="^cannot reuse already awaited coroutine$"):
                await nap
            with pytest.raises(RuntimeError, match="^cannot reuse already awaited coroutine$"):
                nap.send(None)
            with pytest.raises(RuntimeError, match="^cannot reuse already awaited coroutine$"):
                nap.throw(ValueError)
            nap.close()

    either_loop.run_until_complete(main())


@either_sleep
def test_awaited_by_two_at_a_time(either_loop, sleep):
    async def wait(nap):
        await nap

    async def main():
        for delay in (0, 1000):
            nap = sleep(delay)
            first = asyncio.ensure_future(wait(nap))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError):
                await nap
            first.cancel()
            await asyncio.wait([first])

    either_loop.run_until_complete(main())


@either_sleep
@pytest.mark.parametrize("stage", ["new", "gave way", "waiting", "done"])
@pytest.mark.parametrize(
    "thrown",
    [
        (ValueError("thrown"),),
        (ValueError,),
        (GeneratorExit,),
        (StopIteration("thrown"),),
        (StopIteration,),
        (KeyboardInterrupt,),
        (ValueError, "thrown"),
    ],
    ids=repr,
)
def test_throw_is_that_of_a_coroutine(either_loop, sleep, stage, thrown):
    def program(loop, sleep):
        async def main():
            nap = sleep(1000 if stage == "waiting" else 0)
            if stage != "new":
                nap.send(None)
            if stage == "done":
                with pytest.raises(StopIteration):
                    nap.send(None)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                outcomes = [outcome(nap.throw, *thrown)]
            outcomes.append(outcome(nap.send, None))
            outcomes.append(nap.close())
            return outcomes, [timer for timer in loop._scheduled if not timer.cancelled()]

        return loop.run_until_complete(main())

    ends_iteration = thrown[0] is StopIteration or isinstance(thrown[0], StopIteration)
    if hasattr(sys, "gettotalrefcount") and stage == "new" and ends_iteration:
        pytest.skip("a debug build of CPython ends the process: a coroutine is not to raise StopIteration")
    ours = isinstance(either_loop, velodrome.Loop) and sleep is asyncio.sleep
    if sys.version_info < (3, 12) and ours and stage == "waiting" and ends_iteration:
        pytest.skip("our futures have no throw(), which 3.11 wants to make a return of StopIteration")
    (_, expected), _ = on_both(program, asyncio.sleep)
    assert program(either_loop, sleep) == expected


@either_sleep
@pytest.mark.parametrize("thrown", [(1,), (), (ValueError("thrown"), "value"), (int,)], ids=repr)
def test_bad_arguments_of_throw(sleep, thrown):
    nap = sleep(0)
    nap.send(None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert outcome(nap.throw, *thrown)[0] == "TypeError"
    nap.close()


@either_sleep
def test_throw_with_what_is_handled_as_context(either_loop, sleep):
    async def nap_while_handling():
        try:
            raise ValueError("handled")
        except ValueError:
            await sleep(1000)

    async def main():
        task = asyncio.create_task(nap_while_handling())
        await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError as error:
            return type(error.__context__)

    assert either_loop.run_until_complete(main()) is ValueError


@either_sleep
@pytest.mark.parametrize("stage", ["new", "gave way", "waiting", "done"])
def test_close(either_loop, sleep, stage, recwarn):
    async def main():
        nap = sleep(1000 if stage == "waiting" else 0)
        if stage != "new":
            nap.send(None)
        if stage == "done":
            with pytest.raises(StopIteration):
                nap.send(None)
        for _ in range(2):
            nap.close()
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            nap.send(None)
        assert [timer for timer in either_loop._scheduled if not timer.cancelled()] == []

    either_loop.run_until_complete(main())
    assert list(recwarn) == []


@either_sleep
def test_future_of_a_sleep_can_be_finished_by_others(either_loop, sleep):
    async def main():
        for finish in (lambda f: f.set_result("early"), lambda f: f.cancel("early"), lambda f: None):
            task = asyncio.create_task(sleep(0.001, "slept"))
            await asyncio.sleep(0)
            finish(task._fut_waiter)
            yield outcome_of(await asyncio.wait([task]))

    def outcome_of(done_and_pending):
        ((task,), _) = done_and_pending
        return outcome(task.result)

    async def collect():
        return [each async for each in main()]

    found = either_loop.run_until_complete(collect())
    # asyncio returns what its future got, which a sleep always sets to its result.
    assert found[1:] == [("CancelledError", "early"), ("returned", "slept")]
    assert found[0][0] == "returned"
