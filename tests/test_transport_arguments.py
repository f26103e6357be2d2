"""What a stream transport is given: data of all kinds, lines, marks, and names of arguments."""

import sys

import pytest
from differential.connection import Connection, same


class Undecided(bytes):
    def __bool__(self):
        raise ValueError("undecided")


class Empty(bytes):
    def __len__(self):
        return 0


def released():
    view = memoryview(b"abc")
    view.release()
    return view


DATA = {
    "bytes": lambda: b"abc",
    "bytearray": lambda: bytearray(b"abc"),
    "undecided": lambda: Undecided(b"abc"),
    "seemingly_empty": lambda: Empty(b"abc"),
    "released": released,
    "empty": lambda: b"",
    "empty_view": lambda: memoryview(b""),
    "characters": lambda: memoryview(b"abc").cast("c"),
    "text": lambda: "abc",
    "none": lambda: None,
    "list": lambda: [b"abc"],
}


def try_to_write(connection, method, data, state):
    transport = connection.transport
    if state == "full":
        connection.fill()
        transport.write(b"before")
    elif state == "closing":
        transport.close()
    elif state == "ended":
        transport.write_eof()
    connection.call(getattr(transport, method), data())
    connection.drain()
    connection.turns(3)
    connection.drain()


STATES = ["free", "full", "closing", "ended"]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("data", DATA)
def test_writing(data, state):
    same(try_to_write, "write", DATA[data], state)


@pytest.mark.parametrize("state", ["free", "closing", "ended"])
def test_writing_what_is_not_contiguous(state):
    same(try_to_write, "write", lambda: memoryview(b"abcdef")[::2], state)


@pytest.mark.parametrize("state", ["free", "full"])
@pytest.mark.parametrize("method", ["write", "writelines"])
def test_items_larger_than_bytes_are_sent_whole(loop, method, state):
    """asyncio mistakes the number of items for the number of bytes, and loses count."""
    items = memoryview(bytes(range(12))).cast("I")
    connection = Connection(loop)
    try_to_write(connection, method, lambda: [items] if method == "writelines" else items, state)
    connection.far.setblocking(True)
    assert any(note[0] == "received" and note[1].endswith(bytes(items)) for note in connection.close())


@pytest.mark.skipif(sys.version_info < (3, 14), reason="writelines() of older versions looks at less")
@pytest.mark.parametrize("state", ["free", "closing", "ended"])
def test_lines_that_are_not_contiguous(state):
    same(try_to_write, "writelines", lambda: [b"first", memoryview(b"abcdef")[::2]], state)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="writelines() of older versions looks at less")
@pytest.mark.parametrize("action", ["close", "abort", "pause_reading", "write"])
def test_acting_while_lines_are_asked_for(action):
    if action in ("close", "write") and sys.version_info >= (3, 15):
        pytest.skip(
            "there asyncio accepts each line before it asks for the next, and forgets them if one is bad"
        )

    def program(connection):
        def lines():
            yield b"one"
            getattr(connection.transport, action)(*[b"inside"] * (action == "write"))
            yield b"two"

        connection.call(connection.transport.writelines, lines())
        connection.drain()
        connection.turns(3)
        connection.drain()

    same(program)


MARKS = [
    (None, None),
    (10, None),
    (None, 10),
    (10.5, 2.5),
    (5, 10),
    (-1, None),
    (0, 0),
    (10, -1),
    (2**64, None),
    (2**2000, 2**1999),
    (float("inf"), None),
    (float("nan"), None),
    ("10", None),
]


@pytest.mark.parametrize("marks", MARKS, ids=str)
def test_marks(marks):
    def program(connection):
        transport = connection.transport
        connection.fill()
        transport.write(b"y" * 10)
        connection.call(transport.set_write_buffer_limits, *marks)
        connection.call(transport.get_write_buffer_limits)
        connection.call(transport.write, b"z")
        connection.drain()
        connection.turns(2)
        connection.call(transport.set_write_buffer_limits)
        connection.call(transport.get_write_buffer_limits)

    same(program)


def test_arguments_by_name():
    def program(connection):
        transport = connection.transport
        connection.call(transport.set_protocol, protocol=connection.protocol)
        connection.call(transport.write, data=b"a")
        connection.call(transport.writelines, list_of_data=[b"b", b"c"])
        connection.call(transport.set_write_buffer_limits, low=1, high=2)
        connection.call(transport.get_extra_info, name="nothing", default="default")
        connection.drain()
        connection.call(transport._force_close, exc=None)
        connection.turns(2)

    same(program)
