"""EMFILE: whatever is begun with too few descriptors fails as with asyncio, and leaves nothing open."""

import asyncio
import contextlib
import errno
import gc
import os
import resource
import socket
import tempfile

import pytest
from differential.cancellation import descriptors
from differential.compare import LOOPS, close, turns

pytestmark = [
    # What asyncio does not close when it fails, it leaves to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(60),
]


class Quiet(asyncio.Protocol, asyncio.DatagramProtocol):
    pass


@contextlib.contextmanager
def free(count):
    """Let so many descriptors be free, and no more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 20, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(2))
        for _ in range(count):
            os.close(taken.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for number in taken:
            os.close(number)


async def server(loop, place):
    made = await loop.create_server(Quiet, "127.0.0.1", 0)
    made.close()


async def unix_server(loop, place):
    made = await loop.create_unix_server(Quiet, place.new())
    made.close()


async def connection(loop, place):
    transport, _ = await loop.create_connection(Quiet, *place.tcp.getsockname())
    transport.abort()


async def happy_connection(loop, place):
    transport, _ = await loop.create_connection(Quiet, *place.tcp.getsockname(), happy_eyeballs_delay=0.1)
    transport.abort()


async def unix_connection(loop, place):
    transport, _ = await loop.create_unix_connection(Quiet, place.unix.getsockname())
    transport.abort()


async def endpoint(loop, place):
    transport, _ = await loop.create_datagram_endpoint(Quiet, local_addr=("127.0.0.1", 0))
    transport.abort()


async def accept(loop, place):
    client = place.client
    client.setblocking(False)
    connected, _ = await loop.sock_accept(place.listening)
    connected.close()


async def subprocess(loop, place):
    process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1, stderr=-1)
    process.stdin.close()
    await process.wait()


async def executor(loop, place):
    # A thread needs no descriptor.
    assert await loop.run_in_executor(None, int, "5") == 5


async def sendfile(loop, place):
    ours, theirs = place.pair
    ours.setblocking(False)
    place.file.seek(0)
    assert await loop.sock_sendfile(ours, place.file) == 4


OPERATIONS = [
    *(server, unix_server, connection, happy_connection, unix_connection),
    *(endpoint, accept, subprocess, executor, sendfile),
]


class Place:
    """What operations need that is there before descriptors become few."""

    def __init__(self, stack):
        self.folder = stack.enter_context(tempfile.TemporaryDirectory())
        self.count = 0
        self.tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.listening.setblocking(False)
        self.client = stack.enter_context(socket.create_connection(self.listening.getsockname()))
        self.unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        self.unix.bind(self.new())
        self.unix.listen()
        self.pair = socket.socketpair()
        for sock in self.pair:
            stack.enter_context(sock)
        self.file = stack.enter_context(tempfile.TemporaryFile())
        self.file.write(b"data")
        self.file.flush()

    def new(self):
        self.count += 1
        return os.path.join(self.folder, str(self.count))


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_operations(operation):
    """With none free, one, two, …: those who get enough succeed, and all can be repeated afterwards."""
    ends = []
    for new_loop in LOOPS:
        loop, reported = new_loop(), []
        loop.set_exception_handler(lambda loop, context: reported.append(context["message"]))
        try:
            with contextlib.ExitStack() as stack:
                loop.run_until_complete(operation(loop, Place(stack)))  # whatever is imported is imported now
            ends.append([])
            for count in range(12):
                with contextlib.ExitStack() as stack:
                    place = Place(stack)
                    turns(loop, 3)
                    gc.collect()
                    before = descriptors()
                    with free(count):
                        try:
                            loop.run_until_complete(asyncio.wait_for(operation(loop, place), 30))
                        except OSError as error:
                            ends[-1].append(error.errno)
                        else:
                            ends[-1].append("done")
                        turns(loop, 3)
                    gc.collect()
                    turns(loop, 3)
                    assert descriptors().items() <= before.items(), count
            assert not reported
        finally:
            close(loop)
    theirs, ours = ends
    # (That no address could be bound has no number; a server without a socket is one, up to 3.11.)
    assert set(ours) <= {*theirs, "done"} and ours[-1] == "done"
    # Once there are enough, more are enough as well.
    assert ours == sorted(ours, key=lambda end: end == "done")
    assert ours.count("done") >= theirs.count("done")
    assert errno.EMFILE in ours or operation in (server, executor, sendfile)
