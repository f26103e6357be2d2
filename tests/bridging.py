"""What tests of the bridge share: an extension with futures of every kind, and the loops to await them on.

The extension is built for the first test that asks for it.
"""

import asyncio
import os
import threading

import pytest
import velodrome
from compiled import ROOT
from extension import build

# Building the extension comes on top of the first test, and is not counted.
limit = pytest.mark.timeout(60, func_only=True)


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    return build(ROOT / "tests" / "bridge", "bridge_probe", tmp_path_factory.mktemp("bridge"))


def uvloop_new_event_loop():
    return pytest.importorskip("uvloop", reason="uvloop has no wheel for this Python").new_event_loop()


PACKAGE = os.path.dirname(os.path.dirname(velodrome.__file__))
LOOPS = {
    "velodrome": velodrome.new_event_loop,
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop_new_event_loop,
}


@pytest.fixture(params=LOOPS)
def run(request):
    """Runs a coroutine on a loop of each kind, and closes the loop."""

    def run(coroutine, debug=False):
        try:
            runner = asyncio.Runner(loop_factory=LOOPS[request.param], debug=debug)
            runner.get_loop()
        except BaseException:
            coroutine.close()
            raise
        with runner:
            return runner.run(asyncio.wait_for(coroutine, 60))

    run.kind = request.param
    return run


async def turns(count=3):
    for _ in range(count):
        await asyncio.sleep(0)


def run_in_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
