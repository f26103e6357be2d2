"""Uses of sockets by calls of the loop."""

import asyncio
import contextlib
import gc
import socket
import tempfile

from .uses import abandon, made, use

# -- sockets


def a_call(loop):
    """A call of a socket that nobody awaits, and what it is natively."""
    ours, peer = socket.socketpair()
    with peer:
        operation = loop.sock_recv(ours, 1)
        [call] = [thing for thing in gc.get_referents(operation) if type(thing).__name__ == "SocketCall"]
        return operation, call


@use
async def calls_on_sockets(loop):
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.setblocking(False)
        peer.setblocking(False)
        await loop.sock_sendall(peer, b"bytes")
        await loop.sock_recv(ours, 1)
        await loop.sock_recv_into(ours, bytearray(1))
        await loop.sock_recvfrom(ours, 1)
        await loop.sock_recvfrom_into(ours, bytearray(1))
        waiting = loop.create_task(loop.sock_recv(ours, 10))
        try:
            await asyncio.sleep(0)
            peer.send(b"bytes")
            peer.send(b"bytes")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        finally:
            waiting.cancel()


@use
async def connections_of_sockets(loop):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        server.setblocking(False)
        client.setblocking(False)
        await loop.sock_connect(client, server.getsockname())
        connection, _address = await loop.sock_accept(server)
        connection.close()


@use
async def datagrams_of_sockets(loop):
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        await loop.sock_sendto(sock, b"bytes", sock.getsockname())


@use
def insides_of_a_call(loop):
    operation, call = a_call(loop)
    with contextlib.suppress(TypeError):
        made(type(call))
    call._ready()
    operation.close()


@use
def garbage_calls(loop):
    operation, call = a_call(loop)
    abandon(operation)
    del operation, call
    gc.collect()


def a_sending(loop, ours, file, future):
    """A file that is on its way to a socket, natively."""
    ours.setblocking(False)
    file.truncate(1 << 22)
    loop._sock_sendfile_native_impl(future, None, ours, file.fileno(), 0, None, 1 << 22, 0)
    [(ended, _context)] = future._callbacks
    return ended.__self__


@use
async def files_to_sockets(loop):
    ours, peer = socket.socketpair()
    with ours, peer, tempfile.TemporaryFile() as file:
        ours.setblocking(False)
        file.truncate(1 << 22)
        sending = loop.create_task(loop.sock_sendfile(ours, file))
        while not sending.done():
            await asyncio.sleep(0)
            with contextlib.suppress(BlockingIOError):
                peer.recv(1 << 20, socket.MSG_DONTWAIT)
        await sending


@use
async def insides_of_a_sending(loop):
    ours, peer = socket.socketpair()
    with ours, peer, tempfile.TemporaryFile() as file:
        future = loop.create_future()
        try:
            sending = a_sending(loop, ours, file, future)
            made(type(sending))
            sending._ready()
        finally:
            future.cancel()
            loop.remove_writer(ours)
        sending._ended(future)


@use
async def garbage_sendings(loop):
    ours, peer = socket.socketpair()
    with ours, peer, tempfile.TemporaryFile() as file:
        future = loop.create_future()
        try:
            sending = a_sending(loop, ours, file, future)
        finally:
            loop.remove_writer(ours)
        abandon(sending)
        del sending, future
        gc.collect()
