"""aiohttp, unmodified, on velodrome: its server and its client."""

import sys

import pytest

from apps import clients
from apps.running import need, run_to_its_end, server, ways_of
from apps.serving import *  # noqa: F403  the tests, which find this module's address

need("aiohttp")
if hasattr(sys, "gettotalrefcount"):
    pytest.skip("aiohttp's compiled parts end a debug build's process, on any loop", allow_module_level=True)

SERVER = "serve_aiohttp.py"
CLIENT = "client_aiohttp.py"

#: Ways to run a program on velodrome, with uvloop beside it where that can be had.
SERVERS = {
    "run": [SERVER, "run"],
    "loop_factory": [SERVER, "runner"],
    "run_app": [SERVER, "run_app"],
    "-m velodrome": ["-m", "velodrome", SERVER, "unaware"],
}
CLIENTS = ways_of(CLIENT)


@pytest.fixture(scope="module", params=SERVERS)
def address(request):
    with server(*SERVERS[request.param]) as address:
        yield address


@pytest.mark.parametrize("way", CLIENTS)
def test_client(way):
    """Hundreds of requests at once, cancelled ones, servers that stall, reset and drip: see the program."""
    with server(SERVER, "run") as address:
        host, port = address
        before = clients.how_many_open(address)
        run_to_its_end(*CLIENTS[way], f"http://{host}:{port}")
        clients.wait_until_open(address, before)
