"""uvicorn, unmodified, on velodrome: HTTP by httptools and by h11, and WebSockets."""

import asyncio

import pytest
import velodrome

from apps import clients
from apps.running import need, server

need("uvicorn", "httptools", "h11", "websockets")

UVICORN = ["-m", "uvicorn", "asgi:app", "--port", "0", "--lifespan", "on", "--ws", "websockets"]

#: Ways to run a program on velodrome, with uvloop beside it where that can be had.
WAYS = {
    "run": ["serve_uvicorn.py", "run"],
    "loop_factory": ["serve_uvicorn.py", "runner"],
    "--loop": [*UVICORN, "--loop", "velodrome:new_event_loop", "--http"],
    "-m velodrome": ["-m", "velodrome", *UVICORN, "--http"],
    "-m velodrome --loop": ["-m", "velodrome", *UVICORN, "--loop", "asyncio", "--http"],
}


@pytest.fixture(
    scope="module", params=[(way, http) for way in WAYS for http in ("httptools", "h11")], ids="-".join
)
def address(request):
    way, http = request.param
    with server(*WAYS[way], http) as address:
        yield address


def test_hundreds_of_requests_at_once(address):
    clients.crowd(address, 300, 4)


def test_clients_that_stall_hold_nobody_up(address):
    before = clients.how_many_open(address)
    with clients.stalled(address, 60):
        clients.crowd(address, 50, 3)
    clients.wait_until_open(address, before)


def test_clients_that_reset_leave_nothing_behind(address):
    before = clients.how_many_open(address)
    clients.resets(address, 180)
    clients.wait_until_open(address, before)
    assert clients.ask(address, clients.GET % b"/") == (200, b"hello")


def test_clients_that_send_a_byte_at_a_time(address):
    clients.byte_at_a_time(address, clients.GET % b"/", b"hello")
    clients.byte_at_a_time(address, clients.POST % (300, clients.BODY[:300]), clients.BODY[:300])


def test_large_answer_arrives_whole(address):
    assert clients.ask(address, clients.GET % b"/large") == (200, bytes(64 * 65536))


@pytest.mark.parametrize("loop_factory", [asyncio.SelectorEventLoop, velodrome.new_event_loop])
def test_websockets(address, loop_factory):
    """The client, of the package websockets, runs on either loop."""
    from websockets.asyncio.client import connect

    host, port = address

    async def client(number):
        async with connect(f"ws://{host}:{port}/ws", compression=None) as socket:
            for size in 0, 1, 125, 126, 65535, 65536, 300_000:
                await socket.send("x" * size)
                assert await socket.recv() == "x" * size
                await socket.send(bytes([number]) * size)
                assert await socket.recv() == bytes([number]) * size

    async def main():
        await asyncio.gather(*map(client, range(30)))

    before = clients.how_many_open(address)
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    clients.wait_until_open(address, before)


def test_unaware_program_under_velodrome(without_uvloop):
    """Without a word about loops uvicorn picks one; without uvloop there is only asyncio's to pick."""
    with server("-m", "velodrome", *UVICORN, **without_uvloop) as address:
        clients.crowd(address, 50, 3)
