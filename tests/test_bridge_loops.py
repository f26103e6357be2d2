"""Loops for Rust futures: where they come from, how they end, and what moves with them."""

import asyncio
import contextlib
import ctypes
import gc
import os
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
import weakref

import bridging
import pytest
import velodrome
from bridging import LOOPS, run_in_thread, turns

pytestmark = bridging.limit
probe = bridging.probe
run = bridging.run


# ---------------------------------------------------------------------------------------------------------
# Loops, and where they come from.


def test_it_needs_no_velodrome(probe):
    program = """
        import asyncio, sys
        import bridge_probe

        async def main():
            print(await bridge_probe.nap(0.001), await bridge_probe.woken(10), await bridge_probe.tasks(10))

        asyncio.run(main())
        assert "velodrome" not in sys.modules
    """
    environ = os.environ | {"PYTHONPATH": os.path.dirname(probe.__file__)}
    program = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(program, env=environ, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("rested 10 45\n", "")


def test_the_capsule_is_the_same_each_time_and_outlives_the_loop(probe):
    loop = velodrome.new_event_loop()
    capsule = loop.__velodrome_host__
    assert loop.__velodrome_host__ is capsule
    assert repr(capsule).startswith('<capsule object "velodrome.Host"')
    loop.run_until_complete(probe.yields(2))
    loop.close()
    del loop
    gc.collect()
    del capsule


def test_a_closed_loop_has_no_table():
    loop = velodrome.new_event_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        _ = loop.__velodrome_host__


@pytest.mark.parametrize(
    "header", [struct.pack("II", 9, 4096), struct.pack("II", 1, 16)], ids=["another version", "too short"]
)
def test_a_table_of_another_make_is_left_alone_and_the_methods_used(probe, header):
    table = ctypes.create_string_buffer(header + b"\0" * 4096)
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p] * 3
    name = ctypes.create_string_buffer(b"velodrome.Host")

    class Loop(velodrome.Loop):
        __velodrome_host__ = new(ctypes.addressof(table), ctypes.addressof(name), None)
        soon = 0

        def call_soon(self, callback, *args, context=None):
            self.soon += 1
            return super().call_soon(callback, *args, context=context)

    async def main():
        assert await probe.tasks(10) == 45
        assert await probe.nap(0.001) == "rested"
        return asyncio.get_running_loop().soon

    with asyncio.Runner(loop_factory=Loop) as runner:
        assert runner.run(main()) >= 10


def test_something_else_than_a_capsule_is_left_alone(probe):
    class Loop(asyncio.SelectorEventLoop):
        __velodrome_host__ = "not one"

    with asyncio.Runner(loop_factory=Loop) as runner:
        assert runner.run(probe.tasks(10)) == 45


def test_two_loops_in_two_threads_are_two_hosts(probe):
    results = []

    def other():
        results.append(velodrome.run(probe_both()))

    async def probe_both():
        return await asyncio.gather(probe.tasks(50), probe.woken(50), probe.nap(0.01))

    threads = [threading.Thread(target=other) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [[1225, 50, "rested"]] * 4


def test_loops_one_after_another_and_collected_leave_nothing(probe, run):
    async def main():
        await probe.tasks(10)
        loops.append(weakref.ref(asyncio.get_running_loop()))

    loops = []
    for _ in range(20):
        run(main())
    gc.collect()
    assert not [loop for loop in loops if loop() is not None]


def test_a_wait_left_by_a_closed_loop_is_dropped_with_its_coroutine(probe):
    """Its timer ended with the loop: dropping the future must give it back, not reach for the loop."""
    log = []
    loop = velodrome.new_event_loop()
    coroutines = [probe.catches(log.append, False), probe.nap(1000), probe.pending(log.append)]

    async def begin():
        for coroutine in coroutines:
            coroutine.send(None)

    loop.run_until_complete(begin())
    loop.close()
    del loop
    gc.collect()
    coroutines.clear()
    gc.collect()
    assert log == ["dropped"]


def test_many_ready_futures_leave_no_memory(probe):
    async def main():
        async def many(count):
            for _ in range(count):
                await probe.ready(None)

        await many(10_000)
        gc.collect()
        before = resident()
        await many(300_000)
        gc.collect()
        # A leak of one object each would be ten times as much.
        assert resident() - before < 4_000_000

    def resident():
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    velodrome.run(main())


# ---------------------------------------------------------------------------------------------------------
# Loops that end, and loops that move.


def test_a_task_that_never_gives_in_ends_with_its_loop(probe, run):
    run(probe.stubborn())
    gc.collect()


def test_a_loop_closes_although_another_thread_goes_on_asking(probe):
    """(Another loop tells nobody that it is closed: there it ends with the loop's collection.)"""

    async def main():
        await probe.makes_tasks()
        await asyncio.sleep(0.005)

    for _ in range(10):
        velodrome.run(main())


def test_a_task_left_waiting_for_rust_is_collected_with_its_loop(probe):
    for new_event_loop in (velodrome.new_event_loop, asyncio.new_event_loop):
        log, references = [], []

        def leave(loop, log=log, references=references):
            task = loop.create_task(probe.pending(log.append))
            references.append(weakref.ref(task))
            loop.run_until_complete(turns())

        loop = new_event_loop()
        loop.set_exception_handler(lambda loop, context: None)  # it was destroyed but it is pending
        leave(loop)
        loop.close()
        references.append(weakref.ref(loop))
        del loop
        gc.collect()
        assert [reference() for reference in references] == [None, None]
        assert log == ["dropped"]


def test_a_sleeping_task_that_nobody_holds_is_not_collected(probe, run):
    async def main():
        ended = []
        asyncio.create_task(probe.nap(0.01)).add_done_callback(lambda task: ended.append(task.result()))
        asyncio.create_task(probe.woken(100)).add_done_callback(lambda task: ended.append(task.result()))
        while len(ended) < 2:
            gc.collect()
            await asyncio.sleep(0.001)
        assert sorted(map(str, ended)) == ["100", "rested"]

    run(main())


@pytest.mark.parametrize("kind", ["velodrome", "asyncio"])
def test_tasks_of_rust_do_not_follow_a_loop_to_another_thread(probe, kind):
    bell, log = probe.Bell(), []
    loop = LOOPS[kind]()

    def first():
        async def main():
            await probe.waits_for_bell(bell, log.append)
            await turns()

        loop.run_until_complete(main())
        bell.ring()

    run_in_thread(first)
    loop.run_until_complete(turns())
    loop.close()
    assert all(here for _, here in log)


@pytest.mark.parametrize("kind", ["velodrome", "asyncio"])
def test_a_descriptor_left_by_a_loop_that_moved_is_not_looked_at_again(probe, kind):
    loop, tasks, log = LOOPS[kind](), [], []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def first():
            async def main():
                tasks.append(asyncio.create_task(probe.listens(server.getsockname()[1], log.append)))
                while True:
                    with contextlib.suppress(BlockingIOError):
                        accepted.append(server.accept()[0])
                        break
                    await asyncio.sleep(0)
                await turns(10)

            loop.run_until_complete(main())

        accepted = []
        server.setblocking(False)
        run_in_thread(first)
        accepted[0].send(b"no end")

        async def count_turns():
            """How often the loop goes round while there is nothing to do."""
            iterations = 0

            def count():
                nonlocal iterations
                iterations += 1
                handle.append(loop.call_later(0.01, count))

            handle = []
            count()
            reader, writer = os.pipe()
            await asyncio.sleep(0.1)
            handle[-1].cancel()
            os.close(reader)
            os.close(writer)
            return iterations

        before = time.thread_time()
        assert loop.run_until_complete(count_turns()) <= 12
        # A loop that is woken all the time would have taken all of the tenth of a second.
        assert time.thread_time() - before < 0.08
        accepted[0].close()
    loop.set_exception_handler(lambda loop, context: None)  # a task that is pending
    loop.close()


def test_a_wake_of_a_task_on_a_closed_loop_does_nothing(probe, run):
    bell, log = probe.Bell(), []

    async def main():
        await probe.waits_for_bell(bell, log.append)
        await turns()

    run(main())
    bell.ring()
    gc.collect()
    assert log == [("polled", True), ("dropped", True)]
