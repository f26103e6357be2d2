import sys
from typing import Any

from velodrome._install import install as install
from velodrome._install import uninstall as uninstall
from velodrome._loop import Loop as Loop
from velodrome._loop import new_event_loop as new_event_loop
from velodrome._streams import StreamReader as StreamReader
from velodrome._streams import StreamReaderProtocol as StreamReaderProtocol
from velodrome._streams import StreamWriter as StreamWriter
from velodrome._streams import create_subprocess_exec as create_subprocess_exec
from velodrome._streams import create_subprocess_shell as create_subprocess_shell
from velodrome._streams import open_connection as open_connection
from velodrome._streams import open_unix_connection as open_unix_connection
from velodrome._streams import start_server as start_server
from velodrome._streams import start_unix_server as start_unix_server
from velodrome._velodrome import Barrier as Barrier
from velodrome._velodrome import BoundedSemaphore as BoundedSemaphore
from velodrome._velodrome import Condition as Condition
from velodrome._velodrome import Event as Event
from velodrome._velodrome import Future as Future
from velodrome._velodrome import Handle as Handle
from velodrome._velodrome import LifoQueue as LifoQueue
from velodrome._velodrome import Lock as Lock
from velodrome._velodrome import PriorityQueue as PriorityQueue
from velodrome._velodrome import Queue as Queue
from velodrome._velodrome import Runner as Runner
from velodrome._velodrome import Semaphore as Semaphore
from velodrome._velodrome import Task as Task
from velodrome._velodrome import TaskGroup as TaskGroup
from velodrome._velodrome import Timeout as Timeout
from velodrome._velodrome import TimerHandle as TimerHandle
from velodrome._velodrome import __version__ as __version__
from velodrome._velodrome import all_tasks as all_tasks
from velodrome._velodrome import as_completed as as_completed
from velodrome._velodrome import create_task as create_task
from velodrome._velodrome import current_task as current_task
from velodrome._velodrome import ensure_future as ensure_future
from velodrome._velodrome import gather as gather
from velodrome._velodrome import iscoroutine as iscoroutine
from velodrome._velodrome import isfuture as isfuture
from velodrome._velodrome import run as run
from velodrome._velodrome import run_coroutine_threadsafe as run_coroutine_threadsafe
from velodrome._velodrome import shield as shield
from velodrome._velodrome import sleep as sleep
from velodrome._velodrome import timeout as timeout
from velodrome._velodrome import timeout_at as timeout_at
from velodrome._velodrome import to_thread as to_thread
from velodrome._velodrome import wait as wait
from velodrome._velodrome import wait_for as wait_for
from velodrome._velodrome import wrap_future as wrap_future

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

if sys.version_info >= (3, 12):
    from velodrome._velodrome import create_eager_task_factory as create_eager_task_factory
    from velodrome._velodrome import eager_task_factory as eager_task_factory

    __all__ += ["create_eager_task_factory", "eager_task_factory"]

SelectorEventLoop = Loop

if sys.version_info >= (3, 13):
    EventLoop = Loop

# What else asyncio has is asyncio's.
def __getattr__(name: str) -> Any: ...

if sys.version_info < (3, 16):
    from velodrome._policy import EventLoopPolicy as EventLoopPolicy

    __all__ += ["EventLoopPolicy"]

def build_info() -> dict[str, Any]: ...
