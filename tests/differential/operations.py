"""Operations of every kind that succeed, fail and are cancelled, each a coroutine function.

It is given asyncio's names, asyncio's own or velodrome's, and `mark(name, thing)`, which it calls with what
comes and goes meanwhile, exceptions above all, and which returns the thing.
"""

import asyncio
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress

from tls.sides import client_context, server_context

OPERATIONS = {}


def operation(function):
    OPERATIONS[function.__name__] = function
    return function


class Thing:
    pass


class Failure(Exception):
    pass


async def failing(mark):
    await asyncio.sleep(0)
    raise mark("failure", Failure())


async def giving(mark):
    await asyncio.sleep(0)
    return mark("result", Thing())


async def cancelled(aio, mark, awaitable):
    task = mark("task", aio.create_task(awaitable))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError as error:
        mark("cancellation", error)


# -- Tasks and futures ---------------------------------------------------------------------------------------


@operation
async def gather_that_fails(aio, mark):
    with suppress(Failure):
        await aio.gather(failing(mark), giving(mark), giving(mark))
    await aio.gather(failing(mark), giving(mark), return_exceptions=True)


@operation
async def gather_that_is_cancelled(aio, mark):
    task = mark("child", aio.create_task(aio.sleep(60)))
    await cancelled(aio, mark, given(aio.gather(task, giving(mark))))


async def given(awaitable):
    return await awaitable


@operation
async def group_of_which_one_fails(aio, mark):
    try:
        async with aio.TaskGroup() as group:
            mark("group", group)
            mark("member", group.create_task(failing(mark)))
            mark("member", group.create_task(aio.sleep(60)))
    except BaseExceptionGroup as errors:
        mark("errors", errors)


@operation
async def group_whose_body_fails(aio, mark):
    try:
        async with aio.TaskGroup() as group:
            mark("member", group.create_task(aio.sleep(60)))
            raise mark("failure", Failure())
    except BaseExceptionGroup as errors:
        mark("errors", errors)


@operation
async def wait_for_what_is_late_or_fails(aio, mark):
    for awaitable in aio.sleep(60), mark("task", aio.create_task(aio.sleep(60))):
        try:
            await aio.wait_for(awaitable, 0.001)
        except TimeoutError as error:
            mark("late", error)
    with suppress(Failure):
        await aio.wait_for(failing(mark), 60)
    del awaitable


@operation
async def timeout_that_expires(aio, mark):
    try:
        async with aio.timeout(0.001) as timeout:
            mark("timeout", timeout)
            await aio.sleep(60)
    except TimeoutError as error:
        mark("late", error)


@operation
async def shield_of_what_fails(aio, mark):
    with suppress(Failure):
        await aio.shield(failing(mark))
    inner = mark("inner", aio.get_running_loop().create_future())
    await cancelled(aio, mark, given(aio.shield(inner)))
    inner.set_result(None)


@operation
async def waiting_for_all(aio, mark):
    tasks = [mark("task", aio.create_task(work(mark))) for work in (failing, giving)]
    done, _pending = await aio.wait(tasks)
    for task in done:
        task.exception()


@operation
async def as_completed(aio, mark):
    for one in aio.as_completed([failing(mark), giving(mark)]):
        with suppress(Failure):
            await one
    task = mark("task", aio.create_task(aio.sleep(60)))
    try:
        for one in aio.as_completed([task], timeout=0.001):
            await one
    except TimeoutError as error:
        mark("late", error)
    task.cancel()


# -- Locks and queues ----------------------------------------------------------------------------------------


@operation
async def waiting_that_is_cancelled(aio, mark):
    lock = mark("lock", aio.Lock())
    await lock.acquire()
    await cancelled(aio, mark, lock.acquire())
    await cancelled(aio, mark, mark("event", aio.Event()).wait())
    await cancelled(aio, mark, mark("semaphore", aio.Semaphore(0)).acquire())
    queue = mark("queue", aio.Queue(1))
    await cancelled(aio, mark, queue.get())
    queue.put_nowait(1)
    await cancelled(aio, mark, queue.put(1))
    await cancelled(aio, mark, queue.join())


@operation
async def condition_that_is_cancelled_or_fails(aio, mark):
    condition = mark("condition", aio.Condition())

    async def wait():
        async with condition:
            await condition.wait()

    def predicate():
        raise mark("failure", Failure())

    await cancelled(aio, mark, wait())
    with suppress(Failure):
        async with condition:
            await condition.wait_for(predicate)


@operation
async def barrier_that_breaks(aio, mark):
    barrier = mark("barrier", aio.Barrier(2))
    task = aio.create_task(barrier.wait())
    await asyncio.sleep(0)
    await barrier.abort()
    try:
        await task
    except asyncio.BrokenBarrierError as error:
        mark("broken", error)


# -- Threads and callbacks -----------------------------------------------------------------------------------


@operation
async def work_in_threads(aio, mark):
    def fail():
        raise mark("failure", Failure())

    loop = aio.get_running_loop()
    with suppress(Failure):
        await loop.run_in_executor(None, fail)
    with suppress(Failure):
        await aio.to_thread(fail)
    await loop.run_in_executor(None, lambda: mark("result", Thing()))
    try:
        await loop.getaddrinfo("name.invalid", 1, flags=socket.AI_NUMERICHOST)
    except OSError as error:
        mark("no name", error)


@operation
async def calls_from_a_thread(aio, mark):
    loop = aio.get_running_loop()

    def work():
        future = mark("future", aio.run_coroutine_threadsafe(failing(mark), loop))
        with suppress(Failure):
            future.result(30)
        aio.run_coroutine_threadsafe(giving(mark), loop).result(30)

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        await asyncio.sleep(0.001)


@operation
async def callbacks_that_fail(aio, mark):
    loop = aio.get_running_loop()
    ended = loop.create_future()

    def fail(last):
        if last:
            ended.set_result(None)
        raise mark("failure", Failure())

    mark("handle", loop.call_soon(fail, False))
    mark("timer", loop.call_later(0.001, fail, True))
    await ended


# -- Connections ---------------------------------------------------------------------------------------------


class Echo(asyncio.Protocol):
    """Sends back what comes, and knows its transport until the connection is lost."""

    def __init__(self, mark):
        self.mark = mark
        mark("protocol", self)
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = self.mark("transport", transport)

    def data_received(self, data):
        self.transport.write(data)

    def connection_lost(self, error):
        self.lost.set_result(None)
        del self.transport


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, mark):
        self.mark = mark
        mark("protocol", self)

    def connection_made(self, transport):
        self.mark("transport", transport)


def free_address():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()


async def talk(aio, mark, end, **options):
    """Make a server and a connection to it, and end that by a method of its transport."""
    loop = aio.get_running_loop()
    tls = {"ssl": server_context()} if options else {}
    server = mark("server", await loop.create_server(lambda: Echo(mark), "127.0.0.1", 0, **tls))
    address = server.sockets[0].getsockname()
    transport, protocol = await loop.create_connection(lambda: Echo(mark), *address, **options)
    transport.write(b"data")
    getattr(transport, end)()
    await protocol.lost
    server.close()


@operation
async def connections(aio, mark):
    await talk(aio, mark, "close")
    await talk(aio, mark, "abort")


@operation
async def connections_over_tls(aio, mark):
    await talk(aio, mark, "close", ssl=client_context(), server_hostname="localhost")
    await talk(aio, mark, "abort", ssl=client_context(), server_hostname="localhost")


@operation
async def connections_that_fail(aio, mark):
    loop = aio.get_running_loop()

    def factory():
        raise mark("failure", Failure())

    server = await loop.create_server(lambda: Echo(mark), "127.0.0.1", 0, ssl=server_context())
    address = server.sockets[0].getsockname()
    with suppress(Failure):
        await loop.create_connection(factory, *address)
    for options in {"ssl": ssl.create_default_context(), "server_hostname": "localhost"}, {}:
        try:
            await loop.create_connection(
                lambda: Echo(mark), *(address if options else free_address()), **options
            )
        except OSError as error:
            mark("error", error)
    with socket.socket() as sock:
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, free_address())
        except OSError as error:
            mark("error", error)
    server.close()


@operation
async def streams(aio, mark):
    async def serve(reader, writer):
        mark("reader", reader)
        mark("writer", writer)
        while data := await reader.read(100):
            writer.write(data)
        writer.close()
        await writer.wait_closed()

    server = mark("server", await aio.start_server(serve, "127.0.0.1", 0))
    reader, writer = await aio.open_connection(*server.sockets[0].getsockname(), limit=10)
    for thing in reader, writer, writer.transport:
        mark("client", thing)
    writer.write(bytes(50))
    try:
        await reader.readuntil()
    except asyncio.LimitOverrunError as error:
        mark("error", error)
    writer.write_eof()
    try:
        await reader.readexactly(100)
    except asyncio.IncompleteReadError as error:
        mark("error", error)
    writer.close()
    await writer.wait_closed()
    server.close()
    del thing


@operation
async def handler_that_fails(aio, mark):
    async def serve(reader, writer):
        mark("writer", writer)
        raise mark("failure", Failure())

    server = await aio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await aio.open_connection(*server.sockets[0].getsockname())
    await reader.read()
    writer.close()
    await writer.wait_closed()
    server.close()


@operation
async def datagrams(aio, mark):
    loop = aio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Datagrams(mark), ("127.0.0.1", 0))
    transport.sendto(b"data", transport.get_extra_info("sockname"))
    transport.close()


@operation
async def pipes(aio, mark):
    reader, writer = os.pipe()
    end = os.fdopen(reader, "rb", 0)
    _transport, protocol = await aio.get_running_loop().connect_read_pipe(lambda: Echo(mark), end)
    os.close(writer)
    await protocol.lost


@operation
async def calls_on_sockets(aio, mark):
    loop = aio.get_running_loop()
    near, far = socket.socketpair()
    with near:
        with far:
            near.setblocking(False)
            mark("socket", near)
            await cancelled(aio, mark, loop.sock_recv(near, 10))
            far.send(b"data")
            await loop.sock_recv(near, 10)
        try:
            await loop.sock_sendall(near, b"data")
        except OSError as error:
            mark("error", error)


@operation
async def sending_a_file(aio, mark):
    loop = aio.get_running_loop()
    server = await loop.create_server(lambda: Echo(mark), "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    transport, protocol = await loop.create_connection(lambda: Echo(mark), *address)
    with tempfile.TemporaryFile() as file:
        file.write(bytes(1000))
        await loop.sendfile(transport, file)
        mark("file", file)
    transport.abort()
    await protocol.lost
    server.close()


@operation
async def subprocesses(aio, mark):
    program = "import sys; sys.stdout.write(sys.stdin.read())"
    process = mark(
        "process",
        await aio.create_subprocess_exec(
            sys.executable, "-c", program, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ),
    )
    mark("transport", process._transport)
    await process.communicate(b"data")
    try:
        await aio.create_subprocess_exec("/there/is/no/such/program")
    except OSError as error:
        mark("error", error)
