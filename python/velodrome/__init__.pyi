# To type checkers, functions are asyncio's, with all their overloads, and so are the classes that say yes to
# asyncio's instances (`isinstance(task, velodrome.Future)` holds for any task). What has types of its own is
# declared in the stubs of our modules; stubtest compares those with what is there.
import sys
from asyncio import ALL_COMPLETED as ALL_COMPLETED
from asyncio import FIRST_COMPLETED as FIRST_COMPLETED
from asyncio import FIRST_EXCEPTION as FIRST_EXCEPTION
from asyncio import AbstractEventLoop as AbstractEventLoop
from asyncio import AbstractEventLoopPolicy as AbstractEventLoopPolicy
from asyncio import AbstractServer as AbstractServer
from asyncio import BaseEventLoop as BaseEventLoop
from asyncio import BaseProtocol as BaseProtocol
from asyncio import BaseTransport as BaseTransport
from asyncio import BrokenBarrierError as BrokenBarrierError
from asyncio import BufferedProtocol as BufferedProtocol
from asyncio import CancelledError as CancelledError
from asyncio import DatagramProtocol as DatagramProtocol
from asyncio import DatagramTransport as DatagramTransport
from asyncio import DefaultEventLoopPolicy as DefaultEventLoopPolicy
from asyncio import Future as Future
from asyncio import Handle as Handle
from asyncio import IncompleteReadError as IncompleteReadError
from asyncio import InvalidStateError as InvalidStateError
from asyncio import LimitOverrunError as LimitOverrunError
from asyncio import Protocol as Protocol
from asyncio import QueueEmpty as QueueEmpty
from asyncio import QueueFull as QueueFull
from asyncio import ReadTransport as ReadTransport
from asyncio import SendfileNotAvailableError as SendfileNotAvailableError
from asyncio import Server as Server
from asyncio import StreamReader as StreamReader
from asyncio import StreamReaderProtocol as StreamReaderProtocol
from asyncio import StreamWriter as StreamWriter
from asyncio import SubprocessProtocol as SubprocessProtocol
from asyncio import SubprocessTransport as SubprocessTransport
from asyncio import Task as Task
from asyncio import TimeoutError as TimeoutError
from asyncio import TimerHandle as TimerHandle
from asyncio import Transport as Transport
from asyncio import WriteTransport as WriteTransport
from asyncio import _enter_task as _enter_task
from asyncio import _get_running_loop as _get_running_loop
from asyncio import _leave_task as _leave_task
from asyncio import _register_task as _register_task
from asyncio import _set_running_loop as _set_running_loop
from asyncio import _unregister_task as _unregister_task
from asyncio import all_tasks as all_tasks
from asyncio import as_completed as as_completed
from asyncio import base_events as base_events
from asyncio import base_futures as base_futures
from asyncio import base_subprocess as base_subprocess
from asyncio import base_tasks as base_tasks
from asyncio import constants as constants
from asyncio import coroutines as coroutines
from asyncio import create_subprocess_exec as create_subprocess_exec
from asyncio import create_subprocess_shell as create_subprocess_shell
from asyncio import create_task as create_task
from asyncio import current_task as current_task
from asyncio import ensure_future as ensure_future
from asyncio import events as events
from asyncio import exceptions as exceptions
from asyncio import format_helpers as format_helpers
from asyncio import futures as futures
from asyncio import gather as gather
from asyncio import get_event_loop as get_event_loop
from asyncio import get_event_loop_policy as get_event_loop_policy
from asyncio import get_running_loop as get_running_loop
from asyncio import iscoroutine as iscoroutine
from asyncio import iscoroutinefunction as iscoroutinefunction
from asyncio import isfuture as isfuture
from asyncio import locks as locks
from asyncio import log as log
from asyncio import mixins as mixins
from asyncio import open_connection as open_connection
from asyncio import open_unix_connection as open_unix_connection
from asyncio import protocols as protocols
from asyncio import queues as queues
from asyncio import run_coroutine_threadsafe as run_coroutine_threadsafe
from asyncio import runners as runners
from asyncio import selector_events as selector_events
from asyncio import set_event_loop as set_event_loop
from asyncio import set_event_loop_policy as set_event_loop_policy
from asyncio import shield as shield
from asyncio import sleep as sleep
from asyncio import sslproto as sslproto
from asyncio import staggered as staggered
from asyncio import start_server as start_server
from asyncio import start_unix_server as start_unix_server
from asyncio import streams as streams
from asyncio import subprocess as subprocess
from asyncio import taskgroups as taskgroups
from asyncio import tasks as tasks
from asyncio import threads as threads
from asyncio import timeouts as timeouts
from asyncio import to_thread as to_thread
from asyncio import transports as transports
from asyncio import trsock as trsock
from asyncio import unix_events as unix_events
from asyncio import wait as wait
from asyncio import wait_for as wait_for
from asyncio import wrap_future as wrap_future
from typing import Any

from velodrome._install import install as install
from velodrome._install import uninstall as uninstall
from velodrome._loop import Loop as Loop
from velodrome._loop import new_event_loop as new_event_loop
from velodrome._velodrome import Barrier as Barrier
from velodrome._velodrome import BoundedSemaphore as BoundedSemaphore
from velodrome._velodrome import Condition as Condition
from velodrome._velodrome import Event as Event
from velodrome._velodrome import LifoQueue as LifoQueue
from velodrome._velodrome import Lock as Lock
from velodrome._velodrome import PriorityQueue as PriorityQueue
from velodrome._velodrome import Queue as Queue
from velodrome._velodrome import Runner as Runner
from velodrome._velodrome import Semaphore as Semaphore
from velodrome._velodrome import TaskGroup as TaskGroup
from velodrome._velodrome import Timeout as Timeout
from velodrome._velodrome import __version__ as __version__
from velodrome._velodrome import run as run
from velodrome._velodrome import timeout as timeout
from velodrome._velodrome import timeout_at as timeout_at

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
    from asyncio import create_eager_task_factory as create_eager_task_factory
    from asyncio import eager_task_factory as eager_task_factory

    __all__ += ["create_eager_task_factory", "eager_task_factory"]

SelectorEventLoop = Loop

if sys.version_info >= (3, 13):
    from asyncio import QueueShutDown as QueueShutDown

    EventLoop = Loop

if sys.version_info >= (3, 14):
    from asyncio import FrameCallGraphEntry as FrameCallGraphEntry
    from asyncio import FutureCallGraph as FutureCallGraph
    from asyncio import capture_call_graph as capture_call_graph
    from asyncio import format_call_graph as format_call_graph
    from asyncio import future_add_to_awaited_by as future_add_to_awaited_by
    from asyncio import future_discard_from_awaited_by as future_discard_from_awaited_by
    from asyncio import graph as graph
    from asyncio import print_call_graph as print_call_graph

if sys.version_info < (3, 14):
    from asyncio import AbstractChildWatcher as AbstractChildWatcher
    from asyncio import FastChildWatcher as FastChildWatcher
    from asyncio import MultiLoopChildWatcher as MultiLoopChildWatcher
    from asyncio import PidfdChildWatcher as PidfdChildWatcher
    from asyncio import SafeChildWatcher as SafeChildWatcher
    from asyncio import ThreadedChildWatcher as ThreadedChildWatcher
    from asyncio import get_child_watcher as get_child_watcher
    from asyncio import set_child_watcher as set_child_watcher

if sys.version_info < (3, 16):
    from velodrome._policy import EventLoopPolicy as EventLoopPolicy

    __all__ += ["EventLoopPolicy"]

def build_info() -> dict[str, Any]: ...
