"""Rust futures awaited from Python: on our loop through its table, on others by their methods."""

import asyncio
import contextlib
import contextvars
import ctypes
import gc
import importlib.util
import os
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
import weakref

import pytest
import velodrome
from compiled import ROOT
from extension import ENVIRON, build

# Building the extension comes on top of the first test, and is not counted.
pytestmark = pytest.mark.timeout(60, func_only=True)


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    return build(ROOT / "tests" / "bridge", "bridge_probe", tmp_path_factory.mktemp("bridge"))


def uvloop_new_event_loop():
    return pytest.importorskip("uvloop", reason="uvloop has no wheel for this Python").new_event_loop()


PACKAGE = os.path.dirname(os.path.dirname(velodrome.__file__))
LOOPS = {
    "velodrome": velodrome.new_event_loop,
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop_new_event_loop,
}


@pytest.fixture(params=LOOPS)
def run(request):
    """Runs a coroutine on a loop of each kind, and closes the loop."""

    def run(coroutine, debug=False):
        try:
            runner = asyncio.Runner(loop_factory=LOOPS[request.param], debug=debug)
            runner.get_loop()
        except BaseException:
            coroutine.close()
            raise
        with runner:
            return runner.run(asyncio.wait_for(coroutine, 60))

    run.kind = request.param
    return run


async def turns(count=3):
    for _ in range(count):
        await asyncio.sleep(0)


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


def run_in_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()


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


# ---------------------------------------------------------------------------------------------------------
# The example.


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    return build(ROOT / "examples" / "mixed", "mixed", tmp_path_factory.mktemp("mixed"))


def check_the_example(folder, arguments):
    """Run the example with the module that lies in a folder."""
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    program = [sys.executable, str(ROOT / "examples" / "mixed" / "main.py"), *arguments]
    done = subprocess.run(program, env=environ, capture_output=True, text=True, timeout=50)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "set: OK",
        "gathered: b'velodrome' None slept",
        "fetched: ['bend fetched', 'sprint fetched']",
        "too slow: the time is over",
        "too slow for Python, too",
        "tokio: b'hello from a page'",
        "deleted: 1",
    ]


@pytest.mark.parametrize("arguments", [[], ["asyncio"]], ids=["velodrome", "asyncio"])
def test_the_example_runs(mixed, arguments):
    check_the_example(os.path.dirname(mixed.__file__), arguments)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_example_can_be_installed(mixed, tmp_path):
    """As `pip install ./examples/mixed` does it, with the maturin that is here and what cargo has built."""
    if any(importlib.util.find_spec(module) is None for module in ("maturin", "pip")):
        pytest.skip("installing from source needs pip and maturin")
    paths = [os.path.dirname(sys.executable), os.environ["PATH"], os.path.expanduser("~/.cargo/bin")]
    environ = os.environ | {"PATH": os.pathsep.join(paths), **ENVIRON}
    pip = [sys.executable, "-m", "pip", "install", "--no-index", "--no-build-isolation", "--no-deps"]
    done = subprocess.run(
        [*pip, "--target", str(tmp_path), str(ROOT / "examples" / "mixed")],
        env=environ,
        capture_output=True,
        text=True,
        timeout=290,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(tmp_path.glob("mixed-*.dist-info"))
    check_the_example(tmp_path, [])


def test_futures_of_two_libraries_share_a_loop(probe, mixed, run):
    """Each library has its own copy of the crate: they meet in the loop's table only."""

    async def main():
        async def call(name):
            return await probe.awaits(mixed.fetch_all(probe.yields, [], 5)) or name

        results = await asyncio.gather(
            mixed.fetch_all(lambda key: probe.nap(0.001), ["a", "b"], 5), probe.tasks(20), call("inner")
        )
        assert results == [["rested", "rested"], 190, "inner"]

    run(main())


def test_a_cancelled_command_breaks_its_connection_and_no_other(mixed, run):
    async def main():
        silent = asyncio.Event()

        async def serve(reader, writer):
            with contextlib.suppress(asyncio.CancelledError):
                await silent.wait()
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            client = await mixed.KeyValue.connect("127.0.0.1", server.sockets[0].getsockname()[1])
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.get(b"key"), 0.01)
            with pytest.raises(RuntimeError, match="connect anew"):
                await client.get(b"key")
            silent.set()
            await turns(10)

    run(main())
