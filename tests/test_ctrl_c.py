"""Ctrl-C: it leaves the loop wherever that is, or cancels the main task under a runner."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
import velodrome
from differential import signals, worlds
from differential.compare import one_turn, outcome

either_loop = worlds.either_loop
signals_as_before = signals.signals_as_before


def test_ctrl_c_in_a_callback_leaves_the_loop(either_loop):
    seen = []
    either_loop.call_soon(signal.raise_signal, signal.SIGINT)
    either_loop.call_soon(seen.append, "after")
    with pytest.raises(KeyboardInterrupt):
        either_loop.run_forever()
    one_turn(either_loop)
    assert seen == ["after"]


def test_ctrl_c_in_a_task_leaves_the_loop(either_loop):
    async def main():
        signal.raise_signal(signal.SIGINT)

    task = either_loop.create_task(main())
    with pytest.raises(KeyboardInterrupt):
        either_loop.run_until_complete(task)
    assert isinstance(task.exception(), KeyboardInterrupt)


def test_ctrl_c_leaves_an_endless_loop_of_callbacks(either_loop):
    """Native callbacks only: nothing but the loop itself can see the signal."""

    def again():
        either_loop.call_soon(again)

    again()
    timer = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        timer.start()  # in here: on a busy machine the signal comes before the loop runs
        either_loop.run_forever()
    timer.join()


def test_ctrl_c_leaves_tasks_that_sleep_for_no_time():
    async def forever():
        while True:
            await velodrome.sleep(0)

    loop = velodrome.new_event_loop()
    task = loop.create_task(forever())
    timer = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        timer.start()  # in here: on a busy machine the signal comes before the loop runs
        loop.run_forever()
    timer.join()
    task.cancel()
    outcome(loop.run_until_complete, asyncio.wait([task]))
    loop.close()


INTERRUPTED = """
import asyncio, os, signal, sys, threading, time
name, how, where = sys.argv[1:4]
if name == "velodrome":
    import velodrome
    factory = velodrome.new_event_loop
else:
    factory = asyncio.SelectorEventLoop

def say(*words):
    print(*words, flush=True)

async def main():
    # From a callback, so that this task waits when the signal comes.
    if where != "python":
        asyncio.get_running_loop().call_soon(say, "ready")
    try:
        if where == "idle":
            await asyncio.get_running_loop().create_future()
        elif where == "sleep":
            await asyncio.sleep(1000)
        elif where == "busy":
            while True:
                await asyncio.sleep(0)
        elif where == "python":
            say("ready")
            while not asyncio.current_task().cancelling():
                pass
            say("no")
            while True:
                pass
        elif where == "stubborn":
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                asyncio.get_running_loop().call_soon(say, "no")
            await asyncio.sleep(1000)
        elif where == "handled":
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                say("handled")
                return "result"
    finally:
        say("cleaned up", asyncio.current_task().cancelling())

try:
    if how == "run":
        with asyncio.Runner(loop_factory=factory) as runner:
            say("returned", runner.run(main()))
    elif how == "velodrome.run":
        say("returned", velodrome.run(main()))
    else:
        loop = factory()
        loop.run_until_complete(main())
except KeyboardInterrupt as error:
    say("KeyboardInterrupt", type(error.__context__).__name__)
    if how == "loop":
        if where != "busy":
            say(len(asyncio.all_tasks(loop)))
        say(loop.run_until_complete(asyncio.sleep(0, "usable")))
except asyncio.CancelledError:
    say("CancelledError")
say(signal.getsignal(signal.SIGINT) is signal.default_int_handler, signal.set_wakeup_fd(-1))
"""


def interrupt(name, how, where, times=1):
    """Run the program, send SIGINT when it is ready and whenever it says something; what it printed."""
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, name, how, where], stdout=subprocess.PIPE, text=True
    )
    lines = []
    try:
        for line in process.stdout:
            lines.append(line.rstrip())
            if lines[-1] in ("ready", "no") and times:
                times -= 1
                process.send_signal(signal.SIGINT)
        return lines, process.wait(30)
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


@pytest.mark.parametrize("where", ["idle", "sleep", "busy", "handled"])
def test_ctrl_c_under_a_runner_cancels_the_main_task(where):
    expected = interrupt("asyncio", "run", where)
    assert interrupt("velodrome", "run", where) == expected
    assert interrupt("velodrome", "velodrome.run", where) == expected
    assert expected[1] == 0 and "ready" in expected[0]


def test_ctrl_c_under_a_runner_in_python_code_raises_there():
    expected = interrupt("asyncio", "run", "python", times=2)
    found = interrupt("velodrome", "run", "python", times=2)
    assert found == expected


def test_second_ctrl_c_under_a_runner_is_not_asked():
    expected = interrupt("asyncio", "run", "stubborn", times=2)
    assert interrupt("velodrome", "run", "stubborn", times=2) == expected
    assert any("KeyboardInterrupt" in line for line in expected[0])


@pytest.mark.parametrize("where", ["idle", "sleep", "busy"])
def test_ctrl_c_without_a_runner_leaves_the_loop(where):
    """KeyboardInterrupt out of run_until_complete(), at once, and the loop is usable."""
    expected = interrupt("asyncio", "loop", where)
    found = interrupt("velodrome", "loop", where)
    if where == "busy":
        # It hits the task or the loop, as it happens.
        for lines, _ in (expected, found):
            lines[:] = [line for line in lines if not line.startswith("cleaned up")]
    assert found == expected
    assert "usable" in expected[0] and expected[1] == 0


def test_ctrl_c_that_nobody_catches_ends_the_process_as_ever():
    code = textwrap.dedent("""
        import asyncio, velodrome
        async def main():
            print("ready", flush=True)
            await asyncio.sleep(1000)
        velodrome.run(main())
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGINT and errors.rstrip().endswith("KeyboardInterrupt")


def test_loop_of_another_thread_does_not_stop_ctrl_c(run_python):
    """The main thread waits in Python; another runs the loop."""
    code = """
import asyncio, os, signal, threading, time, velodrome
loop = velodrome.new_event_loop()
thread = threading.Thread(target=loop.run_forever)
thread.start()
threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    threading.Event().wait()
except KeyboardInterrupt:
    print("KeyboardInterrupt")
loop.call_soon_threadsafe(loop.stop)
thread.join()
loop.close()
"""
    assert run_python(code).stdout == "KeyboardInterrupt\n"
