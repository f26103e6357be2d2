"""Files as pipes: which are taken and which refused, and what programs see and do with their transports."""

import asyncio
import gc
import os
import socket
import threading
import warnings
import weakref

import pytest
import velodrome
from differential import compare, pipe
from differential import connection as connections
from differential.compare import on_both, one_turn, outcome

debug = connections.debug

CONNECT = ["connect_read_pipe", "connect_write_pipe"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("connect", CONNECT)
@pytest.mark.parametrize("file", ["regular", "folder", "null", "closed", "closed socket", "nothing"])
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
        if file == "closed socket":
            opened = socket.socket()
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


@pytest.mark.parametrize("connect", CONNECT)
@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_readers_of_a_program_take_the_place_of_a_transports(connect, how):
    """asyncio refuses that of a socket's transport, but knows of no other."""

    def program(loop):
        near, far = socket.socketpair()
        near.setblocking(False)
        notes = []

        class Protocol(asyncio.Protocol):
            def data_received(self, data):
                notes.append(("data_received", data))

            def connection_lost(self, exc):
                notes.append(("connection_lost", exc))

        transport, _ = loop.run_until_complete(getattr(loop, connect)(Protocol, near))
        compare.turns(loop, 2)
        if how == "replaced":
            notes.append(outcome(loop.add_reader, near, lambda: notes.append(near.recv(100))))
        else:
            notes.append(outcome(loop.remove_reader, near))
        far.send(b"data")
        compare.turns(loop, 2)
        notes.append(outcome(loop.remove_reader, near))
        transport.close()
        compare.turns(loop, 2)
        far.close()
        return notes, near.fileno()

    compare.check_same(program)


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
