"""Iterations of the loop: who runs when, with which arguments and in which context.

And what a program may not do to us: callbacks that collect garbage, end the interpreter, leave the loop.
"""

import asyncio
import contextvars
import gc
import socket
import subprocess
import sys
import threading

import pytest
from differential import worlds
from differential.compare import check_same, on_both, one_turn, plain

either_loop = worlds.either_loop


# -- Iterations -----------------------------------------------------------------------------------------


def test_callbacks_run_in_the_order_in_which_they_were_queued(either_loop):
    seen = []
    for number in range(1000):
        either_loop.call_soon(seen.append, number)
    one_turn(either_loop)
    assert seen == list(range(1000))


def test_iteration_runs_exactly_the_jobs_queued_when_it_began(either_loop):
    seen = []

    def again(number):
        seen.append(number)
        either_loop.call_soon(again, number + 1)

    again(0)
    for expected in range(1, 20):
        either_loop.stop()
        either_loop.run_forever()
        assert seen[-1] == expected


def test_stop_lets_the_iteration_end(either_loop):
    seen = []
    either_loop.call_soon(seen.append, "before")
    either_loop.call_soon(either_loop.stop)
    either_loop.call_soon(lambda: either_loop.call_soon(seen.append, "queued afterwards"))
    either_loop.call_soon(seen.append, "after")
    either_loop.run_forever()
    assert seen == ["before", "after"]
    one_turn(either_loop)
    assert seen == ["before", "after", "queued afterwards"]


def test_stop_of_a_loop_that_does_not_run_serves_what_is_ready_once(either_loop):
    seen = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"1")
        either_loop.add_reader(ours, seen.append, "readable")
        either_loop.call_soon(seen.append, "soon")
        either_loop.call_later(-1, seen.append, "due")
        either_loop.stop()
        either_loop.run_forever()
        assert seen == ["soon", "readable", "due"]
        either_loop.remove_reader(ours)


def test_stop_is_forgotten_when_the_loop_has_stopped(either_loop):
    either_loop.stop()
    either_loop.run_forever()
    assert either_loop.run_until_complete(asyncio.sleep(0, "ran")) == "ran"


def test_readiness_is_seen_after_as_many_turns_as_in_asyncio():
    def program(loop):
        ours, theirs = socket.socketpair()
        seen = []

        async def main():
            loop.add_reader(ours, lambda: seen.append(ours.recv(10)))
            counts = []
            for _ in range(5):
                theirs.send(b"x")
                count = 0
                while not seen:
                    count += 1
                    await asyncio.sleep(0)
                counts.append(count)
                seen.clear()
            loop.remove_reader(ours)
            return counts

        with ours, theirs:
            return loop.run_until_complete(main())

    kind, counts = check_same(program)
    assert kind == "returned" and len(counts) == 5


@pytest.mark.parametrize("every", ["1", "64", "0", "-1", "nonsense"])
def test_polling_as_told_changes_nothing(monkeypatch, every):
    monkeypatch.setenv("VELODROME_POLL_EVERY", every)

    def program(loop):
        seen = []

        async def main():
            for number in range(200):
                loop.call_later(0, seen.append, ("later", number))
                loop.call_soon(seen.append, number)
                await asyncio.sleep(0)

        loop.run_until_complete(main())
        return seen

    check_same(program)


def test_loop_that_is_always_busy_serves_other_threads(either_loop):
    arrived = []
    asked = threading.Event()

    def from_outside():
        asked.wait()
        either_loop.call_soon_threadsafe(arrived.append, True)

    async def main():
        asked.set()
        while not arrived:
            await asyncio.sleep(0)

    thread = threading.Thread(target=from_outside)
    thread.start()
    either_loop.run_until_complete(main())
    thread.join()


def test_loop_that_is_always_busy_lets_timers_fire(either_loop):
    fired = []

    async def main():
        either_loop.call_later(0.002, fired.append, True)
        while not fired:
            await asyncio.sleep(0)

    either_loop.run_until_complete(main())


# -- Keywords and contexts ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda loop, callback: loop.call_soon(callback=callback),
        lambda loop, callback: loop.call_soon(callback, context=None),
        lambda loop, callback: loop.call_soon_threadsafe(callback=callback),
        lambda loop, callback: loop.call_later(delay=-1, callback=callback),
        lambda loop, callback: loop.call_later(-1, callback=callback),
        lambda loop, callback: loop.call_at(when=0, callback=callback, context=None),
        lambda loop, callback: loop.call_soon(),
        lambda loop, callback: loop.call_soon_threadsafe(),
        lambda loop, callback: loop.call_later(),
        lambda loop, callback: loop.call_later(1),
        lambda loop, callback: loop.call_at(),
        lambda loop, callback: loop.call_at(1),
        lambda loop, callback: loop.call_soon(callback, contxt=None),
        lambda loop, callback: loop.call_soon(callback, callback=callback),
        lambda loop, callback: loop.call_later(1, callback, delay=3),
        lambda loop, callback: loop.time(1),
        lambda loop, callback: loop.stop(1),
        lambda loop, callback: loop.is_running(1),
    ],
)
def test_arguments_are_taken_as_asyncio_takes_them(call):
    def program(loop):
        seen = []
        call(loop, lambda: seen.append("called"))
        one_turn(loop)
        return seen

    (expected, what), (found, same) = on_both(program)
    assert found == expected
    if expected == "returned":
        assert same == what


def test_callback_runs_in_the_context_that_was_given(either_loop):
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []
    context = contextvars.copy_context()
    context.run(variable.set, "given")

    def note():
        seen.append(variable.get())
        variable.set("changed")

    either_loop.call_soon(note, context=context)
    either_loop.call_soon(note, context=context)
    either_loop.call_later(-2, note, context=context)
    either_loop.call_at(0, note, context=contextvars.Context())
    either_loop.call_soon(note)
    either_loop.call_soon(note)
    one_turn(either_loop)
    assert sorted(seen) == sorted(["given", "changed", "changed", "unset", "unset", "unset"])
    assert variable.get() == "unset"


@pytest.mark.parametrize("context", [1, "context", {}])
def test_context_that_is_none(context):
    """asyncio finds out when the callback runs."""

    def program(loop):
        problems = []
        loop.set_exception_handler(lambda loop, context: problems.append(type(context["exception"]).__name__))
        loop.call_soon(lambda: problems.append("called"), context=context)
        loop.call_later(-1, lambda: problems.append("called"), context=context)
        one_turn(loop)
        return problems

    expected, found = on_both(program)
    assert found == expected


def test_context_that_is_entered_already(caplog):
    def program(loop):
        problems = []
        loop.set_exception_handler(lambda loop, context: problems.append(plain(str(context["exception"]))))
        context = contextvars.copy_context()

        def run():
            loop.call_soon(problems.append, "called", context=context)
            loop.call_later(-1, problems.append, "called", context=context)
            one_turn(loop)

        context.run(run)
        return problems, sorted(record.getMessage() for record in caplog.records)

    (expected, (problems, records)), (found, (our_problems, our_records)) = on_both(program)
    assert (found, our_problems) == (expected, problems)
    assert "called" not in problems and len(our_records) == 2 * len(records)


# -- What a program may not do to us --------------------------------------------------------------------


def test_object_that_dies_in_the_ready_queue_may_call_soon(either_loop):
    """The queue must not be borrowed while an argument dies."""
    seen = []

    class Last:
        def __del__(self):
            seen.append("died")
            either_loop.call_soon(seen.append, "called")

    for _ in range(10):
        either_loop.call_soon(lambda _: None, Last())
    one_turn(either_loop)
    one_turn(either_loop)
    assert seen.count("died") == 10 and seen.count("called") == 10


def test_collector_runs_in_every_callback(either_loop):
    """The collector looks into the loop while it runs."""
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:

        async def child(number):
            await asyncio.sleep(0)
            return [number]

        async def main():
            results = await asyncio.gather(*[child(number) for number in range(50)])
            assert results == [[number] for number in range(50)]
            for number in range(50):
                either_loop.call_later(0, list, [number])
                either_loop.call_soon_threadsafe(list, [number])
            await asyncio.sleep(0)

        either_loop.run_until_complete(main())
    finally:
        gc.set_threshold(*threshold)


def test_interpreter_exits_with_a_running_loop(run_python):
    code = """
import asyncio, sys, velodrome
async def main():
    asyncio.get_running_loop().call_later(0, sys.exit, 7)
    task = asyncio.create_task(asyncio.sleep(1000))
    await asyncio.sleep(1000)
velodrome.new_event_loop().run_until_complete(main())
"""
    done = run_python(code, check=False)
    assert done.returncode == 7 and "Fatal" not in done.stderr


def test_loop_that_is_never_closed_warns(run_python):
    code = "import velodrome; loop = velodrome.new_event_loop(); del loop"
    done = run_python(code, options=("-W", "error::ResourceWarning"))
    assert "ResourceWarning: unclosed event loop <Loop" in done.stderr


def test_loop_left_behind_at_exit_is_no_crash(run_python):
    code = """
import asyncio, velodrome
loop = velodrome.new_event_loop()
loop.call_soon(print); loop.call_later(1, print)
task = loop.create_task(asyncio.sleep(1))
future = loop.create_future()
handle = loop.call_soon_threadsafe(print)
"""
    assert run_python(code).returncode == 0


def test_idle_loop_makes_one_system_call_per_wait(run_python):
    """Counted by the kernel, where it lets us."""
    code = """
import asyncio, sys, velodrome
async def main():
    for _ in range(100):
        await velodrome.sleep(0.001)
velodrome.run(main())
"""
    try:
        done = subprocess.run(
            [
                "strace",
                "-f",
                "-c",
                "-e",
                "trace=epoll_wait,epoll_pwait,epoll_pwait2,read",
                sys.executable,
                "-c",
                code,
            ],
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        pytest.skip("strace is not installed")
    if "Operation not permitted" in done.stderr:
        pytest.skip("strace may not trace here")
    calls = sum(int(line.split()[3]) for line in done.stderr.splitlines() if "epoll" in line)
    assert 100 <= calls <= 120
