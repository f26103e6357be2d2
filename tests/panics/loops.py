"""Uses of handles, loops and sleeps."""

import asyncio
import contextlib
import gc
import socket
import sys

import velodrome
from velodrome import _velodrome

from .uses import abandon, in_thread, made, nothing, send, use, uses, with_loop

# -- handles

uses(
    lambda loop: loop.call_soon(id, 1).cancel(),
    lambda loop: loop.call_soon(id, 1).cancelled(),
    lambda loop: loop.call_later(60, id, 1).cancel(),
    lambda loop: loop.call_later(0, id, 1).cancelled(),
)


@use
async def a_handle_from_another_thread(loop):
    handle = loop.call_soon_threadsafe(id, 1)
    handle.cancelled()
    gc.collect()
    handle._run()
    handle.cancel()
    abandon(loop.call_soon_threadsafe(id, 1))
    del handle
    await asyncio.sleep(0)
    gc.collect()


# -- loops

for name in [
    "_debug",
    "_closed",
    "_stopping",
    "_thread_id",
    "_task_factory",
    "_clock_resolution",
    "_ready",
    "_scheduled",
]:
    with_loop(lambda loop, name=name: getattr(loop, name))
for name, value in [("_debug", False), ("_stopping", False), ("_thread_id", None), ("_task_factory", None)]:
    with_loop(lambda loop, name=name, value=value: setattr(loop, name, value))
with_loop(lambda loop: setattr(loop, "attribute", 1))
with_loop(lambda loop: loop.time())
with_loop(lambda loop: loop.get_debug())
with_loop(lambda loop: loop.is_closed())
with_loop(lambda loop: loop.is_running())
with_loop(lambda loop: loop.stop())
with_loop(lambda loop: loop.create_future())
with_loop(lambda loop: loop._check_closed())
with_loop(lambda loop: loop._check_thread())
with_loop(lambda loop: loop._wake_fd())
with_loop(lambda loop: loop._ask_always(False))
with_loop(lambda loop: loop._write_to_self())
with_loop(lambda loop: loop._forget_kernel())
with_loop(lambda loop: loop._own_kernel())
with_loop(lambda loop: loop._add_callback(asyncio.Handle(id, (1,), loop)))
with_loop(lambda loop: loop._add_callback_signalsafe(asyncio.Handle(id, (1,), loop)))
with_loop(lambda loop: loop._timer_handle_cancelled(asyncio.TimerHandle(1, id, (1,), loop)))
with_loop(lambda loop: loop.call_at(loop.time(), id, 1))
with_loop(lambda loop: loop.call_soon_threadsafe(id, 1))
with_loop(lambda loop: (loop.call_soon(id, 1), in_thread(loop._run_once)))
with_loop(lambda loop: in_thread(lambda: loop.run_until_complete(nothing())))


@use
async def readers_and_writers(loop):
    one, two = socket.socketpair()
    with one, two:
        try:
            loop.add_reader(one, id, 1)
            loop.add_writer(one, id, 1)
            await asyncio.sleep(0)
            loop._add_reader(two, id, 1)
            loop._add_writer(two, id, 1)
            loop._remove_reader(two)
            loop._remove_writer(two)
            loop.remove_reader(one)
            loop.remove_writer(one)
        finally:
            for end in one, two:
                loop.remove_reader(end)
                loop.remove_writer(end)


# -- sleeps

uses(
    lambda loop: velodrome.sleep(0).send(None),
    lambda loop: velodrome.sleep(0).close(),
    lambda loop: iter(velodrome.sleep(0)).close(),
    lambda loop: velodrome.sleep(0).__await__().close(),
    lambda loop: next(velodrome.sleep(0)),
    lambda loop: send(velodrome.sleep(0)),
    lambda loop: repr(velodrome.sleep(0)),
)
SHOWN = ["__name__", "__qualname__", "cr_await", "cr_code", "cr_frame", "cr_origin", "cr_running"]
for name in [*SHOWN, "cr_suspended", *(["cr_state"] if sys.version_info >= (3, 15) else [])]:
    uses(lambda loop, name=name: getattr(velodrome.sleep(0), name) and None)
FRAME = [name for name in dir(_velodrome.OperationFrame) if name.startswith("f_")]
for name in [*SHOWN, *FRAME]:
    uses(lambda loop, name=name: getattr(velodrome.sleep(0).cr_frame, name) and None)
uses(
    lambda loop: made(_velodrome.OperationFrame),
    lambda loop: repr(velodrome.sleep(0).cr_frame),
)


@use
def frame_in_a_cycle(loop):
    result = []
    sleeping = velodrome.sleep(0, result)
    result.append(sleeping.cr_frame)
    later = [sleeping.cr_frame]  # younger, and so cleared after what it holds
    later.append(later)
    sleeping.send(None)
    del sleeping, result, later
    gc.collect()


@use
def throw_into_a_sleep(loop):
    with contextlib.suppress(ValueError):
        velodrome.sleep(0).throw(ValueError())


uses(
    lambda loop: made(_velodrome.OperationIter),
    lambda loop: velodrome.sleep(0).__await__().send(None),
    lambda loop: iter(velodrome.sleep(0).__await__()).close(),
    lambda loop: next(velodrome.sleep(0).__await__()),
    lambda loop: send(velodrome.sleep(0).__await__()),
)


@use
def throw_into_the_iterator_of_a_sleep(loop):
    with contextlib.suppress(ValueError):
        velodrome.sleep(0).__await__().throw(ValueError())


@use
def abandon_the_iterator_of_a_sleep(loop):
    abandon(velodrome.sleep(0).__await__())
    gc.collect()
