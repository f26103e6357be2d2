"""redis-py's asyncio client, unmodified, on velodrome, with a Redis server."""

import pytest

from apps import databases
from apps.running import need, run_to_its_end, ways_of

need("redis")

CLIENTS = ways_of("client_redis.py")


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    with databases.redis(tmp_path_factory.mktemp("redis")) as port:
        yield port


@pytest.mark.parametrize("way", CLIENTS)
def test_client(port, way):
    """Hundreds of commands at once, pipelines, queues, channels, and commands that are given up."""
    run_to_its_end(*CLIENTS[way], str(port))
