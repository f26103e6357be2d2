"""A coroutine for `ensure_future` to run where it is given something else that can be awaited."""

import sys

if sys.version_info >= (3, 12):

    async def _wrap_awaitable(awaitable):
        return await awaitable

    _wrap_awaitable.__qualname__ = "ensure_future.<locals>._wrap_awaitable"
else:
    from asyncio.tasks import _wrap_awaitable as _wrap_awaitable  # type: ignore[attr-defined]
