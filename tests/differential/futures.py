"""The classes of futures to compare, and what tests do with one."""

import asyncio

import pytest
import velodrome


@pytest.fixture(params=["asyncio", "velodrome"])
def future_class(request):
    return asyncio.Future if request.param == "asyncio" else velodrome.Future


class Extended(velodrome.Future):
    """A Python subclass."""


# Who it is shows in messages.
Extended.__name__ = "Future"


def future_of(loop, make=velodrome.Future):
    """A future of the kind that belongs to the loop."""
    return asyncio.Future(loop=loop) if isinstance(loop, asyncio.SelectorEventLoop) else make(loop=loop)


ATTRIBUTES = [
    "_state",
    "_result",
    "_exception",
    "_log_traceback",
    "_asyncio_future_blocking",
    "_cancel_message",
    "_source_traceback",
]


async def wait_for(future):
    return await future
