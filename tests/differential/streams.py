"""Scripts of what is done to a reader or a writer fed by hand, and what everybody notices.

A script is a list of operations, each a tuple of a name and arguments. `ReaderScene` and `WriterScene` play
one on a loop with one implementation's classes, and write down every result, every call of the transport and
what is left, in order.
"""

import asyncio
from array import array

from hypothesis import strategies as st

from .compare import one_turn, plain

#: What is fed: pieces of lines and of longer separators, so that they fall apart at any place.
CHUNKS = {
    **{repr(chunk): chunk for chunk in (b"", b"a", b"\n", b"ab\n", b"\r", b"\r\n", b"END", b"E", b"ND\n")},
    "line": b"x" * 9 + b"\n",
    "long": b"y" * 23,
    "bytearray": bytearray(b"cd\nef"),
    "view": memoryview(b"gh\nij")[1:],
    "array": array("H", [10, 2570]),
    "numbers": [97, 10, 98],
    "too large a number": [97, 256],
    "text": "text",
    "nothing": None,
}

SEPARATORS = {
    **{repr(one): one for one in (b"\n", b"\r\n", b"END", b"", b"a", "\n", None, bytearray(b"\n"), ())},
    **{repr(some): some for some in ((b"\n",), (b"END", b"\n"), (b"ab\n", b"\n"), (b"a", b""), ("x",))},
}

NUMBERS = (-2, -1, 0, 1, 2, 5, 9, 10, 30, None, 2.0, True)


class Stop(BaseException):
    """An exception that is no Exception."""


EXCEPTIONS = {"value": ValueError("on purpose"), "reset": ConnectionResetError("reset"), "stop": Stop("stop")}

reading = st.one_of(
    st.tuples(st.just("read"), st.sampled_from(NUMBERS)),
    st.tuples(st.just("readexactly"), st.sampled_from(NUMBERS)),
    st.tuples(st.just("readuntil"), st.sampled_from(sorted(SEPARATORS))),
    st.tuples(st.just("readline")),
    st.tuples(st.just("next")),
    st.tuples(st.just("lines")),
)

looking = st.one_of(
    st.tuples(st.just("look")),
    st.tuples(st.just("vars")),
    st.tuples(st.just("cut"), st.integers(1, 3)),
    st.tuples(st.just("put"), st.sampled_from([b"", b"new\n", b"z" * 25])),
    st.tuples(st.just("limit"), st.sampled_from([1, 5, 20, 5.5])),
    st.tuples(st.just("override"), st.sampled_from(["_wait_for_data", "readuntil", "read", "feed_data"])),
)

reader_operations = st.one_of(
    st.tuples(st.just("feed"), st.sampled_from(sorted(CHUNKS))),
    st.tuples(st.just("feed"), st.sampled_from(["line", "long", repr(b"ab\n"), repr(b"END")])),
    reading,
    reading,
    st.tuples(st.just("turn")),
    st.tuples(st.just("turn")),
    st.tuples(st.just("cancel"), st.integers(0, 3)),
    st.tuples(st.just("eof")),
    st.tuples(st.just("fail"), st.sampled_from(sorted(EXCEPTIONS))),
    st.tuples(st.just("show")),
    looking,
)

reader_scripts = st.tuples(
    st.sampled_from([1, 5, 10, 65536]),
    st.sampled_from(["none", "pauses", "cannot pause"]),
    st.lists(reader_operations, min_size=3, max_size=25),
)

writer_operations = st.one_of(
    *(
        st.tuples(st.just(name))
        for name in ("drain", "drain", "wait_closed", "turn", "turn", "show", "close")
    ),
    st.tuples(st.just("pause")),
    st.tuples(st.just("resume")),
    st.tuples(st.just("vars"), st.sampled_from(["protocol", "writer"])),
    st.tuples(st.just("cancel"), st.integers(0, 3)),
    st.tuples(st.just("closing")),
    st.tuples(st.just("write"), st.sampled_from(sorted(CHUNKS))),
    st.tuples(st.just("lost"), st.sampled_from(["", *sorted(EXCEPTIONS)])),
    st.tuples(st.just("fail"), st.sampled_from(sorted(EXCEPTIONS))),
    st.tuples(st.just("override"), st.sampled_from(["_drain_helper", "pause_writing"])),
)

writer_scripts = st.lists(writer_operations, min_size=3, max_size=25)


class Transport(asyncio.Transport):
    """Notes what is asked of it."""

    def __init__(self, scene, pauses=True):
        super().__init__()
        self.scene, self.pauses, self.closing = scene, pauses, False

    def pause_reading(self):
        self.scene.note("pause_reading")
        if not self.pauses:
            raise NotImplementedError

    def resume_reading(self):
        self.scene.note("resume_reading")

    def write(self, data):
        self.scene.note("write", _shown(data))

    def is_closing(self):
        return self.closing

    def close(self):
        self.scene.note("close")
        self.closing = True

    def __repr__(self):
        return "<transport>"


def _shown(value):
    """A value in a form that can be compared."""
    if isinstance(value, BaseException):
        more = [getattr(value, name, None) for name in ("partial", "expected", "consumed")]
        context = value.__context__
        return (type(value).__name__, plain(str(value)), more, context and _shown(context))
    if isinstance(value, (bytearray, memoryview)):
        return (type(value).__name__, bytes(value))
    return (type(value).__name__, value if isinstance(value, (bytes, int, str, bool)) else plain(repr(value)))


class Scene:
    """A loop, some tasks on it, and notes."""

    def __init__(self, loop):
        self.loop, self.notes, self.tasks = loop, [], []

    def note(self, *what):
        self.notes.append(what)

    def call(self, name, function, *arguments):
        try:
            self.note(name, "returned", _shown(function(*arguments)))
        except BaseException as error:
            self.note(name, "raised", _shown(error))

    def begin(self, name, function, *arguments):
        """Call a coroutine function as a task of its own."""

        async def body():
            return await function(*arguments)

        task = self.loop.create_task(body())
        task.add_done_callback(lambda task: self.ended(name, number, task))
        number = len(self.tasks)
        self.tasks.append(task)

    def ended(self, name, number, task):
        if task.cancelled():
            self.note("cancelled", name, number)
        else:
            error = task.exception()
            self.note("ended", name, number, _shown(task.result() if error is None else error))

    def turn(self):
        try:
            one_turn(self.loop)
        except Stop:
            self.note("stopped")
        self.note("turn")

    def cancel(self, which):
        if self.tasks:
            self.tasks[which % len(self.tasks)].cancel()

    def play(self, script):
        """Do everything, and end every task; return the notes."""
        for name, *arguments in script:
            getattr(self, f"do_{name}")(*arguments)
        for _ in range(3):
            self.turn()
        self.do_show()
        for task in [*self.tasks, *asyncio.all_tasks(self.loop)]:
            task.cancel()
        for _ in range(4):
            self.turn()
        self.do_show()
        return list(self.notes)  # a writer that is collected closes its transport, whenever that is

    do_turn, do_cancel = turn, cancel

    def nobody_waits(self):
        return all(task.done() for task in self.tasks)

    def override(self, object, name):
        """Put something in the place of a method, on an object. It counts for calls from then on."""
        if not self.nobody_waits():
            return
        method = getattr(object, name)

        def instead(*arguments):
            self.note("called", name)
            return method(*arguments)

        setattr(object, name, instead)


class ReaderScene(Scene):
    """A reader that is fed by hand."""

    def __init__(self, loop, streams, limit, transport):
        super().__init__(loop)
        self.reader = streams.StreamReader(limit=limit, loop=loop)
        if transport != "none":
            self.reader.set_transport(Transport(self, transport == "pauses"))

    def do_feed(self, chunk):
        self.call("feed", self.reader.feed_data, CHUNKS[chunk])

    def do_eof(self):
        self.call("eof", self.reader.feed_eof)

    def do_fail(self, exception):
        self.call("fail", self.reader.set_exception, EXCEPTIONS[exception])

    def do_read(self, number):
        self.begin("read", self.reader.read, number)

    def do_readexactly(self, number):
        self.begin("readexactly", self.reader.readexactly, number)

    def do_readuntil(self, separator):
        self.begin("readuntil", self.reader.readuntil, SEPARATORS[separator])

    def do_readline(self):
        self.begin("readline", self.reader.readline)

    def do_next(self):
        self.begin("next", self.reader.__anext__)

    def do_lines(self):
        async def lines():
            return repr([line async for line in self.reader])

        self.begin("lines", lines)

    def do_show(self):
        reader = self.reader
        self.note("reader", reader._eof, reader._paused, reader._waiter is None, _shown(reader._exception))
        self.note(reader._transport is None, reader.at_eof(), _shown(reader.exception()))
        if reader._waiter is None:  # which is shown by its own name otherwise
            self.note(repr(reader))

    def do_look(self):
        self.note("buffer", _shown(self.reader._buffer))

    def do_vars(self):
        if self.nobody_waits():
            self.note("vars", *sorted(vars(self.reader)))

    def do_cut(self, number):
        del self.reader._buffer[:number]

    def do_put(self, content):
        self.reader._buffer = bytearray(content)

    def do_limit(self, limit):
        if isinstance(limit, int) or self.nobody_waits():
            self.reader._limit = limit

    def do_override(self, name):
        self.override(self.reader, name)


class WriterScene(Scene):
    """A writer over a transport that only notes what it is asked for."""

    def __init__(self, loop, streams):
        super().__init__(loop)
        self.transport = Transport(self)
        self.reader = streams.StreamReader(loop=loop)
        self.protocol = streams.StreamReaderProtocol(self.reader, loop=loop)
        self.protocol.connection_made(self.transport)
        self.writer = streams.StreamWriter(self.transport, self.protocol, self.reader, loop)

    def do_drain(self):
        self.begin("drain", self.writer.drain)

    def do_wait_closed(self):
        async def wait_closed():
            # Everybody waits for the same future.
            await asyncio.shield(self.writer.wait_closed())

        self.begin("wait_closed", wait_closed)

    def do_pause(self):
        self.call("pause", self.protocol.pause_writing)

    def do_resume(self):
        self.call("resume", self.protocol.resume_writing)

    def do_close(self):
        self.call("close", self.writer.close)

    def do_closing(self):
        self.transport.closing = True
        self.call("is_closing", self.writer.is_closing)

    def do_write(self, chunk):
        self.call("write", self.writer.write, CHUNKS[chunk])

    def do_lost(self, exception):
        self.call("lost", self.protocol.connection_lost, EXCEPTIONS.get(exception))

    def do_fail(self, exception):
        self.call("fail", self.reader.set_exception, EXCEPTIONS[exception])

    def do_show(self):
        protocol = self.protocol
        self.note("protocol", protocol._paused, protocol._connection_lost, protocol._closed.done())
        self.note(protocol._transport is None, protocol._over_ssl, len(protocol._drain_waiters))
        self.note(repr(self.writer))

    def do_vars(self, which):
        self.note("vars", *sorted(vars(getattr(self, which))))

    def do_override(self, name):
        self.override(self.protocol, name)
