"""Running programs: new_event_loop, Runner, run."""

import asyncio
from asyncio import events

from velodrome._loop import Loop


def new_event_loop():
    """Return a new velodrome event loop."""
    return Loop()


class Runner(asyncio.Runner):
    """asyncio.Runner whose loop is velodrome's, unless loop_factory says otherwise."""

    def __init__(self, *, debug=None, loop_factory=None):
        super().__init__(debug=debug, loop_factory=loop_factory or new_event_loop)


def run(main, *, debug=None, loop_factory=None):
    """Run a coroutine on a new loop and return its result, as asyncio.run() does.

    It cannot be called while another loop runs in the same thread.
    """
    if events._get_running_loop() is not None:
        raise RuntimeError("velodrome.run() cannot be called from a running event loop")
    with Runner(debug=debug, loop_factory=loop_factory) as runner:
        return runner.run(main)
