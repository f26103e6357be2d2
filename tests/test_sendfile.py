"""`loop.sendfile()` and `loop.sock_sendfile()`: what arrives, what is returned, where the file is left.

And who else takes part: writers of the same socket, methods that somebody replaced.
"""

import asyncio
import gc
import io
import os
import socket

import pytest
import velodrome
from differential.cancellation import settle
from differential.compare import check_same, one_turn, outcome, turns
from differential.sendfile import (
    DATA,
    SMALL,
    chunks_until,
    connection,
    drained,
    file_of,
    in_a_thread,
    pair,
    result_of,
)

pytestmark = pytest.mark.timeout(120)


# -- What is sent ------------------------------------------------------------------------------------------


class NoNumber(io.BytesIO):
    """A file in memory that counts what is asked of it."""

    def __init__(self, data):
        super().__init__(data)
        self.sought = []

    def seek(self, *where):
        self.sought.append(where)
        return super().seek(*where)


class OnlyReads:
    """The least that can be sent: it cannot be sought in."""

    def __init__(self, data):
        self.readinto = io.BytesIO(data).readinto


def pipe_of(data):
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    return open(reader, "rb", buffering=0)


FILES = {
    "a file": lambda: file_of(DATA),
    "a small file": lambda: file_of(SMALL),
    "an empty file": lambda: file_of(b""),
    "memory": lambda: NoNumber(SMALL),
    "empty memory": lambda: NoNumber(b""),
    "no seek": lambda: OnlyReads(SMALL),
    "a pipe": lambda: pipe_of(SMALL),
    "text": lambda: open(__file__),
    "no file": lambda: None,
    "a closed file": lambda: closed(file_of(SMALL)),
}


def closed(file):
    file.close()
    return file


ARGUMENTS = {
    "all": ((), {}),
    "offset": ((100,), {}),
    "count": ((0, 300), {}),
    "offset and count": ((5, 300), {}),
    "by name": ((), {"offset": 7, "count": 9}),
    "too much": ((0, len(DATA) * 2), {}),
    "much too much": ((0, 1 << 70), {}),
    "from behind the end": ((len(DATA) * 2,), {}),
    "from far behind the end": ((1 << 70,), {}),
    "no fallback": ((), {"fallback": False}),
    "count 0": ((0, 0), {}),
    "count -1": ((0, -1), {}),
    "count 1.0": ((0, 1.0), {}),
    "count True": ((0, True), {}),
    "offset -1": ((-1,), {}),
    "offset None": ((None,), {}),
}


def position_of(file):
    """Where a file is, as far as it can be asked."""
    return outcome(lambda: (file.tell(), getattr(file, "sought", None)))


@pytest.mark.parametrize("arguments", ARGUMENTS)
@pytest.mark.parametrize("kind", FILES)
def test_to_a_socket(kind, arguments):
    positional, named = ARGUMENTS[arguments]

    def program(loop):
        file = FILES[kind]()
        with pair() as (ours, theirs):
            task = loop.create_task(loop.sock_sendfile(ours, file, *positional, **named))
            arrived = in_a_thread(loop, task, theirs)
            return result_of(task), arrived, position_of(file)

    check_same(program)


@pytest.mark.parametrize("arguments", ARGUMENTS)
@pytest.mark.parametrize("kind", FILES)
def test_to_a_transport(kind, arguments):
    """Then the transport is as it was: it reads, and can be written to."""
    positional, named = ARGUMENTS[arguments]

    def program(loop):
        file = FILES[kind]()
        with connection(loop) as (transport, protocol, theirs):
            task = loop.create_task(loop.sendfile(transport, file, *positional, **named))
            arrived = in_a_thread(loop, task, theirs)
            transport.write(b"written afterwards")
            theirs.send(b"received afterwards")
            turns(loop, 3)
            left = position_of(file)
            same = transport.get_protocol() is protocol
            return (
                result_of(task),
                arrived,
                left,
                same,
                transport.is_reading(),
                drained(theirs),
                protocol.told,
            )

    check_same(program)


def test_a_chunk_for_each_turn():
    """As much as the socket takes, no more than once in a turn."""

    def program(loop):
        with pair() as (ours, theirs), file_of(DATA) as file:
            task = loop.create_task(loop.sock_sendfile(ours, file, 3))
            chunks = chunks_until(loop, task, theirs)
            assert b"".join(chunks) == DATA[3:]
            return [len(chunk) for chunk in chunks], task.result(), file.tell()

    sizes, *_ = check_same(program)[1]
    assert sum(size > 0 for size in sizes) > 3


def test_a_file_that_becomes_shorter():
    def program(loop):
        with pair() as (ours, theirs), file_of(DATA) as file:
            task = loop.create_task(loop.sock_sendfile(ours, file, 0, len(DATA)))
            turns(loop, 3)
            file.truncate(len(DATA) // 2)
            arrived = b"".join(chunks_until(loop, task, theirs))
            return task.result(), arrived, file.tell()

    assert check_same(program)[1][0] == len(DATA) // 2


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_what_waits_to_be_sent_goes_first(kind):
    """And nothing can be written until the file has gone, unless it is read and written piece by piece."""

    def program(loop):
        file = file_of(SMALL) if kind == "file" else io.BytesIO(SMALL)
        with connection(loop) as (transport, protocol, theirs):
            transport.write(DATA)
            task = loop.create_task(loop.sendfile(transport, file))
            turns(loop, 2)
            writing = outcome(transport.write, b"between")
            lines = outcome(transport.writelines, [b"between"])
            reading = transport.is_reading()
            arrived = in_a_thread(loop, task, theirs)
            return writing, lines, reading, arrived.endswith(SMALL), result_of(task), transport.is_reading()

    check_same(program)


def test_reading_stays_paused():
    def program(loop):
        with connection(loop) as (transport, _protocol, theirs), file_of(SMALL) as file:
            transport.pause_reading()
            task = loop.create_task(loop.sendfile(transport, file))
            chunks_until(loop, task, theirs)
            return result_of(task), transport.is_reading()

    assert check_same(program)[1] == (len(SMALL), False)


@pytest.mark.parametrize("reads", [True, False])
def test_flow_control_of_the_fallback(reads):
    """The protocol is replaced meanwhile, and hears nothing of it."""

    def program(loop):
        with connection(loop) as (transport, protocol, theirs):
            if not reads:
                transport.pause_reading()
            transport.set_write_buffer_limits(1)
            task = loop.create_task(loop.sendfile(transport, io.BytesIO(DATA)))
            one_turn(loop)
            one_turn(loop)
            during = type(transport.get_protocol()).__name__, transport.is_reading()
            arrived = in_a_thread(loop, task, theirs)
            return during, arrived == DATA, result_of(task), protocol.told, transport.is_reading()

    check_same(program)


# -- Who else takes part -----------------------------------------------------------------------------------


def test_a_writer_takes_its_place():
    """Who watches the socket for room is the one who is told; the file waits until it is cancelled."""

    def program(loop):
        with pair() as (ours, theirs), file_of(DATA) as file:
            told = []
            task = loop.create_task(loop.sock_sendfile(ours, file))
            turns(loop, 3)
            loop.add_writer(ours, told.append, "ready")
            drained(theirs)
            turns(loop, 3)
            arrived = drained(theirs)
            removed = loop.remove_writer(ours), loop.remove_writer(ours)
            task.cancel()
            assert settle(loop, task.done)
            return len(told) > 0, arrived, removed, result_of(task), file.tell()

    assert check_same(program)[1][:3] == (True, b"", (True, False))


def test_removing_the_writer_ends_it():
    def program(loop):
        with pair() as (ours, theirs), file_of(DATA) as file:
            task = loop.create_task(loop.sock_sendfile(ours, file))
            turns(loop, 3)
            watched = loop._selector.get_key(ours.fileno()).events
            removed = loop.remove_writer(ours), loop.remove_writer(ours)
            drained(theirs)
            turns(loop, 3)
            task.cancel()
            assert settle(loop, task.done)
            return watched, removed, drained(theirs), file.tell()

    assert check_same(program)[1][:3] == (2, (True, False), b"")


def test_a_replaced_sendfile_is_asked(monkeypatch):
    """Programs and tests put their own `os.sendfile` in the place of the kernel's."""
    asked = []

    def sendfile(out, file, offset, count):
        asked.append((offset, count))
        return os.write(out, DATA[offset : offset + min(count, 1000)])

    def program(loop):
        asked.clear()
        with pair() as (ours, theirs), file_of(SMALL * 10) as file:
            task = loop.create_task(loop.sock_sendfile(ours, file, 0, 2500))
            arrived = b"".join(chunks_until(loop, task, theirs))
            return task.result(), arrived, file.tell(), list(asked)

    monkeypatch.setattr(os, "sendfile", sendfile)
    assert len(check_same(program)[1][3]) == 3


@pytest.mark.parametrize("sock_class", [socket.socket, type("Subclass", (socket.socket,), {})])
def test_own_methods_of_the_loop(sock_class):
    """Where a subclass has them, they are asked as asyncio asks its own."""

    def program(loop):
        noted = []
        update, native = loop._sock_sendfile_update_filepos, loop._sock_sendfile_native
        loop._sock_sendfile_update_filepos = lambda *where: (noted.append(where[1:]), update(*where))
        loop._sock_sendfile_native = lambda *what: (noted.append(what[2:]), native(*what))[1]
        with pair() as (ours, theirs), file_of(DATA) as file:
            own = sock_class(fileno=os.dup(ours.fileno()))
            with own:
                task = loop.create_task(loop.sock_sendfile(own, file, 1))
                chunks_until(loop, task, theirs)
            return task.result(), noted

    check_same(program)


def test_the_callers_future_may_be_any(monkeypatch):
    """A loop's own futures are what it waits for."""

    class Future(asyncio.Future):
        pass

    def program(loop):
        made = []

        def create_future():
            made.append(Future(loop=loop))
            return made[-1]

        loop.create_future = create_future
        with pair() as (ours, theirs), file_of(DATA) as file:
            task = loop.create_task(loop.sock_sendfile(ours, file))
            chunks_until(loop, task, theirs)
            return task.result(), len(made), made[0].result()

    assert check_same(program)[1] == (len(DATA), 1, len(DATA))


def test_a_loop_that_is_closed_meanwhile_leaves_nothing():
    """Neither descriptors nor objects; the socket and the file are their owner's."""
    loop = velodrome.new_event_loop()
    with pair() as (ours, _theirs), file_of(DATA) as file:
        task = loop.create_task(loop.sock_sendfile(ours, file))
        turns(loop, 3)
        loop.close()
        loop.set_exception_handler(lambda loop, context: None)
        task._log_destroy_pending = False
        del task
        gc.collect()
        assert not [thing for thing in gc.get_objects() if type(thing).__name__ == "SendFile"]
        assert ours.fileno() >= 0 and not file.closed
