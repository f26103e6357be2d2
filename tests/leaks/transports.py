"""Transports of pipes, TLS, sockets and datagrams, calls on sockets, streams, and subprocesses."""

import asyncio
import contextlib
import gc
import os
import socket
import subprocess
import tempfile
import warnings

import velodrome
from tls.sides import client_context, connected, server_context
from velodrome._tls import make_protocol

from .scenarios import reap, scenario_in_loop, wait

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
