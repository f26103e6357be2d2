"""What a program changes on a socket or its transport, once the transport is made, counts from then on."""

import asyncio
import os
import socket
from unittest.mock import patch

import pytest
from differential.compare import check_same
from differential.connection import same


class Derived(socket.socket):
    pass


class Slotted(socket.socket):
    __slots__ = ()


def derived(cls):
    def wrap(connection, plain):
        if cls is socket.socket:
            return plain
        made = cls(fileno=plain.detach())
        made.setblocking(False)
        return made

    return wrap


def noting(connection, name, method, bound):
    """Make a function that notes the call, and passes it on."""

    def noted(*arguments):
        given = arguments if bound else arguments[1:]
        connection.note(name, *[what if isinstance(what, int) else len(what) for what in given])
        return method(*arguments)

    return noted


def talk(connection):
    connection.far.send(b"a thing")
    connection.turns(2)
    connection.call(connection.transport.write, b"an answer")
    connection.drain()


@pytest.mark.parametrize("name", ["recv", "recv_into", "send"])
@pytest.mark.parametrize("cls", [socket.socket, Slotted, Derived])
def test_method_replaced_in_the_class_of_a_socket(cls, name):
    def program(connection):
        talk(connection)
        own = vars(cls).get(name)
        setattr(cls, name, noting(connection, name, getattr(cls, name), bound=False))
        try:
            talk(connection)
        finally:
            if own is None:
                delattr(cls, name)
            else:
                setattr(cls, name, own)
        talk(connection)

    notes = same(program, wrap=derived(cls), buffered=name == "recv_into")
    assert any(note[0] == name for note in notes)


@pytest.mark.parametrize("name", ["recv", "recv_into", "send"])
def test_method_replaced_on_a_socket(name):
    def program(connection):
        talk(connection)
        setattr(connection.near, name, noting(connection, name, getattr(connection.near, name), bound=True))
        talk(connection)
        delattr(connection.near, name)
        talk(connection)

    notes = same(program, wrap=derived(Derived), buffered=name == "recv_into")
    assert len([note for note in notes if note[0] == name]) == 1


@pytest.mark.parametrize("most", [1, 4, 10**6, 256 * 1024, True, 0, -1, 2.5, "4", None, 10**30])
@pytest.mark.parametrize("wrap", [None, derived(Derived)], ids=["plain", "derived"])
def test_most_that_is_read_at_a_time(most, wrap):
    def program(connection):
        talk(connection)
        connection.transport.max_size = most
        talk(connection)
        connection.turns(12)

    same(program, wrap=wrap)


def test_watching_that_a_transport_has_ended_is_over():
    def program(loop):
        near, far = socket.socketpair()
        near.setblocking(False)
        loop.add_reader(near, print)
        transport, _protocol = loop.run_until_complete(loop.connect_accepted_socket(asyncio.Protocol, near))
        for remove in loop.remove_reader, loop.remove_writer:
            with pytest.raises(RuntimeError, match="is used by transport"):
                remove(near)
        number = near.fileno()
        transport.close()
        removed = loop.remove_reader(number), loop.remove_reader(number), loop.remove_writer(number)
        loop.run_until_complete(asyncio.sleep(0))
        far.close()
        return removed

    assert check_same(program) == ("returned", (False, False, False))


async def of_a_stream(loop):
    near, far = socket.socketpair()
    far.close()
    return (await loop.connect_accepted_socket(asyncio.Protocol, near))[0]


async def of_datagrams(loop):
    endpoint = loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
    return (await endpoint)[0]


async def of_a_pipe(loop):
    reader, writer = os.pipe()
    os.close(writer)
    return (await loop.connect_read_pipe(asyncio.Protocol, os.fdopen(reader, "rb")))[0]


@pytest.mark.parametrize("connect", [of_a_stream, of_datagrams, of_a_pipe])
def test_get_extra_info_replaced_in_asyncios_class(connect):
    def program(loop):
        transport = loop.run_until_complete(connect(loop))
        with patch("asyncio.BaseTransport.get_extra_info", return_value="anything") as replaced:
            told = transport.get_extra_info("sockname")
        replaced.assert_called_with("sockname")
        transport.close()
        loop.run_until_complete(asyncio.sleep(0))
        return told, transport.get_extra_info("nothing", "default")

    assert check_same(program) == ("returned", ("anything", "default"))
