"""Sockets of every kind that a program may hand to a loop, in pairs or alone."""

import contextlib
import socket

import pytest

CALLS = {
    "sock_recv": (b"", [10]),
    "sock_recv_into": (b"", [bytearray(10)]),
    "sock_recvfrom": (b"", [10]),
    "sock_recvfrom_into": (b"", [bytearray(10)]),
}


class Subclass(socket.socket):
    """Overrides nothing."""


class Counting(socket.socket):
    """Notes what is called."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.calls = []

    def recv(self, *args):
        self.calls.append(("recv", *args))
        return super().recv(*args)

    def recv_into(self, buffer, *args):
        self.calls.append(("recv_into", len(buffer), *args))
        return super().recv_into(buffer, *args)

    def recvfrom(self, *args):
        self.calls.append(("recvfrom", *args))
        return super().recvfrom(*args)

    def recvfrom_into(self, buffer, *args):
        self.calls.append(("recvfrom_into", len(buffer), *args))
        return super().recvfrom_into(buffer, *args)

    def send(self, data, *args):
        self.calls.append(("send", len(data), *args))
        return super().send(data, *args)

    def sendto(self, data, *args):
        self.calls.append(("sendto", len(data), *args[:-1]))
        return super().sendto(data, *args)


class Wrapped:
    """No socket, but something that behaves like one."""

    def __init__(self, sock):
        self.sock = sock

    def __getattr__(self, name):
        return getattr(self.sock, name)

    def __repr__(self):
        return "<wrapped>"


def pair(kind=socket.socket, type=socket.SOCK_STREAM):
    """Two connected sockets that do not block, the first of this class."""
    one, other = socket.socketpair(socket.AF_UNIX, type)
    one.setblocking(False)
    other.setblocking(False)
    if kind is Wrapped:
        return Wrapped(one), other
    if kind is not socket.socket:
        one = kind(one.family, one.type, one.proto, one.detach())
        one.setblocking(False)
    return one, other


@pytest.fixture
def connected():
    """Two connected sockets that do not block."""
    first, second = socket.socketpair()
    first.setblocking(False)
    second.setblocking(False)
    with first, second:
        yield first, second


def bound(family=socket.AF_INET, type=socket.SOCK_DGRAM, kind=socket.socket):
    sock = kind(family, type)
    sock.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
    sock.setblocking(False)
    return sock


KINDS = [socket.socket, Subclass, Counting, Wrapped]
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def fill(sock):
    """Write until the kernel takes no more; return how much it took."""
    total = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            total += sock.send(b"x" * 65536)
    return total
