"""Timeouts: what asyncio's answer, ours answer. (Who runs when is in test_differential.)"""

import asyncio
import gc
import threading
import time
import warnings
import weakref

import pytest
import velodrome
from differential import worlds
from differential.compare import outcome, turns

either_loop = worlds.either_loop


def on_either(program):
    """Run program(module) with asyncio's timeouts and with ours; the outcomes are the same."""
    expected = outcome(lambda: velodrome.run(program(asyncio)))
    assert outcome(lambda: velodrome.run(program(velodrome))) == expected
    return expected


def noted_reports():
    """Return the running loop, and the list of what its exception handler is told from now on."""
    loop, reports = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    return loop, reports


async def enter_twice(module):
    async with module.timeout(None) as timeout:
        async with timeout:
            pass


async def reschedule_before(module):
    module.timeout(1).reschedule(2)


async def reschedule_after(module):
    async with module.timeout(None) as timeout:
        pass
    timeout.reschedule(1)


async def exit_first(module):
    await module.timeout(None).__aexit__(None, None, None)


async def no_number(module):
    module.timeout("soon")


@pytest.mark.parametrize("program", [enter_twice, reschedule_before, reschedule_after, exit_first, no_number])
def test_bad_use_is_refused_as_by_asyncio(program):
    assert on_either(program)[0] != "returned"


@pytest.mark.parametrize("module", [asyncio, velodrome], ids=["asyncio", "velodrome"])
def test_outside_of_a_loop_and_of_a_task(loop, module):
    with pytest.raises(RuntimeError, match="no running event loop"):
        module.timeout(1)
    entering = module.timeout_at(1).__aenter__()

    def call():
        with pytest.raises(RuntimeError, match="^Timeout should be used inside a task$"):
            entering.send(None)

    loop.call_soon(call)
    turns(loop, 1)


def test_the_stages_of_a_timeout():
    async def program(module):
        shown = []
        timeout = module.timeout(0)
        shown.append((repr(timeout), timeout.expired()))
        with pytest.raises(TimeoutError) as caught:
            async with timeout:
                shown.append(timeout.expired())
                try:
                    await asyncio.sleep(10)
                finally:
                    shown.append((repr(timeout), timeout.expired()))
        cause = caught.value.__cause__
        shown.append((type(cause).__name__, caught.value.__context__ is cause))
        shown.append((repr(timeout), timeout.expired(), asyncio.current_task().cancelling()))
        async with module.timeout_at(None) as timeout:
            shown.append((repr(timeout), timeout.when()))
        shown.append(repr(timeout))
        return shown

    on_either(program)


def test_the_inner_of_two_expires_first_and_an_outer_cancellation_stays_one():
    async def program(module):
        seen = []
        try:
            async with module.timeout(10) as outer:
                try:
                    async with module.timeout(0.001):
                        await asyncio.sleep(10)
                except TimeoutError:
                    seen.append("inner")
                outer.reschedule(asyncio.get_running_loop().time())
                await asyncio.sleep(10)
        except TimeoutError:
            seen.append("outer")

        async def cancelled():
            async with module.timeout(10):
                asyncio.current_task().cancel("from outside")
                await asyncio.sleep(10)

        task = asyncio.create_task(cancelled())
        await asyncio.wait([task])
        return seen, task.cancelled(), task.cancelling()

    on_either(program)


def test_an_exception_in_the_block_tells_of_the_timeout_as_in_this_version():
    async def program(module):
        try:
            async with module.timeout(0):
                try:
                    await asyncio.sleep(10)
                except asyncio.CancelledError:
                    raise ValueError("in the block")
        except ValueError as error:
            return type(error.__context__).__name__, type(error.__context__.__context__).__name__

    on_either(program)


@pytest.mark.parametrize("pause", [time.sleep, asyncio.sleep], ids=["blocking", "awaiting"])
@pytest.mark.parametrize("delay", [0.001, 1.01])
def test_a_timeout_that_is_entered_after_its_deadline_ends_the_first_wait(pause, delay):
    async def program(module):
        timeout = module.timeout(delay)
        waiting = pause(delay + 0.01)
        if waiting is not None:
            await waiting
        async with timeout:
            await asyncio.sleep(0)

    if delay > 1 and pause is time.sleep:
        pytest.skip("a loop that blocks for more than a second; see docs/design.md")
    assert on_either(program) == ("TimeoutError", "")


@pytest.mark.parametrize("later", ["left", "put off", "off", "put off, and past again"])
def test_a_timeout_whose_time_is_up_in_the_turn_in_which_it_is_called_off_does_not_fire(later):
    """Its end is queued by then, behind the step of the task that leaves the block."""

    async def program(module):
        loop, reports = noted_reports()
        future = loop.create_future()

        def end():
            future.set_result(None)
            timeout.reschedule(loop.time() + 0.01)
            time.sleep(0.02)

        async with module.timeout(None) as timeout:
            loop.call_soon(end)
            await future
            if later == "put off":
                timeout.reschedule(loop.time() + 1000)
            elif later == "put off, and past again":
                timeout.reschedule(loop.time() + 0.01)
                await asyncio.sleep(1000)
            elif later == "off":
                timeout.reschedule(None)
            if later != "left":
                await asyncio.sleep(0)
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return reports, timeout.expired()

    assert on_either(program)[0] == ("TimeoutError" if later.endswith("again") else "returned")


def test_waiting_for_what_comes_in_the_turn_in_which_the_time_is_up_is_no_fault():
    async def program(module):
        loop, reports = noted_reports()
        future = loop.create_future()

        def end():
            future.set_result("came")
            time.sleep(0.4)

        loop.call_soon(end)
        came = await module.wait_for(future, 0.3)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return came, reports

    assert on_either(program) == ("returned", ("came", []))


def test_a_timeout_that_did_not_fire_leaves_no_timer(either_loop):
    async def main():
        async with velodrome.timeout(1000) as timeout:
            timeout.reschedule(either_loop.time() + 2000)
            gone = weakref.ref(timeout)
        del timeout
        gc.collect()
        return gone()

    assert either_loop.run_until_complete(main()) is None
    assert [timer for timer in either_loop._scheduled if not timer.cancelled()] == []


def test_waits_within_waits_end_before_the_stack_does():
    async def main():
        waiting = asyncio.get_running_loop().create_future()
        for _ in range(200_000):
            waiting = velodrome.wait_for(waiting, None)
        await waiting

    raised = []

    def run():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those that were not reached were never awaited
            try:
                velodrome.run(main())
            except RecursionError as error:
                raised.append(type(error))

    before = threading.stack_size(1 << 24)
    try:
        thread = threading.Thread(target=run)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert raised == [RecursionError]
