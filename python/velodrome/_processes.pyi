from asyncio import AbstractEventLoop, Future
from asyncio.unix_events import _UnixSubprocessTransport  # type: ignore[attr-defined]
from typing import Any

class Processes:
    # As asyncio's own, whose keywords differ from version to version.
    connect_read_pipe: Any
    connect_write_pipe: Any
    subprocess_exec: Any
    subprocess_shell: Any

class SubprocessTransport(_UnixSubprocessTransport):  # type: ignore[misc]
    exited: Future[int]
    def __init__(self, loop: AbstractEventLoop, *args: Any, **kwargs: Any) -> None: ...
