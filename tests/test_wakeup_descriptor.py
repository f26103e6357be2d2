"""The wake-up descriptor of signals: whose it is while loops run, after them, and in forked children."""

import asyncio
import signal
import socket
import threading

import pytest
import velodrome
from differential import signals, worlds
from differential.compare import check_same, one_turn, turns
from differential.signals import killed, wakeup_fd

either_loop = worlds.either_loop
signals_as_before = signals.signals_as_before


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
