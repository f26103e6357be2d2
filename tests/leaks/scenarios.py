"""The list of scenarios, and what they are made of.

A scenario is a function of how many to make. The comment in it says how things refer to each other.
"""

import asyncio
import contextlib
import functools
import gc

import velodrome

SCENARIOS = {}


def scenario(function):
    SCENARIOS[function.__name__] = function
    return function


def scenario_in_loop(function):
    """A scenario that is a coroutine function of the loop and the number."""

    @functools.wraps(function)
    def on_a_loop(count):
        with closing_loop() as loop:
            loop.set_exception_handler(lambda loop, context: None)
            loop.run_until_complete(function(loop, count))

    SCENARIOS[function.__name__] = on_a_loop
    return on_a_loop


@contextlib.contextmanager
def closing_loop():
    loop = velodrome.new_event_loop()
    try:
        yield loop
    finally:
        loop.close()


def batches(count, size=100):
    for _ in range(count // size):
        yield range(size)
        gc.collect(0)


async def result():
    return object()


async def failing():
    raise ValueError


async def wait(future):
    return await future


async def reap(tasks):
    return await asyncio.gather(*tasks, return_exceptions=True)


class Cell:
    """Something to refer with."""

    content = None
