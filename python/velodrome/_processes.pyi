from asyncio import AbstractEventLoop, Future
from asyncio.unix_events import _UnixSubprocessTransport  # type: ignore[attr-defined]
from typing import Any

# asyncio's own code, of which Loop has the types.
class Processes: ...

class SubprocessTransport(_UnixSubprocessTransport):  # type: ignore[misc]
    exited: Future[int]
    def __init__(self, loop: AbstractEventLoop, *args: Any, **kwargs: Any) -> None: ...
