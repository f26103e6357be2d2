import asyncio
import sys
from asyncio import _AwaitableLike, _CoroutineLike
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from socket import _GetAddrInfoResult
from typing import Any, Protocol, TypeAlias, TypeVar, type_check_only

from typing_extensions import TypeVarTuple, Unpack

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

class Loop(LoopCore, asyncio.AbstractEventLoop):
    slow_callback_duration: float
    def __init__(self) -> None: ...
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
    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> _GetAddrInfoResult: ...
    async def getnameinfo(
        self, sockaddr: tuple[str, int] | tuple[str, int, int, int], flags: int = 0
    ) -> tuple[str, str]: ...
    def get_exception_handler(self) -> _ExceptionHandler | None: ...
    def set_exception_handler(self, handler: _ExceptionHandler | None) -> None: ...
    def default_exception_handler(self, context: _Context) -> None: ...
    def call_exception_handler(self, context: _Context) -> None: ...
    def add_signal_handler(
        self, sig: int, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts
    ) -> None: ...
    def remove_signal_handler(self, sig: int) -> bool: ...

    # To come; until then they are AbstractEventLoop's, which raise NotImplementedError.
    create_connection: Any
    create_server: Any
    create_unix_connection: Any
    create_unix_server: Any
    create_datagram_endpoint: Any
    connect_accepted_socket: Any
    connect_read_pipe: Any
    connect_write_pipe: Any
    sendfile: Any
    start_tls: Any
    subprocess_exec: Any
    subprocess_shell: Any
    sock_accept: Any
    sock_connect: Any
    sock_recv: Any
    sock_recv_into: Any
    sock_recvfrom: Any
    sock_recvfrom_into: Any
    sock_sendall: Any
    sock_sendfile: Any
    sock_sendto: Any
