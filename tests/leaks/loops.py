"""Loops, however they end and whatever is pending on them then."""

import asyncio
import functools
import gc
import signal
import socket

import velodrome

from .scenarios import Cell, batches, closing_loop, reap, result, scenario, wait


def pending(loop):
    """Have something of everything pending in a loop."""
    loop.set_exception_handler(lambda loop, context: None)
    cell = Cell()
    cell.content = (loop, cell)
    loop.call_soon(id, cell)
    loop.call_later(3600, id, cell)
    loop.call_soon_threadsafe(id, cell)
    loop.create_task(wait(loop.create_future()))
    loop.create_task(velodrome.sleep(3600, cell))
    future = loop.create_future()
    future.add_done_callback(functools.partial(id, cell))
    loop.attribute = (loop, future)
    loop.run_until_complete(asyncio.sleep(0))
    loop.call_soon(id, cell)
    loop.create_task(result())


def per_loop(count):
    return range(count // 50)


@scenario
def loops(count):
    for _ in per_loop(count):
        with closing_loop() as loop:
            loop.run_until_complete(asyncio.sleep(0))


@scenario
def runs(count):
    for _ in per_loop(count):
        velodrome.run(result())


@scenario
def loops_closed_with_things_pending(count):
    for _ in per_loop(count):
        with closing_loop() as loop:
            pending(loop)


@scenario
def loops_dropped_without_being_closed(count):
    for _ in per_loop(count):
        velodrome.new_event_loop()
        pending(velodrome.new_event_loop())
        gc.collect()


@scenario
def loops_with_descriptors_and_signals(count):
    for _ in per_loop(count):
        with closing_loop() as loop:
            one, two = socket.socketpair()
            with one, two:
                loop.add_reader(one, id, loop)
                loop.add_writer(two, id, loop)
                loop.add_signal_handler(signal.SIGUSR1, id, loop)
                loop.run_until_complete(asyncio.sleep(0))
                loop.close()


@scenario
def loops_with_executors(count):
    for _ in range(count // 2000):
        with closing_loop() as loop:
            loop.run_until_complete(loop.run_in_executor(None, id, loop))
            loop.run_until_complete(loop.shutdown_default_executor())


@scenario
def loops_of_a_subclass(count):
    for _ in per_loop(count):

        class Loop(velodrome.Loop):
            def call_soon(self, *args, **kwargs):
                return super().call_soon(*args, **kwargs)

        loop = Loop()
        loop.itself = loop
        loop.set_task_factory(lambda loop, coro, **kwargs: velodrome.Task(coro, loop=loop, **kwargs))
        loop.run_until_complete(result())
        loop.close()
        Loop.last = loop


@scenario
def asynchronous_generators(count):
    async def generate():
        yield 1
        yield 2

    async def main(count):
        for _ in range(count):
            async for _ in generate():
                break

    for _ in range(10):
        velodrome.run(main(count // 100))


@scenario
def loops_in_debug_mode(count):
    async def main(loop, count):
        for batch in batches(count):
            await reap([loop.create_task(result()) for _ in batch])
            for _ in batch:
                cell = Cell()
                cell.content = loop.call_soon(id, cell)
                loop.call_later(3600, id, cell).cancel()
                loop.call_soon(id, cell).cancel()
                loop.create_future().add_done_callback(id)
            await velodrome.sleep(0)

    with closing_loop() as loop:
        loop.set_debug(True)
        loop.run_until_complete(main(loop, count // 20))
