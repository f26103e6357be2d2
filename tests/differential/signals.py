"""Signals that tests send to their own process, and what of the process is put back after them."""

import os
import signal

import pytest

SIGNALS = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGCHLD, signal.SIGINT, signal.SIGHUP]


@pytest.fixture(autouse=True)
def signals_as_before():
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
