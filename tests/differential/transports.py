"""Scripts of what is done to a transport, by its owner and by its peer, and what all of them notice.

A script is data: a protocol's behaviour (what its methods do when the transport calls them), and operations,
tuples of a name and arguments. `Scene` plays one on a loop, over a pair of connected sockets of which the
loop has one, and writes down every call, every result and every report, in order, turn by turn.
"""

import array
import asyncio
import contextlib
import contextvars
import inspect
import socket
import sys
import zlib
from asyncio import selector_events

from hypothesis import strategies as st

from .compare import one_turn, plain

# Between 3.12 and 3.14 asyncio's writelines() forgets to pause the protocol, and in some versions to ask
# whether the connection is still there.
WRITELINES_IS_CAREFUL = "writelines" not in vars(
    selector_events._SelectorSocketTransport
) or "_maybe_pause_protocol" in inspect.getsource(selector_events._SelectorSocketTransport.writelines)

variable = contextvars.ContextVar("variable", default="unset")


class Halt(BaseException):
    """An exception that is no Exception."""


EXCEPTIONS = {"value": ValueError, "os": OSError, "broken": BrokenPipeError, "halt": Halt, "key": KeyError}

#: What can be given to write().
DATA = {
    "bytes": lambda: b"abc",
    "bytearray": lambda: bytearray(b"defg"),
    "memoryview": lambda: memoryview(b"hijkl")[1:],
    "empty": lambda: b"",
    "empty view": lambda: memoryview(b""),
    "numbers": lambda: memoryview(array.array("i", [1, 2, 3])),
    "large": lambda: bytes(range(256)) * 4096,
    "large view": lambda: memoryview(bytearray(range(256)) * 4096),
    "text": lambda: "text",
    "none": lambda: None,
    "number": lambda: 5,
    "list": lambda: [1],
    "array": lambda: array.array("B", [1]),
}

#: What can be given to writelines().
LINES = {
    "two": lambda: [b"one", b"two"],
    "none": list,
    "kinds": lambda: (bytearray(b"one"), memoryview(b"two"), b"three"),
    "generator": lambda: (b"line" for _ in range(3)),
    "large": lambda: [bytes(200_000), b"x" * 200_000, bytearray(200_000)],
    "text": lambda: [b"one", "two"],
    "number": lambda: 5,
}

#: What get_buffer() can return.
BUFFERS = {
    "buffer": lambda: bytearray(100),
    "small": lambda: bytearray(3),
    "view": lambda: memoryview(bytearray(10))[2:],
    "empty": lambda: bytearray(),
    "bytes": lambda: bytes(10),
    "none": lambda: None,
    "text": lambda: "text",
}

LIMITS = [None, 0, 1, 100, 100_000, -1, 2.5]

CALLS = [
    *("write_eof", "can_write_eof", "close", "abort", "pause_reading", "resume_reading"),
    *("is_reading", "is_closing", "get_write_buffer_size", "get_write_buffer_limits"),
]

_reactions = st.one_of(
    st.none(),
    st.tuples(st.just("raise"), st.sampled_from(sorted(EXCEPTIONS))),
    st.tuples(st.just("call"), st.sampled_from(["close", "abort", "pause_reading", "write_eof"])),
    st.tuples(st.just("write"), st.sampled_from(["bytes", "large"])),
    st.tuples(st.just("return"), st.sampled_from([True, False, "text"])),
)

_harmless = _reactions.filter(lambda reaction: not reaction or reaction[0] != "call")

#: Mostly nothing special, or scripts end before they have begun.
_behaviour = st.fixed_dictionaries(
    {},
    optional={
        "connection_made": _reactions,
        "data_received": _reactions,
        "eof_received": _reactions,
        "pause_writing": _reactions,
        # Nothing that ends the connection: asyncio then ends it, and trips over doing so again.
        "resume_writing": _harmless,
        "connection_lost": _harmless,
        "buffer_updated": _reactions,
        "get_buffer": st.one_of(_reactions, st.tuples(st.just("buffer"), st.sampled_from(sorted(BUFFERS)))),
    },
)

_protocols = st.tuples(st.sampled_from(["plain", "buffered"]), _behaviour)

_operations = st.one_of(
    st.tuples(st.just("call"), st.sampled_from(CALLS)),
    st.tuples(st.just("write"), st.sampled_from(sorted(DATA))),
    st.tuples(st.just("writelines"), st.sampled_from(sorted(LINES))),
    st.tuples(st.just("limits"), st.sampled_from(LIMITS), st.sampled_from(LIMITS)),
    st.tuples(st.just("set_protocol"), _protocols),
    st.tuples(st.just("set_no_protocol"), st.sampled_from([None, "text"])),
    st.tuples(st.just("extra"), st.sampled_from(["socket", "peername", "sockname", "sslcontext", "other"])),
    st.tuples(st.just("peer_send"), st.integers(1, 300)),
    st.tuples(st.just("peer_send"), st.integers(1, 300)),
    st.just(("peer_read",)),
    st.just(("peer_read",)),
    st.just(("peer_eof",)),
    st.just(("peer_close",)),
    st.tuples(st.just("turns"), st.integers(1, 3)),
    st.tuples(st.just("turns"), st.integers(1, 3)),
)

#: The way the transport is made, its protocol, and what happens.
scripts = st.tuples(
    st.sampled_from(["create_connection", "connect_accepted_socket"]),
    _protocols,
    st.lists(_operations, max_size=12),
)


class Scene:
    """Plays a script on a loop."""

    def __init__(self, loop, script):
        self.loop = loop
        self.how, self.protocol, self.operations = script
        self.trace = []
        self.protocols = []
        self.transport = None
        self.lost = False
        self.peer_received = 0

    def play(self):
        """Play it all; return what was written down."""
        self.loop.set_exception_handler(self.report)
        ours, self.peer = socket.socketpair()
        for sock in ours, self.peer:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 50_000)
        variable.set("at the beginning")
        make = getattr(self.loop, self.how)
        arguments = [ours] if self.how == "connect_accepted_socket" else []
        options = {} if arguments else {"sock": ours}
        task = self.loop.create_task(make(lambda: self.make_protocol(self.protocol), *arguments, **options))
        self.turns(6)
        self.note("made", task.done())
        if task.done() and not task.cancelled():
            if error := task.exception():
                self.note("failed", error)
            elif self.transport is None:
                self.transport = task.result()[0]
        if self.transport is not None:
            variable.set("later")
            for name, *arguments in self.operations:
                try:
                    self.note(name, *arguments, getattr(self, name)(*arguments))
                except BaseException as error:
                    self.note(name, *arguments, "raised", error)
                self.turns(1)
            self.end()
        task.cancel()
        self.turns(2)
        self.peer.close()
        self.note("socket", ours.fileno())
        ours.close()
        return self.trace

    def end(self):
        """Hear the peer out, and close what is still open."""
        for _ in range(40):
            self.peer_read()
            self.turns(1)
        self.note("peer received", self.peer_received)
        self.call("abort")
        self.turns(4)
        self.note("closing", self.transport.is_closing())

    def note(self, *what):
        self.trace.append(tuple(map(self.shown, what)))

    def shown(self, thing):
        """What can be compared between two loops."""
        if isinstance(thing, BaseException):
            return type(thing).__name__, plain(str(thing))
        if thing is self.transport and thing is not None:
            return "the transport"
        if isinstance(thing, Recorder):
            return f"protocol {thing.number}"
        if isinstance(thing, bytes):
            return len(thing), hash(thing)
        if isinstance(thing, tuple):
            return tuple(map(self.shown, thing))
        if isinstance(thing, (dict, bool, int, float, str, type(None))):
            return repr(thing)
        return type(thing).__name__

    def report(self, loop, context):
        shown = {key: self.shown(value) for key, value in context.items()}
        if "handle" in context:
            # A callback of the transport's own, and how that is called.
            del shown["handle"]
            shown["message"] = context["message"].split()[:3]
        self.note("report", tuple(sorted(shown.items())))

    def turns(self, number):
        for _ in range(number):
            try:
                one_turn(self.loop)
            except BaseException as error:
                self.note("the loop raised", error)
            self.trace.append("turn")

    def make_protocol(self, protocol):
        kind, behaviour = protocol
        made = (Plain if kind == "plain" else Buffered)(self, len(self.protocols), behaviour)
        self.protocols.append(made)
        return made

    # -- The operations

    def call(self, name):
        # When all is over asyncio's own stumble over attributes that are None by then.
        with contextlib.suppress(*([AttributeError] if self.lost and name == "abort" else [])):
            return getattr(self.transport, name)()

    def write(self, kind):
        # asyncio's own counts items where it means bytes, once something waits to be sent.
        if kind == "numbers" and self.transport.get_write_buffer_size():
            return None
        return self.transport.write(DATA[kind]())

    def writelines(self, kind):
        transport = self.transport
        if kind == "large" or transport.get_write_buffer_size() or transport.is_closing():
            if not WRITELINES_IS_CAREFUL:
                return None
        # From 3.15 on asyncio's keeps the lines before a bad one, and does not send them.
        if kind == "text" and sys.version_info >= (3, 15):
            return None
        return transport.writelines(LINES[kind]())

    def limits(self, high, low):
        self.transport.set_write_buffer_limits(high, low)
        return self.transport.get_write_buffer_limits()

    def set_protocol(self, protocol):
        made = self.make_protocol(protocol)
        self.transport.set_protocol(made)
        return self.transport.get_protocol() is made

    def set_no_protocol(self, protocol):
        """Something that is no protocol, and the true one again before it is missed."""
        before = self.transport.get_protocol()
        try:
            self.transport.set_protocol(protocol)
            return self.transport.get_protocol()
        finally:
            self.transport.set_protocol(before)

    def extra(self, name):
        return self.transport.get_extra_info(name, "nothing")

    def peer_send(self, count):
        if self.peer.fileno() < 0:
            return None
        try:
            return self.peer.send(b"p" * count)
        except OSError as error:
            return type(error).__name__

    def peer_read(self):
        """Read all there is; how much is there, is the kernel's business."""
        try:
            while self.peer.fileno() >= 0 and (data := self.peer.recv(1 << 20)):
                self.peer_received = zlib.crc32(data, self.peer_received)
        except OSError:
            pass

    def peer_eof(self):
        try:
            return self.peer.shutdown(socket.SHUT_WR)
        except OSError as error:
            return type(error).__name__

    def peer_close(self):
        self.peer.close()


class Recorder:
    """A protocol that writes down its calls, and does what it is told to do in them."""

    def __init__(self, scene, number, behaviour):
        self.scene, self.number, self.behaviour = scene, number, behaviour

    def called(self, name, *arguments):
        scene = self.scene
        scene.note(self, name, *arguments, variable.get())
        match self.behaviour.get(name):
            case ("raise", kind):
                raise EXCEPTIONS[kind](f"from {name}")
            case ("call", method):
                getattr(scene.transport, method)()
            case ("write", kind) if not scene.transport.is_closing():
                scene.transport.write(DATA[kind]())
            case ("return", value):
                return value
            case ("buffer", kind):
                return BUFFERS[kind]()

    def connection_made(self, transport):
        self.scene.transport = transport
        self.called("connection_made", transport)

    def connection_lost(self, error):
        self.scene.lost = True
        return self.called("connection_lost", error)

    def pause_writing(self):
        return self.called("pause_writing")

    def resume_writing(self):
        return self.called("resume_writing")

    def eof_received(self):
        return self.called("eof_received")


class Plain(Recorder, asyncio.Protocol):
    def data_received(self, data):
        return self.called("data_received", data)


class Buffered(Recorder, asyncio.BufferedProtocol):
    def get_buffer(self, sizehint):
        found = self.called("get_buffer")
        return bytearray(1000) if "get_buffer" not in self.behaviour else found

    def buffer_updated(self, count):
        return self.called("buffer_updated", count)
