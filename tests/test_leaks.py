"""What is made goes again: objects, memory, descriptors, whatever way they end and whatever refers to them.

Each scenario makes and ends many things of a kind. It runs several times in a process of its own; what every
run leaves behind is a leak. Counted are the blocks of Python's memory, the C heap, where the engine has its
queues, the resident set, descriptors, and, where the interpreter is a debug build, all references.
"""

import asyncio
import concurrent.futures
import contextlib
import ctypes
import functools
import gc
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
import weakref

import pytest
import velodrome
from tls.sides import client_context, connected, server_context
from velodrome._tls import make_protocol

eager = sys.version_info >= (3, 12)

# ---------------------------------------------------------------------------------------------------------
# Scenarios: functions of how many to make. The comment says how things refer to each other.

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


# -- tasks


@scenario_in_loop
async def tasks_that_return(loop, count):
    for batch in batches(count):
        await reap([loop.create_task(result()) for _ in batch])


@scenario_in_loop
async def tasks_that_nobody_awaits(loop, count):
    for batch in batches(count):
        for _ in batch:
            velodrome.create_task(result(), name="name")
        await velodrome.sleep(0)


@scenario_in_loop
async def tasks_that_raise(loop, count):
    # The traceback refers to the frame, and the frame to the exception.
    async def raising():
        try:
            raise ValueError
        except ValueError as error:
            kept = error
            raise KeyError from kept

    for batch in batches(count):
        await reap([loop.create_task(raising()) for _ in batch])


@scenario_in_loop
async def tasks_whose_exception_is_never_retrieved(loop, count):
    for batch in batches(count):
        for _ in batch:
            loop.create_task(failing())
        await asyncio.sleep(0)
        await asyncio.sleep(0)


@scenario_in_loop
async def tasks_that_refer_to_themselves(loop, count):
    # The task has the coroutine, whose frame has the task; and its own result is the task.
    async def itself(cell):
        await asyncio.sleep(0)
        return cell

    for batch in batches(count):
        tasks = []
        for _ in batch:
            cell = Cell()
            cell.content = loop.create_task(itself(cell))
            tasks.append(cell.content)
        await reap(tasks)
        tasks.clear()


@scenario_in_loop
async def tasks_of_a_subclass_that_refer_to_themselves(loop, count):
    class Task(velodrome.Task):
        pass

    for batch in batches(count):
        tasks = [Task(result(), loop=loop) for _ in batch]
        for task in tasks:
            task.itself = task
        await reap(tasks)
        del task, tasks


@scenario_in_loop
async def tasks_cancelled_before_they_begin(loop, count):
    for batch in batches(count):
        tasks = [loop.create_task(result()) for _ in batch]
        for task in tasks:
            task.cancel("message")
        await reap(tasks)


@scenario_in_loop
async def tasks_cancelled_while_they_wait(loop, count):
    for batch in batches(count):
        tasks = [loop.create_task(wait(loop.create_future())) for _ in batch]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await reap(tasks)


@scenario_in_loop
async def tasks_cancelled_while_they_sleep(loop, count):
    async def sleep():
        await velodrome.sleep(3600)

    for batch in batches(count):
        tasks = [loop.create_task(sleep()) for _ in batch]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await reap(tasks)


@scenario_in_loop
async def tasks_that_wait_for_each_other(loop, count):
    async def last(tasks):
        await asyncio.sleep(0)
        return tasks

    for _ in range(count // 10):
        tasks = []
        tasks.append(loop.create_task(last(tasks)))
        for _ in range(9):
            tasks.append(loop.create_task(wait(tasks[-1])))
        await tasks[-1]
        del tasks


@scenario_in_loop
async def tasks_that_several_wait_for(loop, count):
    for _ in range(count // 10):
        future = loop.create_future()
        tasks = [loop.create_task(wait(future)) for _ in range(9)]
        others = [loop.create_task(wait(asyncio.shield(future))) for _ in range(9)]
        await asyncio.sleep(0)
        for task in others:
            task.cancel()
        await asyncio.sleep(0)
        future.set_result(None)
        await reap(tasks)


@scenario_in_loop
async def tasks_destroyed_while_pending(loop, count):
    # The future has the task as its waiter, and the task what it waits for.
    for batch in batches(count):
        for _ in batch:
            loop.create_task(wait(loop.create_future()))
        await asyncio.sleep(0)
        gc.collect(0)
    gc.collect()


@scenario_in_loop
async def tasks_that_wait_for_somebody_elses_futures(loop, count):
    for batch in batches(count):
        futures = [asyncio.Future(loop=loop) for _ in batch]
        tasks = [loop.create_task(wait(future)) for future in futures]
        await asyncio.sleep(0)
        for future in futures[::2]:
            future.set_result(None)
        for task in tasks[1::2]:
            task.cancel()
        await reap(tasks)


@scenario_in_loop
async def somebody_elses_tasks_that_wait_for_our_futures(loop, count):
    for batch in batches(count):
        futures = [loop.create_future() for _ in batch]
        tasks = [asyncio.Task(wait(future), loop=loop) for future in futures]
        await asyncio.sleep(0)
        for future in futures[::2]:
            future.set_result(None)
        for task in tasks[1::2]:
            task.cancel()
        await reap(tasks)


@scenario
def our_tasks_on_somebody_elses_loop(count):
    async def main(loop):
        for batch in batches(count):
            await reap([velodrome.Task(result(), loop=loop) for _ in batch])
            tasks = [velodrome.Task(wait(velodrome.Future(loop=loop)), loop=loop) for _ in batch]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await reap(tasks)

    with contextlib.closing(asyncio.SelectorEventLoop()) as loop:
        loop.run_until_complete(main(loop))


@scenario_in_loop
async def eager_tasks(loop, count):
    if not eager:
        return
    loop.set_task_factory(asyncio.eager_task_factory)
    for batch in batches(count):
        await reap([velodrome.Task(result(), loop=loop, eager_start=True) for _ in batch])
        await reap([velodrome.Task(failing(), loop=loop, eager_start=True) for _ in batch])
        futures = [loop.create_future() for _ in batch]
        tasks = [velodrome.Task(wait(future), loop=loop, eager_start=True) for future in futures]
        for future in futures:
            future.set_result(None)
        await reap(tasks)


@scenario_in_loop
async def tasks_that_are_refused(loop, count):
    for _ in range(count):
        with contextlib.suppress(TypeError):
            loop.create_task(None)
        with contextlib.suppress(TypeError):
            velodrome.Task(None, loop=loop)
        coroutine = result()
        with contextlib.suppress(TypeError):
            loop.create_task(coroutine, nothing=1)
        coroutine.close()


@scenario_in_loop
async def tasks_that_yield_nonsense(loop, count):
    class Nonsense:
        def __await__(self):
            yield self.value

    async def nonsense(value):
        awaitable = Nonsense()
        awaitable.value = value
        await awaitable

    other = velodrome.new_event_loop()
    foreign = other.create_future()
    for batch in batches(count):
        await reap([loop.create_task(nonsense(object())) for _ in batch])
        await reap([loop.create_task(wait(foreign)) for _ in batch])
    other.close()


@scenario_in_loop
async def attributes_of_tasks(loop, count):
    task = loop.create_task(wait(loop.create_future()))
    await asyncio.sleep(0)
    for _ in range(count):
        for name in ("_callbacks", "_coro", "_fut_waiter", "_loop", "_state", "_source_traceback"):
            getattr(task, name)
        task.set_name(task.get_name() + "x" if len(task.get_name()) < 50 else "name")
        task.get_stack(), task.get_coro(), repr(task), task.get_loop(), task._make_cancelled_error()
        task._cancel_message = object()
        task.add_done_callback(id)
        task.remove_done_callback(id)
    task.cancel()


# -- futures


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


# -- pipes


class Holder(asyncio.Protocol):
    """A protocol that takes attributes."""


@scenario_in_loop
async def pipes(loop, count):
    """Written full, closed at either end, closed with data kept, left to themselves in a cycle."""
    for number in range(count // 10):
        reader, writer = os.pipe()
        protocol = Holder()
        reading, _ = await loop.connect_read_pipe(lambda: protocol, open(reader, "rb", buffering=0))
        writing, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, open(writer, "wb", buffering=0))
        protocol.transport = reading
        writing.write(bytes(200_000 if number % 2 else 20_000))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if number % 4 < 2:
            reading.close()
        elif number % 3:
            writing.abort()
        else:
            writing.close()
        for _ in range(6):
            await asyncio.sleep(0)
        reading.close()
        writing.close()
        await asyncio.sleep(0)


@scenario_in_loop
async def pipes_that_nobody_closes(loop, count):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        for _ in range(count // 20):
            reader, writer = os.pipe()
            transport, protocol = await loop.connect_read_pipe(Holder, open(reader, "rb", buffering=0))
            os.close(writer)
            protocol.transport = transport
            transport.pause_reading()
            del transport, protocol
        gc.collect()


# -- TLS


class TlsHolder(Holder):
    """Says when its connection is lost, and refers to the transport, which refers to it."""

    def __init__(self, loop):
        self.lost = loop.create_future()

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, exc):
        self.lost.set_result(None)


@scenario_in_loop
async def tls_connections(loop, count):
    """Closed and aborted, with and without data under way."""
    server, client = server_context(), client_context()
    for number in range(count // 200):
        ours, theirs = socket.socketpair()
        one, other = TlsHolder(loop), TlsHolder(loop)
        accepting = loop.create_task(connected(theirs, server, "server", other))
        transport = await connected(ours, client, "client", one)
        await accepting
        if number % 2:
            transport.write(bytes(20_000))
        if number % 4 < 2:
            transport.close()
        else:
            transport.abort()
        await one.lost
        await other.lost


@scenario_in_loop
async def tls_layers_that_never_begin(loop, count):
    """Left to themselves in a cycle."""
    context = server_context()
    for _ in range(count // 20):
        protocol = TlsHolder(loop)
        layer = make_protocol(loop, protocol, context, None, True)
        protocol.transport = layer._app_transport
        layer._app_transport._closed = True
        layer._app_transport.write(b"kept by nobody")


@scenario_in_loop
async def subprocesses(loop, count):
    for number in range(count // 200):
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE if number % 2 else None)
        process = await asyncio.create_subprocess_exec("/bin/true", **pipes)
        await (process.communicate(b"input") if number % 2 else process.wait())


# -- sockets


@scenario_in_loop
async def calls_on_sockets(loop, count):
    # One is over at once, one has to wait, one is cancelled while it waits, one is never awaited.
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.setblocking(False)
        peer.setblocking(False)
        for _ in range(count // 10):
            await loop.sock_sendall(peer, b"bytes")
            await loop.sock_recv(ours, 10)
            calls = [loop.create_task(loop.sock_recv_into(ours, bytearray(10)))]
            await asyncio.sleep(0)
            await loop.sock_sendall(peer, b"bytes")
            await reap(calls)
            calls = [loop.create_task(loop.sock_recvfrom(ours, 10))]
            await asyncio.sleep(0)
            calls[0].cancel()
            await reap(calls)
            loop.sock_recv(ours, 10).close()


@scenario_in_loop
async def files_to_sockets(loop, count):
    # One goes at once, one in pieces, one is cancelled, one loses its peer.
    with tempfile.TemporaryFile() as file:
        file.truncate(1 << 20)
        for _ in range(count // 50):
            ours, peer = socket.socketpair()
            with ours, peer:
                ours.setblocking(False)
                peer.setblocking(False)
                await loop.sock_sendfile(ours, file, 0, 10)
                sending = loop.create_task(loop.sock_sendfile(ours, file))
                while not sending.done():
                    await asyncio.sleep(0)
                    with contextlib.suppress(BlockingIOError):
                        peer.recv(1 << 20)
                for act in (lambda: sending.cancel(), peer.close):
                    sending = loop.create_task(loop.sock_sendfile(ours, file))
                    await asyncio.sleep(0)
                    act()
                    with contextlib.suppress(asyncio.CancelledError, OSError):
                        await sending


@scenario_in_loop
async def connections_of_sockets(loop, count):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        for _ in range(count // 50):
            with socket.socket() as client:
                client.setblocking(False)
                await loop.sock_connect(client, server.getsockname())
                connection, _ = await loop.sock_accept(server)
                connection.close()


class Datagrams(asyncio.DatagramProtocol):
    """A protocol that takes attributes."""


@scenario_in_loop
async def datagrams(loop, count):
    """Sent to themselves, closed or aborted or left to themselves in a cycle."""
    for number in range(count // 20):
        transport, protocol = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
        protocol.transport = transport
        transport.sendto(b"bytes", transport.get_extra_info("sockname"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if number % 3 == 0:
            transport.close()
        elif number % 3 == 1:
            transport.abort()
        else:
            transport.pause_reading()
        del transport, protocol
        await asyncio.sleep(0)
    gc.collect()


# -- coordination


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


# -- streams


@scenario_in_loop
async def streams(loop, count):
    # reader -> what its attribute holds -> itself; somebody waits, or not; the buffer was looked at, or not
    for number in range(count // 10):
        reader = velodrome.StreamReader(loop=loop)
        reader.itself = reader
        reader.feed_data(b"some\nlines\nand")
        await reader.readline()
        if number % 2:
            reader.feed_data(bytes(reader._buffer))
        await reader.readline()
        protocol = velodrome.StreamReaderProtocol(reader, id, loop=loop)
        protocol.pause_writing()
        waiting = [
            loop.create_task(wait(reader.readexactly(100))),
            loop.create_task(wait(protocol._drain_helper())),
        ]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)


@scenario_in_loop
async def stream_connections(loop, count):
    async def connected(reader, writer):
        async for line in reader:
            writer.write(line)
            await writer.drain()
        writer.itself = reader.writer = writer
        writer.close()

    server = await velodrome.start_server(connected, "127.0.0.1", 0)
    for _ in range(count // 100):
        reader, writer = await velodrome.open_connection(*server.sockets[0].getsockname())
        writer.write(b"line\nand")
        await reader.readline()
        writer.itself = reader.writer = writer
        writer.close()
        await writer.wait_closed()
    server.close()
    await asyncio.sleep(0.01)


# -- loops


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


# ---------------------------------------------------------------------------------------------------------
# Measuring, in a process of its own.


class Mallinfo(ctypes.Structure):
    """What mallinfo2() returns; `in_use` are bytes from the heap, `mapped` those in mappings of their own."""

    names = "arena ordblks smblks hblks mapped usmblks fsmblks in_use fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]


def heap():
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return 0
    mallinfo.restype = Mallinfo
    info = mallinfo()
    return info.in_use + info.mapped


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def measure():
    for _ in range(3):
        gc.collect()
    return {
        "references": sys.gettotalrefcount() if hasattr(sys, "gettotalrefcount") else 0,
        "blocks": sys.getallocatedblocks(),
        "heap": heap(),
        "resident": resident(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "tasks": len(gc.get_referrers(velodrome.Task)),
    }


def main(name, count):
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda unraisable: None
    gc.freeze()  # what is imported need not be looked through every time
    # What is cached for ever is cached once, and what grows now and then, such as tables, has its full size.
    SCENARIOS[name](count)
    measures = [measure()]
    for _ in range(5):
        SCENARIOS[name](count)
        measures.append(measure())
    # A leak shows every time; a cache that happens to be fuller than before shows less and less.
    left = {key: min(b[key] - a[key] for a, b in itertools.pairwise(measures)) for key in measures[0]}
    print(json.dumps(left))


def run_scenario(name, count, timeout):
    done = subprocess.run(
        [sys.executable, __file__, name, str(count)], capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stderr[-4000:]}"
    return json.loads(done.stdout)


def check(left, count):
    """One thing left by every fiftieth that was made would show."""
    slack = count // 50
    assert left["references"] < slack, left
    assert left["blocks"] < slack, left
    # The heap's use varies with where its free places are; so much, apart from a word per fiftieth.
    assert left["heap"] < 100_000 + 8 * slack, left
    assert left["resident"] < 4_000_000, left
    assert left["descriptors"] == 0, left
    # The threads of an executor that was shut down end when they come to it.
    assert left["threads"] <= 0, left
    assert left["tasks"] <= 0, left


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.timeout(120)
def test_nothing_is_left_of(name):
    count = 4000
    check(run_scenario(name, count, 100), count)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.timeout(900)
def test_nothing_is_left_of_very_many(name):
    count = 50_000
    check(run_scenario(name, count, 800), count)


# ---------------------------------------------------------------------------------------------------------
# One by one: weak references say whether an object has gone.


@pytest.fixture
def dies():
    """A function that says whether the collector takes what weak references refer to."""

    def dies(*references):
        gc.collect()
        return [reference() for reference in references] == [None] * len(references)

    return dies


def test_what_nothing_refers_to_dies_at_once(loop):
    gc.disable()
    try:
        future = loop.create_future()
        task = loop.create_task(result())
        loop.run_until_complete(task)
        handle = loop.call_soon(id, 1)
        timer = loop.call_later(60, id, 1)
        timer.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        references = [weakref.ref(thing) for thing in (future, task, handle, timer)]
        del future, task, handle, timer
        assert [reference() for reference in references] == [None] * 4
    finally:
        gc.enable()


def test_a_callback_dies_with_its_cancelled_handle(loop, dies):
    cell = Cell()
    handles = [loop.call_soon(id, cell), loop.call_later(60, id, cell)]
    reference = weakref.ref(cell)
    del cell
    for handle in handles:
        handle.cancel()
    assert dies(reference)


def test_arguments_die_when_a_callback_has_run(loop, dies):
    cell = Cell()
    loop.call_soon(id, cell)
    loop.call_later(0, id, cell)
    reference = weakref.ref(cell)
    del cell
    loop.run_until_complete(velodrome.sleep(0.01))
    assert dies(reference)


def test_a_cycle_of_future_and_callback_dies(loop, dies):
    future = loop.create_future()
    future.add_done_callback(functools.partial(id, future))
    future.add_done_callback(functools.partial(id, future))
    reference = weakref.ref(future)
    del future
    assert dies(reference)


def test_a_future_that_is_its_own_result_dies(loop, dies):
    future = loop.create_future()
    future.set_result(future)
    reference = weakref.ref(future)
    del future
    assert dies(reference)


def test_a_task_that_waits_for_a_lost_future_dies_and_says_so(loop, dies):
    said = []
    loop.set_exception_handler(lambda loop, context: said.append(context["message"]))
    task = loop.create_task(wait(loop.create_future()))
    loop.run_until_complete(asyncio.sleep(0))
    reference = weakref.ref(task)
    del task
    assert dies(reference)
    assert said == ["Task was destroyed but it is pending!"]


def test_a_cycle_of_task_and_coroutine_dies(loop, dies):
    async def itself(cell):
        return cell

    cell = Cell()
    cell.content = task = loop.create_task(itself(cell))
    loop.run_until_complete(task)
    references = weakref.ref(cell), weakref.ref(task)
    del cell, task
    assert dies(*references)


def test_a_tasks_exception_dies_with_it(loop, dies):
    class Failure(Exception):
        pass

    async def fail():
        raise Failure

    task = loop.create_task(fail())
    with contextlib.suppress(Failure):
        loop.run_until_complete(task)
    references = weakref.ref(task), weakref.ref(task.exception())
    del task
    assert dies(*references)


def test_a_task_dies_when_it_is_done_although_it_was_registered(loop, dies):
    task = loop.create_task(result())
    loop.run_until_complete(task)
    reference = weakref.ref(task)
    del task
    assert dies(reference)
    assert asyncio.all_tasks(loop) == set()


def test_a_task_that_sleeps_stays_alive_without_us(loop):
    async def sleep():
        await velodrome.sleep(0.01)
        done.append(True)

    done = []
    reference = weakref.ref(loop.create_task(sleep()))
    loop.run_until_complete(asyncio.sleep(0))
    gc.collect()
    assert reference() is not None
    loop.run_until_complete(asyncio.sleep(0.02))
    assert done


@pytest.mark.parametrize("base", ["Task", "Future", "Handle", "TimerHandle", "Loop"])
def test_a_class_and_its_instance_die_together(loop, dies, base):
    """The instance refers to its class, and the class here to the instance."""

    class Derived(getattr(velodrome, base)):
        pass

    if base == "Task":
        instance = Derived(result(), loop=loop)
        loop.run_until_complete(instance)
    elif base == "Future":
        instance = Derived(loop=loop)
    elif base == "Loop":
        instance = Derived()
        instance.close()
    elif base == "Handle":
        instance = Derived(id, (1,), loop)
    else:
        instance = Derived(1.0, id, (1,), loop)
    Derived.instance = instance
    reference = weakref.ref(Derived)
    del Derived, instance
    assert dies(reference)


def test_a_closed_loop_dies_with_all_that_was_queued(dies):
    loop = velodrome.new_event_loop()
    pending(loop)
    cell = Cell()
    loop.call_soon(id, cell)
    loop.call_later(60, id, cell)
    references = weakref.ref(loop), weakref.ref(cell)
    loop.close()
    del loop, cell
    assert dies(*references)


def test_closing_drops_what_is_queued_while_the_loop_lives_on(dies):
    loop = velodrome.new_event_loop()
    cell = Cell()
    one, two = socket.socketpair()
    loop.call_soon(id, cell)
    loop.call_later(60, id, cell)
    loop.call_soon_threadsafe(id, cell)
    loop.add_reader(one, id, cell)
    reference = weakref.ref(cell)
    del cell
    loop.close()
    one.close(), two.close()
    assert dies(reference)


def test_a_loop_that_is_dropped_with_things_pending_dies(dies):
    loop = velodrome.new_event_loop()
    pending(loop)
    reference = weakref.ref(loop)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del loop
        assert dies(reference)


def test_a_dropped_loop_warns_and_gives_its_descriptors_back():
    before = os.listdir("/proc/self/fd")
    loop = velodrome.new_event_loop()
    assert len(os.listdir("/proc/self/fd")) > len(before)
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        del loop
        gc.collect()
    assert os.listdir("/proc/self/fd") == before


def test_a_loop_that_cannot_be_made_leaves_nothing_behind(run_python):
    done = run_python(
        """
import gc, os, resource
import velodrome
velodrome.new_event_loop().close()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
while True:
    try:
        taken.append(os.dup(0))
    except OSError:
        break
for spare in range(4):
    before = len(gc.get_objects())
    try:
        velodrome.new_event_loop().close()
    except OSError as error:
        print("refused", error.errno)
    gc.collect()
    os.close(taken.pop())
"""
    )
    assert set(done.stdout.splitlines()) == {"refused 24"}
    assert done.stderr == ""


@pytest.mark.parametrize("kind", ["Future", "Task"])
def test_what_its_last_words_bring_back_to_life_lives_and_dies_once_more(loop, dies, kind):
    """The exception handler is told of a future that goes, and may keep it."""
    kept = []
    loop.set_exception_handler(lambda loop, context: kept.append(context.get("future") or context["task"]))
    for _ in range(3):
        if kind == "Future":
            loop.create_future().set_exception(ValueError("brought back"))
        else:
            task = loop.create_task(wait(loop.create_future()))
            loop.run_until_complete(asyncio.sleep(0))
            del task
            gc.collect()
        [back] = kept
        assert back.done() is (kind == "Future")
        assert back.get_loop() is loop
        reference = weakref.ref(back)
        kept.clear()
        del back
        assert dies(reference)
        assert kept == []
    assert asyncio.all_tasks(loop) == set()


@pytest.mark.parametrize("base", ["Future", "Task", "Handle", "TimerHandle", "Loop"])
def test_a_subclass_may_bring_itself_back_to_life(loop, dies, base):
    class Derived(getattr(velodrome, base)):
        def __del__(self):
            kept.append(self)

    kept, arguments = (
        [],
        {
            "Future": lambda: ((), {"loop": loop}),
            "Task": lambda: ((result(),), {"loop": loop}),
            "Handle": lambda: ((id, (1,), loop), {}),
            "TimerHandle": lambda: ((1.0, id, (1,), loop), {}),
            "Loop": lambda: ((), {}),
        }[base],
    )
    positional, named = arguments()
    instance = Derived(*positional, **named)
    if base == "Task":
        loop.run_until_complete(instance)
    elif base == "Loop":
        instance.close()
    del instance
    gc.collect()
    [instance] = kept
    kept.clear()
    assert repr(instance)
    reference = weakref.ref(instance)
    del instance
    assert dies(reference)
    assert kept == []


@pytest.mark.parametrize("kind", ["future", "handle", "sleep", "task"])
def test_a_long_chain_goes_without_overflowing_the_stack(run_python, kind):
    """As long as asyncio's own futures manage on every version."""
    run_python(
        """
import sys, warnings
import velodrome
warnings.simplefilter("ignore")
loop = velodrome.new_event_loop()
link = None
async def return_(link):
    return link
for _ in range(20_000):
    if sys.argv[1] == "future":
        future = loop.create_future()
        future.set_result(link)
        link = future
    elif sys.argv[1] == "handle":
        link = velodrome.Handle(id, (link,), loop)
    elif sys.argv[1] == "sleep":
        link = velodrome.sleep(0, link)
    else:
        link = loop.create_task(return_(link))
if sys.argv[1] == "task":
    loop.run_until_complete(link)
future = None
del link
loop.close()
""",
        kind,
        timeout=60,
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
