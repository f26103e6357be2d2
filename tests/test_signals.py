"""Signal handlers: when they are called and where, what can be handled, and what is there after them."""

import asyncio
import os
import signal
import socket
import threading

import pytest
from differential import signals, worlds
from differential.compare import check_same, on_both, outcome, turns
from differential.signals import killed

either_loop = worlds.either_loop
signals_as_before = signals.signals_as_before


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


def test_busy_loop_handles_a_signal_when_asyncios_does():
    def program(loop):
        async def main():
            killed()
            for turn in range(4):
                seen.append(turn)
                await asyncio.sleep(0)

        seen = []
        loop.add_signal_handler(signal.SIGUSR1, seen.append, "handled")
        loop.run_until_complete(main())
        loop.remove_signal_handler(signal.SIGUSR1)
        return seen

    kind, seen = check_same(program)
    assert kind == "returned"
    assert "handled" in seen


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


def test_closing_the_loop_in_another_thread_closes_it_all_the_same():
    """Where handlers of signals cannot be removed."""

    def program(loop):
        outcomes = []
        loop.add_signal_handler(signal.SIGUSR1, int)
        loop.add_signal_handler(signal.SIGUSR2, int)
        thread = threading.Thread(target=lambda: outcomes.append(outcome(loop.close)))
        thread.start()
        thread.join()
        signal.set_wakeup_fd(-1)  # which that thread could not do
        return outcomes, loop.is_closed(), sorted(loop._signal_handlers)

    _, ((error,), closed, _) = check_same(program)
    assert error[0] == "ValueError" and closed


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
