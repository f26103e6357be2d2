"""Rust futures awaited from Python: on our loop through its table, on others by their methods."""

import asyncio
import contextvars
import gc

import bridging
import pytest
import velodrome
from bridging import turns

pytestmark = bridging.limit
probe = bridging.probe
run = bridging.run


# ---------------------------------------------------------------------------------------------------------
# What comes out.


def test_a_ready_future_gives_its_value_without_suspending(probe):
    async def main():
        value = object()
        coroutine = probe.ready(value)
        with pytest.raises(StopIteration) as stopped:
            coroutine.send(None)
        assert stopped.value.value is value

    velodrome.run(main())


def test_a_tuple_is_a_result_like_any_other(probe, run):
    async def main():
        assert await probe.ready((1, 2)) == (1, 2)

    run(main())


def test_sleeps_and_turns_of_rust_are_the_loops_own(probe, run):
    async def main():
        loop = asyncio.get_running_loop()
        begun = loop.time()
        assert await asyncio.gather(*(probe.nap(0.02) for _ in range(50))) == ["rested"] * 50
        # A sleep each would have taken a second.
        # (uvloop counts in milliseconds.)
        assert 0.019 <= loop.time() - begun
        assert await probe.yields(100) == 100

    run(main())


def test_futures_and_coroutines_are_gathered_and_grouped_alike(probe, run):
    async def python(value):
        await asyncio.sleep(0.001)
        return value

    async def main():
        results = await asyncio.gather(python(1), probe.ready(2), probe.yields(3), python(4))
        assert results == [1, 2, 3, 4]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(probe.yields(number)) for number in range(5)]
        assert [task.result() for task in tasks] == list(range(5))

    run(main())


def test_turns_of_a_future_and_of_a_coroutine_alternate(probe):
    async def python(log):
        for _ in range(3):
            log.append("python")
            await asyncio.sleep(0)

    async def rust(log):
        for _ in range(3):
            log.append("rust")
            await probe.yields(1)

    async def main():
        log = []
        await asyncio.gather(python(log), rust(log))
        return log

    assert velodrome.run(main()) == ["python", "rust"] * 3
    assert asyncio.run(main()) == ["python", "rust"] * 3


def test_an_error_is_raised_as_it_is(probe, run):
    async def main():
        with pytest.raises(ValueError, match="^no$"):
            await probe.fails("no")
        assert await probe.ready(1) == 1

    run(main())


def test_a_panic_is_an_exception_and_the_loop_goes_on(probe, run):
    async def main():
        log = []
        with pytest.raises(BaseException, match="^at the disco$") as raised:
            await probe.panics(log.append, "at the disco")
        assert type(raised.value).__name__ == "PanicException"
        assert log == ["dropped"]
        del raised
        assert await probe.task_panics() == "the task panicked: oh"
        assert await probe.yields(3) == 3

    run(main())


# ---------------------------------------------------------------------------------------------------------
# What it looks like.


def test_it_is_a_coroutine_to_python(probe, run):
    async def main():
        coroutine = probe.yields(1)
        assert asyncio.iscoroutine(coroutine)
        assert coroutine.__name__ == coroutine.__qualname__ == "yields"
        assert repr(coroutine).startswith("<coroutine object yields at 0x")
        task = asyncio.create_task(coroutine, name="rusty")
        assert task in asyncio.all_tasks()
        assert "coro=<yields()" in repr(task)
        await task
        assert task not in asyncio.all_tasks()

    run(main())


def test_one_that_nobody_awaits_warns(probe):
    coroutine = probe.ready(1)
    with pytest.warns(RuntimeWarning, match="coroutine 'ready' was never awaited"):
        del coroutine
        gc.collect()


def test_a_closed_one_does_not_warn_and_is_dropped(probe, recwarn):
    log = []
    coroutine = probe.pending(log.append)
    coroutine.close()
    assert log == []  # the guard was never made
    coroutine.close()
    del coroutine
    gc.collect()
    assert not [warning for warning in recwarn if "never awaited" in str(warning.message)]


def test_misuse_is_told_as_coroutines_tell_it(probe, run):
    async def main():
        with pytest.raises(TypeError, match="just-started"):
            (unstarted := probe.ready(1)).send(1)
        unstarted.close()
        coroutine = probe.ready(1)
        await coroutine
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await coroutine
        thrown = probe.ready(1)
        with pytest.raises(KeyError):
            thrown.throw(KeyError)
        with pytest.raises(RuntimeError, match="cannot reuse"):
            await thrown

    run(main())


def test_without_a_loop_it_says_so(probe):
    coroutine = probe.ready(1)
    with pytest.raises(RuntimeError, match="no running event loop"):
        coroutine.send(None)


def test_it_belongs_to_the_thread_that_made_it(probe, run):
    async def main():
        loop = asyncio.get_running_loop()
        made = await asyncio.to_thread(probe.yields, 1)
        with pytest.raises(RuntimeError, match="belongs to another thread"):
            await made
        anywhere = await asyncio.to_thread(probe.yields_anywhere, 3)
        assert await anywhere == 3

        def elsewhere():
            return asyncio.run_coroutine_threadsafe(probe.yields_anywhere(4), loop).result(30)

        assert await asyncio.to_thread(elsewhere) == 4

    run(main())


def test_it_sees_the_context_of_its_task(probe, run):
    variable = contextvars.ContextVar("variable")

    async def main():
        async def with_value(value):
            variable.set(value)
            return await probe.sees(variable)

        assert await asyncio.gather(*map(with_value, range(5))) == [(value, value) for value in range(5)]

    run(main())


@pytest.mark.parametrize("task_class", [asyncio.Task, asyncio.tasks._PyTask])
def test_asyncios_own_tasks_drive_it(probe, run, task_class):
    async def main():
        loop = asyncio.get_running_loop()
        task = task_class(probe.nap(0.001), loop=loop)
        assert await task == "rested"
        task = task_class(probe.woken(5), loop=loop)
        assert await task == 5

    run(main())


# ---------------------------------------------------------------------------------------------------------
# Cancellation.


def test_cancelling_drops_the_future_once(probe, run):
    async def main():
        log = []
        task = asyncio.create_task(probe.pending(log.append))
        await turns()
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError) as raised:
            await task
        assert raised.value.args == ("enough",)
        assert log == ["dropped"]

    run(main())


def test_cancelled_before_it_begins_it_never_runs(probe, run):
    async def main():
        log = []
        task = asyncio.create_task(probe.panics(log.append, "never"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert log == []

    run(main())


def test_a_future_can_clean_up_after_its_cancellation(probe, run):
    async def main():
        log = []
        task = asyncio.create_task(probe.catches(log.append, False))
        await turns()
        task.cancel()
        assert await task == "cleaned"
        task = asyncio.create_task(probe.catches(log.append, True))
        await turns()
        task.cancel("passed on")
        with pytest.raises(asyncio.CancelledError) as raised:
            await task
        assert raised.value.args == ("passed on",)
        assert log == ["cleaned", "cleaned"]

    run(main())


def test_a_timeout_ends_it(probe, run):
    async def main():
        log = []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.005):
                await probe.pending(log.append)
        assert log == ["dropped"]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(probe.pending(log.append), 0.005)
        assert log == ["dropped", "dropped"]

    run(main())


def test_cancelled_at_every_turn_nothing_is_left_and_dropped_once(probe, run):
    async def main():
        for when in range(8):
            log = []
            task = asyncio.create_task(probe.panics(log.append, ""))
            await turns(when)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass
            assert log == (["dropped"] if when else [])

    run(main())


# ---------------------------------------------------------------------------------------------------------
# What Rust awaits of Python's.


def test_rust_awaits_anything_that_python_can(probe, run):
    class Awaitable:
        def __await__(self):
            yield from asyncio.sleep(0.001).__await__()
            return "awaited"

    async def main():
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_later(0.001, future.set_result, "set")
        assert await probe.awaits(future) == "set"
        assert await probe.awaits(future) == "set"
        assert await probe.awaits(asyncio.sleep(0.001, "slept")) == "slept"
        assert await probe.awaits(Awaitable()) == "awaited"
        assert await probe.awaits(probe.awaits(probe.yields(2))) == 2
        assert await probe.awaits_all([asyncio.sleep(0.001, number) for number in range(20)]) == list(
            range(20)
        )

    run(main())


def test_what_python_raises_comes_out_of_rust(probe, run):
    async def fail():
        await asyncio.sleep(0)
        raise LookupError("lost")

    async def main():
        with pytest.raises(LookupError, match="lost"):
            await probe.awaits(fail())
        with pytest.raises(TypeError):
            await probe.awaits(1)
        task = asyncio.create_task(asyncio.sleep(10))
        waiting = asyncio.create_task(probe.awaits(task))
        await turns()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    run(main())


def test_what_rust_gives_up_is_cancelled_in_python(probe, run):
    async def main():
        ended = []

        async def wait():
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

        assert await probe.awaits_for(wait(), 0.005) is None
        await turns()
        assert ended == ["cancelled"]
        assert await probe.awaits_for(asyncio.sleep(0, "soon"), 5) == "soon"
        waiting = asyncio.create_task(probe.awaits(wait()))
        await turns()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await turns()
        assert ended == ["cancelled", "cancelled"]

    run(main())
