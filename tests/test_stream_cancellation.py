"""Streams whose calls are cancelled, at every point: no byte is lost, and nobody is left waiting.

Each scene runs turn by turn, so its points are the same every time, and asyncio's streams on asyncio's loop
say what has to come out. Bytes, waiters and the futures that are alive afterwards are counted.
"""

import asyncio
import gc
import random
import socket

import pytest
import velodrome
from differential.compare import LOOPS, one_turn, turns
from differential.worlds import close

pytestmark = pytest.mark.timeout(120)

#: Streams on a loop: asyncio's own first, which the others are compared with.
WORLDS = [
    (asyncio, LOOPS[0]),
    (velodrome, LOOPS[0]),
    (asyncio, LOOPS[1]),
    (velodrome, LOOPS[1]),
]
OURS = pytest.mark.parametrize("new_loop", LOOPS, ids=["asyncio", "velodrome"])


def alive():
    """Return how many futures and tasks there are."""
    gc.collect()
    return sum(issubclass(type(found), asyncio.Future) for found in gc.get_objects())


def all_the_same(scene, *arguments):
    """Play a scene in every world; return what comes out, which is the same, and nothing is left of it."""
    outcomes = []
    for streams, new_loop in WORLDS:
        before = alive()
        loop = new_loop()
        try:
            outcomes.append(scene(loop, streams, *arguments))
        finally:
            close(loop)
        assert alive() == before
    assert outcomes[1:] == outcomes[:1] * 3
    return outcomes[0]


def what_became_of(task):
    """Return the result, or the exception's class."""
    assert task.done()
    if task.cancelled():
        return asyncio.CancelledError
    return type(task.exception()) if task.exception() else task.result()


def check_over(futures):
    """All are done, and nobody is to be told any more."""
    for future in futures:
        assert future.done() and not future._callbacks


# -- Reading ---------------------------------------------------------------------------------------------

READS = {
    "read": [3],
    "read all": [],
    "readexactly": [7],
    "readline": [],
    "readuntil": [b"END"],
    "__anext__": [],
}
PIECES = [b"abc", b"d\nE", b"ND!"]


#: What happens, point by point; between any two the call can be cancelled.
READING = [("begin", None), ("turn", None)]
for _piece in PIECES:
    READING += [("feed", _piece), ("turn", None), ("turn", None)]
READING += [("end", None), ("turn", None), ("turn", None)]


def cancelled_reading(loop, streams, name, point):
    reader = streams.StreamReader(limit=64, loop=loop)
    waiters, task = [], None
    for number, (what, piece) in enumerate(READING):
        if number == point:
            task.cancel()
        if what == "begin":
            call = getattr(reader, name.split()[0])
            task = loop.create_task(awaited(call, READS[name]))
        elif what == "feed":
            reader.feed_data(piece)
        elif what == "end":
            reader.feed_eof()
        else:
            one_turn(loop)
        if reader._waiter is not None and reader._waiter not in waiters:
            waiters.append(reader._waiter)
    turns(loop, 3)
    outcome = what_became_of(task)
    assert reader._waiter is None
    check_over([task, *waiters])
    rest = loop.run_until_complete(reader.read())
    assert reader.at_eof()
    return outcome, rest, [(waiter.cancelled(), waiter.done()) for waiter in waiters]


async def awaited(call, arguments):
    return await call(*arguments)


@pytest.mark.parametrize("name", READS)
def test_a_cancelled_reading_loses_no_byte_and_leaves_no_waiter(name):
    cancelled = 0
    for point in range(1, len(READING) + 1):
        outcome, rest, _waiters = all_the_same(cancelled_reading, name, point)
        got = b"" if outcome is asyncio.CancelledError else outcome
        # What read(-1) has taken out already goes with it, as in asyncio.
        if not (name == "read all" and outcome is asyncio.CancelledError):
            assert got + rest == b"".join(PIECES)
        cancelled += outcome is asyncio.CancelledError
    assert cancelled


# -- Waiting for room ------------------------------------------------------------------------------------


DRAINING = "drain pause drain turn drain turn drain turn turn resume turn turn turn".split()


class Silent(asyncio.Transport):
    """Takes everything."""

    def is_closing(self):
        return False

    def close(self):
        pass


def cancelled_draining(loop, streams, point, which, looks):
    """Cancel one of several that wait for room; with `looks` the waiters are looked at before."""
    reader = streams.StreamReader(loop=loop)
    protocol = streams.StreamReaderProtocol(reader, loop=loop)
    writer = streams.StreamWriter(Silent(), protocol, reader, loop)
    tasks, waiters = [], set()
    for number, what in enumerate(DRAINING):
        if number == point and len(tasks) > which:
            tasks[which].cancel()
        if what == "drain":
            tasks.append(loop.create_task(awaited(writer.drain, [])))
        elif what == "pause":
            protocol.pause_writing()
        elif what == "resume":
            protocol.resume_writing()
        else:
            one_turn(loop)
        if looks:
            waiters.update(protocol._drain_waiters)
    turns(loop, 3)
    outcomes = [what_became_of(task) for task in tasks]
    assert len(protocol._drain_waiters) == 0
    check_over([*tasks, *waiters])
    protocol.connection_lost(None)
    check_over([protocol._closed])
    return outcomes, len(waiters)


@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.parametrize("which", range(4))
def test_a_cancelled_drain_leaves_no_waiter_and_lets_the_others_go_on(which, looks):
    cancelled = 0
    for point in range(len(DRAINING) + 1):
        outcomes, _count = all_the_same(cancelled_draining, point, which, looks)
        assert [outcome for number, outcome in enumerate(outcomes) if number != which] == [None] * 3
        cancelled += outcomes[which] is asyncio.CancelledError
    assert cancelled


# -- Waiting for the end ---------------------------------------------------------------------------------

WRITTEN = random.Random(1).randbytes(1 << 20)


def cancelled_wait_closed(loop, streams, point, count):
    """Cancel the first of those who wait until a connection is closed, of which much is still to be sent."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
    _reader, writer = loop.run_until_complete(streams.open_connection(sock=ours))
    protocol = writer._protocol
    writer.write(WRITTEN)
    writer.close()
    tasks = [loop.create_task(awaited(writer.wait_closed, [])) for _ in range(count)]
    received = bytearray()
    for turn in range(10_000):
        if turn == point:
            tasks[0].cancel()
        one_turn(loop)
        if turn > 4:
            try:
                data = theirs.recv(1 << 20)
            except BlockingIOError:
                continue
            received += data
            if not data:
                break
    assert received == WRITTEN
    turns(loop, 4)
    late = loop.create_task(awaited(writer.wait_closed, []))
    turns(loop, 3)
    check_over([*tasks, late, protocol._closed])
    theirs.close()
    return [what_became_of(task) for task in [*tasks, late]]


@pytest.mark.parametrize("count", [1, 2])
def test_a_cancelled_wait_for_the_end_keeps_nothing_from_being_sent(count):
    for point in [*range(12), 10_001]:
        outcomes = all_the_same(cancelled_wait_closed, point, count)
    assert outcomes == [None] * (count + 1)


# -- All of it, over a socket ----------------------------------------------------------------------------


def lines(chance, size):
    """Make lines of various lengths, all different."""
    made = bytearray()
    while len(made) < size:
        made += b"%d:%s\n" % (len(made), b"x" * chance.randrange(200))
    return bytes(made)


async def after_turns(chance, task):
    """Cancel a task after a few turns, if it is not over then; return its result, or None."""
    for _ in range(chance.randrange(5)):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    return None if task.cancelled() else task


async def send(chance, writer, data):
    left = data
    while left:
        count = chance.randrange(1, 20_000)
        writer.write(left[:count])
        left = left[count:]
        await after_turns(chance, asyncio.ensure_future(writer.drain()))
    writer.close()
    await after_turns(chance, asyncio.ensure_future(writer.wait_closed()))


async def receive(chance, reader):
    got = bytearray()
    while not reader.at_eof():
        name, *arguments = chance.choice(
            [("read", 1000), ("readline",), ("readexactly", 300), ("readuntil", b":"), ("__anext__",)]
        )
        call = getattr(reader, name)
        task = await after_turns(chance, asyncio.ensure_future(awaited(call, arguments)))
        assert reader._waiter is None
        if task is None or isinstance(task.exception(), StopAsyncIteration):
            continue
        if isinstance(task.exception(), asyncio.IncompleteReadError):
            got += task.exception().partial
        else:
            got += task.result()
    return bytes(got)


@OURS
@pytest.mark.parametrize("seed", range(5))
def test_a_conversation_whose_calls_are_cancelled_at_random_loses_no_byte(new_loop, seed):
    async def main():
        chance = random.Random(seed)
        data = lines(chance, 300_000)
        one, other = socket.socketpair()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)
        _unused, writer = await velodrome.open_connection(sock=one)
        reader, closing = await velodrome.open_connection(sock=other, limit=1000)
        writer.transport.set_write_buffer_limits(high=10_000)
        sending = asyncio.ensure_future(send(chance, writer, data))
        assert await receive(chance, reader) == data
        await sending
        assert writer.transport.get_write_buffer_size() == 0
        assert len(writer._protocol._drain_waiters) == 0
        assert reader._waiter is None
        closing.close()
        await closing.wait_closed()

    before = alive()
    loop = new_loop()
    try:
        loop.run_until_complete(main())
    finally:
        close(loop)
    assert alive() == before
