"""Cancelling an operation at every point where it can be suspended.

A loop that closes a descriptor twice, or forgets to stop watching one, does no harm as long as nobody else
has its number. So in every trial strangers arrive at all the moments at which a number may come free: socket
pairs which take the lowest free numbers, and expect to stay open, and to get their own bytes and no others.

Everything runs in one thread, turn by turn, so the points are the same every time. A trial runs an operation
for so many turns and cancels it; that is done for every number of turns, until it comes too late.

An operation is an object with `cancel()`, which returns whether it was too late for that, `over()`, which
says whether it has ended, and `check_and_finish()`, which checks what it has done and gives up what it made.
Where it is tasks, it derives from `Operation`.
"""

import contextlib
import errno
import gc
import itertools
import os
import socket
import time

import pytest

from .compare import one_turn

#: How often each number of turns is tried.
REPEAT = int(os.environ.get("VELODROME_REPEAT", "20"))

#: What nobody else says.
tokens = (b"<%015d>" % number for number in itertools.count())


def descriptors():
    """Return what is open of sockets, pipes and processes: the numbers, and what each of them is."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            link = os.readlink(f"/proc/self/fd/{name}")
            if link.startswith(("socket:", "pipe:", "pidfd:", "anon_inode:[pidfd]")):
                found[int(name)] = link
    return found


def settle(loop, condition):
    """Run the loop until the condition holds; return whether it ever does."""
    for turn in range(3000):
        if condition():
            return True
        if turn % 50 == 20:
            gc.collect()  # what asyncio leaves to it
        if turn > 200:
            time.sleep(0.001)  # something waits for the kernel after all
        one_turn(loop)
    return False


@contextlib.contextmanager
def crowded():
    """Give the address of a listener with a full queue, where who connects waits."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            assert waiting.connect_ex(listener.getsockname()) in (0, errno.EINPROGRESS)
        yield listener.getsockname()


def gets(loop, sock, token):
    """Return whether these bytes, and no others, come out of a socket while the loop runs."""
    received = b""

    def arrived():
        nonlocal received
        with contextlib.suppress(BlockingIOError):
            received += sock.recv(100)
        return len(received) >= len(token)

    return settle(loop, arrived) and received == token


class Operation:
    """Tasks that are about to be cancelled."""

    def __init__(self, loop):
        self.loop = loop
        self.tasks = []

    def begin(self, coroutine):
        """Add a task."""
        self.tasks.append(self.loop.create_task(coroutine))

    def cancel(self):
        """Cancel it; return whether it was too late for that."""
        cancelled = [task.cancel() for task in self.tasks]
        return not any(cancelled)

    def over(self):
        """Return whether it has ended."""
        return all(task.done() for task in self.tasks)


class Strangers:
    """Socket pairs that come and stay: one end echoes on the loop, the other expects its own bytes."""

    def __init__(self, loop):
        self.loop = loop
        self.pairs = []

    def arrive(self, count=2):
        for _ in range(count):
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            theirs.setblocking(False)
            token = next(tokens)
            self.pairs.append((ours, theirs, token, os.fstat(ours.fileno()).st_ino))
            self.loop.add_reader(ours, self.echo, ours)
            theirs.send(token)

    @staticmethod
    def echo(sock):
        sock.send(sock.recv(100))

    def numbers(self):
        return {sock.fileno() for pair in self.pairs for sock in pair[:2]}

    def check_and_leave(self):
        """All are still there, each got its own, and none is told anything more."""
        for ours, theirs, token, inode in self.pairs:
            assert os.fstat(ours.fileno()).st_ino == inode
            assert gets(self.loop, theirs, token)
        for ours, theirs, *_ in self.pairs:
            assert self.loop.remove_reader(ours)
            with pytest.raises(BlockingIOError):
                theirs.recv(1)
            ours.close()
            theirs.close()


def trial(loop, begin, turns):
    """Begin an operation, cancel it after so many turns; return whether it was over before."""
    before = descriptors()
    operation = begin()
    strangers = Strangers(loop)
    for _ in range(turns):
        one_turn(loop)
    too_late = operation.cancel()
    strangers.arrive()  # before it knows
    one_turn(loop)
    strangers.arrive()  # while it ends
    assert settle(loop, operation.over)
    strangers.arrive()
    operation.check_and_finish()
    strangers.arrive()

    def others():
        return {number: link for number, link in descriptors().items() if number not in strangers.numbers()}

    # Fewer there can be: what asyncio leaves to the garbage collector goes when it goes.
    assert settle(loop, lambda: others().items() <= before.items()), (others(), before)
    strangers.check_and_leave()
    assert settle(loop, lambda: descriptors().items() <= before.items()), (descriptors(), before)
    return too_late


def every_point(loop, begin, limit=200):
    """Try every number of turns until the operation is over before it is cancelled; return how many."""
    for _ in range(3):
        trial(loop, begin, limit)  # what is made only once, is made now
    for turns in itertools.count():
        assert turns < limit, "it is never over"
        # Several times: the strangers' numbers differ, and so does what is free.
        too_late = [trial(loop, begin, turns) for _ in range(REPEAT)]
        if all(too_late):
            return turns
