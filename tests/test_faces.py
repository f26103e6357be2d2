"""The scenarios of crates/velodrome/tests/faces.rs give the same traces in the Python face."""

import velodrome
from differential.scenarios import Counted, Scenario, traces
from differential.worlds import OURS


class VelodromeCounted(Counted, velodrome.Loop):
    pass


def test_scenarios_give_the_traces_that_asyncio_gives():
    for body, trace in traces("faces", 300):
        assert Scenario(VelodromeCounted, OURS, body).run() == trace
