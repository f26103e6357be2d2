"""uvicorn, unmodified, on velodrome: HTTP by httptools and by h11, and WebSockets."""

import asyncio

import pytest
import velodrome

from apps import clients
from apps.running import need, server
from apps.serving import *  # noqa: F403  the tests, which find this module's address

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


def test_workers_that_the_server_starts_afresh_run_on_velodrome():
    with server("-m", "velodrome", *UVICORN, "--workers", "2") as address:
        clients.wait_until_served(address)
        clients.crowd(address, 50, 3)
