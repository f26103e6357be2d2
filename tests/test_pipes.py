"""The transports of pipes do what asyncio's do: the same calls of the protocol, in the same iterations, order
and contexts, and the same reports, over whatever can be used like a pipe."""

import asyncio
import gc
import logging
import os
import socket
import threading
import warnings
import weakref

import pytest
import velodrome
from differential import compare, pipe
from differential.compare import on_both, one_turn, outcome
from differential.connection import same, trail

FAILURES = [ValueError, OSError, KeyboardInterrupt, SystemExit, asyncio.CancelledError]


@pytest.fixture(params=[False, True], ids=["quiet", "debug"])
def debug(request):
    logger = logging.getLogger("asyncio")
    level = logger.level
    logger.setLevel(logging.DEBUG if request.param else level)
    yield request.param
    logger.setLevel(level)


@pytest.fixture(params=pipe.KINDS)
def made_of(request):
    return request.param


def reading(program, **options):
    return same(program, kind=pipe.ReadPipe, **options)


def writing(program, **options):
    return same(program, kind=pipe.WritePipe, **options)


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


# -- Reading -----------------------------------------------------------------------------------------------


def whole_life_of_a_reader(connection):
    transport = connection.transport
    connection.turns(1)
    connection.call(repr, transport)
    connection.far.send(b"one")
    connection.turns(2)
    transport.pause_reading()
    connection.call(repr, transport)
    connection.call(transport.is_reading)
    connection.far.send(b"two")
    connection.turns(2)
    transport.resume_reading()
    connection.turns(2)
    connection.far.close()
    connection.turns(1)
    connection.call(repr, transport)
    connection.turns(3)
    connection.call(repr, transport)
    connection.call(transport.is_closing)


def test_life_of_a_reader(made_of, debug):
    notes = reading(whole_life_of_a_reader, made_of=made_of, debug=debug)
    assert [note[1] for note in notes if note[0] == "data_received"] == [b"one", b"two"]


@pytest.mark.parametrize("error", FAILURES)
@pytest.mark.parametrize("method", ["data_received", "eof_received", "connection_lost"])
def test_exceptions_of_a_protocol_that_reads(method, error, debug):
    reading(whole_life_of_a_reader, on={method: raising(error)}, debug=debug)


ACTIONS = {
    "close": lambda connection: connection.transport.close(),
    "pause": lambda connection: connection.transport.pause_reading(),
    "stop": lambda connection: connection.loop.stop(),
    "close_file": lambda connection: connection.near.close(),
}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("method", ["connection_made", "data_received", "eof_received", "connection_lost"])
def test_acting_in_a_call_of_a_protocol_that_reads(method, action):
    if action == "close_file" and method != "connection_lost":
        pytest.skip("asyncio's transport uses the number of the closed file on, whosever it is by then")
    reading(whole_life_of_a_reader, on={method: once(ACTIONS[action])})


@pytest.mark.parametrize("size", [1, 1000, 20_000, 65_536])
def test_sizes_of_what_is_read(size):
    """As much as the pipe has, however much it was before."""

    def program(connection):
        for chunk in (b"a" * size, b"b" * size, b"c", b"d" * size):
            connection.note("sent", connection.far.send(chunk))
            connection.turns(2)
        connection.far.close()
        connection.turns(3)

    reading(program)


# -- Writing -----------------------------------------------------------------------------------------------


def whole_life_of_a_writer(connection):
    transport = connection.transport
    connection.turns(1)
    connection.call(transport.write, b"before")
    connection.call(repr, transport)
    connection.call(transport.can_write_eof)
    connection.drain()
    transport.set_write_buffer_limits(10, 5)
    connection.fill()
    connection.call(transport.write, b"y" * 30)
    connection.call(transport.write, b"z" * 30)
    connection.call(transport.get_write_buffer_size)
    connection.call(transport.get_write_buffer_limits)
    connection.call(repr, transport)
    connection.turns(2)
    connection.drain()
    connection.turns(3)
    connection.drain()
    connection.call(transport.writelines, [b"some ", b"lines"])
    connection.drain()
    connection.call(transport.write_eof)
    connection.call(transport.write, b"in vain")
    connection.call(repr, transport)
    connection.turns(3)
    connection.call(repr, transport)
    connection.call(transport.is_closing)


def test_life_of_a_writer(made_of, debug):
    notes = writing(whole_life_of_a_writer, made_of=made_of, debug=debug)
    assert ("pause_writing", "") in notes


WRITING_METHODS = ["pause_writing", "resume_writing", "connection_lost"]


@pytest.mark.parametrize("error", FAILURES)
@pytest.mark.parametrize("method", WRITING_METHODS)
def test_exceptions_of_a_protocol_that_writes(method, error, debug):
    if method == "resume_writing" and not issubclass(error, Exception | asyncio.CancelledError):
        pytest.skip("asyncio's transport stays as it is in the middle of that")
    writing(whole_life_of_a_writer, on={method: raising(error)}, debug=debug)


WRITING_ACTIONS = {
    "close": lambda connection: connection.transport.close(),
    "write": lambda connection: connection.transport.write(b"written inside"),
    "stop": lambda connection: connection.loop.stop(),
}


@pytest.mark.parametrize("action", WRITING_ACTIONS)
@pytest.mark.parametrize("method", WRITING_METHODS)
def test_acting_in_a_call_of_a_protocol_that_writes(method, action):
    if (method, action) == ("resume_writing", "close"):
        pytest.skip("asyncio's transport calls connection_lost twice")
    writing(whole_life_of_a_writer, on={method: once(WRITING_ACTIONS[action])})


@pytest.mark.parametrize("kept", [0, 30], ids=["nothing_kept", "something_kept"])
def test_reader_that_went_away(kept, made_of, debug):
    def program(connection):
        connection.turns(1)
        if kept:
            connection.fill()
            connection.call(connection.transport.write, b"y" * kept)
        connection.far.close()
        connection.turns(4)
        connection.call(repr, connection.transport)

    writing(program, made_of=made_of, debug=debug)


def test_writing_to_nobody(debug):
    """From the sixth on, each is logged."""

    def program(connection):
        connection.far.close()
        for _ in range(8):
            connection.call(connection.transport.write, b"in vain")
        connection.turns(3)

    notes = writing(program, debug=debug)
    assert len([note for note in notes if note[:2] == ("log", "WARNING")]) == 3


@pytest.mark.parametrize("end", ["close", "write_eof"])
def test_what_is_kept_is_written_before_the_end(end):
    def program(connection):
        connection.fill()
        connection.call(connection.transport.write, b"the last words")
        connection.call(getattr(connection.transport, end))
        connection.call(connection.transport.write, b"in vain")
        for _ in range(10):
            connection.drain()
            connection.turns(1)
        connection.drain()

    received = b"".join(note[1] for note in writing(program) if note[0] == "received")
    assert received.endswith(b"xthe last words")


def test_aborting_drops_what_is_kept():
    def program(connection):
        connection.fill()
        connection.call(connection.transport.write, b"the last words")
        connection.call(connection.transport.abort)
        connection.turns(3)
        connection.drain()

    writing(program)


def released():
    view = memoryview(b"abc")
    view.release()
    return view


DATA = {
    "bytes": lambda: b"abc",
    "bytearray": lambda: bytearray(b"abc"),
    "view": lambda: memoryview(b"abc")[1:],
    "backwards": lambda: memoryview(b"abc")[::-1],
    "released": released,
    "empty": lambda: b"",
    "empty_view": lambda: memoryview(b""),
    "text": lambda: "abc",
    "none": lambda: None,
    "list": lambda: [b"abc"],
}


@pytest.mark.parametrize("closing", [False, True], ids=["open", "closing"])
@pytest.mark.parametrize("data", DATA)
def test_kinds_of_data(data, closing):
    def program(connection):
        if closing:
            connection.transport.close()
        connection.call(connection.transport.write, DATA[data]())
        connection.turns(3)
        connection.drain()

    writing(program)


def test_data_that_is_changed_after_it_was_written(loop):
    reader, writer = os.pipe()
    transport, _ = loop.run_until_complete(
        loop.connect_write_pipe(asyncio.BaseProtocol, open(writer, "wb", buffering=0))
    )
    data = bytearray(b"a" * 1_000_000)
    transport.write(data)
    data[:] = b"b" * len(data)
    transport.close()
    received = []

    def read():
        while chunk := os.read(reader, 1 << 20):
            received.append(chunk)

    thread = threading.Thread(target=read)
    thread.start()
    while transport._pipe is not None:
        one_turn(loop)
    thread.join()
    os.close(reader)
    assert b"".join(received) == b"a" * 1_000_000


def test_contexts():
    def read(connection):
        transport = connection.transport
        connection.far.send(b"1")
        connection.turns(2)
        transport.pause_reading()
        trail.set("resumed here")
        transport.resume_reading()
        trail.set("neither")
        connection.far.send(b"2")
        connection.turns(2)
        trail.set("closed here")
        transport.close()
        connection.turns(2)

    def write(connection):
        transport = connection.transport
        transport.set_write_buffer_limits(10, 5)
        connection.fill()
        trail.set("wrote here")
        transport.write(b"y" * 100)
        trail.set("neither")
        connection.drain()
        connection.turns(2)
        trail.set("closed here")
        transport.close()
        connection.turns(2)

    reading(read)
    writing(write)


# -- What is refused, and what is answered -----------------------------------------------------------------

CONNECT = ["connect_read_pipe", "connect_write_pipe"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("connect", CONNECT)
@pytest.mark.parametrize("file", ["regular", "folder", "null", "closed", "nothing"])
def test_files_that_are_no_pipes(connect, file, tmp_path):
    def open_file():
        if file == "regular":
            return open(tmp_path / "file", "w+b", buffering=0)
        if file == "folder":

            class Folder:
                def __init__(self):
                    self.fd = os.open(tmp_path, os.O_RDONLY)

                def fileno(self):
                    return self.fd

                def close(self):
                    os.close(self.fd)

            return Folder()
        if file == "null":
            return open("/dev/null", "w+b", buffering=0)
        if file == "closed":
            opened = open("/dev/null", "w+b", buffering=0)
            opened.close()
            return opened
        return None

    def program(loop):
        opened = open_file()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            how, what = outcome(loop.run_until_complete, getattr(loop, connect)(asyncio.Protocol, opened))
            gc.collect()
        if how == "returned":
            transport, _ = what
            transport.close()
            compare.turns(loop, 2)
            return how
        if file in ("regular", "folder"):
            opened.close()  # which nobody else has done
        return how, what

    expected, found = on_both(program)
    if file in ("closed", "nothing"):
        # asyncio's transport trips over itself while it goes, and says so.
        assert found[0] == expected[0] and found[1][0] == expected[1][0]
    else:
        assert found == expected


@pytest.mark.parametrize("connect", CONNECT)
def test_device_that_cannot_be_watched(connect):
    """epoll refuses /dev/null for reading, and asyncio finds out in a callback."""

    def program(loop):
        reports = []
        loop.set_exception_handler(lambda loop, context: reports.append(repr(context["exception"])))
        file = open("/dev/null", "w+b", buffering=0)
        transport, _ = loop.run_until_complete(getattr(loop, connect)(asyncio.Protocol, file))
        compare.turns(loop, 2)
        transport.close()
        compare.turns(loop, 2)
        return reports, file.closed

    compare.check_same(program)


@pytest.mark.parametrize("connect", CONNECT)
def test_extra_information_and_bases(connect):
    def program(loop):
        ends = [open(fd, mode, buffering=0) for fd, mode in zip(os.pipe(), ("rb", "wb"), strict=True)]
        near, far = ends if connect == "connect_read_pipe" else reversed(ends)
        transport, protocol = loop.run_until_complete(getattr(loop, connect)(asyncio.Protocol, near))
        try:
            names = ["BaseTransport", "ReadTransport", "WriteTransport", "Transport", "DatagramTransport"]
            return (
                [isinstance(transport, getattr(asyncio, name)) for name in names],
                transport.get_extra_info("pipe") is near,
                transport.get_extra_info("socket", "default"),
                transport.get_protocol() is protocol,
                transport._loop is loop,
                transport._pipe is near,
                transport._fileno == near.fileno(),
                transport._closing,
                os.get_blocking(near.fileno()),
            )
        finally:
            transport.close()
            far.close()
            compare.turns(loop, 2)

    compare.check_same(program)


def test_protocol_can_be_replaced(loop):
    reader, writer = os.pipe()
    transport, _ = loop.run_until_complete(
        loop.connect_read_pipe(asyncio.Protocol, open(reader, "rb", buffering=0))
    )
    received = []

    class Other(asyncio.Protocol):
        def data_received(self, data):
            received.append(data)

    transport.set_protocol(Other())
    os.write(writer, b"data")
    compare.turns(loop, 2)
    assert received == [b"data"]
    transport.close()
    os.close(writer)
    compare.turns(loop, 2)


@pytest.mark.parametrize("connect", CONNECT)
def test_transport_that_nobody_closed(connect):
    def program(loop):
        ends = [open(fd, mode, buffering=0) for fd, mode in zip(os.pipe(), ("rb", "wb"), strict=True)]
        near, far = ends if connect == "connect_read_pipe" else reversed(ends)
        transport, _ = loop.run_until_complete(getattr(loop, connect)(asyncio.Protocol, near))
        gone = weakref.ref(transport)
        loop.close()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del transport
            gc.collect()
        far.close()
        shown = [(warning.category, str(warning.message).partition(" transport ")[0]) for warning in caught]
        return gone() is None, near.closed, shown

    assert compare.check_same(program)[1][2]


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("again", ["close", "abort", "write_eof"])
def test_end_is_told_once(loop, again, turns):
    """Whatever is called in addition. (asyncio's transport tells as often as abort() is called.)"""
    reader, writer = os.pipe()
    lost = []

    class Protocol(asyncio.BaseProtocol):
        def connection_lost(self, exc):
            lost.append(exc)

    transport, _ = loop.run_until_complete(loop.connect_write_pipe(Protocol, open(writer, "wb", buffering=0)))
    transport.write(b"x" * 1_000_000)
    os.close(reader)
    transport.close()
    for _ in range(turns):
        one_turn(loop)
    getattr(transport, again)()
    transport.abort()
    compare.turns(loop, 3)
    assert len(lost) == 1


def test_same_descriptor_for_reading_and_writing(loop):
    """As a terminal is, one file each."""
    master, slave = pipe.terminal()
    received = []

    class Protocol(asyncio.Protocol):
        def data_received(self, data):
            received.append(data)

    reader, _ = loop.run_until_complete(
        loop.connect_read_pipe(Protocol, open(os.dup(master), "rb", buffering=0))
    )
    writer, _ = loop.run_until_complete(
        loop.connect_write_pipe(asyncio.BaseProtocol, open(master, "wb", buffering=0))
    )
    writer.write(b"to the program")
    assert os.read(slave, 100) == b"to the program"
    os.write(slave, b"to the terminal")
    while not received:
        one_turn(loop)
    assert received == [b"to the terminal"]
    os.close(slave)
    reader.close()
    writer.close()
    compare.turns(loop, 3)


def test_terminal_whose_program_is_gone(debug):
    """Reading it fails, which is an everyday end."""

    def program(loop):
        master, slave = pipe.terminal()
        calls = []
        loop.set_debug(debug)
        loop.set_exception_handler(lambda loop, context: calls.append(context["message"]))

        class Protocol(asyncio.Protocol):
            def data_received(self, data):
                calls.append(data)

            def eof_received(self):
                calls.append("end")

            def connection_lost(self, exc):
                calls.append(repr(exc))
                loop.stop()

        loop.run_until_complete(loop.connect_read_pipe(Protocol, open(master, "rb", buffering=0)))
        os.write(slave, b"data")
        while not calls:
            one_turn(loop)
        os.close(slave)
        loop.run_forever()
        return calls

    assert compare.check_same(program)[1][0] == b"data"


def test_pipe_that_somebody_has_made_blocking_does_not_stop_other_threads(loop):
    """Whoever reads it can be one of them."""
    reader, writer = os.pipe()
    transport, _ = loop.run_until_complete(
        loop.connect_write_pipe(asyncio.BaseProtocol, open(writer, "wb", buffering=0))
    )
    os.set_blocking(writer, True)
    received = []

    def read():
        while chunk := os.read(reader, 1 << 16):
            received.append(len(chunk))

    thread = threading.Thread(target=read)
    thread.start()
    transport.write(bytes(1_000_000))
    transport.close()
    while transport._pipe is not None:
        one_turn(loop)
    thread.join()
    os.close(reader)
    assert sum(received) == 1_000_000


def test_sockets_as_pipes(loop):
    ours, theirs = socket.socketpair()
    received = []

    class Protocol(asyncio.Protocol):
        def data_received(self, data):
            received.append(data)

        def eof_received(self):
            received.append("end")

    transport, _ = loop.run_until_complete(loop.connect_read_pipe(Protocol, ours))
    theirs.send(b"data")
    compare.turns(loop, 2)
    theirs.close()
    compare.turns(loop, 4)
    assert received == [b"data", "end"]
    assert ours.fileno() == -1
    assert repr(transport).startswith("<ReadPipeTransport closed fd=")


def test_streams_over_pipes(loop):
    """StreamReader and StreamWriter, as programs use them for standard input and output."""

    async def main():
        reader_fd, writer_fd = os.pipe()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), open(reader_fd, "rb", buffering=0)
        )
        transport, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, open(writer_fd, "wb", buffering=0)
        )
        writer = asyncio.StreamWriter(transport, protocol, None, loop)

        async def write():
            for number in range(1000):
                writer.write(b"%06d\n" % number * 100)
                await writer.drain()
            writer.close()

        writing = asyncio.create_task(write())
        lines = [line async for line in reader]
        await writing
        return lines

    lines = loop.run_until_complete(main())
    assert lines == [b"%06d\n" % number for number in range(1000) for _ in range(100)]


@pytest.mark.parametrize("name", ["ReadPipeTransport", "WritePipeTransport"])
def test_constructor_refuses_what_makes_no_sense(name, loop):
    make = getattr(velodrome._velodrome, name)
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as file:
        with pytest.raises(TypeError):
            make()
        with pytest.raises(TypeError, match="a velodrome loop is expected"):
            make(object(), file, asyncio.Protocol())
        with pytest.raises(TypeError):
            make(loop, file, asyncio.Protocol(), None, None, None)
        assert make.__new__(make).is_closing() is False
    os.close(writer)
