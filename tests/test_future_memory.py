"""What a future holds, it lets go: cycles are freed, results and callbacks live as long as they must."""

import gc
import sys
import weakref

import pytest
from differential import futures, worlds
from differential.compare import one_turn
from differential.futures import wait_for

either_loop = worlds.either_loop
future_class = futures.future_class


@pytest.mark.parametrize(
    "tie",
    [
        lambda future: future.set_result(future),
        lambda future: future.add_done_callback(lambda _: future),
        lambda future: [future.add_done_callback(lambda _: future) for _ in range(3)],
        lambda future: setattr(future, "itself", future),
        lambda future: future.cancel([future]),
        lambda future: setattr(future, "iterator", iter(future)),
    ],
)
def test_cycle_through_a_future_is_freed(either_loop, future_class, tie):
    future = future_class(loop=either_loop)
    tie(future)
    gone = weakref.ref(future)
    del future
    gc.collect()
    assert gone() is None


def test_outcome_lives_as_long_as_the_future(either_loop, future_class):
    class Thing:
        pass

    future = future_class(loop=either_loop)
    thing = Thing()
    gone = weakref.ref(thing)
    future.set_result(thing)
    del thing
    either_loop.run_until_complete(wait_for(future))
    assert gone() is future.result()
    del future
    assert gone() is None


def test_done_future_lets_go_of_its_callbacks(either_loop, future_class):
    class Callback:
        def __call__(self, future):
            pass

    future = future_class(loop=either_loop)
    callback = Callback()
    gone = weakref.ref(callback)
    future.add_done_callback(callback)
    del callback
    future.set_result(None)
    one_turn(either_loop)
    assert gone() is None


def test_result_that_a_stop_iteration_brought_is_not_kept(either_loop):
    """The StopIteration that brings results is reused: it must not hold on to the last one."""

    class Thing:
        pass

    async def main():
        gone = []
        for _ in range(3):
            future = either_loop.create_future()
            thing = Thing()
            gone.append(weakref.ref(thing))
            future.set_result(thing)
            del thing
            await future
            del future
        return [reference() for reference in gone]

    assert either_loop.run_until_complete(main()) == [None] * 3


CHAIN = """
import asyncio, gc, sys, velodrome
loop = velodrome.new_event_loop()
new_future = {"ours": loop.create_future, "asyncio's": lambda: asyncio.Future(loop=loop)}[sys.argv[1]]
last = None
for _ in range(int(sys.argv[2])):
    future = new_future()
    future.set_result(last)
    last = future
del future, last
gc.collect()
last = None
for _ in range(int(sys.argv[2])):
    future = new_future()
    future.add_done_callback(last)
    last = future.set_result
del future, last
gc.collect()
print("freed")
"""


@pytest.mark.skipif(sys.version_info < (3, 14), reason="freeing asyncio's own futures recurses there, too")
def test_long_chain_of_futures_is_freed(run_python):
    """As a linked list: freeing one frees the next, and the machine's stack has an end."""
    assert run_python(CHAIN, "ours", 100_000).stdout == "freed\n"
