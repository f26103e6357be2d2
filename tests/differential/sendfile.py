"""Files to send, what they are sent to, and what became of it."""

import asyncio
import contextlib
import socket
import tempfile

from .cancellation import settle
from .compare import one_turn, turns

#: More than the sockets here take at once.
DATA = bytes(range(256)) * 4096
SMALL = b"0123456789" * 100


@contextlib.contextmanager
def pair():
    """Two connected sockets that do not block and take little at a time."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for sock in ours, theirs:
            sock.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        yield ours, theirs


def file_of(data):
    """A file on the disk, at its beginning."""
    file = tempfile.TemporaryFile()
    file.write(data)
    file.seek(0)
    return file


def drained(sock):
    """What has arrived."""
    found = b""
    with contextlib.suppress(BlockingIOError):
        while data := sock.recv(1 << 20):
            found += data
    return found


def chunks_until(loop, task, theirs, limit=3000):
    """Run turn by turn; return what arrived after each of them, as long as the task is not done."""
    found = []
    for _ in range(limit):
        found.append(drained(theirs))
        if task.done():
            return found
        one_turn(loop)
    raise AssertionError("it is never done")


def in_a_thread(loop, task, theirs):
    """The same for a task that waits for a thread: all that arrived."""
    found = b""

    def more():
        nonlocal found
        found += drained(theirs)
        return task.done()

    assert settle(loop, more)
    return found + drained(theirs)


def result_of(task):
    """What became of a task, with the errors that led to that."""
    if task.cancelled():
        return "cancelled"
    error = task.exception()
    return task.result() if error is None else shown(error)


def shown(error):
    return type(error).__name__, str(error), error.__cause__ and shown(error.__cause__)


def awaited(loop, coroutine):
    """A task that is over."""
    task = loop.create_task(coroutine)
    assert settle(loop, task.done)
    return task


class Protocol(asyncio.Protocol):
    """Notes what it is told."""

    def __init__(self):
        self.told = []

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.told.append(data)

    def pause_writing(self):
        self.told.append("pause")

    def resume_writing(self):
        self.told.append("resume")

    def connection_lost(self, exc):
        self.told.append(("lost", repr(exc)))


@contextlib.contextmanager
def connection(loop):
    """A transport with its protocol, and the socket at the other end."""
    with pair() as (ours, theirs):
        protocol = Protocol()
        transport = loop._make_socket_transport(ours, protocol)
        turns(loop, 3)
        try:
            yield transport, protocol, theirs
        finally:
            transport.abort()
            turns(loop, 3)
