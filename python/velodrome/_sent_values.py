"""Where a value goes that is sent into a coroutine while it awaits one of our futures.

`await` takes such a future itself for its iterator, and from 3.12 on calls its `send` if whoever drives the
coroutine sends anything but None, as trio-asyncio does (asyncio's tasks never do). In asyncio that method is
one of a future's iterator, not of the future: so `await` and `yield from` find it here, and nobody else.
"""

import sys

from velodrome._velodrome import Future, Task


def _opcode() -> int:
    from opcode import opmap  # which few programs need

    return opmap["SEND"]


class Send:
    """The method `send` of a future, for the instruction by which a coroutine passes on what it is sent."""

    def __get__(self, future: "Future[object] | None", owner: type) -> object:
        frame = sys._getframe(1)
        if future is None:
            raise AttributeError(
                f"type object {owner.__name__!r} has no attribute 'send'", obj=owner, name="send"
            )
        if frame.f_code.co_code[frame.f_lasti] != _opcode():
            message = f"{owner.__name__!r} object has no attribute 'send'"
            raise AttributeError(message, obj=future, name="send")
        return future.__await__().send


def define() -> None:
    """Give our classes the method."""
    for owner in (Future, Task):
        owner.send = Send()  # type: ignore[union-attr]
