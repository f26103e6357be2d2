"""What Rust runs on a loop of Python: tasks, timers and sockets of the crate velodrome, and wakes.

Nothing of it is shared that must not be, and nothing is lost.
"""

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
import textwrap
import weakref

import bridging
import pytest
import velodrome
from bridging import PACKAGE, run_in_thread, turns

pytestmark = bridging.limit
probe = bridging.probe
run = bridging.run


# ---------------------------------------------------------------------------------------------------------
# Wakes from other threads.


def test_no_wake_from_another_thread_is_lost(probe, run):
    async def main():
        assert await asyncio.gather(*(probe.woken(1_000) for _ in range(8))) == [1_000] * 8

    run(main())


def test_a_wake_after_the_end_of_the_loop_does_nothing(probe, run):
    log = []

    async def main():
        asyncio.create_task(probe.pending(log.append))
        await turns()

    run(main())
    assert log == ["dropped"]


# ---------------------------------------------------------------------------------------------------------
# Tasks, timers and sockets of the crate velodrome.


def test_tasks_of_rust_run_on_the_loop(probe, run):
    async def main():
        assert await probe.tasks(500) == sum(range(500))

    run(main())


def test_tasks_of_rust_that_are_left_end_with_the_loop(probe, run):
    log = []

    async def main():
        assert await probe.leaves(log.append) == 3
        assert log == []

    run(main())
    gc.collect()  # loops that tell nobody that they are closed
    assert sorted(log) == ["cleaned", "dropped"]


def count_epolls():
    count = 0
    for descriptor in os.listdir("/proc/self/fd"):
        # The descriptor of the listing itself is gone by now.
        with contextlib.suppress(FileNotFoundError):
            count += "eventpoll" in os.readlink(f"/proc/self/fd/{descriptor}")
    return count


def test_sockets_of_rust_are_served_by_the_loops_poller_and_thread(probe, run):
    async def serve(reader, writer):
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    async def main():
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            before = len(os.listdir("/proc/self/task")), count_epolls()
            echoed = await asyncio.gather(*(probe.echo(port, 20) for _ in range(20)))
            threads, polls = len(os.listdir("/proc/self/task")), count_epolls()
            # Threads of earlier tests may be ending.
            assert threads <= before[0] and polls == before[1]
        assert echoed == [20] * 20

    run(main())


def test_a_future_dropped_while_its_socket_is_ready_leaves_nothing_registered(probe, run):
    async def main():
        connected = []

        async def serve(reader, writer):
            connected.append(writer)

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        log = []
        for number in range(60):
            task = asyncio.create_task(probe.listens(port, log.append))
            while len(connected) <= number:
                await asyncio.sleep(0)
            connected[-1].write(b"no end")
            await turns(number % 5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            connected[-1].close()
        assert log == ["dropped"] * 60
        server.close()
        await turns(20)

    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    run(main())
    gc.collect()
    before = descriptors()
    run(main())
    gc.collect()
    assert descriptors() == before


# ---------------------------------------------------------------------------------------------------------
# What must not be shared, or lost.


def test_a_coroutine_is_awaited_by_one(probe, run):
    async def main():
        coroutine = probe.nap(0.005)

        async def wait():
            return await coroutine

        first = asyncio.create_task(wait())
        await turns()
        with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
            await wait()
        assert await first == "rested"

    run(main())


def test_looking_at_a_coroutine_makes_no_future(probe, run):
    async def main():
        log = []
        task = asyncio.create_task(probe.made_anywhere(log.append))
        assert "made_anywhere" in await asyncio.to_thread(repr, task)
        assert await task == "done"
        assert log == ["made"]
        coroutine = probe.made_anywhere(log.append)
        assert not coroutine.cr_running and not coroutine.cr_suspended
        coroutine.close()
        assert log == ["made"]

    run(main())


def test_what_is_thrown_must_be_an_exception(probe, run):
    async def main():
        coroutine = probe.nap(0.005)
        coroutine.send(None)
        with pytest.raises(TypeError, match="exceptions must be"):
            coroutine.throw(1)
        assert coroutine.cr_suspended
        coroutine.close()

    run(main())


def test_one_that_nobody_awaits_warns_wherever_it_is_collected(probe):
    log = []
    box = [probe.holds(log.append)]
    with pytest.warns(RuntimeWarning, match="coroutine 'holds' was never awaited"):
        run_in_thread(box.clear)


def test_a_panic_in_a_destructor_leaves_no_task(probe):
    async def main():
        coroutine = probe.bomb()
        coroutine.send(None)
        with pytest.raises(BaseException, match="in a destructor"):
            coroutine.close()
        assert await probe.all_tasks() == 1

    velodrome.run(main())


def test_a_timer_that_a_loop_lets_come_early_is_no_end(probe, run):
    """uvloop rounds to milliseconds."""

    async def main():
        for micros in (100, 300, 700, 1_300):
            assert await probe.task_naps(micros) == "rested"

    run(main())


def test_a_thread_may_wake_while_it_holds_what_the_future_locks(probe, run):
    """As event-listener does: so a wake must not wait for the GIL, which the poll holds."""
    assert run(probe.woken_in_lock(5_000)) == "woken"


def test_what_is_queued_from_threads_is_no_garbage_while_others_queue(probe):
    class Cycle:
        def __init__(self):
            self.me = self

    async def main():
        loop = asyncio.get_running_loop()
        dead, came = [], []
        await probe.hammer(3_000_000)
        for _ in range(150):
            for _ in range(5):
                cycle = Cycle()
                weakref.finalize(cycle, dead.append, 1)
                loop.call_soon_threadsafe(came.append, cycle)
                del cycle
            gc.collect(0)
            gc.collect()
            assert not dead
            await turns(2)
            while came:
                came.pop().me = None
            dead.clear()

    gc.collect()
    gc.freeze()
    velodrome.run(main())


@pytest.mark.parametrize("loop", ["asyncio", "velodrome"])
def test_an_interpreter_that_ends_is_not_harmed_by_a_thread_that_wakes(probe, loop):
    program = f"""
        import asyncio, time, velodrome
        import bridge_probe

        loop = {loop}.new_event_loop()
        loop.run_until_complete(bridge_probe.hammer(3_000_000))
        print("end", flush=True)
    """
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([os.path.dirname(probe.__file__), PACKAGE])}
    program = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)]
    done = subprocess.run(program, env=environ, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
