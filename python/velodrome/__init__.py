"""asyncio, implemented in Rust.

    import velodrome
    velodrome.run(main())

or, for what runs itself, ``asyncio.Runner(loop_factory=velodrome.new_event_loop)`` and
``python -m velodrome app.py``.

It has every name that asyncio has, so that ``import velodrome as asyncio`` will do: Velodrome's own where
there is one, asyncio's otherwise.
"""

import asyncio as _asyncio
import sys as _sys

if _sys.implementation.name != "cpython" or not ((3, 11) <= _sys.version_info < (3, 16)):
    raise ImportError(
        f"velodrome runs on CPython 3.11 to 3.15, this is {_sys.implementation.name} "
        f"{_sys.version_info.major}.{_sys.version_info.minor}"
    )
if _sys.platform != "linux":
    raise ImportError(f"velodrome runs on Linux, this is {_sys.platform}")
if "t" in _sys.abiflags:
    raise ImportError("velodrome needs a CPython with the GIL, this is a free-threaded build")

from velodrome._loop import Loop, new_event_loop
from velodrome._streams import (
    StreamReader,
    StreamReaderProtocol,
    StreamWriter,
    create_subprocess_exec,
    create_subprocess_shell,
    open_connection,
    open_unix_connection,
    start_server,
    start_unix_server,
)
from velodrome._velodrome import (
    Barrier,
    BoundedSemaphore,
    Condition,
    Event,
    Future,
    Handle,
    LifoQueue,
    Lock,
    PriorityQueue,
    Queue,
    Runner,
    Semaphore,
    Task,
    TaskGroup,
    Timeout,
    TimerHandle,
    __version__,
    all_tasks,
    as_completed,
    create_task,
    current_task,
    ensure_future,
    gather,
    iscoroutine,
    isfuture,
    run,
    run_coroutine_threadsafe,
    shield,
    sleep,
    timeout,
    timeout_at,
    to_thread,
    wait,
    wait_for,
    wrap_future,
)

__all__ = [
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "Future",
    "Handle",
    "LifoQueue",
    "Lock",
    "Loop",
    "PriorityQueue",
    "Queue",
    "Runner",
    "Semaphore",
    "StreamReader",
    "StreamReaderProtocol",
    "StreamWriter",
    "Task",
    "TaskGroup",
    "Timeout",
    "TimerHandle",
    "all_tasks",
    "as_completed",
    "build_info",
    "create_subprocess_exec",
    "create_subprocess_shell",
    "create_task",
    "current_task",
    "ensure_future",
    "gather",
    "install",
    "iscoroutine",
    "isfuture",
    "new_event_loop",
    "open_connection",
    "open_unix_connection",
    "run",
    "run_coroutine_threadsafe",
    "shield",
    "sleep",
    "start_server",
    "start_unix_server",
    "timeout",
    "timeout_at",
    "to_thread",
    "uninstall",
    "wait",
    "wait_for",
    "wrap_future",
]

if _sys.version_info >= (3, 12):
    from velodrome._velodrome import create_eager_task_factory as create_eager_task_factory
    from velodrome._velodrome import eager_task_factory as eager_task_factory

    __all__ += ["create_eager_task_factory", "eager_task_factory"]

    from velodrome import _sent_values

    _sent_values.define()

if _sys.version_info < (3, 16):
    from velodrome._policy import EventLoopPolicy as EventLoopPolicy

    __all__ += ["EventLoopPolicy"]


from velodrome._install import install as install
from velodrome._install import uninstall as uninstall

SelectorEventLoop = Loop

if _sys.version_info >= (3, 13):
    EventLoop = Loop

__all__ += [name for name in _asyncio.__all__ if name not in __all__]


def __getattr__(name):
    if not name.startswith("__"):
        try:
            return getattr(_asyncio, name)
        except AttributeError:
            pass
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *dir(_asyncio)})


def build_info():
    """Return what this build is and what it has recognised of the Python it runs on."""
    from velodrome import _velodrome

    return {
        "version": __version__,
        "python": ".".join(map(str, _sys.version_info[:3])),
        "layout": _velodrome._layout(),
        "tls": _velodrome._tls(),
    }
