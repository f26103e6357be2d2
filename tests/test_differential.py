"""Random programs see the same on velodrome as on asyncio: who runs when, and what comes out."""

import os

import pytest
from differential.interpreter import Run
from differential.programs import programs
from differential.worlds import pairs
from hypothesis import HealthCheck, given, reject, settings

# The same programs every time, unless told to look for new ones.
SEARCH = int(os.environ.get("VELODROME_SEARCH", "0"))

common = settings(
    max_examples=SEARCH or 60,
    derandomize=not SEARCH,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def check_same(world, reference, program, **options):
    try:
        expected_trace, expected_reports = Run(reference, program, **options).run()
    except RecursionError:
        # asyncio's tasks in Python are not current tasks to those that keep bodies from waiting in a circle.
        reject()
    trace, reports = Run(world, program, **options).run()
    assert trace == expected_trace
    assert reports == expected_reports


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("world, reference", pairs(turns=True))
@pytest.mark.timeout(600 if SEARCH else 60)
def test_same_trace_when_time_is_counted_in_turns(world, reference, debug):
    @common
    @given(programs)
    def check(program):
        check_same(world, reference, program, debug=debug)

    check()


@pytest.mark.parametrize("world, reference", pairs())
@pytest.mark.timeout(600 if SEARCH else 60)
def test_same_trace_when_the_loop_runs_freely(world, reference):
    """No timer fires here, so that nothing depends on the clock; sleeps begin, and are cancelled."""

    @common
    @given(programs)
    def check(program):
        check_same(world, reference, program, turns=False)

    check()
