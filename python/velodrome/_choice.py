"""Programs that pick the fastest loop they find: under `python -m velodrome` they find velodrome's.

uvicorn takes uvloop by itself where that is installed. Whoever names a loop (`--loop uvloop`) still gets it.
"""

from collections.abc import Callable
from types import ModuleType

import velodrome
from velodrome._after_import import after_import


def choose_velodrome() -> None:
    """From now on, what picks a loop by itself picks velodrome's."""
    after_import("uvicorn.loops.auto", _choose)


def _choose(module: ModuleType) -> None:
    # The first from uvicorn 0.36 on; before, it set a policy, where asyncio's own now makes our loop.
    for name, choice in ("auto_loop_factory", _loop_factory), ("auto_loop_setup", _leave_it):
        if hasattr(module, name):
            setattr(module, name, choice)


def _loop_factory(use_subprocess: bool = False) -> Callable[[], velodrome.Loop]:
    return velodrome.new_event_loop


def _leave_it(use_subprocess: bool = False) -> None:
    pass
