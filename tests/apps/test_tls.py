"""Programs over TLS, unmodified, on velodrome: servers and clients of HTTP, and clients of databases."""

import sys

import pytest
from tls.sides import CERTIFICATE, KEY

from apps import databases
from apps.running import need, run_to_its_end, server

DEBUG_BUILD = hasattr(sys, "gettotalrefcount")

#: Programs that serve what client_aiohttp.py asks for.
SERVERS = {
    "aiohttp": ["serve_aiohttp.py", "run", "tls"],
    "uvicorn": [
        *("-m", "uvicorn", "asgi:app", "--port", "0", "--lifespan", "on", "--ws", "websockets"),
        *("--loop", "velodrome:new_event_loop", "--ssl-certfile", CERTIFICATE, "--ssl-keyfile", KEY),
    ],
}


@pytest.mark.skipif(DEBUG_BUILD, reason="aiohttp's compiled parts end a debug build's process, on any loop")
@pytest.mark.parametrize("program", SERVERS)
def test_http(program):
    need("aiohttp", "uvicorn", "httptools", "websockets")
    with server(*SERVERS[program]) as (host, port):
        run_to_its_end("client_aiohttp.py", "run", f"https://{host}:{port}")


@pytest.mark.slow
def test_redis(tmp_path):
    need("redis")
    with databases.redis(tmp_path, tls=True) as port:
        run_to_its_end("client_redis.py", "run", str(port), "tls")


@pytest.mark.slow
def test_asyncpg(tmp_path):
    need("asyncpg")
    with databases.postgres(tmp_path, tls=True) as port:
        run_to_its_end("client_asyncpg.py", "run", str(port), "tls")
