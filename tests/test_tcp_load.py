"""Many connections, peers that do not read, and too few descriptors: a server bears them, in bounds.

The figures are printed (`pytest -s`). VELODROME_LOAD_SECONDS says for how long the conversation of the many
goes on: a minute, when it is to be known for certain.
"""

import contextlib
import functools
import json
import os
import resource
import select
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

FOLDER = Path(__file__).with_name("load")
SECONDS = float(os.environ.get("VELODROME_LOAD_SECONDS", "2"))

pytestmark = [pytest.mark.timeout(SECONDS + 120)]


@pytest.fixture(params=["asyncio", "velodrome"])
def loop(request):
    """The module whose loop the server runs on."""
    return request.param


def limit_descriptors(count):
    """Allow a process so many descriptors; as many as can be for None."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if count is None else count, hard))


class Program:
    """One of the programs in load/, with which one talks in lines."""

    def __init__(self, name, *arguments, descriptors=None):
        self.process = subprocess.Popen(
            [sys.executable, FOLDER / name, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=functools.partial(limit_descriptors, descriptors),
        )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        with self.process:
            self.process.stdin.close()
            if exception[0] is not None:
                self.process.kill()
            assert self.process.wait(30) == 0 or exception[0] is not None

    def read(self):
        line = self.process.stdout.readline()
        assert line, f"it ended with status {self.process.wait()}"
        return line

    def ask(self):
        """Have it go on; return what it says."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.read()


class Server(Program):
    def __init__(self, *arguments, **options):
        super().__init__("server.py", *arguments, **options)
        self.port = int(self.read())

    def figures(self):
        return json.loads(self.ask())

    def wait_for(self, condition):
        """Ask again and again until the figures are so."""
        for _ in range(1000):
            figures = self.figures()
            if condition(figures):
                return figures
            time.sleep(0.01)
        raise AssertionError(figures)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)


@pytest.mark.slow
def test_thousands_of_connections_at_once(loop):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = 10_000 if hard == resource.RLIM_INFINITY else min(10_000, hard - 100)
    with Server(loop, "echo") as server:
        before = server.figures()
        with Program("client.py", server.port, count, SECONDS) as client:
            assert client.read() == "connected\n"
            during = server.wait_for(lambda figures: figures["open"] == count)
            messages = int(client.read())
            after = server.figures()
            assert after["open"] == count
            cpu = (after["cpu"] - during["cpu"]) / messages
            print(
                f"\n{loop}: {count} connections, {messages} messages in {SECONDS:g} s, "
                f"{cpu * 1e6:.1f} µs of processor time each, "
                f"{(during['resident'] - before['resident']) / count:.0f} bytes for a connection"
            )
        ended = server.wait_for(lambda figures: figures["open"] == 0)
        assert ended["descriptors"] == before["descriptors"]
        assert ended["troubles"] == []


@pytest.mark.parametrize("kind", ["flood", "streams"])
def test_peers_that_never_read_cost_what_the_high_water_mark_allows(loop, kind):
    count = 100
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Server(loop, kind))
        before = server.figures()
        clients = [stack.enter_context(server.connect()) for _ in range(count)]
        during = server.wait_for(lambda figures: figures["open"] == count)
        # Everybody has been sent as much as is going to be, when the figures stay what they are.
        while (found := server.figures())["unsent"] != during["unsent"]:
            during = found
        [[_, high]] = during["limits"]
        chunk = 16 * 1024
        assert high < during["unsent"] <= high + chunk
        grown = during["resident"] - before["resident"]
        print(
            f"\n{loop}, {kind}: at most {during['unsent']} bytes unsent, {grown / count:.0f} for each in all"
        )
        # What is kept, perhaps in pieces of their own, and the connection itself.
        assert grown < count * (2 * (high + chunk) + 20_000) + 4_000_000
        # Who reads after all gets on.
        received = 0
        while received < 20_000_000:
            received += len(clients[0].recv(1 << 20))
        for client in clients:
            client.close()
        server.wait_for(lambda figures: figures["open"] == 0)
        assert server.figures()["descriptors"] == before["descriptors"]


class Peer:
    """A client that expects everything back, and how it behaves."""

    def __init__(self, server, number):
        self.socket = server.connect()
        self.socket.setblocking(False)
        self.manner = ("in one go", "byte by byte", "half closing", "resetting")[number % 4]
        size = 500 if self.manner == "byte by byte" else 300_000
        self.unsent = self.message = (b"<%06d>" % number * (size // 8 + 1))[:size]
        self.received = b""
        self.over = False

    def turn(self):
        """Send and receive what can be now."""
        with contextlib.suppress(BlockingIOError):
            if self.unsent:
                most = 1 if self.manner == "byte by byte" else 50_000
                self.unsent = self.unsent[self.socket.send(self.unsent[:most]) :]
                if not self.unsent and self.manner == "half closing":
                    self.socket.shutdown(socket.SHUT_WR)
        with contextlib.suppress(BlockingIOError):
            data = self.socket.recv(1 << 16)
            self.received += data
            assert self.message.startswith(self.received)
            self.over = not data
        if self.manner == "resetting" and len(self.received) > 50_000:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.over = True
        elif self.manner != "half closing" and len(self.received) == len(self.message):
            self.over = True  # while others are told of the end behind the last byte
        if self.over:
            self.socket.close()
            assert self.manner == "resetting" or self.received == self.message


def test_peers_of_all_manners_get_what_is_theirs(loop):
    """Some send byte by byte, some close one direction first, some reset in the middle, beside the others."""
    with Server(loop, "echo") as server:
        before = server.figures()
        peers = [Peer(server, number) for number in range(200)]
        try:
            while peers:
                for peer in peers:
                    peer.turn()
                peers = [peer for peer in peers if not peer.over]
        finally:
            for peer in peers:
                peer.socket.close()
        after = server.wait_for(lambda figures: figures["open"] == 0)
        assert after["descriptors"] == before["descriptors"]
        assert after["troubles"] == []


def test_too_few_descriptors_are_waited_for(loop):
    """Accepting pauses when there are no descriptors left, says so, and goes on when there are."""
    allowed, count = 40, 100
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Server(loop, "greet", descriptors=allowed))
        before = server.figures()
        waiting = [stack.enter_context(server.connect()) for _ in range(count)]
        greeted = []

        def hear():
            """Note who has been greeted by now."""
            readable, _, _ = select.select(waiting, [], [], 0.01)
            for client in readable:
                assert client.recv(100) == b"hello"
                waiting.remove(client)
                greeted.append(client)

        # Not listdir() in the server, for which there is no descriptor left either.
        while not greeted or select.select(waiting, [], [], 0.2)[0]:
            hear()
        assert 10 < len(greeted) < allowed
        print(f"\n{loop}: {len(greeted)} of {count} served with {allowed} descriptors", end="")
        while waiting:
            # Each leaving makes room for another one, once accepting is tried again, a second later.
            for client in greeted:
                client.close()
            greeted.clear()
            while not greeted:
                hear()
        for client in greeted:
            client.close()
        after = server.wait_for(lambda figures: figures["open"] == 0)
        assert after["descriptors"] == before["descriptors"]
        assert set(after["troubles"]) == {"socket.accept() out of system resource"}
        print(
            f", all in the end; {len(after['troubles'])} reports, {after['cpu'] - before['cpu']:.2f} s of CPU"
        )


@pytest.mark.slow
def test_ten_thousand_connections_leave_nothing_behind(loop):
    reset = struct.pack("ii", 1, 0)

    def connect(server, count):
        for number in range(count):
            with server.connect() as client:
                client.send(b"x" * 100)
                if number % 2:
                    assert client.recv(100)
                if number % 3 == 0:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)

    with Server(loop, "echo") as server:
        connect(server, 1000)  # whatever is made once, and kept for later, is made now
        before = server.wait_for(lambda figures: figures["open"] == 0)
        connect(server, 10_000)
        after = server.wait_for(lambda figures: figures["open"] == 0)
        grown = {what: after[what] - before[what] for what in ("descriptors", "blocks", "resident")}
        print(f"\n{loop}: after 10,000 connections more: {grown}")
        assert grown["descriptors"] == 0
        assert grown["blocks"] < 500
        assert grown["resident"] < 1_000_000
        assert after["troubles"] == []
