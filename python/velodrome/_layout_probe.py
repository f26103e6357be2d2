"""Samples of asyncio's own tasks and futures, and of contexts, for the native module to look at.

Outside readers (debuggers, profilers) find tasks in asyncio's C structures, so velodrome's tasks
fill those in too. Their layout is private; the native module recognises only what it finds here, at
the very place where it is, and leaves the rest alone.
"""

import _asyncio
import contextvars
import sys


class _Loop:
    """As much of a loop as making a task takes."""

    def get_debug(self):
        return False

    def call_soon(self, *args, context=None):
        pass

    def call_exception_handler(self, context):
        pass


async def _nothing():
    pass


def show(look):
    """Call look(task, loop, coro, name, one, two, future, context, change, current).

    `one` and `two` are futures that so many await; `change` sets a variable in the context.
    """
    loop = _Loop()
    coro = _nothing()
    name = "velodrome layout probe"
    context = contextvars.copy_context()
    task = _asyncio.Task(coro, loop=loop, name=name, context=context)
    task._log_destroy_pending = False
    one = two = None
    if hasattr(_asyncio, "future_add_to_awaited_by"):
        one = _asyncio.Future(loop=loop)
        two = _asyncio.Future(loop=loop)
        _asyncio.future_add_to_awaited_by(one, task)
        _asyncio.future_add_to_awaited_by(two, task)
        _asyncio.future_add_to_awaited_by(two, one)
    variable = contextvars.ContextVar("velodrome layout probe")
    future = _asyncio.Future(loop=loop)
    samples = task, loop, coro, name, one, two, future, context, lambda: context.run(variable.set, None)
    try:
        if sys.version_info >= (3, 14):
            _show_current(look, samples)
        else:
            look(*samples, False)
    finally:
        if one is not None:
            _asyncio.future_discard_from_awaited_by(one, task)
            _asyncio.future_discard_from_awaited_by(two, task)
            _asyncio.future_discard_from_awaited_by(two, one)
        _asyncio._unregister_task(task)
        coro.close()


def _show_current(look, samples):
    """Show the samples while their task is this thread's current one; whatever runs here is put back."""
    task, loop, *_ = samples
    outer_loop = _asyncio._get_running_loop()
    _asyncio._set_running_loop(None)
    _asyncio._set_running_loop(loop)
    try:
        outer_task = _asyncio._swap_current_task(loop, task)
        try:
            look(*samples, True)
        finally:
            _asyncio._swap_current_task(loop, outer_task)
    finally:
        _asyncio._set_running_loop(outer_loop)
