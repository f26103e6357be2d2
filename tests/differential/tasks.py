"""The classes of tasks to compare, and coroutines to make tasks of."""

import asyncio

import pytest
import velodrome


class Extended(velodrome.Task):
    """A Python subclass."""


# Who it is shows in messages.
Extended.__name__ = Extended.__qualname__ = "Task"


@pytest.fixture(params=["asyncio", "velodrome", "subclass"])
def task_class(request):
    return {"asyncio": asyncio.Task, "velodrome": velodrome.Task, "subclass": Extended}[request.param]


def task_of(loop, coro, **options):
    """A task of the kind that belongs to the loop."""
    class_ = asyncio.Task if isinstance(loop, asyncio.SelectorEventLoop) else velodrome.Task
    return class_(coro, loop=loop, **options)


async def nothing():
    return "nothing"


async def wait(awaitable):
    return await awaitable


@pytest.fixture
def run(loop):
    return loop.run_until_complete


ATTRIBUTES = [
    "_state",
    "_result",
    "_exception",
    "_must_cancel",
    "_log_destroy_pending",
    "_log_traceback",
    "_cancel_message",
    "_asyncio_future_blocking",
]
