import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from velodrome._loop import Loop

_T = TypeVar("_T")

def new_event_loop() -> Loop: ...

# Final only in the eyes of typeshed.
class Runner(asyncio.Runner):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    def __init__(
        self,
        *,
        debug: bool | None = None,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    ) -> None: ...

if sys.version_info >= (3, 14):
    def run(
        main: Awaitable[_T],
        *,
        debug: bool | None = None,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    ) -> _T: ...

else:
    def run(
        main: Coroutine[Any, Any, _T],
        *,
        debug: bool | None = None,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    ) -> _T: ...
