"""aiosmtpd, unmodified, on velodrome, with the standard library's clients."""

import pytest

from apps.running import need, run_to_its_end, ways_of

need("aiosmtpd")

BOTH = ways_of("aiosmtpd_both.py")


@pytest.mark.parametrize("way", BOTH)
def test_server(way):
    run_to_its_end(*BOTH[way])
