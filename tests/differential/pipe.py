"""One end of a pipe as a transport, whose protocol notes every call, to be compared between two loops."""

import os
import pty
import socket
import tempfile
import tty

import pytest

from .connection import Connection, _Protocol, same


def _pipe():
    return os.pipe()


def _fifo():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "fifo")
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        return reader, os.open(path, os.O_WRONLY)


def _socket():
    one, two = socket.socketpair()
    return one.detach(), two.detach()


def terminal():
    """Open a terminal; what is written at one end arrives at the other in the kernel's own time."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    return master, slave


#: Makers of two descriptors: the first can be read, the second written.
KINDS = {"pipe": _pipe, "fifo": _fifo, "socket": _socket}


class Far:
    """The other end, with the words of sockets."""

    def __init__(self, fd):
        self.fd = fd
        os.set_blocking(fd, False)

    def send(self, data):
        return os.write(self.fd, data)

    def recv(self, size):
        return os.read(self.fd, size)

    def close(self):
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


class Near:
    """The end that the transport has; as `Connection.near`, it can be filled."""

    def __init__(self, file):
        self.file = file
        self.close = file.close

    def send(self, data):
        return os.write(self.file.fileno(), data)


class ReadPipe(Connection):
    """A transport that reads, and the end that it is written to from."""

    def __init__(self, loop, *, made_of="pipe", on=None):
        self.loop, self.on, self.notes = loop, dict(on or {}), []
        near, far = KINDS[made_of]()
        self.near, self.far = Near(open(near, "rb", buffering=0)), Far(far)
        self._connect(_Protocol(self))

    def _connecting(self):
        return self.loop.connect_read_pipe(lambda: self.protocol, self.near.file)

    def _end(self):
        self.transport.close()


class WritePipe(Connection):
    """A transport that writes, and the end that this is read from."""

    def __init__(self, loop, *, made_of="pipe", on=None):
        self.loop, self.on, self.notes = loop, dict(on or {}), []
        far, near = KINDS[made_of]()
        self.near, self.far = Near(open(near, "wb", buffering=0)), Far(far)
        self._connect(_Protocol(self))

    def _connecting(self):
        return self.loop.connect_write_pipe(lambda: self.protocol, self.near.file)

    def _end(self):
        self.transport.close()  # which asyncio's abort() is not safe to call after


@pytest.fixture(params=KINDS)
def made_of(request):
    return request.param


def reading(program, **options):
    return same(program, kind=ReadPipe, **options)


def writing(program, **options):
    return same(program, kind=WritePipe, **options)
