import sys
from typing import Any

from velodrome._loop import Loop as Loop
from velodrome._runner import Runner as Runner
from velodrome._runner import new_event_loop as new_event_loop
from velodrome._runner import run as run
from velodrome._velodrome import Future as Future
from velodrome._velodrome import Handle as Handle
from velodrome._velodrome import Task as Task
from velodrome._velodrome import TimerHandle as TimerHandle
from velodrome._velodrome import __version__ as __version__
from velodrome._velodrome import create_task as create_task
from velodrome._velodrome import sleep as sleep

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

if sys.version_info < (3, 16):
    from velodrome._policy import EventLoopPolicy as EventLoopPolicy

    __all__ += ["EventLoopPolicy"]

def build_info() -> dict[str, Any]: ...
