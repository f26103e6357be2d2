"""Futures: ours, each for itself, and those that are waited for together or come from threads."""

import asyncio
import concurrent.futures
import contextlib
import functools
import sys

import velodrome

from .scenarios import batches, reap, result, scenario_in_loop, wait


@scenario_in_loop
async def futures_that_end_in_every_way(loop, count):
    for _ in range(count):
        loop.create_future()
        loop.create_future().set_result(object())
        loop.create_future().cancel("message")
        future = loop.create_future()
        future.set_exception(ValueError())
        future.exception()
        loop.create_future().set_exception(ValueError)  # never retrieved
        velodrome.Future(loop=loop).set_result(1)


@scenario_in_loop
async def futures_and_their_callbacks(loop, count):
    # The future has its callbacks, which have the future; the exception has a traceback to a frame with both.
    for batch in batches(count):
        for number in batch:
            future = loop.create_future()
            for _ in range(number % 4):
                future.add_done_callback(functools.partial(id, future))
            if number % 3 == 0:
                future.set_result(future)
            elif number % 3 == 1:
                try:
                    raise ValueError
                except ValueError as error:
                    future.set_exception(error)
                    future.exception()
        del future
        await asyncio.sleep(0)


@scenario_in_loop
async def futures_of_a_subclass_that_refer_to_themselves(loop, count):
    class Future(velodrome.Future):
        pass

    for batch in batches(count):
        for _ in batch:
            future = Future(loop=loop)
            future.itself = future
        del future


@scenario_in_loop
async def futures_iterated_over(loop, count):
    for _ in range(count):
        future = loop.create_future()
        iterator = future.__await__()
        iterator.send(None)
        future.add_done_callback(functools.partial(id, iterator))
        with contextlib.suppress(ValueError):
            future.__await__().throw(ValueError())
        future = loop.create_future()
        future.set_result(object())
        with contextlib.suppress(StopIteration):
            next(iter(future))


@scenario_in_loop
async def futures_initialised_again(loop, count):
    if sys.version_info >= (3, 15):
        return  # refused there
    future = loop.create_future()
    for _ in range(count):
        future.set_result(object())
        future.__init__(loop=loop)
        future.add_done_callback(id)


@scenario_in_loop
async def futures_waited_for_together(loop, count):
    # Ours and others', done and cancelled, waited for to the end and given up.
    for _ in range(count // 10):
        for make in (loop.create_future, functools.partial(asyncio.Future, loop=loop)):
            futures = [make() for _ in range(4)]
            waits = [
                loop.create_task(velodrome.wait(futures, timeout=3600)),
                loop.create_task(velodrome.wait(futures, return_when="FIRST_COMPLETED")),
                loop.create_task(velodrome.wait_for(futures[0], 3600)),
                loop.create_task(velodrome.wait_for(futures[3], 3600)),
            ]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            futures[0].set_result(object())
            futures[1].set_exception(ValueError())
            futures[2].cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            waits[0].cancel()
            waits[3].cancel()
            await reap(waits)
            await reap(futures)


@scenario_in_loop
async def futures_as_they_are_completed(loop, count):
    for _ in range(count // 10):
        for each in velodrome.as_completed([result(), result()]):
            await each
        # Left in the middle, in a cycle.
        futures = [loop.create_future() for _ in range(3)]
        iterating = velodrome.as_completed(futures)
        next(iterating).close()
        futures[0].set_result(iterating)
        futures[1].set_result(futures)
        del futures, iterating
        await asyncio.sleep(0)


@scenario_in_loop
async def futures_of_threads(loop, count):
    for _ in range(count // 10):
        theirs = concurrent.futures.Future()
        ours = velodrome.wrap_future(theirs, loop=loop)
        theirs.set_result(ours)
        await ours
        velodrome.wrap_future(concurrent.futures.Future(), loop=loop).cancel()
        theirs = concurrent.futures.Future()
        theirs.ours = velodrome.wrap_future(theirs, loop=loop)
        submitted = velodrome.run_coroutine_threadsafe(result(), loop)
        submitted.itself = submitted
        velodrome.run_coroutine_threadsafe(wait(loop.create_future()), loop).cancel()
        del theirs, ours, submitted
        await velodrome.sleep(0)
