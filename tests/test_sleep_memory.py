"""Sleeps that are dropped: what warns that nobody awaited them, and that nothing of them is left."""

import asyncio
import gc
import sys
import warnings
import weakref

import pytest
import velodrome
from differential import worlds
from differential.compare import one_turn
from differential.sleeps import either_sleep

either_loop = worlds.either_loop


@either_sleep
@pytest.mark.parametrize("delay", [0, 1])
def test_sleep_that_is_never_awaited_warns(sleep, delay):
    with pytest.warns(RuntimeWarning, match="^coroutine 'sleep' was never awaited") as caught:
        sleep(delay)
        gc.collect()
    assert caught[0].filename == __file__


@either_sleep
def test_the_warning_as_an_error_goes_to_unraisablehook(sleep, monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sleep(1)
        gc.collect()
    assert [unraisable.exc_type for unraisable in seen] == [RuntimeWarning]


@either_sleep
def test_debug_mode_tells_where_a_sleep_that_is_never_awaited_was_made(either_loop, sleep):
    async def main():
        with pytest.warns(RuntimeWarning, match="was never awaited") as caught:
            sleep(1)
            gc.collect()
        return str(caught[0].message)

    if sleep is velodrome.sleep:
        # Asking costs, so that ours asks only from the first loop of ours in debug mode on.
        other = velodrome.new_event_loop()
        other.set_debug(True)
        other.close()
    either_loop.set_debug(True)
    message = either_loop.run_until_complete(main())
    assert "Coroutine created at" in message and "in main" in message


@either_sleep
def test_dropped_while_it_waits(either_loop, sleep):
    async def main():
        nap = sleep(1000)
        future = weakref.ref(nap.send(None))
        assert future() is not None
        del nap
        gc.collect()
        assert [timer for timer in either_loop._scheduled if not timer.cancelled()] == []
        # asyncio's timer keeps its future until it surfaces.
        assert future() is None or sleep is asyncio.sleep

    either_loop.run_until_complete(main())


def test_cancelled_sleeps_leave_nothing_behind(loop):
    async def main():
        gone = []
        for _ in range(100):
            task = loop.create_task(velodrome.sleep(1000))
            await velodrome.sleep(0)
            gone.append(weakref.ref(task._fut_waiter))
            task.cancel()
            await asyncio.wait([task])
            del task
        await velodrome.sleep(0)
        gc.collect()
        return [reference() for reference in gone if reference() is not None]

    assert loop.run_until_complete(main()) == []


def test_sleeping_tasks_in_cycles_are_freed_with_the_loop():
    def make():
        loop = velodrome.new_event_loop()
        loop.set_exception_handler(lambda loop, context: None)
        task = loop.create_task(velodrome.sleep(1000))
        task.loop = loop
        one_turn(loop)
        return weakref.ref(loop), weakref.ref(task)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gone = make()
        gc.collect()
    assert [reference() for reference in gone] == [None, None]
