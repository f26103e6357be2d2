from collections.abc import Awaitable
from typing import TypeVar

_T = TypeVar("_T")

async def _wrap_awaitable(awaitable: Awaitable[_T]) -> _T: ...
