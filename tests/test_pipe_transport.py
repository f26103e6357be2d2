"""The transports of pipes do what asyncio's do: the same calls of the protocol, in the same iterations, order
and contexts, and the same reports, over whatever can be used like a pipe."""

import asyncio
import os
import threading

import pytest
from differential import connection as connections
from differential import pipe
from differential.compare import one_turn
from differential.connection import FAILURES, once, raising, trail
from differential.pipe import reading, writing

debug = connections.debug
made_of = pipe.made_of


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


@pytest.mark.parametrize("most", [1, 4, 10**6, 256 * 1024, True, 0, -1, 2.5, "4", None, 10**30])
def test_most_that_is_read_at_a_time(most):
    """A program may give its transport another `max_size` at any time."""

    def program(connection):
        connection.far.send(b"before")
        connection.turns(2)
        connection.transport.max_size = most
        connection.far.send(b"after it")
        connection.turns(12)

    reading(program)


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
