"""Signal handlers, Ctrl-C, and whose the wake-up descriptor is."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading

import pytest
import velodrome
from differential import worlds
from differential.compare import check_same, on_both, one_turn, outcome, turns

either_loop = worlds.either_loop

SIGNALS = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGCHLD, signal.SIGINT, signal.SIGHUP]


@pytest.fixture(autouse=True)
def _as_before():
    """Every test leaves signal handlers and the wake-up descriptor as they were."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    before = wakeup_fd()
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    after = wakeup_fd()
    signal.set_wakeup_fd(before)
    assert after == before


def wakeup_fd():
    """The descriptor to which the interpreter writes when a signal arrives."""
    current = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(current)
    return current


def killed(number=signal.SIGUSR1):
    os.kill(os.getpid(), number)


# -- Handlers ----------------------------------------------------------------------------------------------


def test_handler_is_called_on_the_loop_with_its_arguments(either_loop):
    seen = []

    def handler(*arguments):
        seen.append((arguments, asyncio.get_running_loop() is either_loop))
        either_loop.stop()

    either_loop.add_signal_handler(signal.SIGUSR1, handler, 1, "two")
    assert signal.SIGUSR1 in either_loop._signal_handlers
    either_loop.call_soon(killed)
    either_loop.run_forever()
    assert seen == [((1, "two"), True)]
    assert either_loop.remove_signal_handler(signal.SIGUSR1) is True
    assert either_loop.remove_signal_handler(signal.SIGUSR1) is False
    assert signal.SIGUSR1 not in either_loop._signal_handlers
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_signal_wakes_an_idle_loop(either_loop):
    either_loop.add_signal_handler(signal.SIGALRM, either_loop.stop)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    either_loop.run_forever()
    either_loop.remove_signal_handler(signal.SIGALRM)


def test_signal_from_another_thread_wakes_an_idle_loop(either_loop):
    running = threading.Event()

    def send():
        running.wait()
        os.kill(os.getpid(), signal.SIGUSR1)

    either_loop.add_signal_handler(signal.SIGUSR1, either_loop.stop)
    either_loop.call_soon(running.set)
    thread = threading.Thread(target=send)
    thread.start()
    either_loop.run_forever()
    thread.join()
    either_loop.remove_signal_handler(signal.SIGUSR1)


def test_signal_that_came_while_the_loop_did_not_run(either_loop):
    seen = []
    either_loop.add_signal_handler(signal.SIGUSR1, seen.append, "handled")
    killed()
    assert seen == []
    turns(either_loop, 3)
    assert seen == ["handled"]
    either_loop.remove_signal_handler(signal.SIGUSR1)


def test_several_signals_at_once(either_loop):
    seen = []
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
        either_loop.add_signal_handler(number, seen.append, number)

    def kill_all():
        for number in (signal.SIGUSR2, signal.SIGHUP, signal.SIGUSR1):
            killed(number)

    either_loop.call_soon(kill_all)
    turns(either_loop, 4)
    assert sorted(seen) == sorted([signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP])
    for number in list(either_loop._signal_handlers):
        either_loop.remove_signal_handler(number)


def test_handler_is_replaced(either_loop):
    seen = []
    either_loop.add_signal_handler(signal.SIGUSR1, seen.append, "old")
    either_loop.add_signal_handler(signal.SIGUSR1, seen.append, "new")
    either_loop.call_soon(killed)
    turns(either_loop, 4)
    assert seen == ["new"]
    either_loop.remove_signal_handler(signal.SIGUSR1)


def test_handler_that_is_removed_while_its_signal_is_pending(either_loop):
    seen = []

    def kill_and_remove():
        killed()
        either_loop.remove_signal_handler(signal.SIGUSR1)
        # From here on it would be the end of the process.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    either_loop.add_signal_handler(signal.SIGUSR1, seen.append, "called")
    either_loop.call_soon(kill_and_remove)
    turns(either_loop, 4)
    assert seen == []


def test_handler_that_raises(either_loop):
    contexts = []
    either_loop.set_exception_handler(lambda loop, context: contexts.append(context))
    either_loop.add_signal_handler(signal.SIGUSR1, lambda: 1 / 0)
    either_loop.call_soon(killed)
    turns(either_loop, 4)
    assert [type(context["exception"]) for context in contexts] == [ZeroDivisionError]
    either_loop.remove_signal_handler(signal.SIGUSR1)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_handler_that_stops_the_loop(either_loop, error):
    def handler():
        raise error

    either_loop.add_signal_handler(signal.SIGUSR1, handler)
    either_loop.call_soon(killed)
    with pytest.raises(error):
        either_loop.run_forever()
    either_loop.remove_signal_handler(signal.SIGUSR1)
    assert either_loop.run_until_complete(asyncio.sleep(0, "usable")) == "usable"


def test_removing_the_handler_of_ctrl_c_brings_back_pythons(either_loop):
    either_loop.add_signal_handler(signal.SIGINT, int)
    assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    either_loop.remove_signal_handler(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_closing_the_loop_removes_its_handlers(either_loop):
    loop = type(either_loop)()
    loop.add_signal_handler(signal.SIGUSR1, int)
    loop.add_signal_handler(signal.SIGINT, int)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert len(loop._signal_handlers) == 0


def test_interrupted_system_calls_go_on(either_loop):
    """siginterrupt(False): a blocking call in a thread is not disturbed."""
    seen = []
    either_loop.add_signal_handler(signal.SIGUSR1, seen.append, "handled")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        future = either_loop.run_in_executor(None, ours.recv, 1)
        for _ in range(5):
            killed()
        theirs.send(b"x")
        assert either_loop.run_until_complete(future) == b"x"
    turns(either_loop, 2)
    assert "handled" in seen
    either_loop.remove_signal_handler(signal.SIGUSR1)


async def coroutine_function():
    pass


@pytest.mark.parametrize(
    "arguments",
    [
        (signal.SIGKILL, int),
        (signal.SIGSTOP, int),
        (0, int),
        (-1, int),
        (10_000, int),
        ("SIGUSR1", int),
        (None, int),
        (1.5, int),
        (signal.SIGUSR1, coroutine_function),
        (signal.SIGUSR1,),
        (),
    ],
    ids=repr,
)
def test_bad_signals_give_asyncios_error(arguments):
    def program(loop):
        try:
            return outcome(loop.add_signal_handler, *arguments), outcome(
                loop.remove_signal_handler, *arguments[:1]
            )
        finally:
            assert dict(loop._signal_handlers) == {}

    (_, expected), (_, found) = on_both(program)
    assert [kind for kind, _ in found] == [kind for kind, _ in expected]
    assert expected[0][0] in ("TypeError", "ValueError", "RuntimeError", "OSError")
    if arguments:
        assert found == expected


def test_handlers_belong_to_the_main_thread(either_loop):
    outcomes = []

    def run():
        outcomes.append(outcome(either_loop.add_signal_handler, signal.SIGUSR1, int))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert outcomes[0][0] == "RuntimeError" and dict(either_loop._signal_handlers) == {}


def test_handlers_of_a_closed_loop():
    def program(loop):
        loop.close()
        return outcome(loop.add_signal_handler, signal.SIGUSR1, int), loop.remove_signal_handler(
            signal.SIGUSR1
        )

    kind, (added, removed) = check_same(program)
    assert added == ("RuntimeError", "Event loop is closed") and removed is False


def test_handler_in_debug_mode(either_loop):
    either_loop.set_debug(True)
    seen = []
    either_loop.add_signal_handler(signal.SIGUSR1, seen.append, "handled")
    either_loop.call_soon(killed)
    turns(either_loop, 4)
    assert seen == ["handled"]
    either_loop.remove_signal_handler(signal.SIGUSR1)


def test_signals_that_python_handles_itself(either_loop):
    """signal.signal() works as ever while a loop runs, also while it is idle."""
    seen = []

    def handler(number, frame):
        seen.append(number)
        either_loop.call_soon_threadsafe(either_loop.stop)

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    either_loop.run_forever()
    assert seen == [signal.SIGALRM]


def test_handler_of_python_that_raises_out_of_an_idle_loop(either_loop):
    class Alarm(Exception):
        pass

    def handler(number, frame):
        raise Alarm

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    with pytest.raises(Alarm):
        either_loop.run_forever()
    assert asyncio._get_running_loop() is None and not either_loop.is_running()
    assert either_loop.run_until_complete(asyncio.sleep(0.001, "usable")) == "usable"


# -- The wake-up descriptor --------------------------------------------------------------------------------


def test_wakeup_descriptor_is_put_back_after_a_run(either_loop):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        before = signal.set_wakeup_fd(ours.fileno())
        try:
            either_loop.run_until_complete(asyncio.sleep(0.001))
            assert wakeup_fd() == ours.fileno()
            with pytest.raises(KeyboardInterrupt):
                either_loop.call_soon(signal.raise_signal, signal.SIGINT)
                either_loop.run_forever()
            assert wakeup_fd() == ours.fileno()
        finally:
            signal.set_wakeup_fd(before)


def test_wakeup_descriptor_is_put_back_after_the_last_handler(loop):
    """asyncio leaves -1; what the program had there is its own again."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        before = signal.set_wakeup_fd(ours.fileno())
        try:
            loop.add_signal_handler(signal.SIGUSR1, int)
            loop.add_signal_handler(signal.SIGUSR2, int)
            assert wakeup_fd() != ours.fileno()
            loop.run_until_complete(asyncio.sleep(0))
            loop.remove_signal_handler(signal.SIGUSR1)
            assert wakeup_fd() != ours.fileno()
            loop.remove_signal_handler(signal.SIGUSR2)
            assert wakeup_fd() == ours.fileno()
            loop.add_signal_handler(signal.SIGUSR1, int)
            loop.close()
            assert wakeup_fd() == ours.fileno()
        finally:
            signal.set_wakeup_fd(before)


def test_wakeup_descriptor_that_the_program_sets_while_the_loop_runs_stays(loop):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        before = wakeup_fd()
        loop.call_soon(signal.set_wakeup_fd, ours.fileno())
        one_turn(loop)
        assert wakeup_fd() == ours.fileno()
        signal.set_wakeup_fd(before)


def test_program_that_waits_at_its_own_wakeup_descriptor():
    """Set before the loop runs: under asyncio it goes on getting the signals."""

    def program(loop):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            before = signal.set_wakeup_fd(ours.fileno())
            signal.signal(signal.SIGUSR1, lambda *arguments: None)
            try:
                loop.call_soon(killed)
                turns(loop, 3)
                return theirs.recv(10)
            finally:
                signal.set_wakeup_fd(before)

    check_same(program)


def test_loops_in_other_threads_leave_the_wakeup_descriptor_alone(loop):
    before = wakeup_fd()
    thread = threading.Thread(target=loop.run_until_complete, args=(asyncio.sleep(0.001),))
    thread.start()
    thread.join()
    assert wakeup_fd() == before


def test_two_loops_one_after_the_other_with_handlers():
    loops = [velodrome.new_event_loop() for _ in range(2)]
    seen = []
    before = wakeup_fd()
    for number, loop in enumerate(loops):
        loop.add_signal_handler(signal.SIGUSR1, seen.append, number)
        loop.call_soon(killed)
        turns(loop, 3)
    for loop in reversed(loops):
        loop.close()
    assert seen == [0, 1]
    assert wakeup_fd() == before


@pytest.mark.parametrize("order", ["abab", "aabb", "abba", "ba", "", "aba"])
@pytest.mark.parametrize("last", ["a", "b"])
@pytest.mark.parametrize("removed", ["", "a", "b"])
def test_two_loops_by_turns_with_handlers(order, last, removed):
    """Each that runs hears its signal, and in the end the descriptor is not that of a loop that is gone."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        before = signal.set_wakeup_fd(ours.fileno())
        loops = {"a": velodrome.new_event_loop(), "b": velodrome.new_event_loop()}
        numbers = {"a": signal.SIGUSR1, "b": signal.SIGUSR2}
        try:
            heard = []
            for name, loop in loops.items():
                loop.add_signal_handler(numbers[name], heard.append, name)
            for name in order:
                loops[name].call_soon(killed, numbers[name])
                turns(loops[name], 3)
                assert heard.pop() == name and not heard
            if removed:
                loops[removed].remove_signal_handler(numbers[removed])
            loops[last].close()
            for name, loop in loops.items():
                if name not in (last, removed):
                    loop.call_soon(killed, numbers[name])
                    turns(loop, 3)
                    assert heard.pop() == name and not heard
                loop.close()
            assert wakeup_fd() == ours.fileno()
        finally:
            signal.set_wakeup_fd(before)
            for loop in loops.values():
                loop.close()


@pytest.mark.parametrize("state", ["idle", "running", "running elsewhere"])
def test_signals_of_a_forked_child_are_its_own(run_python, state):
    """Whatever the loop does at the time of the fork, and whichever thread forks."""
    code = """
import asyncio, os, signal, sys, threading, velodrome, warnings
warnings.simplefilter("ignore")
loop, gone, heard = velodrome.new_event_loop(), velodrome.new_event_loop(), []
loop.add_signal_handler(signal.SIGUSR1, heard.append, "heard")
gone.close()
def fork():
    pid = os.fork()
    if pid == 0:
        signal.raise_signal(signal.SIGUSR1)
        os._exit(0)
    os.waitpid(pid, 0)
async def main():
    if sys.argv[1] == "running":
        fork()
    elif sys.argv[1] == "running elsewhere":
        await asyncio.to_thread(fork)
    for _ in range(5):
        await asyncio.sleep(0)
if sys.argv[1] == "idle":
    fork()
loop.run_until_complete(main())
print(heard)
os.kill(os.getpid(), signal.SIGUSR1)
loop.run_until_complete(asyncio.sleep(0.001))
print(heard)
loop.run_until_complete(loop.shutdown_default_executor())
loop.close()
"""
    done = run_python(code, state)
    assert (done.stdout, done.stderr) == ("[]\n['heard']\n", "")


def test_programs_own_wakeup_descriptor_in_a_forked_child(run_python):
    """asyncio's hook takes it away from 3.12 on; velodrome's does not."""
    code = """
import asyncio, importlib, os, signal, sys, warnings
warnings.simplefilter("ignore")
loop = importlib.import_module(sys.argv[1]).new_event_loop()
reader, writer = os.pipe()
os.set_blocking(writer, False)
signal.set_wakeup_fd(writer)
pid = os.fork()
if pid == 0:
    os._exit(signal.set_wakeup_fd(-1) != writer)
print(os.waitpid(pid, 0)[1], signal.set_wakeup_fd(-1) == writer)
loop.close()
"""
    assert run_python(code, "velodrome").stdout == run_python(code, "asyncio").stdout


# -- Ctrl-C ------------------------------------------------------------------------------------------------


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
