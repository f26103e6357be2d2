"""asyncssh, unmodified, on velodrome: its server, which runs processes, and its client."""

import pytest

from apps.running import need, run_to_its_end, ways_of

need("asyncssh")

BOTH = ways_of("asyncssh_both.py")


@pytest.mark.parametrize("way", BOTH)
def test_server_and_clients(way, tmp_path):
    """Commands by the dozen, files there and back, and forwarded connections."""
    run_to_its_end(*BOTH[way], str(tmp_path))
