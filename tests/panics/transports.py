"""Uses of the TLS layer, and of transports over sockets, pipes and datagrams."""

import asyncio
import contextlib
import gc
import os
import socket
import ssl

from velodrome import _tls as tls
from velodrome import _velodrome

from .uses import USES, abandon, made, use, uses

# -- TLS


def with_tls(function):
    """A use of the TLS layer of a connection that has not begun."""

    def used(loop):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        layer = tls.make_protocol(loop, asyncio.Protocol(), context, None, True)
        layer._app_transport._closed = True
        function(layer)

    USES.append(used)


for name in [
    *("_loop", "_transport", "_app_protocol", "_app_protocol_is_buffer", "_sslobj", "_incoming", "_outgoing"),
    *("_write_backlog", "_write_buffer_size", "_state", "_app_reading_paused", "_app_writing_paused"),
    *("_ssl_reading_paused", "_ssl_writing_paused", "_incoming_high_water", "_incoming_low_water"),
    *("_outgoing_high_water", "_outgoing_low_water"),
]:
    with_tls(lambda layer, name=name: getattr(layer, name))
    with_tls(lambda layer, name=name: setattr(layer, name, getattr(layer, name)))
for name in ["_do_read", "_do_write", "_process_outgoing", "_begin_capture", "_end_capture"]:
    with_tls(lambda layer, name=name: getattr(layer, name)())
with_tls(lambda layer: layer._native)
with_tls(lambda layer: layer._app_transport.write(b"bytes"))
use(lambda loop: _velodrome._tls() and None)
use(lambda loop: tls._settle())


# -- transports


@contextlib.asynccontextmanager
async def transport_of(loop):
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.setblocking(False)
        transport = loop._make_socket_transport(ours, asyncio.Protocol())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        try:
            yield transport
        finally:
            try:
                transport.abort()
            finally:
                transport.close()
                await asyncio.sleep(0)


def with_transport(function):
    """A use of a transport over an open connection."""

    async def used(loop):
        async with transport_of(loop) as transport:
            function(transport)

    USES.append(used)


for name in [
    *("_loop", "_protocol", "_sock", "_sock_fd", "_server", "_read_ready_cb", "_closing", "_paused", "_eof"),
    *("_conn_lost", "_high_water", "_low_water", "_protocol_paused"),
]:
    with_transport(lambda transport, name=name: getattr(transport, name))
for name in ["_sock", "_high_water", "_low_water"]:
    with_transport(lambda transport, name=name: setattr(transport, name, getattr(transport, name)))
for name in [
    *("get_protocol", "is_closing", "is_reading", "pause_reading", "_begin_reading", "_read_ready"),
    *("write_eof", "can_write_eof", "get_write_buffer_limits", "get_write_buffer_size"),
    *("set_write_buffer_limits", "_write_ready", "close", "abort", "__repr__"),
]:
    with_transport(lambda transport, name=name: getattr(transport, name)() and None)
with_transport(lambda transport: transport.set_protocol(asyncio.Protocol()))
with_transport(lambda transport: (transport.pause_reading(), transport.resume_reading()))
with_transport(lambda transport: transport.write(b"bytes"))
with_transport(lambda transport: transport.writelines([b"by", b"tes"]))
with_transport(lambda transport: transport._reset_empty_waiter())
with_transport(lambda transport: (transport._make_empty_waiter(), transport._reset_empty_waiter()))
with_transport(lambda transport: transport._force_close(None))
with_transport(lambda transport: transport._fatal_error(ValueError()))
with_transport(lambda transport: (transport.abort(), transport._call_connection_lost(None)))
with_transport(lambda transport: transport._loop._watched(transport._sock_fd))
with_transport(lambda transport: transport._loop._lend_descriptor(transport))
with_transport(lambda transport: transport._loop._take_descriptor_back(transport))
uses(lambda loop: made(_velodrome.SocketTransport))


@use
async def garbage_transports(loop):
    async with transport_of(loop) as transport:
        abandon(transport)
    del transport
    gc.collect()
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.setblocking(False)
        transport = loop._make_socket_transport(ours, asyncio.Protocol())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        transport.pause_reading()
        del transport
        gc.collect()


# -- pipes


@contextlib.asynccontextmanager
async def pipe_of(loop, made):
    """A transport of one end of a pipe, and the other end."""
    reader, writer = os.pipe()
    if made is _velodrome.ReadPipeTransport:
        near, far = open(reader, "rb", buffering=0), open(writer, "wb", buffering=0)
    else:
        near, far = open(writer, "wb", buffering=0), open(reader, "rb", buffering=0)
    with near, far:
        transport = made(loop, near, asyncio.Protocol())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        try:
            yield transport
        finally:
            try:
                transport.close()
            finally:
                transport.close()  # when the first one panics
                await asyncio.sleep(0)


def with_pipe(made, function):
    """A use of a transport of that class."""

    async def used(loop):
        async with pipe_of(loop, made) as transport:
            function(transport)

    USES.append(used)


READS, WRITES = _velodrome.ReadPipeTransport, _velodrome.WritePipeTransport

for made_pipe in (READS, WRITES):
    for name in ["_loop", "_protocol", "_pipe", "_fileno", "_closing"]:
        with_pipe(made_pipe, lambda transport, name=name: getattr(transport, name))
    for name in ["get_protocol", "is_closing", "_begin_reading", "_read_ready", "close", "__repr__"]:
        with_pipe(made_pipe, lambda transport, name=name: getattr(transport, name)() and None)
    with_pipe(made_pipe, lambda transport: setattr(transport, "_pipe", transport._pipe))
    with_pipe(made_pipe, lambda transport: transport.set_protocol(asyncio.Protocol()))
    with_pipe(made_pipe, lambda transport: (transport.close(), transport._call_connection_lost(None)))
with_pipe(READS, lambda transport: transport._paused)
with_pipe(READS, lambda transport: transport.is_reading() and None)
with_pipe(READS, lambda transport: (transport.pause_reading(), transport.resume_reading()))
for name in ["_conn_lost", "_high_water", "_low_water", "_protocol_paused"]:
    with_pipe(WRITES, lambda transport, name=name: getattr(transport, name))
for name in ["_high_water", "_low_water"]:
    with_pipe(WRITES, lambda transport, name=name: setattr(transport, name, getattr(transport, name)))
for name in [
    *("write_eof", "can_write_eof", "get_write_buffer_limits", "get_write_buffer_size"),
    *("set_write_buffer_limits", "_write_ready", "abort"),
]:
    with_pipe(WRITES, lambda transport, name=name: getattr(transport, name)() and None)
with_pipe(WRITES, lambda transport: transport.write(b"bytes"))
uses(lambda loop: made(READS), lambda loop: made(WRITES))


@use
async def garbage_pipes(loop):
    for made_pipe in (READS, WRITES):
        async with pipe_of(loop, made_pipe) as transport:
            abandon(transport)
        del transport
        gc.collect()
        reader, writer = os.pipe()
        with open(reader, "rb", buffering=0) as near, open(writer, "wb", buffering=0) as far:
            transport = made_pipe(loop, near if made_pipe is READS else far, asyncio.Protocol())
            transport.close() if made_pipe is WRITES else transport.pause_reading()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            del transport
            gc.collect()


# -- datagrams


def with_datagrams(function):
    """A use of the transport of a socket of datagrams."""

    async def used(loop):
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
            transport = loop._make_datagram_transport(sock, asyncio.DatagramProtocol())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            try:
                function(transport)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            finally:
                try:
                    transport.abort()
                finally:
                    transport.close()
                    await asyncio.sleep(0)

    USES.append(used)


for name in [
    *(
        "_loop",
        "_protocol",
        "_sock",
        "_sock_fd",
        "_address",
        "_buffer",
        "_buffer_size",
        "_closing",
        "_paused",
    ),
    *("_conn_lost", "_high_water", "_low_water", "_protocol_paused"),
]:
    with_datagrams(lambda transport, name=name: getattr(transport, name))
for name in ["_sock", "_high_water", "_low_water"]:
    with_datagrams(lambda transport, name=name: setattr(transport, name, getattr(transport, name)))
for name in [
    *("get_protocol", "is_closing", "is_reading", "pause_reading", "_begin_reading", "_read_ready"),
    *("get_write_buffer_limits", "get_write_buffer_size", "set_write_buffer_limits", "_sendto_ready"),
    *("close", "abort", "__repr__"),
]:
    with_datagrams(lambda transport, name=name: getattr(transport, name)() and None)
with_datagrams(lambda transport: transport.set_protocol(asyncio.DatagramProtocol()))
with_datagrams(lambda transport: (transport.pause_reading(), transport.resume_reading()))
with_datagrams(lambda transport: transport.sendto(b"bytes", transport.get_extra_info("sockname")))
with_datagrams(lambda transport: transport._force_close(None))
with_datagrams(lambda transport: transport._fatal_error(ValueError()))
with_datagrams(lambda transport: (transport.abort(), transport._call_connection_lost(None)))
uses(lambda loop: made(_velodrome.DatagramTransport))


@use
async def garbage_datagram_transports(loop):
    for held in (True, False):
        sock = socket.socket(type=socket.SOCK_DGRAM)
        sock.setblocking(False)
        transport = loop._make_datagram_transport(sock, asyncio.DatagramProtocol())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        transport.pause_reading()
        if held:
            abandon(transport)
        del transport
        gc.collect()
        sock.close()
