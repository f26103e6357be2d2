"""asyncpg, unmodified, on velodrome, with a PostgreSQL server."""

import pytest

from apps import databases
from apps.running import need, run_to_its_end, ways_of

need("asyncpg")

CLIENTS = ways_of("client_asyncpg.py")


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    with databases.postgres(tmp_path_factory.mktemp("postgres")) as port:
        yield port


@pytest.mark.parametrize("way", CLIENTS)
def test_client(port, way):
    """Hundreds of queries at once, copies, cursors, transactions, and queries that are given up."""
    run_to_its_end(*CLIENTS[way], str(port))
