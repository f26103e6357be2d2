"""The transport of a connected stream socket does what asyncio's does: the same calls of the protocol, in
the same iterations, order and contexts, and the same reports, whatever is done in those calls."""

import asyncio
import gc
import pickle
import socket
import sys
import threading
import warnings
import weakref

import pytest
import velodrome
from differential import connection as connections
from differential.connection import FAILURES, Connection, once, raising, same, trail

debug = connections.debug


# -- What the protocol is called for -----------------------------------------------------------------------


def whole_life(connection):
    connection.turns(1)
    connection.far.send(b"one")
    connection.turns(2)
    connection.transport.set_write_buffer_limits(10, 5)
    connection.fill()
    connection.call(connection.transport.write, b"y" * 30)
    connection.call(repr, connection.transport)
    connection.turns(2)
    connection.drain()
    connection.turns(3)
    connection.drain()
    connection.far.shutdown(socket.SHUT_WR)
    connection.turns(4)


@pytest.mark.parametrize("buffered", [False, True], ids=["data", "buffered"])
def test_life_of_a_connection(buffered, debug):
    notes = same(whole_life, buffered=buffered, debug=debug)
    assert ("pause_writing", "") in notes


METHODS = ["data_received", "eof_received", "pause_writing", "resume_writing", "connection_lost"]


@pytest.mark.parametrize("error", FAILURES)
@pytest.mark.parametrize("method", METHODS)
def test_exceptions_of_the_protocol(method, error, debug):
    if method == "resume_writing" and not issubclass(error, Exception | asyncio.CancelledError):
        pytest.skip("asyncio's transport asserts that data is left, when its loop goes on")
    same(whole_life, on={method: raising(error)}, debug=debug)


@pytest.mark.parametrize("error", FAILURES)
@pytest.mark.parametrize("method", ["get_buffer", "buffer_updated", "eof_received"])
def test_exceptions_of_a_buffered_protocol(method, error):
    same(whole_life, buffered=True, on={method: raising(error)})


ACTIONS = {
    "close": lambda connection: connection.transport.close(),
    "abort": lambda connection: connection.transport.abort(),
    "pause": lambda connection: connection.transport.pause_reading(),
    "write": lambda connection: connection.transport.write(b"written inside"),
    "write_eof": lambda connection: connection.transport.write_eof(),
    "stop": lambda connection: connection.loop.stop(),
    "close_socket": lambda connection: connection.near.close(),
    "close_loop": lambda connection: connection.call(connection.loop.close),
}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("method", ["data_received", "eof_received", "pause_writing", "connection_lost"])
def test_acting_in_a_call(method, action):
    if (method, action) == ("pause_writing", "close_socket"):
        pytest.skip("asyncio's transport cannot be aborted afterwards: its selector raises")
    if (method, action) == ("pause_writing", "close") and sys.version_info < (3, 14):
        pytest.skip("asyncio's transport ended twice")
    same(whole_life, on={method: once(ACTIONS[action])})


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("method", ["get_buffer", "buffer_updated"])
def test_acting_in_a_call_of_a_buffered_protocol(method, action):
    same(whole_life, buffered=True, on={method: once(ACTIONS[action])})


def test_reading_that_was_paused_and_resumed_begins_anew():
    """An event that was queued before is void, as asyncio's handle is cancelled."""

    def program(connection):
        first, second = socket.socketpair()
        with first, second:

            def interfere():
                first.recv(1)
                connection.transport.pause_reading()
                connection.transport.resume_reading()
                connection.loop.call_soon(connection.note, "scheduled in between")

            connection.loop.add_reader(first, interfere)
            connection.turns(2)
            # Both are readable in one iteration, and the transport comes second.
            second.send(b"1")
            connection.far.send(b"data")
            connection.turns(4)
            connection.loop.remove_reader(first)

    names = [note[0] for note in same(program)]
    assert names.index("scheduled in between") < names.index("data_received")


def test_truth_of_the_answer_to_the_end_may_fail():
    class Undecided:
        def __bool__(self):
            raise ValueError("undecided")

    def program(connection):
        connection.far.shutdown(socket.SHUT_WR)
        connection.turns(3)
        connection.on.clear()
        connection.turns(3)

    same(program, on={"eof_received": lambda connection: Undecided()})


def test_protocol_that_is_replaced_while_it_gives_a_buffer():
    def replace(connection, hint):
        class Other(asyncio.BufferedProtocol):
            def buffer_updated(self, nbytes):
                connection.note("the other has", nbytes)

        connection.transport.set_protocol(Other())

    def program(connection):
        connection.far.send(b"data")
        connection.turns(1)
        connection.transport.abort()
        connection.turns(2)

    notes = same(program, buffered=True, on={"get_buffer": replace})
    assert ("the other has", 4) in notes


def test_contexts_of_reading_and_writing():
    def program(connection):
        transport = connection.transport
        connection.far.send(b"1")
        connection.turns(2)
        transport.pause_reading()
        trail.set("resumed here")
        transport.resume_reading()
        trail.set("wrote here")
        connection.fill()
        transport.write(b"y" * 100_000)
        trail.set("neither")
        connection.far.send(b"2")
        connection.turns(2)
        connection.drain()
        connection.turns(2)
        trail.set("closed here")
        transport.close()
        connection.turns(2)

    same(program)


# -- Sockets -----------------------------------------------------------------------------------------------


class OwnMethods(socket.socket):
    """A socket whose class has methods of its own, as proxies and test doubles have."""

    def recv(self, *arguments):
        self.connection.note("recv", *arguments)
        return super().recv(*arguments)

    def recv_into(self, buffer, *arguments):
        self.connection.note("recv_into", len(buffer))
        return super().recv_into(buffer, *arguments)

    def send(self, data, *arguments):
        self.connection.note("send", len(data))
        return super().send(data, *arguments)

    def sendmsg(self, buffers, *arguments):
        buffers = list(buffers)
        self.connection.note("sendmsg", sum(map(len, buffers)))
        return super().sendmsg(buffers, *arguments)


def with_own_methods(connection, plain):
    own = OwnMethods(fileno=plain.detach())
    own.setblocking(False)
    own.connection = connection
    return own


class StandIn:
    """No socket, but something that passes everything on to one."""

    def __init__(self, connection, plain):
        self._connection, self._plain = connection, plain

    def __getattr__(self, name):
        return getattr(self._plain, name)

    def recv(self, size):
        data = self._plain.recv(size)
        return data.swapcase()

    def send(self, data):
        self._connection.note("send", len(data))
        return self._plain.send(bytes(data[:3]))

    def sendmsg(self, buffers):
        return self.send(b"".join(buffers))


@pytest.mark.parametrize("wrap", [with_own_methods, StandIn])
@pytest.mark.parametrize("buffered", [False, True], ids=["data", "buffered"])
def test_sockets_with_methods_of_their_own(wrap, buffered):
    def program(connection):
        whole_life(connection)
        connection.call(connection.transport.write, b"in vain")

    notes = same(program, buffered=buffered, wrap=wrap)
    assert any(note[0] == "send" for note in notes)


@pytest.mark.parametrize("error", FAILURES)
@pytest.mark.parametrize("method", ["recv", "send"])
def test_methods_of_a_socket_may_fail(method, error):
    class Failing(socket.socket):
        pass

    def fail(self, *arguments):
        raise error("on purpose")

    setattr(Failing, method, fail)

    def program(connection):
        connection.far.send(b"data")
        connection.turns(1)
        connection.call(connection.transport.write, b"data")
        connection.turns(2)

    def wrap(connection, plain):
        failing = Failing(fileno=plain.detach())
        failing.setblocking(False)
        return failing

    # With what stops the loop, the bytes stay and it happens again.
    same(program, wrap=wrap)


@pytest.mark.parametrize("end", ["close", "detach"])
def test_socket_that_goes_behind_the_transport(end):
    """Its number may be somebody else's at once."""

    def program(connection):
        connection.turns(1)
        number = getattr(connection.near, end)()
        if end == "detach":
            socket.close(number)
        first, second = socket.socketpair()
        with first, second:
            second.send(b"not for the transport")
            connection.turns(2)
            connection.call(connection.transport.write, b"not for the stranger")
            connection.turns(2)
            second.setblocking(False)
            connection.call(second.recv, 100)
            connection.call(first.recv, 100)

    same(program)


def test_nobody_waits_although_the_socket_is_made_blocking(loop):
    """A loop that waited in write() would hold up every thread. (asyncio's does wait.)"""
    connection = Connection(loop)
    connection.near.setblocking(True)
    connection.transport.write(b"x" * 10_000_000)
    assert connection.transport.get_write_buffer_size() > 0
    connection.transport._read_ready()
    connection.close()


# -- Closed loops, threads and collectors --------------------------------------------------------------------


def test_transport_of_a_closed_loop():
    def program(connection):
        transport = connection.transport
        connection.turns(1)
        connection.loop.close()
        connection.call(repr, transport)
        connection.call(transport.write, b"goes out")
        connection.drain()
        connection.fill()
        connection.call(transport.write, b"cannot wait")
        connection.call(transport.get_write_buffer_size)
        connection.call(transport.pause_reading)
        connection.call(transport.resume_reading)
        connection.call(transport.close)
        connection.call(transport.close)
        connection.call(transport.abort)
        connection.call(repr, transport)
        connection.call(transport._call_connection_lost, None)
        connection.call(repr, transport)

    same(program)


@pytest.mark.parametrize("write", [False, True], ids=["idle", "writing"])
def test_open_transport_warns_when_its_loop_is_closed_and_forgotten(write):
    def warnings_of(loop):
        gc.collect()  # what earlier tests left behind warns as well
        connection = Connection(loop)
        if write:
            connection.fill()
            connection.transport.write(b"y" * 10)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loop.close()
            connection.close()
            connection.near = connection.transport = connection.protocol = connection.loop = None
            loop = None
            gc.collect()
        return [(warning.category, str(warning.message).split(" <")[0]) for warning in caught]

    found = []
    for new_loop in (asyncio.SelectorEventLoop, velodrome.new_event_loop):
        found.append(warnings_of(new_loop()))
    assert found[0] == found[1] == [(ResourceWarning, "unclosed transport")]


def test_writing_from_a_destructor_while_writing_keeps_the_order(loop):
    """Whatever runs while a write is kept (a collection, say) may write as well; bytes stay in order."""
    connection = Connection(loop)

    class Writer:
        def __del__(self):
            connection.transport.write(b"second")

    size = 4_000_000
    first = b"1" * size
    garbage = [Writer()]
    garbage.append(garbage)
    threshold = gc.get_threshold()
    gc.collect()
    gc.set_threshold(1)
    try:
        del garbage
        connection.transport.write(first)
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    received = bytearray()

    def receive():
        connection.far.setblocking(True)
        while len(received) < size + 6:
            received.extend(connection.far.recv(1 << 20))

    reader = threading.Thread(target=receive)
    reader.start()
    loop.run_until_complete(loop.run_in_executor(None, reader.join))
    connection.close()
    # The destructor may run before, between or after; in no case within.
    assert received in (first + b"second", b"second" + first)


# -- What was never made -------------------------------------------------------------------------------------

UNMADE = {
    "write": (b"x",),
    "writelines": ([b"x"],),
    "set_protocol": (asyncio.Protocol(),),
    "set_write_buffer_limits": (1, 0),
    "get_extra_info": ("socket",),
    "_force_close": (None,),
    "_fatal_error": (ValueError(),),
    "_call_connection_lost": (None,),
}


def test_transport_without_init_does_nothing_bad():
    names = [name for name in dir(velodrome._velodrome.SocketTransport) if not name.startswith("__")]
    for name in names:
        transport = velodrome._velodrome.SocketTransport.__new__(velodrome._velodrome.SocketTransport)
        repr(transport)
        try:
            value = getattr(transport, name)
            if callable(value):
                value(*UNMADE.get(name, ()))
        except (AttributeError, OSError, RuntimeError, TypeError):
            pass
        repr(transport)
        transport.abort()


def test_transport_is_made_once(loop):
    connection = Connection(loop)
    with pytest.raises(RuntimeError):
        connection.transport.__init__(loop, connection.near, connection.protocol)
    with pytest.raises(TypeError):
        velodrome._velodrome.SocketTransport(asyncio.SelectorEventLoop, connection.near, connection.protocol)
    connection.close()


def test_attributes_weak_references_and_subclasses(loop):
    class Own(velodrome._velodrome.SocketTransport):
        pass

    near, far = socket.socketpair()
    with far:
        near.setblocking(False)
        transport = Own(loop, near, asyncio.Protocol())
        transport.note = transport
        assert transport.__dict__ == {"note": transport}
        with pytest.raises(TypeError):
            pickle.dumps(transport)
        weak = weakref.ref(transport)
        transport.abort()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(asyncio.sleep(0))
        del transport
        gc.collect()
        assert weak() is None
