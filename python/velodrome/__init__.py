"""asyncio, implemented in Rust.

    import velodrome
    velodrome.run(main())

or, for what runs itself, ``asyncio.Runner(loop_factory=velodrome.new_event_loop)`` and
``python -m velodrome app.py``.
"""

import sys as _sys

if _sys.implementation.name != "cpython" or not ((3, 11) <= _sys.version_info < (3, 16)):
    raise ImportError(
        f"velodrome runs on CPython 3.11 to 3.15, this is {_sys.implementation.name} "
        f"{_sys.version_info.major}.{_sys.version_info.minor}"
    )
if _sys.platform != "linux":
    raise ImportError(f"velodrome runs on Linux, this is {_sys.platform}")

from velodrome._loop import Loop
from velodrome._runner import Runner, new_event_loop, run
from velodrome._velodrome import Future, Handle, Task, TimerHandle, __version__, create_task, sleep

__all__ = [
    "Future",
    "Handle",
    "Loop",
    "Runner",
    "Task",
    "TimerHandle",
    "build_info",
    "create_task",
    "new_event_loop",
    "run",
    "sleep",
]

if _sys.version_info < (3, 16):
    from velodrome._policy import EventLoopPolicy as EventLoopPolicy

    __all__ += ["EventLoopPolicy"]


def build_info():
    """Return what this build is and what it has recognised of the Python it runs on."""
    from velodrome import _velodrome

    return {
        "version": __version__,
        "python": ".".join(map(str, _sys.version_info[:3])),
        "layout": _velodrome._layout(),
    }
