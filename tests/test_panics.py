"""A panic in any function that C calls becomes a Python exception, and the loop goes on.

This needs a build in which every such function panics when told to: `make test-panics`. Each is told so in a
process of its own, which then uses everything there is.
"""

import asyncio
import concurrent.futures
import contextlib
import ctypes
import functools
import gc
import importlib.util
import io
import json
import logging
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings

import pytest

# The native module calls one of its entries while it is imported; here it is caught, to be called again.
SAMPLED = []


def catch_the_probe():
    assert "velodrome" not in sys.modules, "run this file alone"
    [folder] = importlib.util.find_spec("velodrome").submodule_search_locations
    path = os.path.join(folder, "_layout_probe.py")
    spec = importlib.util.spec_from_file_location("velodrome._layout_probe", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    show = module.show

    def show_and_keep(look):
        show(look)
        SAMPLED.append(functools.partial(show, look))

    module.show = show_and_keep
    sys.modules[spec.name] = module


catch_the_probe()

import velodrome  # noqa: E402
from velodrome import _tls as tls  # noqa: E402
from velodrome import _velodrome  # noqa: E402

arm = _velodrome._arm_panic
_velodrome._tls()  # which makes an entry for OpenSSL to call
with contextlib.closing(velodrome.new_event_loop()) as hosting:
    _ = hosting.__velodrome_host__  # as does the table for Rust futures
del hosting
ENTRIES = _velodrome._entries()


def cannot_raise(entry):
    return entry.endswith((".tp_clear", ".tp_dealloc", ".tp_finalize")) or entry == "host.capsule"


def cannot_tell(entry):
    # What Rust futures call through the table of a loop answers as if the loop were closed.
    return (
        entry.endswith((".tp_traverse", ".ex_new")) or entry.startswith("host.") and entry != "host.capsule"
    )


# ---------------------------------------------------------------------------------------------------------
# Everything there is. A use is a function of the running loop; what it returns is awaited if it can be.

USES = []


def use(function):
    USES.append(function)
    return function


def uses(*functions):
    USES.extend(functions)


def done_future(loop, result=None):
    future = loop.create_future()
    future.set_result(result)
    return future


def failed_future(loop):
    future = loop.create_future()
    future.set_exception(ValueError())
    future._log_traceback = False
    return future


async def nothing():
    pass


async def fail():
    raise ValueError


async def forever(loop):
    await loop.create_future()


@contextlib.contextmanager
def task_of(loop, coroutine):
    task = loop.create_task(coroutine)
    try:
        yield task
    finally:
        task.cancel()


def with_task(function):
    """A use of a task that waits."""

    async def used(loop):
        with task_of(loop, forever(loop)) as task:
            await asyncio.sleep(0)
            function(task)

    USES.append(used)


def send(iterator):
    """PyIter_Send(), which `await` calls on some versions only."""
    result = ctypes.c_void_p()
    call = ctypes.PyDLL(None).PyIter_Send
    call.argtypes = [ctypes.py_object, ctypes.py_object, ctypes.c_void_p]
    call(iterator, None, ctypes.byref(result))
    if result.value:
        # The reference is ours.
        ctypes.pythonapi.Py_DecRef(ctypes.cast(result, ctypes.py_object))


def in_thread(function):
    """Run a function where no loop runs."""
    raised = []

    def work():
        try:
            function()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


@contextlib.contextmanager
def another_loop():
    loop = velodrome.new_event_loop()
    try:
        yield loop
    finally:
        loop.close()


def with_loop(function):
    """A use of a loop that does not run."""

    def used(_loop):
        with another_loop() as loop:
            function(loop)

    USES.append(used)


# -- the module

uses(
    lambda loop: SAMPLED[0](),
    lambda loop: velodrome.sleep(0),
    lambda loop: velodrome.create_task(nothing()),
    lambda loop: _velodrome._layout(),
    lambda loop: _velodrome._entries(),
    lambda loop: isinstance(1, velodrome.Future),
    lambda loop: issubclass(int, velodrome.Task),
)


def made(kind, *arguments):
    """Make an instance of a class that may well refuse."""
    with contextlib.suppress(TypeError):
        kind.__new__(kind, *arguments)


uses(
    lambda loop: made(_velodrome.FutureIter),
    lambda loop: made(_velodrome.Operation),
    lambda loop: made(velodrome.Handle, id, (1,), loop),
    lambda loop: made(velodrome.TimerHandle, 1.0, id, (1,), loop),
    lambda loop: made(type(loop.call_soon_threadsafe(id, 1)), id, (1,), loop),
)

# -- futures

ATTRIBUTES = [
    "_state",
    "_asyncio_future_blocking",
    "_loop",
    "_callbacks",
    "_result",
    "_exception",
    "_log_traceback",
    "_source_traceback",
    "_cancel_message",
]
ASSIGNMENTS = [("_asyncio_future_blocking", False), ("_log_traceback", False), ("_cancel_message", "why")]

uses(
    lambda loop: done_future(loop).result(),
    lambda loop: failed_future(loop).exception(),
    lambda loop: loop.create_future().add_done_callback(print),
    lambda loop: loop.create_future().remove_done_callback(print),
    lambda loop: loop.create_future().cancelled(),
    lambda loop: loop.create_future().done(),
    lambda loop: loop.create_future().get_loop(),
    lambda loop: loop.create_future()._make_cancelled_error(),
    lambda loop: loop.create_future().__await__().close(),
    lambda loop: loop.create_future().__iter__().close(),
    lambda loop: velodrome.Future[int] and None,
    lambda loop: loop.create_future().set_result(1),
    lambda loop: failed_future(loop) and None,
    lambda loop: loop.create_future().cancel(),
    lambda loop: velodrome.Future(loop=loop).cancel(),
    lambda loop: repr(loop.create_future()),
    lambda loop: iter(loop.create_future()).close(),
    lambda loop: done_future(loop),
    lambda loop: next(loop.create_future()) and None,
    lambda loop: send(loop.create_future()),
)
for name in ATTRIBUTES:
    uses(lambda loop, name=name: getattr(loop.create_future(), name) and None)
for name, value in ASSIGNMENTS:
    uses(lambda loop, name=name, value=value: setattr(loop.create_future(), name, value))


@use
def an_exception_nobody_asks_for(loop):
    loop.create_future().set_exception(ValueError("nobody asks"))


def abandon(*objects):
    """Leave objects to the collector, which clears the oldest first, and so these before what holds them."""
    holder = list(objects)
    holder.append(holder)


@use
def garbage_of_every_kind(loop):
    future = loop.create_future()
    abandon(future, future.__await__())
    abandon(velodrome.sleep(0))
    other = velodrome.new_event_loop()
    other.close()
    abandon(other)
    del future, other
    gc.collect()


@use
async def garbage_of_the_loop(loop):
    async def itself():
        return asyncio.current_task()

    abandon(loop.create_task(itself()))
    abandon(loop.call_soon(id, 1))
    abandon(loop.call_later(0, id, 1))
    await velodrome.sleep(0.001)
    gc.collect()


@use
async def cancelled_while_it_sleeps(loop):
    async def sleep():
        await velodrome.sleep(60)

    task = loop.create_task(sleep())
    await asyncio.sleep(0)
    gc.collect()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


# -- iterators over futures

uses(
    lambda loop: loop.create_future().__await__().send(None) and None,
    lambda loop: loop.create_future().__await__().close(),
    lambda loop: iter(loop.create_future().__await__()) and None,
    lambda loop: next(loop.create_future().__await__()) and None,
    lambda loop: send(loop.create_future().__await__()),
)


@use
def throw_into_an_iterator(loop):
    with contextlib.suppress(ValueError):
        loop.create_future().__await__().throw(ValueError())


# -- tasks

for name in [*ATTRIBUTES, "_coro", "_fut_waiter", "_must_cancel", "_log_destroy_pending"]:
    with_task(lambda task, name=name: getattr(task, name))
for name, value in [*ASSIGNMENTS, ("_log_destroy_pending", True)]:
    with_task(lambda task, name=name, value=value: setattr(task, name, value))
with_task(lambda task: task.add_done_callback(print))
with_task(lambda task: task.remove_done_callback(print))
with_task(lambda task: task.cancelled())
with_task(lambda task: task.done())
with_task(lambda task: task.get_loop())
with_task(lambda task: task._make_cancelled_error())
with_task(lambda task: task.__await__())
with_task(lambda task: task.__iter__())
with_task(lambda task: iter(task))
with_task(lambda task: next(task))
with_task(send)
with_task(lambda task: task.cancelling())
with_task(lambda task: task.uncancel())
with_task(lambda task: task.get_name())
with_task(lambda task: task.set_name("name"))
with_task(lambda task: task.get_coro())
with_task(lambda task: task.get_context() if sys.version_info >= (3, 12) else None)
with_task(lambda task: task.get_stack())
with_task(lambda task: task.print_stack(file=io.StringIO()))
with_task(repr)
with_task(lambda task: gc.collect())
uses(lambda loop: velodrome.Task[int] and None)


@use
async def what_tasks_refuse(loop):
    for method in ("set_result", "set_exception"):
        with task_of(loop, nothing()) as task, contextlib.suppress(RuntimeError):
            getattr(task, method)(None)


@use
async def tasks_that_end(loop):
    task = loop.create_task(nothing())
    await task
    task.result()
    task.exception()
    task = velodrome.Task(nothing(), loop=loop)
    await task
    task = loop.create_task(fail())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task  # its exception was never retrieved


@use
async def a_task_that_awaits_somebody_elses_future(loop):
    future = asyncio.Future(loop=loop)

    async def wait():
        await future

    task = loop.create_task(wait())
    await asyncio.sleep(0)
    future.set_result(None)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task._log_destroy_pending = False


@use
def a_task_on_somebody_elses_loop(_loop):
    def work():
        loop = asyncio.SelectorEventLoop()
        errors = []
        loop.set_exception_handler(lambda loop, context: errors.append(context["exception"]))
        try:
            task = velodrome.Task(nothing(), loop=loop)
            loop.call_later(0.01, loop.stop)
            loop.run_forever()
            task._log_destroy_pending = False
        finally:
            loop.close()
        if errors:
            raise errors[0]

    in_thread(work)


# -- handles

uses(
    lambda loop: loop.call_soon(id, 1).cancel(),
    lambda loop: loop.call_soon(id, 1).cancelled(),
    lambda loop: loop.call_later(60, id, 1).cancel(),
    lambda loop: loop.call_later(0, id, 1).cancelled(),
)


@use
async def a_handle_from_another_thread(loop):
    handle = loop.call_soon_threadsafe(id, 1)
    handle.cancelled()
    gc.collect()
    handle._run()
    handle.cancel()
    abandon(loop.call_soon_threadsafe(id, 1))
    del handle
    await asyncio.sleep(0)
    gc.collect()


# -- loops

for name in [
    "_debug",
    "_closed",
    "_stopping",
    "_thread_id",
    "_task_factory",
    "_clock_resolution",
    "_ready",
    "_scheduled",
]:
    with_loop(lambda loop, name=name: getattr(loop, name))
for name, value in [("_debug", False), ("_stopping", False), ("_thread_id", None), ("_task_factory", None)]:
    with_loop(lambda loop, name=name, value=value: setattr(loop, name, value))
with_loop(lambda loop: setattr(loop, "attribute", 1))
with_loop(lambda loop: loop.time())
with_loop(lambda loop: loop.get_debug())
with_loop(lambda loop: loop.is_closed())
with_loop(lambda loop: loop.is_running())
with_loop(lambda loop: loop.stop())
with_loop(lambda loop: loop.create_future())
with_loop(lambda loop: loop._check_closed())
with_loop(lambda loop: loop._check_thread())
with_loop(lambda loop: loop._wake_fd())
with_loop(lambda loop: loop._write_to_self())
with_loop(lambda loop: loop._forget_kernel())
with_loop(lambda loop: loop._own_kernel())
with_loop(lambda loop: loop._add_callback(asyncio.Handle(id, (1,), loop)))
with_loop(lambda loop: loop._add_callback_signalsafe(asyncio.Handle(id, (1,), loop)))
with_loop(lambda loop: loop._timer_handle_cancelled(asyncio.TimerHandle(1, id, (1,), loop)))
with_loop(lambda loop: loop.call_at(loop.time(), id, 1))
with_loop(lambda loop: loop.call_soon_threadsafe(id, 1))
with_loop(lambda loop: (loop.call_soon(id, 1), in_thread(loop._run_once)))
with_loop(lambda loop: in_thread(lambda: loop.run_until_complete(nothing())))


@use
async def readers_and_writers(loop):
    one, two = socket.socketpair()
    with one, two:
        try:
            loop.add_reader(one, id, 1)
            loop.add_writer(one, id, 1)
            await asyncio.sleep(0)
            loop._add_reader(two, id, 1)
            loop._add_writer(two, id, 1)
            loop._remove_reader(two)
            loop._remove_writer(two)
            loop.remove_reader(one)
            loop.remove_writer(one)
        finally:
            for end in one, two:
                loop.remove_reader(end)
                loop.remove_writer(end)


# -- sleeps

uses(
    lambda loop: velodrome.sleep(0).send(None),
    lambda loop: velodrome.sleep(0).close(),
    lambda loop: iter(velodrome.sleep(0)).close(),
    lambda loop: velodrome.sleep(0).__await__().close(),
    lambda loop: next(velodrome.sleep(0)),
    lambda loop: send(velodrome.sleep(0)),
    lambda loop: repr(velodrome.sleep(0)),
)
SHOWN = ["__name__", "__qualname__", "cr_await", "cr_code", "cr_frame", "cr_origin", "cr_running"]
for name in [*SHOWN, "cr_suspended", *(["cr_state"] if sys.version_info >= (3, 15) else [])]:
    uses(lambda loop, name=name: getattr(velodrome.sleep(0), name) and None)
FRAME = [name for name in dir(_velodrome.OperationFrame) if name.startswith("f_")]
for name in [*SHOWN, *FRAME]:
    uses(lambda loop, name=name: getattr(velodrome.sleep(0).cr_frame, name) and None)
uses(
    lambda loop: made(_velodrome.OperationFrame),
    lambda loop: repr(velodrome.sleep(0).cr_frame),
)


@use
def frame_in_a_cycle(loop):
    result = []
    sleeping = velodrome.sleep(0, result)
    result.append(sleeping.cr_frame)
    later = [sleeping.cr_frame]  # younger, and so cleared after what it holds
    later.append(later)
    sleeping.send(None)
    del sleeping, result, later
    gc.collect()


@use
def throw_into_a_sleep(loop):
    with contextlib.suppress(ValueError):
        velodrome.sleep(0).throw(ValueError())


uses(
    lambda loop: made(_velodrome.OperationIter),
    lambda loop: velodrome.sleep(0).__await__().send(None),
    lambda loop: iter(velodrome.sleep(0).__await__()).close(),
    lambda loop: next(velodrome.sleep(0).__await__()),
    lambda loop: send(velodrome.sleep(0).__await__()),
)


@use
def throw_into_the_iterator_of_a_sleep(loop):
    with contextlib.suppress(ValueError):
        velodrome.sleep(0).__await__().throw(ValueError())


@use
def abandon_the_iterator_of_a_sleep(loop):
    abandon(velodrome.sleep(0).__await__())
    gc.collect()


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
with_transport(lambda transport: transport.get_extra_info("socket"))
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
with_datagrams(lambda transport: transport.get_extra_info("socket"))
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


# -- locks, queues, timeouts, groups: every attribute is read and set, every method called


def look_at(thing):
    """Read every attribute of an object that its class keeps natively, and set it to what it is."""
    for name in dir(type(thing)):
        if type(getattr(type(thing), name, None)).__name__ == "getset_descriptor" and name != "__dict__":
            with contextlib.suppress(AttributeError, RuntimeError):
                value = getattr(thing, name)
                setattr(thing, name, value)
    repr(thing)
    str(thing)


def seen(make):
    """A use that makes something, looks at it and drops it in a cycle."""

    async def used(loop):
        thing = make()
        look_at(thing)
        with contextlib.suppress(AttributeError):
            thing.itself = thing
        with contextlib.suppress(AttributeError, RuntimeError):
            thing._get_loop()
        del thing
        gc.collect()

    USES.append(used)


class IdleTransport(asyncio.Transport):
    def nothing(self, *arguments):
        pass

    close = write = writelines = get_extra_info = nothing

    def is_closing(self):
        return True


class QuietWriter(velodrome.StreamWriter):
    """One whose __init__ has failed would be heard of once more when it goes, as asyncio's is."""

    def __del__(self):
        pass


uses(lambda loop: QuietWriter(IdleTransport(), None, None, loop) and None)


def with_streams(function):
    """A use of a reader, a protocol and a writer over a transport that does nothing."""

    async def used(loop):
        reader = velodrome.StreamReader(loop=loop)
        protocol = velodrome.StreamReaderProtocol(reader, lambda reader, writer: None, loop=loop)
        protocol._stream_writer = None
        transport = IdleTransport()
        protocol.connection_made(transport)
        writer = velodrome.StreamWriter(transport, protocol, reader, loop)
        result = function(reader, protocol, writer)
        if asyncio.iscoroutine(result):
            await result

    USES.append(used)


with_streams(lambda reader, protocol, writer: look_at(reader))
with_streams(lambda reader, protocol, writer: look_at(protocol))
with_streams(lambda reader, protocol, writer: look_at(writer))
with_streams(lambda reader, protocol, writer: abandon(reader, protocol, writer))
with_streams(lambda reader, protocol, writer: gc.collect() and None)
with_streams(lambda reader, protocol, writer: reader.feed_data(b"data"))
with_streams(lambda reader, protocol, writer: protocol.data_received(b"data"))
with_streams(lambda reader, protocol, writer: reader.set_exception(ValueError()))
with_streams(lambda reader, protocol, writer: setattr(reader, "_transport", None) or reader.set_transport(1))
with_streams(lambda reader, protocol, writer: (protocol.pause_writing(), protocol.resume_writing()) and None)
with_streams(lambda reader, protocol, writer: protocol._get_close_waiter(writer) and None)
with_streams(lambda reader, protocol, writer: protocol._drain_helper())
for name in ["exception", "_wakeup_waiter", "feed_eof", "at_eof", "__aiter__"]:
    with_streams(lambda reader, protocol, writer, name=name: getattr(reader, name)() and None)
for name, argument in [
    ("read", 1),
    ("readexactly", 4),
    ("readuntil", b"t"),
    ("readline", None),
    ("__anext__", None),
]:
    with_streams(
        lambda reader, protocol, writer, name=name, argument=argument: (
            reader.feed_data(b"data\n"),
            getattr(reader, name)(*[] if argument is None else [argument]),
        )[1]
    )
for name in ["close", "is_closing"]:
    with_streams(lambda reader, protocol, writer, name=name: getattr(writer, name)() and None)
with_streams(lambda reader, protocol, writer: writer.write(b"data"))
with_streams(lambda reader, protocol, writer: writer.writelines([b"data"]))
with_streams(lambda reader, protocol, writer: writer.get_extra_info("socket"))
with_streams(lambda reader, protocol, writer: writer.drain())
with_streams(lambda reader, protocol, writer: protocol._closed.set_result(None) or writer.wait_closed())
uses(
    lambda loop: made(_velodrome.StreamReaderCore),
    lambda loop: made(_velodrome.StreamWriterCore),
    lambda loop: made(_velodrome.StreamReaderProtocolCore),
)
seen(lambda: velodrome.Lock())
seen(lambda: velodrome.Event())
seen(lambda: velodrome.Condition())
seen(lambda: velodrome.BoundedSemaphore())
seen(lambda: velodrome.Barrier(2))
seen(lambda: velodrome.Queue(1))
seen(lambda: velodrome.PriorityQueue(1))
seen(lambda: velodrome.Timeout(None))
seen(lambda: velodrome.TaskGroup())
seen(lambda: velodrome.sleep(0))
uses(
    lambda loop: made(_velodrome.CoroutineFunction),
    lambda loop: abandon(_velodrome.CoroutineFunction.__new__(_velodrome.CoroutineFunction)),
    lambda loop: gc.get_referents(velodrome.sleep) and None,
    lambda loop: look_at(velodrome.sleep),
    lambda loop: (velodrome.sleep.__reduce__(), velodrome.sleep.__doc__),
    lambda loop: getattr(velodrome.sleep, "_is_coroutine", None),
    lambda loop: getattr(velodrome.sleep, "_is_coroutine_marker", None),
    lambda loop: (velodrome.sleep.__module__, velodrome.sleep.__text_signature__, velodrome.sleep.__name__),
    lambda loop: velodrome.sleep.__qualname__,
    lambda loop: velodrome.Lock().acquire.__self__,
    lambda loop: gc.collect(),
    lambda loop: made(_velodrome.Operation),
    lambda loop: velodrome.gather(nothing(), nothing(), done_future(loop)),
    lambda loop: velodrome.gather(),
    lambda loop: velodrome.shield(velodrome.sleep(0)),
    lambda loop: velodrome.wait([velodrome.create_task(nothing())]),
    lambda loop: velodrome.wait_for(nothing(), 10),
    lambda loop: velodrome.ensure_future(nothing()),
    lambda loop: velodrome.Queue[int],
    lambda loop: velodrome.to_thread(int),
    lambda loop: (velodrome.current_task(), velodrome.all_tasks()),
    lambda loop: (velodrome.isfuture(1), velodrome.iscoroutine(1)),
    lambda loop: velodrome.run_coroutine_threadsafe(nothing(), loop),
)


def made_and_in_a_cycle(thing):
    """Make another of the same class, and let this one die after a cycle that is younger."""
    made(type(thing))
    cycle = [thing]
    cycle.append(cycle)


@use
async def chained(loop):
    theirs = concurrent.futures.Future()
    ours = velodrome.wrap_future(theirs, loop=asyncio.SelectorEventLoop())
    theirs.set_result(1)  # as from another thread
    ours.get_loop().close()
    theirs = concurrent.futures.Future()
    ours = velodrome.wrap_future(theirs, loop=loop)
    in_thread(functools.partial(theirs.set_result, 1))
    await asyncio.sleep(0)
    theirs = concurrent.futures.Future()
    ours = velodrome.wrap_future(theirs, loop=loop)
    ours.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    theirs = concurrent.futures.Future()
    ours = velodrome.wrap_future(theirs, loop=loop)
    made_and_in_a_cycle(ours._callbacks[0][0].__self__)
    del ours, theirs
    gc.collect()


@use
async def submitted(loop):
    velodrome.run_coroutine_threadsafe(velodrome.sleep(0), loop)
    for handle in loop._ready:
        submission = getattr(handle._callback, "__self__", None)
        if type(submission).__name__ == "run_coroutine_threadsafe":
            made_and_in_a_cycle(submission)
        del submission, handle
    await asyncio.sleep(0)
    gc.collect()


@use
async def late(loop):
    """On 3.11, what wait_for() waits with."""
    future = asyncio.Future(loop=loop)
    with task_of(loop, velodrome.wait_for(future, 10)):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for tell, _ in future._callbacks or ():
            made_and_in_a_cycle(getattr(tell, "__self__", None) or [])
            del tell
        future.set_result(1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    gc.collect()


if sys.version_info >= (3, 12):

    @use
    async def eager(loop):
        for factory in (velodrome.eager_task_factory, velodrome.create_eager_task_factory(asyncio.Task)):
            await factory(loop, nothing())
            _ = (factory.__code__, factory.__closure__, factory.__name__, factory.__signature__)
            _ = factory.__qualname__
            look_at(factory)
        made(type(factory))
        factory.itself = factory
        del factory
        gc.collect()


@use
async def runners(loop):
    async def interrupted():
        asyncio.get_running_loop().set_exception_handler(loop.get_exception_handler())
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(60)

    # As if nothing ran on this thread.
    task = asyncio.current_task()
    asyncio.tasks._leave_task(loop, task)
    asyncio._set_running_loop(None)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            velodrome.run(interrupted(), debug=False)
        with velodrome.Runner(loop_factory=velodrome.Loop) as runner:
            runner.run(nothing())
            runner.get_loop()
            runner._lazy_init()
            runner.itself = runner
            for name in ("_state", "_debug", "_loop_factory", "_loop", "_context", "_interrupt_count"):
                getattr(runner, name)
            _ = runner._set_event_loop
        runner.close()
        del runner
        gc.collect()
    finally:
        asyncio._set_running_loop(loop)
        asyncio.tasks._enter_task(loop, task)


@use
async def locks(loop):
    for lock in (velodrome.Lock(), velodrome.Semaphore(), velodrome.Condition()):
        async with lock:
            lock.locked()
        await lock.acquire()
        lock.release()
    with task_of(loop, velodrome.sleep(0)):
        event = velodrome.Event()
        event.set()
        event.is_set()
        await event.wait()
        event.clear()


@use
async def conditions(loop):
    condition = velodrome.Condition()

    async def wait():
        async with condition:
            await condition.wait()
            await condition.wait_for(lambda: True)

    with task_of(loop, wait()) as task:
        await asyncio.sleep(0)
        async with condition:
            condition.notify()
            condition.notify_all()
        await task


@use
async def barriers(loop):
    barrier = velodrome.Barrier(1)
    await barrier.wait()
    async with barrier:
        pass
    await barrier.reset()
    await barrier.abort()


@use
async def queues(loop):
    class Derived(velodrome.Queue):
        pass

    for queue in (velodrome.Queue(2), velodrome.LifoQueue(2), Derived(2)):
        await queue.put(1)
        queue.put_nowait(2)
        queue.qsize(), queue.empty(), queue.full(), str(queue)
        await queue.get()
        queue.get_nowait()
        queue.task_done()
        queue.task_done()
        await queue.join()
        queue._wakeup_next(queue._getters)
        if hasattr(queue, "shutdown"):
            queue.shutdown()


@use
async def timeouts(loop):
    async with velodrome.timeout(10) as timeout:
        timeout.reschedule(loop.time() + 5)
        timeout.when(), timeout.expired()
    velodrome.timeout_at(None)
    with contextlib.suppress(asyncio.TimeoutError):
        async with velodrome.timeout(0):
            await asyncio.sleep(1)
    with contextlib.suppress(AssertionError):
        timeout._on_timeout()


@use
async def groups(loop):
    struck = None
    async with velodrome.TaskGroup() as group:
        coroutine = nothing()
        try:
            group.create_task(coroutine)
        except SystemError as error:
            coroutine.close()
            struck = error
    if struck is not None:
        raise struck
    group._is_base_error(ValueError())
    group._abort()
    with task_of(loop, nothing()) as task:
        await task
        group._on_task_done(task)
    if hasattr(group, "cancel"):
        group.cancel()


async def listeners(loop):
    """What futures that are not ours call, one of each kind, with the future."""
    for make in (velodrome.gather, velodrome.shield):
        future = asyncio.Future(loop=loop)
        outer = make(future)
        yield future, future._callbacks[0][0], outer
    future = asyncio.Future(loop=loop)
    with task_of(loop, velodrome.wait([future])) as waiting:
        await asyncio.sleep(0)
        yield future, future._callbacks[0][0], waiting


@use
async def completed(loop):
    for each in velodrome.as_completed([nothing()]):
        await each
    completing = velodrome.as_completed([velodrome.Future(loop=loop)])
    made(type(completing))
    if not hasattr(completing, "throw"):  # a generator up to 3.12
        async for each in velodrome.as_completed([nothing()]):
            await each
        return
    look_at(completing)
    for name in ("__name__", "__qualname__", "gi_running", "gi_frame", "gi_yieldfrom"):
        getattr(completing, name)
    completing.send(None).close()
    send(completing)
    iter(completing)
    abandon(completing)
    del completing
    gc.collect()
    with contextlib.suppress(ValueError):
        velodrome.as_completed([]).throw(ValueError)
    velodrome.as_completed([]).close()


@use
async def insides_of_completed(loop):
    futures = [velodrome.Future(loop=loop) for _ in range(4)]
    completing = velodrome.as_completed(futures)
    if hasattr(completing, "throw"):
        next(completing).close()
        completing = futures[0]._callbacks[0][0].__self__
    made(type(completing))
    iter(completing), aiter(completing)
    futures[0].set_result(1)
    await asyncio.sleep(0)
    next(completing).close()
    send(completing)
    send(anext(completing))
    completing._handle_completion(futures[1])
    completing._handle_timeout()
    abandon(completing)
    del completing, futures
    gc.collect()


@use
async def listeners_as_callables(loop):
    async for future, listener, _ in listeners(loop):
        made(type(listener.__self__))
        future.set_result(None)
        await asyncio.sleep(0)


@use
async def listeners_in_cycles(loop):
    kept = []
    async for future, listener, _ in listeners(loop):
        kept.append(listener)
        future.set_result(None)
    del future, listener, _
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    # Younger than what they hold, so that the collector comes to the listeners first.
    for listener in kept:
        cycle = [listener]
        cycle.append(cycle)
    del listener, cycle, kept
    gc.collect()


class TwoWords(ctypes.Structure):
    """A timer, or a registration, in the table for Rust futures."""

    _fields_ = [("first", ctypes.c_uint64), ("second", ctypes.c_uint64)]


WORD = ctypes.c_void_p
CALL = ctypes.CFUNCTYPE(None, WORD)


class Host(ctypes.Structure):
    """The table for Rust futures."""

    _fields_ = [
        ("version", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("context", WORD),
        ("retain", ctypes.CFUNCTYPE(None, WORD)),
        ("release", ctypes.CFUNCTYPE(None, WORD)),
        ("schedule", ctypes.CFUNCTYPE(ctypes.c_bool, WORD, CALL, WORD)),
        ("timer_set", ctypes.CFUNCTYPE(TwoWords, WORD, ctypes.c_uint64, CALL, WORD)),
        ("timer_cancel", ctypes.CFUNCTYPE(ctypes.c_bool, WORD, TwoWords)),
        (
            "descriptor_add",
            ctypes.CFUNCTYPE(
                ctypes.c_int, WORD, ctypes.c_int, ctypes.c_uint32, CALL, WORD, ctypes.POINTER(TwoWords)
            ),
        ),
        ("descriptor_remove", ctypes.CFUNCTYPE(ctypes.c_bool, WORD, TwoWords)),
        ("now", ctypes.CFUNCTYPE(ctypes.c_uint64, WORD)),
        ("turn", ctypes.CFUNCTYPE(ctypes.c_uint64, WORD)),
        ("at_close", ctypes.CFUNCTYPE(None, WORD, CALL, WORD)),
    ]


CALLED = []
NOTE = CALL(CALLED.append)


def host_of(loop):
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = WORD, [ctypes.py_object, ctypes.c_char_p]
    return Host.from_address(pointer(loop.__velodrome_host__, b"velodrome.Host"))


@use
async def rust_futures(loop):
    host = host_of(loop)
    context = host.context
    armed = arm(None)
    arm(armed)
    host.retain(context)
    left = arm(None)
    arm(left)
    if left == armed:  # a share that was not taken cannot be given back
        host.release(context)
    host.schedule(context, NOTE, 1)
    await asyncio.to_thread(host.schedule, context, NOTE, 2)
    timer = host.timer_set(context, host.now(context) + 10**12, NOTE, 3)
    host.timer_cancel(context, timer)
    reader, writer = os.pipe()
    watch = TwoWords()
    if host.descriptor_add(context, reader, 1, NOTE, 4, watch) == 0:
        # Twice: a panic has it do nothing, and the number of the descriptor will be another's.
        host.descriptor_remove(context, watch)
        host.descriptor_remove(context, watch)
    host.turn(context)
    os.close(reader)
    os.close(writer)
    with another_loop() as closed:
        host = host_of(closed)
        host.at_close(host.context, NOTE, 5)
    del closed, host
    gc.collect()


# ---------------------------------------------------------------------------------------------------------
# What must go on working.


async def program(loop):
    """A bit of everything, whose answer is known."""
    answer = []
    answer.append(await velodrome.sleep(0, "slept"))
    answer.append(await asyncio.gather(velodrome.sleep(0.001, 1), asyncio.sleep(0.001, 2)))
    future = loop.create_future()
    loop.call_soon(future.set_result, "soon")
    answer.append(await future)
    future = loop.create_future()
    loop.call_later(0.001, future.set_result, "later")
    answer.append(await future)
    future = loop.create_future()
    threading.Thread(target=loop.call_soon_threadsafe, args=(future.set_result, "thread")).start()
    answer.append(await future)
    task = loop.create_task(forever(loop), name="name")
    answer.append(task.get_name())
    await asyncio.sleep(0)
    task.cancel("why")
    try:
        await task
    except asyncio.CancelledError:
        answer.append("cancelled")
    one, two = socket.socketpair()
    with one, two:
        future = loop.create_future()
        loop.add_reader(one, lambda: future.done() or future.set_result(one.recv(10)))
        two.send(b"read")
        answer.append(await future)
        loop.remove_reader(one)
    try:
        async with asyncio.timeout(0.001):
            await velodrome.sleep(60)
    except TimeoutError:
        answer.append("timeout")
    return answer


ANSWER = ["slept", [1, 2], "soon", "later", "thread", "name", "cancelled", b"read", "timeout"]


# ---------------------------------------------------------------------------------------------------------
# One entry, in a process of its own.


class Witness:
    """Who heard of the panic, and what they heard."""

    def __init__(self):
        self.heard = []

    def hear(self, where, exception):
        if isinstance(exception, SystemError):
            self.heard.append((where, str(exception)))
        elif exception is not None and not isinstance(exception, ValueError):
            # ValueError is what the uses themselves leave unretrieved.
            self.heard.append((where, repr(exception)))

    def unraisable(self, unraisable):
        self.hear("unraisable", unraisable.exc_value)

    def handler(self, loop, context):
        self.hear("handler", context.get("exception"))


class Listening(logging.Handler):
    """Futures of concurrent.futures log what their callbacks raise."""

    def __init__(self, witness):
        super().__init__()
        self.witness = witness

    def emit(self, record):
        self.witness.hear("logged", record.exc_info[1])


def quiet(witness):
    sys.unraisablehook = witness.unraisable
    logging.getLogger("concurrent.futures").addHandler(Listening(witness))
    warnings.simplefilter("ignore")
    # The collector runs when it is told to.
    gc.disable()


async def use_once(function, loop):
    awaitable = function(loop)
    if awaitable is not None and hasattr(awaitable, "__await__"):
        await awaitable


def use_all():
    """Use everything, with nothing armed; return what goes wrong."""
    witness, failures = Witness(), []
    quiet(witness)

    async def main(loop):
        for function in USES:
            try:
                await use_once(function, loop)
            except Exception:
                failures.append(traceback.format_exc())

    with another_loop() as loop:
        loop.set_exception_handler(witness.handler)
        loop.run_until_complete(main(loop))
    gc.collect()
    return failures + witness.heard


def strike(entry):
    """Arm an entry and use everything until it strikes."""
    witness = Witness()
    quiet(witness)
    report = {"struck": False, "heard": witness.heard}

    async def main(loop):
        arm(entry)
        for function in USES:
            try:
                await use_once(function, loop)
                # What was queued runs now.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                left = arm(None)
            except SystemError as error:
                witness.hear("raised", error)
                left = arm(None)
            if left is None:
                report["struck"] = True
                break
            arm(left)
        gc.collect()
        report["program"] = await program(loop) == ANSWER

    loop = velodrome.new_event_loop()
    loop.set_exception_handler(witness.handler)
    loop.run_until_complete(main(loop))
    loop.close()
    del loop
    gc.collect()
    report["again"] = velodrome.run(whole_program()) == ANSWER
    return report


async def whole_program(witness=None):
    loop = asyncio.get_running_loop()
    if witness is not None:
        loop.set_exception_handler(witness.handler)
    return await program(loop)


def disarm():
    """Whether what was armed has struck."""
    try:
        return arm(None) is None
    except SystemError:  # it was this very function
        return False


class StoppedByClock(BaseException):
    pass


def strike_anywhere(entry):
    """Arm an entry and run a program, which the panic may break wherever it comes to pass."""
    witness = Witness()
    quiet(witness)
    report = {"heard": witness.heard}

    def stop(*_):
        raise StoppedByClock

    # A task that is not woken waits for ever, and so does who closes its loop.
    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 2, 0.5)
    threading.excepthook = lambda raised: witness.hear("thread", raised.exc_value)
    arm(entry)
    try:
        velodrome.run(whole_program(witness))
    except BaseException as error:
        witness.hear("raised", error)
        # The clock's exception may hide the panic's.
        while (error := error.__context__) is not None:
            witness.hear("context", error)
    signal.setitimer(signal.ITIMER_REAL, 0)
    report["struck"] = disarm()
    gc.collect()
    report["running"] = asyncio._get_running_loop() is not None
    report["again"] = velodrome.run(whole_program()) == ANSWER
    return report


def refuse(entry):
    """Let an entry panic while an exception is on its way."""
    witness = Witness()
    quiet(witness)
    with another_loop() as loop:
        arm(entry)
        try:
            loop.create_task(1)
        except TypeError as error:
            witness.hear("raised", error)
        except BaseException as error:
            witness.hear("raised instead", error)
    gc.collect()
    return {"struck": disarm(), "heard": witness.heard}


# ---------------------------------------------------------------------------------------------------------
# A process that knows nothing of tests forks one for each entry.


def in_child(function, *arguments, timeout=30):
    """Call a function in a forked process; return what it returned, or how the process ended."""
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(receiver)
            answer = function(*arguments)
            with open(sender, "w") as file:
                json.dump(answer, file)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(sender)
    with open(receiver) as file:
        ready, _, _ = select.select([file], [], [], timeout)
        if not ready:
            os.kill(child, signal.SIGKILL)
        text = file.read()
    _, status = os.waitpid(child, 0)
    if status == 0:
        return {"answer": json.loads(text)}
    code = os.waitstatus_to_exitcode(status)
    ended = "it did not end" if not ready else signal.Signals(-code).name if code < 0 else f"exit {code}"
    return {"ended": ended}


def serve():
    answers = open(os.dup(1), "w")
    os.dup2(2, 1)  # what is used may print
    gc.freeze()  # children collect often
    # In the background of a shell SIGINT may be ignored, and so not be handled by Python.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(in_child(globals()[name], *arguments)), file=answers, flush=True)


@pytest.fixture(scope="module")
def server():
    command = [sys.executable, __file__]
    # To look up the names of a backtrace takes each child longer than all the rest.
    environ = {**os.environ, "RUST_BACKTRACE": "0"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environ, text=True, **pipes) as server:
        yield server
        server.stdin.close()


@pytest.fixture
def call(server):
    """A function that calls one of those above, by name, in a process of its own."""

    def call(name, *arguments):
        print(json.dumps([name, *arguments]), file=server.stdin, flush=True)
        report = json.loads(server.stdout.readline())
        assert "ended" not in report, report["ended"]
        return report["answer"]

    return call


def test_entries_are_listed_once():
    assert len(ENTRIES) > 150
    assert len(set(ENTRIES)) == len(ENTRIES)


def test_without_a_panic_everything_works(call):
    assert call("use_all") == []
    report = call("strike", "nothing")
    assert report == {"struck": False, "heard": [], "program": True, "again": True}


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_panic_is_an_exception_and_the_loop_goes_on(call, entry):
    report = call("strike", entry)
    assert report["struck"], "no use of it struck"
    heard = [message for _, message in report["heard"]]
    assert heard == ([] if cannot_tell(entry) else [f"velodrome panicked in {entry}: armed"])
    if cannot_raise(entry):
        assert [where for where, _ in report["heard"]] == ["unraisable"]
    assert report["program"], "the loop did not go on"
    assert report["again"], "a new loop did not work"


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_panic_in_the_middle_of_a_program_is_heard_and_harms_no_other(call, entry):
    report = call("strike_anywhere", entry)
    if report["struck"] and not cannot_tell(entry):
        assert f"velodrome panicked in {entry}: armed" in [message for _, message in report["heard"]]
    assert not report["running"], "a loop is still said to run"
    assert report["again"], "a new loop did not work"


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if cannot_raise(entry)])
def test_an_exception_on_its_way_outlives_a_panic_beside_it(call, entry):
    """Freeing a task that was refused must not lose the reason of the refusal."""
    report = call("refuse", entry)
    raised = [where for where, _ in report["heard"] if where.startswith("raised")]
    assert raised == ["raised"]
    if report["struck"]:
        assert ["unraisable", f"velodrome panicked in {entry}: armed"] in report["heard"]


if __name__ == "__main__":
    serve()
