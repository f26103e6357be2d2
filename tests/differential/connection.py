"""A connection whose protocol notes every call and what it sees, to be compared between two loops."""

import asyncio
import contextvars
import logging
import re
import socket
from contextlib import suppress

import pytest

from .compare import check_same, outcome, plain, turns

#: Says in which context a method of the protocol was called: each call adds its name to its context.
trail = contextvars.ContextVar("trail", default="")

#: What a method of a protocol may raise: what is reported, and what stops the loop.
FAILURES = [ValueError, OSError, KeyboardInterrupt, SystemExit, asyncio.CancelledError]


def raising(error):
    def fail(connection, *arguments):
        raise error("on purpose")

    return fail


def once(action):
    """Act in the first of the calls only."""

    def act(connection, *arguments):
        connection.on.clear()
        return action(connection)

    return act


class Connection:
    """A socket pair, a transport of the loop over `near`, and `far` as the peer.

    `on` maps names of protocol methods to functions that are called in them, with the connection and the
    method's arguments; what they return is what the method returns. `notes` is what happened.
    """

    def __init__(self, loop, *, buffered=False, on=None, wrap=None):
        trail.set("")  # what a test before called in this thread's context has left there
        self.loop, self.on, self.notes = loop, dict(on or {}), []
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.far.setblocking(False)
        if wrap is not None:
            self.near = wrap(self, self.near)
        self._connect((_BufferedProtocol if buffered else _Protocol)(self))

    def _connecting(self):
        return self.loop.connect_accepted_socket(lambda: self.protocol, self.near)

    def _connect(self, protocol):
        self.protocol = protocol
        self.loop.set_exception_handler(self._failed)
        self._log = _Log(self)
        logging.getLogger("asyncio").addHandler(self._log)
        self.transport = None
        self.note("connected", outcome(self.loop.run_until_complete, self._connecting())[0])

    def close(self):
        """End it all, and return the notes."""
        self.on.clear()
        if not self.loop.is_closed():
            self._end()
            self.turns(2)
        logging.getLogger("asyncio").removeHandler(self._log)
        self.near.close()
        self.far.close()
        return self.notes

    def _end(self):
        self.transport.abort()

    def note(self, *what):
        self.notes.append(_plain(what))

    def call(self, function, *arguments, **keywords):
        """Call something, and note what comes of it."""
        self.note(outcome(function, *arguments, **keywords))

    def turns(self, number):
        """Run iterations, and note the end of each."""
        for _ in range(number):
            how, what = outcome(turns, self.loop, 1)
            self.note("turn", how, what)

    def fill(self):
        """Have the kernel take no more."""
        try:
            while True:
                self.near.send(b"x" * 65536)
        except OSError as error:
            self.note("filled", type(error).__name__)

    def drain(self):
        """Receive all there is; note the last bytes, and the end."""
        received = b""
        try:
            while data := self.far.recv(1 << 20):
                received = (received + data)[-20:]
            self.note("received", received, "end")
        except OSError as error:
            self.note("received", received, type(error).__name__)

    def _called(self, name, *arguments):
        self.note(name, *arguments, trail.get())
        trail.set(f"{trail.get()}/{name}")
        if name in self.on:
            return self.on[name](self, *arguments)
        return None

    def _failed(self, loop, context):
        self.note("handler", sorted(context), context["message"], repr(context.get("exception")))


class _Log(logging.Handler):
    def __init__(self, connection):
        super().__init__()
        self._connection = connection

    def emit(self, record):
        self._connection.note("log", record.levelname, record.getMessage(), bool(record.exc_info))


class _Base:
    def __init__(self, connection):
        self._connection = connection

    def connection_made(self, transport):
        self._connection.transport = transport
        self._connection._called("connection_made")

    def connection_lost(self, exc):
        self._connection._called("connection_lost", repr(exc))

    def eof_received(self):
        return self._connection._called("eof_received")

    def pause_writing(self):
        self._connection._called("pause_writing")

    def resume_writing(self):
        self._connection._called("resume_writing")


class _Protocol(_Base, asyncio.Protocol):
    def data_received(self, data):
        self._connection._called("data_received", data)


class _BufferedProtocol(_Base, asyncio.BufferedProtocol):
    def get_buffer(self, sizehint):
        self._buffer = bytearray(8)
        given = self._connection._called("get_buffer", sizehint)
        return self._buffer if given is None else given

    def buffer_updated(self, nbytes):
        self._connection._called("buffer_updated", nbytes, bytes(self._buffer[:nbytes]))


def _plain(what):
    if isinstance(what, str):
        text = re.sub(r"_Selector(Socket)?Transport|(?<=<)_SelectorSoc\.\.\.", "SocketTransport", plain(what))
        text = re.sub(r"\b_write_(sendmsg|send)\b", "_write_ready", text)
        text = re.sub(r"_Unix(Read|Write)PipeTransport", r"\1PipeTransport", text)
        return re.sub(r"\bfd=\d+", "fd=N", text)
    return tuple(map(_plain, what)) if isinstance(what, tuple) else what


def same(program, *arguments, debug=False, kind=Connection, **options):
    """Check that program(connection, ...) leaves the same notes on both loops; return them.

    `options` are those of the kind of connection.
    """

    def run(loop):
        loop.set_debug(debug)
        connection = kind(loop, **options)
        try:
            contextvars.copy_context().run(program, connection, *arguments)
        finally:
            notes = list(connection.close())
            if loop.is_closed():
                # Nobody else ends it any more.
                with suppress(AttributeError):
                    contextvars.copy_context().run(connection.transport._call_connection_lost, None)
        return notes

    return check_same(run)[1]


@pytest.fixture(params=[False, True], ids=["quiet", "debug"])
def debug(request):
    logger = logging.getLogger("asyncio")
    level = logger.level
    logger.setLevel(logging.DEBUG if request.param else level)
    yield request.param
    logger.setLevel(level)
