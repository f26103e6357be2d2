"""Uses of the module itself, of futures and their iterators, and of tasks."""

import asyncio
import contextlib
import gc
import io
import sys

import velodrome
from velodrome import _velodrome

from . import SAMPLED
from .uses import (
    abandon,
    done_future,
    fail,
    failed_future,
    in_thread,
    made,
    nothing,
    send,
    task_of,
    use,
    uses,
    with_task,
)

# -- the module

uses(
    lambda loop: SAMPLED[0](),
    lambda loop: velodrome.sleep(0),
    lambda loop: velodrome.create_task(nothing()),
    lambda loop: _velodrome._layout(),
    lambda loop: _velodrome._entries(),
    lambda loop: isinstance(1, velodrome.Future),
    lambda loop: issubclass(int, velodrome.Task),
)


uses(
    lambda loop: made(_velodrome.FutureIter),
    lambda loop: made(_velodrome.Operation),
    lambda loop: made(velodrome.Handle, id, (1,), loop),
    lambda loop: made(velodrome.TimerHandle, 1.0, id, (1,), loop),
    lambda loop: made(type(loop.call_soon_threadsafe(id, 1)), id, (1,), loop),
)

# -- futures

ATTRIBUTES = [
    "_state",
    "_asyncio_future_blocking",
    "_loop",
    "_callbacks",
    "_result",
    "_exception",
    "_log_traceback",
    "_source_traceback",
    "_cancel_message",
]
ASSIGNMENTS = [("_asyncio_future_blocking", False), ("_log_traceback", False), ("_cancel_message", "why")]

uses(
    lambda loop: done_future(loop).result(),
    lambda loop: failed_future(loop).exception(),
    lambda loop: loop.create_future().add_done_callback(print),
    lambda loop: loop.create_future().remove_done_callback(print),
    lambda loop: loop.create_future().cancelled(),
    lambda loop: loop.create_future().done(),
    lambda loop: loop.create_future().get_loop(),
    lambda loop: loop.create_future()._make_cancelled_error(),
    lambda loop: loop.create_future().__await__().close(),
    lambda loop: loop.create_future().__iter__().close(),
    lambda loop: velodrome.Future[int] and None,
    lambda loop: loop.create_future().set_result(1),
    lambda loop: failed_future(loop) and None,
    lambda loop: loop.create_future().cancel(),
    lambda loop: velodrome.Future(loop=loop).cancel(),
    lambda loop: repr(loop.create_future()),
    lambda loop: iter(loop.create_future()).close(),
    lambda loop: done_future(loop),
    lambda loop: next(loop.create_future()) and None,
    lambda loop: send(loop.create_future()),
)
for name in ATTRIBUTES:
    uses(lambda loop, name=name: getattr(loop.create_future(), name) and None)
for name, value in ASSIGNMENTS:
    uses(lambda loop, name=name, value=value: setattr(loop.create_future(), name, value))


@use
def an_exception_nobody_asks_for(loop):
    loop.create_future().set_exception(ValueError("nobody asks"))


@use
def garbage_of_every_kind(loop):
    future = loop.create_future()
    abandon(future, future.__await__())
    abandon(velodrome.sleep(0))
    other = velodrome.new_event_loop()
    other.close()
    abandon(other)
    del future, other
    gc.collect()


@use
async def garbage_of_the_loop(loop):
    async def itself():
        return asyncio.current_task()

    abandon(loop.create_task(itself()))
    abandon(loop.call_soon(id, 1))
    abandon(loop.call_later(0, id, 1))
    await velodrome.sleep(0.001)
    gc.collect()


@use
async def cancelled_while_it_sleeps(loop):
    async def sleep():
        await velodrome.sleep(60)

    task = loop.create_task(sleep())
    await asyncio.sleep(0)
    gc.collect()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


# -- iterators over futures

uses(
    lambda loop: loop.create_future().__await__().send(None) and None,
    lambda loop: loop.create_future().__await__().close(),
    lambda loop: iter(loop.create_future().__await__()) and None,
    lambda loop: next(loop.create_future().__await__()) and None,
    lambda loop: send(loop.create_future().__await__()),
)


@use
def throw_into_an_iterator(loop):
    with contextlib.suppress(ValueError):
        loop.create_future().__await__().throw(ValueError())


# -- tasks

for name in [*ATTRIBUTES, "_coro", "_fut_waiter", "_must_cancel", "_log_destroy_pending"]:
    with_task(lambda task, name=name: getattr(task, name))
for name, value in [*ASSIGNMENTS, ("_log_destroy_pending", True)]:
    with_task(lambda task, name=name, value=value: setattr(task, name, value))
with_task(lambda task: task.add_done_callback(print))
with_task(lambda task: task.remove_done_callback(print))
with_task(lambda task: task.cancelled())
with_task(lambda task: task.done())
with_task(lambda task: task.get_loop())
with_task(lambda task: task._make_cancelled_error())
with_task(lambda task: task.__await__())
with_task(lambda task: task.__iter__())
with_task(lambda task: iter(task))
with_task(lambda task: next(task))
with_task(send)
with_task(lambda task: task.cancelling())
with_task(lambda task: task.uncancel())
with_task(lambda task: task.get_name())
with_task(lambda task: task.set_name("name"))
with_task(lambda task: task.get_coro())
with_task(lambda task: task.get_context() if sys.version_info >= (3, 12) else None)
with_task(lambda task: task.get_stack())
with_task(lambda task: task.print_stack(file=io.StringIO()))
with_task(repr)
with_task(lambda task: gc.collect())
uses(lambda loop: velodrome.Task[int] and None)


@use
async def what_tasks_refuse(loop):
    for method in ("set_result", "set_exception"):
        with task_of(loop, nothing()) as task, contextlib.suppress(RuntimeError):
            getattr(task, method)(None)


@use
async def tasks_that_end(loop):
    task = loop.create_task(nothing())
    await task
    task.result()
    task.exception()
    task = velodrome.Task(nothing(), loop=loop)
    await task
    task = loop.create_task(fail())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task  # its exception was never retrieved


@use
async def a_task_that_awaits_somebody_elses_future(loop):
    future = asyncio.Future(loop=loop)

    async def wait():
        await future

    task = loop.create_task(wait())
    await asyncio.sleep(0)
    future.set_result(None)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task._log_destroy_pending = False


@use
def a_task_on_somebody_elses_loop(_loop):
    def work():
        loop = asyncio.SelectorEventLoop()
        errors = []
        loop.set_exception_handler(lambda loop, context: errors.append(context["exception"]))
        try:
            task = velodrome.Task(nothing(), loop=loop)
            loop.call_later(0.01, loop.stop)
            loop.run_forever()
            task._log_destroy_pending = False
        finally:
            loop.close()
        if errors:
            raise errors[0]

    in_thread(work)
