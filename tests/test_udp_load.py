"""Datagrams in numbers: none is lost or mistaken that the kernel has taken, and what it drops costs nothing.

The figures are printed (`pytest -s`). VELODROME_LOAD_SECONDS says for how long the conversation goes on.
"""

import contextlib
import itertools
import select
import socket
import time

import pytest
from test_tcp_load import SECONDS, Server

pytestmark = [pytest.mark.timeout(SECONDS + 120)]

#: So many wait for their answer at a time: the kernel's buffers hold them.
AT_ONCE = 40
SIZES = [1, 64, 1024, 200, 4096, 17]


@pytest.fixture(params=["asyncio", "velodrome"])
def loop(request):
    """The module whose loop the server runs on."""
    return request.param


def message(number):
    return (b"%08d|" % number * 500)[: SIZES[number % len(SIZES)]]


@contextlib.contextmanager
def sockets(count, port):
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(count)]
        for sock in made:
            sock.connect(("127.0.0.1", port))
        yield made


def test_hundreds_of_peers(loop):
    """Each gets its own back, whichever of them takes its turn."""
    with Server(loop, "datagrams") as server, sockets(500, server.port) as peers:
        before = server.figures()
        poll = select.epoll()
        by_number = {sock.fileno(): sock for sock in peers}
        turn, number = itertools.cycle(peers), itertools.count()
        waiting = {}
        answered = 0

        def say():
            sock = next(turn)
            waiting[sock] = message(next(number))
            poll.register(sock, select.EPOLLIN)
            sock.send(waiting[sock])

        end = time.monotonic() + SECONDS
        for _ in range(AT_ONCE):
            say()
        while waiting:
            ready = poll.poll(30)
            assert ready, "nothing comes back any more"
            for descriptor, _ in ready:
                sock = by_number[descriptor]
                poll.unregister(descriptor)
                assert sock.recv(65536) == waiting.pop(sock)
                answered += 1
                if time.monotonic() < end:
                    say()
        poll.close()
        after = server.figures()
        cpu = (after["cpu"] - before["cpu"]) / answered
        print(
            f"\n{loop}: {answered} datagrams of {len(peers)} peers in {SECONDS:g} s, "
            f"{cpu * 1e6:.1f} µs of processor time each"
        )
        assert after["datagrams"] == answered
        assert after["descriptors"] == before["descriptors"]
        assert after["unsent"] == 0
        assert after["troubles"] == []


def test_a_flood_costs_no_memory(loop):
    """Nobody reads the answers, and nobody waits for them: the kernel drops what does not fit."""
    with Server(loop, "datagrams") as server, sockets(1, server.port) as [peer]:
        for _ in range(1000):
            peer.send(bytes(1024))
        before = server.figures()
        sent = 0
        end = time.monotonic() + SECONDS / 2
        while time.monotonic() < end:
            for _ in range(100):
                peer.send(bytes(1024))
            sent += 100
        figures = server.wait_for(lambda figures: figures["datagrams"] > before["datagrams"])
        print(f"\n{loop}: {sent} datagrams in a flood, {figures['datagrams']} of them answered")
        assert figures["resident"] - before["resident"] < 4_000_000
        assert figures["unsent"] == 0
        assert figures["troubles"] == []
