"""Pipes and subprocesses, cancelled at every point where what is done with them can be suspended: the same
descriptors are open afterwards as before, and no child is left, neither running nor dead.

How that is done is in differential/cancellation.py.
"""

import asyncio
import contextlib
import os
import signal
import subprocess

import pytest
import velodrome
from differential import worlds
from differential.cancellation import REPEAT, every_point, settle, trial
from differential.children import children

either_loop = worlds.either_loop

pytestmark = [
    # What nobody got to see is left to the garbage collector, which says so: asyncio does that.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(120),
]

PIPES = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)


@pytest.fixture
def loop(either_loop):
    either_loop.set_exception_handler(lambda loop, context: None)
    return either_loop


class Operation:
    """Something that is about to be cancelled, and the children that it has by then."""

    def __init__(self, loop, coroutine, process=None):
        self.loop = loop
        self.before = children() - ({process.pid} if process else set())
        self.process = process
        self.task = loop.create_task(coroutine)

    def cancel(self):
        return not self.task.cancel()

    def over(self):
        return self.task.done()

    def check_and_finish(self):
        made = None if self.task.cancelled() else self.task.result()
        del self.task
        process = made if self.process is None else self.process
        if process is not None:
            process._transport.close()
            # Nothing was lost: how it ended can still be learned. (Some versions of asyncio say 255.)
            waiting = self.loop.create_task(process.wait())
            assert settle(self.loop, waiting.done)
            lost = () if isinstance(self.loop, velodrome.Loop) else (255,)
            assert waiting.result() in (0, -signal.SIGKILL, *lost)
        assert settle(self.loop, lambda: children() <= self.before)


@pytest.fixture(autouse=True)
def _children_as_before():
    before = children()
    yield
    assert children() <= before


@pytest.mark.parametrize("options", [{}, PIPES], ids=["plain", "pipes"])
@pytest.mark.parametrize("start", ["exec", "shell"])
def test_starting(loop, start, options):
    def begin():
        if start == "exec":
            return Operation(loop, asyncio.create_subprocess_exec("cat", **options))
        return Operation(loop, asyncio.create_subprocess_shell("exec cat", **options))

    options = {"stdin": subprocess.PIPE, **options}
    assert every_point(loop, begin) > 1


def test_starting_what_leaves_somebody_behind(loop):
    """A grandchild that goes on has the pipes open; our ends of them are closed all the same."""
    if not isinstance(loop, velodrome.Loop):
        pytest.skip("asyncio's transport leaves open what it connects after it was closed")
    reader, writer = os.pipe()

    def leave_somebody_behind():
        if os.fork() == 0:
            os.closerange(3, reader)
            os.closerange(reader + 1, 10_000)
            os.read(reader, 1)  # until the test closes the other end
            os._exit(0)

    def begin():
        coroutine = asyncio.create_subprocess_exec("cat", preexec_fn=leave_somebody_behind, **PIPES)
        return Operation(loop, coroutine)

    try:
        for turns in range(8):
            for _ in range(REPEAT):
                trial(loop, begin, turns)
    finally:
        os.close(reader)
        os.close(writer)


def started(loop, *command, **options):
    """Start a process; the loop must not run for anything else meanwhile."""
    return loop.run_until_complete(asyncio.create_subprocess_exec(*command, **options))


@pytest.mark.parametrize("options", [{}, PIPES], ids=["plain", "pipes"])
def test_waiting(loop, options):
    options = {"stdin": subprocess.PIPE, **options}

    def begin():
        process = started(loop, "cat", **options)
        return Operation(loop, process.wait(), process)

    for turns in range(5):
        for _ in range(REPEAT):
            assert not trial(loop, begin, turns)


def test_waiting_for_one_that_ends(loop):
    """It ends while somebody waits for it, who goes before, at the same time, or after."""

    def begin():
        process = started(loop, "cat", stdin=subprocess.PIPE)
        process.kill()
        with contextlib.suppress(ChildProcessError):  # asyncio's thread was there first
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        return Operation(loop, process.wait(), process)

    for turns in range(6):
        for _ in range(REPEAT):
            trial(loop, begin, turns)


@pytest.mark.parametrize("size", [10, 1_000_000], ids=["little", "much"])
def test_communicating(loop, size):
    def begin():
        process = started(loop, "cat", **PIPES)
        return Operation(loop, process.communicate(b"x" * size), process)

    for turns in [*range(8), 12, 20, 50]:
        for _ in range(max(REPEAT // 4, 1)):
            trial(loop, begin, turns)


def test_communicating_with_one_that_says_nothing(loop):
    def begin():
        process = started(loop, "sleep", "100", **PIPES)
        return Operation(loop, process.communicate(b"x" * 1_000_000), process)

    for turns in range(8):
        for _ in range(REPEAT):
            assert not trial(loop, begin, turns)


@pytest.mark.parametrize("connect", ["connect_read_pipe", "connect_write_pipe"])
def test_connecting_a_pipe(loop, connect):
    class Connecting:
        def __init__(self):
            self.ends = [
                open(fd, mode, buffering=0) for fd, mode in zip(os.pipe(), ("rb", "wb"), strict=True)
            ]
            near = self.ends[connect == "connect_write_pipe"]
            self.task = loop.create_task(getattr(loop, connect)(asyncio.Protocol, near))

        def cancel(self):
            return not self.task.cancel()

        def over(self):
            return self.task.done()

        def check_and_finish(self):
            if not self.task.cancelled():
                transport, _protocol = self.task.result()
                transport.close()
            for end in self.ends:
                # One that was cancelled before its first step has not taken it.
                end.close() if self.task.cancelled() else None
            self.ends[connect == "connect_read_pipe"].close()

    assert every_point(loop, Connecting) > 0
