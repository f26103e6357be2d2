"""Streams do what asyncio's do, piece by piece: what comes out, when, and what is left."""

import asyncio
import os
import socket
from unittest.mock import Mock, create_autospec

import pytest
import velodrome
from differential.compare import LOOPS
from differential.streams import ReaderScene, WriterScene, reader_scripts, writer_scripts
from differential.worlds import close
from hypothesis import HealthCheck, given, settings

SEARCH = int(os.environ.get("VELODROME_SEARCH", "0"))

common = settings(
    max_examples=SEARCH or 300,
    derandomize=not SEARCH,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class DerivedReader(velodrome.StreamReader):
    """Changes nothing, but is another class."""


class OverridingReader(velodrome.StreamReader):
    """Goes through asyncio's own code, which calls these."""

    async def readuntil(self, *arguments):
        return await super().readuntil(*arguments)

    async def _wait_for_data(self, name):
        return await super()._wait_for_data(name)


class Derived:
    StreamReader, StreamWriter = DerivedReader, velodrome.StreamWriter
    StreamReaderProtocol = velodrome.StreamReaderProtocol


class Overriding(Derived):
    StreamReader = OverridingReader


for _class in DerivedReader, OverridingReader:
    _class.__name__ = "StreamReader"

IMPLEMENTATIONS = pytest.mark.parametrize("streams", [velodrome, Derived, Overriding])
ON_LOOPS = pytest.mark.parametrize("new_loop", LOOPS, ids=["asyncio", "velodrome"])


def played(scene, new_loop, script, *arguments):
    loop = new_loop()
    loop.set_exception_handler(lambda loop, context: None)
    try:
        return scene(loop, *arguments).play(script)
    finally:
        close(loop)


@IMPLEMENTATIONS
@ON_LOOPS
@pytest.mark.timeout(600 if SEARCH else 60)
def test_a_reader_fed_by_hand_does_the_same(streams, new_loop):
    @common
    @given(reader_scripts)
    def check(scene):
        limit, transport, script = scene
        expected = played(ReaderScene, asyncio.SelectorEventLoop, script, asyncio, limit, transport)
        assert played(ReaderScene, new_loop, script, streams, limit, transport) == expected

    check()


@ON_LOOPS
@pytest.mark.timeout(600 if SEARCH else 60)
def test_a_writer_does_the_same(new_loop):
    @common
    @given(writer_scripts)
    def check(script):
        expected = played(WriterScene, asyncio.SelectorEventLoop, script, asyncio)
        assert played(WriterScene, new_loop, script, velodrome) == expected

    check()


# -- What goes the short way, and what does not ------------------------------------------------------------


async def connected(server_side):
    """Return a server, and a reader and a writer connected to it."""
    server = await velodrome.start_server(server_side, "127.0.0.1", 0)
    return server, *await velodrome.open_connection(*server.sockets[0].getsockname())


async def echo(reader, writer):
    while data := await reader.read(100):
        writer.write(data)
        await writer.drain()
    writer.close()


def replace_on_reader(reader, writer, noted):
    feed_data = reader.feed_data
    reader.feed_data = lambda data: (noted(data), feed_data(data))


def replace_on_protocol(reader, writer, noted):
    protocol = writer.transport.get_protocol()
    data_received = protocol.data_received
    protocol.data_received = lambda data: (noted(data), data_received(data))


def set_protocol(reader, writer, noted):
    class Protocol(asyncio.Protocol):
        def data_received(self, data):
            noted(data)
            reader.feed_data(data)

    writer.transport.set_protocol(Protocol())


def set_derived_protocol(reader, writer, noted):
    class Protocol(velodrome.StreamReaderProtocol):
        def data_received(self, data):
            noted(data)
            super().data_received(data)

    writer.transport.set_protocol(Protocol(reader, loop=asyncio.get_running_loop()))


def replace_in_class(cls, name):
    def replace(reader, writer, noted):
        method = getattr(cls, name)
        setattr(cls, name, lambda self, data: (noted(data), method(self, data)))

    return replace


@pytest.mark.parametrize(
    "replace",
    [
        replace_on_reader,
        replace_on_protocol,
        set_protocol,
        set_derived_protocol,
        replace_in_class(velodrome.StreamReader, "feed_data"),
        replace_in_class(velodrome.StreamReaderProtocol, "data_received"),
    ],
)
def test_what_a_program_puts_in_the_place_of_a_method_is_called(replace):
    noted = []

    async def main():
        server, reader, writer = await connected(echo)
        writer.write(b"one")
        assert await reader.read(100) == b"one"
        replace(reader, writer, noted.append)
        writer.write(b"two")
        assert await reader.readexactly(3) == b"two"
        writer.close()
        server.close()

    try:
        velodrome.run(main())
    finally:
        for cls in velodrome.StreamReader, velodrome.StreamReaderProtocol:
            for name in {"feed_data", "data_received"} & set(vars(cls)):
                delattr(cls, name)
    assert b"two" in noted


def test_what_was_read_whole_is_what_was_fed(loop):
    """No byte is copied on the way."""
    reader = velodrome.StreamReader(loop=loop)
    data = bytes(1000)
    for read in reader.read, reader.readexactly:
        reader.feed_data(data)
        assert loop.run_until_complete(read(1000)) is data


def test_the_buffer_that_a_program_changes_is_what_is_read(loop):
    reader = velodrome.StreamReader(loop=loop)
    reader.feed_data(b"xxline one\nline two\n")
    buffer = reader._buffer
    assert type(buffer) is bytearray
    del buffer[:2]
    assert loop.run_until_complete(reader.readline()) == b"line one\n"
    assert buffer == b"line two\n" and reader._buffer is buffer
    buffer += b"line three\n"
    reader.feed_data(b"end")
    reader.feed_eof()
    assert loop.run_until_complete(reader.read()) == b"line two\nline three\nend"
    assert buffer == b"" and reader.at_eof()


class Closed(asyncio.Transport):
    def is_closing(self):
        return True


def test_objects_of_both_kinds_pass_for_each_other(loop):
    ours = velodrome.StreamReader(loop=loop)
    stock = asyncio.StreamReader(loop=loop)
    assert isinstance(ours, asyncio.StreamReader) and isinstance(stock, velodrome.StreamReader)
    assert issubclass(velodrome.StreamWriter, asyncio.StreamWriter)
    assert issubclass(asyncio.StreamReaderProtocol, velodrome.StreamReaderProtocol)
    assert not isinstance(stock, DerivedReader) and not isinstance(1, velodrome.StreamReader)
    transport = Closed()
    for classes in (velodrome, asyncio), (asyncio, velodrome):
        for reader in ours, stock:
            protocol = classes[0].StreamReaderProtocol(reader, loop=loop)
            assert repr(classes[1].StreamWriter(transport, protocol, reader, loop)).startswith(
                "<StreamWriter"
            )
    with pytest.raises(AssertionError):
        velodrome.StreamWriter(transport, protocol, object(), loop)


@pytest.mark.parametrize("mock", [Mock(spec=asyncio.StreamReader), create_autospec(velodrome.StreamReader)])
def test_what_says_that_it_is_a_reader_is_one(loop, mock):
    writer = velodrome.StreamWriter(Closed(), None, mock, loop)
    assert writer._reader is mock


def test_what_looks_at_the_buffer_while_it_is_fed_is_fed(loop):
    reader = velodrome.StreamReader(loop=loop)

    def numbers():
        yield len(reader._buffer)

    reader.feed_data(numbers())
    assert reader._buffer == b"\0"


ASSERTIONS = """
import asyncio, velodrome

def outcome(function, *arguments):
    try:
        return repr(function(*arguments))
    except AssertionError as error:
        return repr(error)

def outcomes(streams):
    reader = streams.StreamReader(loop=loop)
    protocol = streams.StreamReaderProtocol(reader, loop=loop)
    reader.set_transport(asyncio.Transport())
    yield outcome(reader.set_transport, asyncio.Transport())
    reader.feed_eof()
    yield outcome(reader.feed_data, b"late")
    yield bytes(reader._buffer)
    yield outcome(protocol.resume_writing)
    protocol.pause_writing()
    yield outcome(protocol.pause_writing)
    reading = loop.create_task(reader.readexactly(4))
    loop.run_until_complete(asyncio.wait([reading], timeout=0))
    yield repr(reading.exception() or reading.result())

loop = velodrome.new_event_loop()
expected = list(outcomes(asyncio))
assert list(outcomes(velodrome)) == expected, expected
print(expected[0])
"""


@pytest.mark.parametrize(
    "options, first", [((), "AssertionError('Transport already set')"), (("-O",), "None")]
)
def test_assertions_are_left_out_where_pythons_are(run_python, options, first):
    assert run_python(ASSERTIONS, options=options).stdout == first + "\n"


# -- What is in the attributes, wherever they are ----------------------------------------------------------


@ON_LOOPS
def test_vars_shows_what_asyncios_objects_have(new_loop):
    def names(streams):
        reader = streams.StreamReader(loop=loop)
        protocol = streams.StreamReaderProtocol(reader, lambda reader, writer: None, loop=loop)
        writer = streams.StreamWriter(Closed(), protocol, reader, loop)
        another = streams.StreamReaderProtocol(None, loop=loop)
        return [list(vars(it)) for it in (reader, protocol, another, writer)]

    for debug in False, True:
        loop = new_loop()
        loop.set_debug(debug)
        assert names(velodrome) == names(asyncio)
        close(loop)


def test_a_protocol_whose_attributes_are_put_back_outlives_the_end_of_a_connection():
    """As aioconsole's does, which has one for the pipes of both input and output."""

    class Protocol(velodrome.StreamReaderProtocol):
        def connection_lost(self, exc):
            before = self.__dict__.copy()
            super().connection_lost(exc)
            assert self._connection_lost and self._stream_reader is None
            self.__dict__.update(before)

    async def main():
        reader = velodrome.StreamReader()
        protocol = Protocol(reader)
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        transport, _protocol = await loop.create_connection(lambda: protocol, sock=ours)
        writer = velodrome.StreamWriter(Open(), protocol, reader, loop)
        await writer.drain()
        transport.abort()
        await asyncio.sleep(0)
        assert protocol._transport is transport and protocol._stream_reader is reader
        await writer.drain()
        protocol.pause_writing()
        drain = asyncio.ensure_future(writer.drain())
        await asyncio.sleep(0)
        assert not drain.done() and len(protocol._drain_waiters) == 1
        protocol.resume_writing()
        await drain
        assert not protocol._drain_waiters
        theirs.close()

    velodrome.run(main())


class Open(asyncio.Transport):
    def is_closing(self):
        return False

    def close(self):
        pass


@pytest.mark.parametrize("look", [vars, lambda it: setattr(it, "__dict__", dict(it.__dict__))])
def test_attributes_are_looked_at_while_somebody_waits(loop, look):
    async def main():
        for name, *arguments in ("readline",), ("readexactly", 4), ("readuntil", b"\n"), ("__anext__",):
            reader = velodrome.StreamReader(loop=loop)
            reading = asyncio.ensure_future(getattr(reader, name)(*arguments))
            await asyncio.sleep(0)
            reader.feed_data(b"on")
            await asyncio.sleep(0)
            look(reader)
            await asyncio.sleep(0)
            assert reader._waiter is not None and reader._buffer == b"on"
            reader.feed_data(b"e\n")
            assert await reading == b"one\n"
            assert reader._waiter is None

        protocol = velodrome.StreamReaderProtocol(reader, loop=loop)
        writer = velodrome.StreamWriter(Open(), protocol, reader, loop)
        protocol.pause_writing()
        drains = [asyncio.ensure_future(writer.drain()) for _ in range(2)]
        await asyncio.sleep(0)
        look(protocol)
        look(writer)
        drains.append(asyncio.ensure_future(writer.drain()))
        await asyncio.sleep(0)
        assert len(protocol._drain_waiters) == 3
        drains[0].cancel()
        await asyncio.sleep(0)
        assert len(protocol._drain_waiters) == 2
        protocol.resume_writing()
        await asyncio.gather(*drains, return_exceptions=True)
        assert drains[0].cancelled() and not protocol._drain_waiters
        reader.set_exception(ValueError("on purpose"))
        with pytest.raises(ValueError, match="on purpose"):
            await writer.drain()

    loop.run_until_complete(main())


def _property(name):
    def get(self):
        return self.elsewhere[name]

    def put(self, value):
        self.__dict__.setdefault("elsewhere", {})[name] = value

    return property(get, put)


@pytest.mark.parametrize("made_of", [lambda name: None, _property], ids=["default", "property"])
@pytest.mark.parametrize(
    "name",
    ["_limit", "_loop", "_buffer", "_eof", "_waiter", "_exception", "_transport", "_paused"]
    + ["_drain_waiters", "_connection_lost", "_stream_reader_wr", "_closed"]
    + ["_client_connected_cb", "_over_ssl", "_protocol", "_reader"],
)
def test_what_a_class_makes_of_the_name_of_an_attribute_counts(loop, name, made_of):
    """A default, which a value hides, or a property."""
    bases = velodrome.StreamReader, velodrome.StreamReaderProtocol, velodrome.StreamWriter
    Reader, Protocol, Writer = (type(base.__name__, (base,), {name: made_of(name)}) for base in bases)

    async def main():
        reader = Reader(loop=loop, limit=10)
        protocol = Protocol(reader, loop=loop)
        ours, theirs = socket.socketpair()
        transport, _protocol = await loop.create_connection(lambda: protocol, sock=ours)
        writer = Writer(transport, protocol, reader, loop)
        assert reader._transport is protocol._transport is writer._transport is transport
        assert writer._protocol is protocol and writer._reader is protocol._stream_reader is reader
        assert reader._limit == 10 and reader._loop is protocol._loop is writer._loop is loop
        theirs.send(b"one\ntwo" + b"x" * 20)
        assert await reader.readline() == b"one\n"
        assert reader._paused and reader._buffer[:3] == b"two"
        assert await reader.readexactly(23) == b"two" + b"x" * 20
        assert not reader._paused
        writer.write(b"back")
        await writer.drain()
        assert theirs.recv(10) == b"back"
        protocol.pause_writing()
        drain = asyncio.ensure_future(writer.drain())
        await asyncio.sleep(0)
        assert len(protocol._drain_waiters) == 1
        protocol.resume_writing()
        await drain
        reading = asyncio.ensure_future(reader.read(10))
        await asyncio.sleep(0)
        assert reader._waiter is not None
        theirs.close()
        assert await reading == b"" and reader._eof and reader.at_eof()
        writer.close()
        await writer.wait_closed()
        assert protocol._connection_lost
        reader.set_exception(ValueError())
        assert reader.exception() is reader._exception

    loop.run_until_complete(main())


CHILD = """
import asyncio, sys, velodrome

async def main(aio):
    program = "import sys; sys.stderr.write('err'); print(sys.stdin.read().upper())"
    pipe = asyncio.subprocess.PIPE
    child = await aio.create_subprocess_exec(
        sys.executable, "-c", program, stdin=pipe, stdout=pipe, stderr=pipe
    )
    assert type(child) is asyncio.subprocess.Process
    assert type(child.stdin) is velodrome.StreamWriter
    assert type(child.stdout) is type(child.stderr) is velodrome.StreamReader
    print(await child.communicate(b"input"))

installed = sys.argv[1:] == ["True"]
if installed:
    velodrome.install()
assert installed is (asyncio.StreamReader is velodrome.StreamReader)
velodrome.run(main(asyncio if installed else velodrome))
"""


@pytest.mark.parametrize("installed", [False, True], ids=["", "installed"])
def test_the_pipes_of_a_child_are_ours(run_python, installed):
    assert run_python(CHILD, installed).stdout == "(b'INPUT\\n', b'err')\n"


# -- Bounds ----------------------------------------------------------------------------------------------


def run_on(new_loop, coroutine):
    loop = new_loop()
    try:
        loop.run_until_complete(coroutine)
    finally:
        close(loop)


LIMIT = 10_000
ONE_READ = 256 * 1024


@ON_LOOPS
def test_a_flooded_reader_stays_within_its_bounds(new_loop):
    """Twice the limit, and one read."""

    async def flood(reader, writer):
        for _ in range(400):
            writer.write(bytes(16 * 1024))
            await writer.drain()
        writer.close()

    async def main():
        server = await velodrome.start_server(flood, "127.0.0.1", 0)
        reader, writer = await velodrome.open_connection(*server.sockets[0].getsockname(), limit=LIMIT)
        most = total = 0
        while not reader.at_eof():
            for _ in range(5):
                await asyncio.sleep(0)
            most = max(most, int(repr(reader).split()[1]) if "bytes" in repr(reader) else 0)
            total += len(await reader.read(LIMIT))
        assert total == 400 * 16 * 1024
        assert 2 * LIMIT < most <= 2 * LIMIT + ONE_READ
        writer.close()
        server.close()

    run_on(new_loop, main())


@ON_LOOPS
def test_a_writer_whose_peer_never_reads_waits_with_what_was_written_last(new_loop):
    async def main():
        never = asyncio.Event()

        async def deaf(reader, writer):
            writer.transport.pause_reading()
            await never.wait()
            writer.close()

        server, _reader, writer = await connected(deaf)
        writer.transport.set_write_buffer_limits(high=LIMIT)
        with pytest.raises(asyncio.TimeoutError):
            async with velodrome.timeout(60) as timeout:
                while True:
                    writer.write(bytes(5000))
                    drain = asyncio.ensure_future(writer.drain())
                    await asyncio.sleep(0)
                    if not drain.done():
                        timeout.reschedule(asyncio.get_running_loop().time())
                    await drain
        assert LIMIT < writer.transport.get_write_buffer_size() <= LIMIT + 5000
        assert len(writer._protocol._drain_waiters) == 0
        writer.transport.abort()
        never.set()
        server.close()
        with pytest.raises(ConnectionResetError, match="Connection lost"):
            while True:
                await writer.drain()

    run_on(new_loop, main())


def test_a_line_that_comes_byte_by_byte_takes_time_in_proportion(loop):
    """Looking at all of it again for each byte would take minutes."""
    reader = velodrome.StreamReader(loop=loop, limit=1 << 30)
    count = 1 << 21

    async def feed():
        for _ in range(count // 16):
            for _ in range(16):
                reader.feed_data(b"x")
            await asyncio.sleep(0)
        reader.feed_data(b"\n")

    async def main():
        feeding = asyncio.ensure_future(feed())
        assert len(await reader.readline()) == count + 1
        await feeding

    loop.run_until_complete(main())
