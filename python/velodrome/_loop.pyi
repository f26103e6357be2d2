import asyncio
import sys
from asyncio import _AwaitableLike, _CoroutineLike
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from selectors import BaseSelector
from typing import Any, Protocol, Self, TypeAlias, TypeVar, type_check_only

from typing_extensions import TypeVarTuple, Unpack

from velodrome._network import Network
from velodrome._processes import Processes
from velodrome._velodrome import LoopCore

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")
_Context: TypeAlias = dict[str, Any]
_ExceptionHandler: TypeAlias = Callable[[asyncio.AbstractEventLoop, _Context], object]

@type_check_only
class _TaskFactory(Protocol):
    def __call__(
        self, loop: asyncio.AbstractEventLoop, factory: _CoroutineLike[_T], /
    ) -> asyncio.Future[_T]: ...

class Loop(LoopCore, Network, Processes, asyncio.AbstractEventLoop):
    slow_callback_duration: float
    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def __init__(self, selector: BaseSelector | None = None) -> None: ...
    def __del__(self) -> None: ...
    def run_forever(self) -> None: ...
    def run_until_complete(self, future: _AwaitableLike[_T]) -> _T: ...
    def close(self) -> None: ...
    def set_debug(self, enabled: bool) -> None: ...
    def set_task_factory(self, factory: _TaskFactory | None) -> None: ...
    def get_task_factory(self) -> _TaskFactory | None: ...
    async def shutdown_asyncgens(self) -> None: ...
    if sys.version_info >= (3, 12):
        async def shutdown_default_executor(self, timeout: float | None = None) -> None: ...
    else:
        async def shutdown_default_executor(self) -> None: ...

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[_Ts]], _T], *args: *_Ts
    ) -> asyncio.Future[_T]: ...
    def set_default_executor(self, executor: ThreadPoolExecutor) -> None: ...  # type: ignore[override]
    def get_exception_handler(self) -> _ExceptionHandler | None: ...
    def set_exception_handler(self, handler: _ExceptionHandler | None) -> None: ...
    def default_exception_handler(self, context: _Context) -> None: ...
    def call_exception_handler(self, context: _Context) -> None: ...
    def add_signal_handler(
        self, sig: int, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts
    ) -> None: ...
    def remove_signal_handler(self, sig: int) -> bool: ...
    # asyncio's own code, whose keywords differ from version to version.
    create_connection = asyncio.AbstractEventLoop.create_connection
    create_server = asyncio.AbstractEventLoop.create_server
    create_unix_connection = asyncio.AbstractEventLoop.create_unix_connection
    create_unix_server = asyncio.AbstractEventLoop.create_unix_server
    create_datagram_endpoint = asyncio.AbstractEventLoop.create_datagram_endpoint
    connect_accepted_socket = asyncio.AbstractEventLoop.connect_accepted_socket
    sendfile = asyncio.AbstractEventLoop.sendfile
    start_tls = asyncio.AbstractEventLoop.start_tls
    sock_sendfile = asyncio.AbstractEventLoop.sock_sendfile
    connect_read_pipe = asyncio.AbstractEventLoop.connect_read_pipe
    connect_write_pipe = asyncio.AbstractEventLoop.connect_write_pipe
    subprocess_exec = asyncio.AbstractEventLoop.subprocess_exec
    subprocess_shell = asyncio.AbstractEventLoop.subprocess_shell

def new_event_loop() -> Loop: ...
