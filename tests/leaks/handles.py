"""Handles, timers, sleeps and readers: what the loop itself keeps."""

import asyncio
import contextlib
import socket
import threading

import velodrome

from .scenarios import Cell, batches, closing_loop, reap, scenario, scenario_in_loop

# -- handles


@scenario_in_loop
async def handles(loop, count):
    for batch in batches(count):
        for _ in batch:
            loop.call_soon(id, object())
            loop.call_soon(id, object()).cancel()
        await asyncio.sleep(0)


@scenario_in_loop
async def handles_that_refer_to_themselves(loop, count):
    # The handle has its arguments, which have the handle.
    for batch in batches(count):
        for _ in batch:
            cell = Cell()
            cell.content = loop.call_soon(id, cell)
        del cell
        await asyncio.sleep(0)


@scenario_in_loop
async def handles_that_raise(loop, count):
    def raising(cell):
        raise ValueError(cell)

    for batch in batches(count):
        for _ in batch:
            cell = Cell()
            cell.content = loop.call_soon(raising, cell)
        del cell
        await asyncio.sleep(0)


@scenario_in_loop
async def handles_from_other_threads(loop, count):
    def work(number):
        for _ in range(number):
            loop.call_soon_threadsafe(id, object())
            loop.call_soon_threadsafe(id, object()).cancel()
        loop.call_soon_threadsafe(done.set_result, None)

    for _ in range(10):
        done = loop.create_future()
        thread = threading.Thread(target=work, args=(count // 10,))
        thread.start()
        await done
        thread.join()


@scenario
def handles_made_by_hand(count):
    with closing_loop() as loop:
        for _ in range(count):
            handle = velodrome.Handle(id, (1,), loop)
            handle._args = (handle,)
            timer = velodrome.TimerHandle(1.0, id, (1,), loop)
            timer._args = (timer,)
    del handle, timer


# -- timers and sleeps


@scenario_in_loop
async def timers(loop, count):
    for batch in batches(count):
        for _ in batch:
            loop.call_later(0, id, object())
            loop.call_later(3600, id, object()).cancel()
        await velodrome.sleep(0.0001)


@scenario_in_loop
async def timers_that_refer_to_themselves(loop, count):
    for batch in batches(count):
        for _ in batch:
            cell = Cell()
            cell.content = loop.call_later(0, id, cell)
            cell = Cell()
            cell.content = loop.call_later(3600, id, cell)
            cell.content.cancel()
        del cell
        await velodrome.sleep(0.0001)


@scenario_in_loop
async def sleeps(loop, count):
    for batch in batches(count):
        for _ in batch:
            await velodrome.sleep(0, object())
        await reap([velodrome.sleep(0.0001, object()) for _ in batch])


@scenario_in_loop
async def sleeps_that_end_before_their_time(loop, count):
    for _ in range(count):
        velodrome.sleep(0).close()
        sleep = velodrome.sleep(3600)
        sleep.send(None)
        sleep.close()
        sleep = velodrome.sleep(3600)
        sleep.send(None)
        with contextlib.suppress(ValueError):
            sleep.throw(ValueError())
        velodrome.sleep(3600).send(None)  # dropped while it waits
        velodrome.sleep(1)  # never awaited
        with contextlib.suppress(TypeError, ValueError):
            velodrome.sleep("long").send(None)


@scenario_in_loop
async def sleeps_that_refer_to_themselves(loop, count):
    for _ in range(count):
        cell = Cell()
        cell.content = velodrome.sleep(3600, cell)
        cell.content.send(None)


# -- readers


@scenario_in_loop
async def readers(loop, count):
    one, two = socket.socketpair()
    with one, two:
        two.send(b"read")
        for _ in range(count // 10):
            cell = Cell()
            cell.content = cell
            loop.add_reader(one, id, cell)
            loop.add_writer(one, id, object())
            loop.add_reader(one, id, object())  # in its place
            await asyncio.sleep(0)
            loop.remove_reader(one)
            loop.remove_writer(one)
