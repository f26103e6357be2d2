"""What an operation leaves behind for the collector: nothing that asyncio's would not leave.

Operations mark objects; afterwards weak references say which of them live on although nobody holds them, the
collector not having run. An exception that lives on keeps what its frames hold: connections, files and
locks.
"""

import asyncio
import gc
import weakref
from collections import Counter

import pytest
import velodrome
from differential.compare import LOOPS
from differential.operations import OPERATIONS


class Kept:
    """What an exception of Python's own, to which there are no weak references, is known by."""


class Marks:
    """Notes objects by name, and tells which are still there."""

    def __init__(self):
        self.seen = []

    def __call__(self, name, thing):
        try:
            reference = weakref.ref(thing)
        except TypeError:  # an exception of Python's own
            thing.kept = Kept()
            reference = weakref.ref(thing.kept)
        self.seen.append((name, reference))
        return thing

    def alive(self):
        return Counter(name for name, reference in self.seen if reference() is not None)


def left(operation, aio, new_event_loop, allowed):
    """Return what lives on once the loop has come to rest, or there is no more than is allowed."""
    mark = Marks()

    async def settle():
        for _ in range(1000 if allowed is not None else 5):
            if allowed is not None and mark.alive() <= allowed:
                break
            await asyncio.sleep(0.01)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.get_loop().set_exception_handler(lambda loop, context: None)
        runner.run(operation(aio, mark))
        runner.run(settle())
        return mark.alive()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", OPERATIONS)
def test_nothing_outlives_what_does_on_asyncio(name):
    gc.collect()
    gc.disable()
    try:
        expected = left(OPERATIONS[name], asyncio, LOOPS[0], None)
        found = left(OPERATIONS[name], velodrome, LOOPS[1], expected)
    finally:
        gc.enable()
    assert found <= expected, f"asyncio leaves {dict(expected)}, velodrome {dict(found)}"
