"""What is made goes again: objects, memory, descriptors, whatever way they end and whatever refers to them.

Each scenario of the package `leaks` makes and ends many things of a kind. It runs several times in a process
of its own; what every run leaves behind is a leak.
"""

import json
import subprocess
import sys

import pytest
from leaks.measuring import main
from leaks.scenarios import SCENARIOS


def run_scenario(name, count, timeout):
    done = subprocess.run(
        [sys.executable, __file__, name, str(count)], capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stderr[-4000:]}"
    return json.loads(done.stdout)


def check(left, count):
    """One thing left by every fiftieth that was made would show."""
    slack = count // 50
    assert left["references"] < slack, left
    assert left["blocks"] < slack, left
    # The heap's use varies with where its free places are; so much, apart from a word per fiftieth.
    assert left["heap"] < 100_000 + 8 * slack, left
    assert left["resident"] < 4_000_000, left
    assert left["descriptors"] == 0, left
    # The threads of an executor that was shut down end when they come to it.
    assert left["threads"] <= 0, left
    assert left["tasks"] <= 0, left


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.timeout(120)
def test_nothing_is_left_of(name):
    count = 4000
    check(run_scenario(name, count, 100), count)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.timeout(900)
def test_nothing_is_left_of_very_many(name):
    count = 50_000
    check(run_scenario(name, count, 800), count)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
