"""Endpoints of datagrams whose protocol notes what it is told, and sockets to talk with them."""

import asyncio
import contextlib
import os
import socket

from .compare import turns


class Protocol(asyncio.DatagramProtocol):
    """Notes what it is told, and does what it was asked to when it is told that."""

    def __init__(self, **acts):
        self.told = []
        self.acts = acts

    def note(self, name, *what):
        self.told.append((name, *what))
        if name in self.acts:
            self.acts[name](self)

    def connection_made(self, transport):
        self.transport = transport
        self.note("made")

    def datagram_received(self, data, addr):
        self.addr = addr
        self.note("received", data)

    def error_received(self, exc):
        self.note("error", type(exc).__name__, str(exc))

    def connection_lost(self, exc):
        self.note("lost", repr(exc))

    def pause_writing(self):
        self.note("pause")

    def resume_writing(self):
        self.note("resume")


def endpoint(loop, protocol=None, **options):
    """Make an endpoint; return its transport and its protocol."""
    factory = Protocol if protocol is None else lambda: protocol
    return loop.run_until_complete(loop.create_datagram_endpoint(factory, **options))


def local(loop, protocol=None, **options):
    return endpoint(loop, protocol, local_addr=("127.0.0.1", 0), **options)


def peer():
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


def unix_pair():
    """Two sockets of datagrams that lose none: the first is connected to the other, and soon has to wait."""
    ours, theirs = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    theirs.bind(b"\0velodrome-%d-%d" % (os.getpid(), theirs.fileno()))
    ours.connect(theirs.getsockname())
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    theirs.setblocking(False)
    return ours, theirs


def drain(sock):
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(sock.recv(70000))
    return found


def end(loop, *transports):
    for transport in transports:
        transport.abort()
    turns(loop, 3)
