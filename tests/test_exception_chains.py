"""Exceptions come with the causes, the contexts and the notes that asyncio's come with."""

import asyncio
import re
import socket

import pytest
import velodrome
from differential.compare import LOOPS, plain
from differential.operations import OPERATIONS


def described(error):
    """An exception with all that is behind it, without numbers that differ from run to run."""
    if error is None:
        return None
    inside = [described(one) for one in error.exceptions] if isinstance(error, BaseExceptionGroup) else None
    return [
        type(error).__name__,
        re.sub(r"\d{4,}|fd=\d+|Task-\d+", "N", plain(str(error))),
        described(error.__cause__),
        described(error.__context__),
        error.__suppress_context__,
        inside,
        getattr(error, "__notes__", None),
    ]


def exceptions(operation, aio, new_event_loop):
    seen = []

    def mark(name, thing):
        if isinstance(thing, BaseException):
            seen.append(thing)
        return thing

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.get_loop().set_exception_handler(lambda loop, context: None)
        runner.run(operation(aio, mark))
    return sorted(map(described, seen), key=repr)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", OPERATIONS)
def test_exceptions_have_the_chains_of_asyncios(name):
    operation = OPERATIONS[name]
    assert exceptions(operation, velodrome, LOOPS[1]) == exceptions(operation, asyncio, LOOPS[0])


class Hearing(asyncio.Protocol, asyncio.DatagramProtocol):
    """Keeps what it is told of errors."""

    def __init__(self):
        self.told = []

    def error_received(self, exc):
        self.told.append(exc)

    def connection_lost(self, exc):
        self.told.append(exc)


async def told_when_writing(loop, near):
    transport, protocol = await loop.create_connection(Hearing, sock=near)
    try:
        raise LookupError
    except LookupError:
        transport.write(b"to nobody")
    await asyncio.sleep(0)
    return protocol.told


async def told_when_sending(loop, near):
    transport, protocol = await loop.create_datagram_endpoint(Hearing, local_addr=("127.0.0.1", 0))
    try:
        raise LookupError
    except LookupError:
        transport.sendto(bytes(70_000), ("127.0.0.1", 9))
    transport.close()
    await asyncio.sleep(0)
    return protocol.told


async def raised_by_a_call(loop, near):
    try:
        raise LookupError
    except LookupError:
        try:
            await loop.sock_sendall(near, b"to nobody")
        except OSError as error:
            return [error]


@pytest.mark.parametrize("act", [told_when_writing, told_when_sending, raised_by_a_call])
def test_what_the_kernel_refuses_has_what_is_being_handled_as_its_context(act):
    """So a traceback tells of both."""

    def chains(new_event_loop):
        near, far = socket.socketpair()
        near.setblocking(False)
        far.close()
        with near, asyncio.Runner(loop_factory=new_event_loop) as runner:

            async def main():
                return await act(asyncio.get_running_loop(), near)

            return [described(error) for error in runner.run(main())]

    found = chains(LOOPS[1])
    assert found == chains(LOOPS[0])
    assert found[0][3][0] == "LookupError"


async def too_short(aio):
    reader = aio.StreamReader()
    reader.feed_data(b"ab")
    reader.feed_eof()
    await reader.readexactly(3)


async def without_end(aio):
    reader = aio.StreamReader()
    reader.feed_eof()
    await reader.readuntil()


async def too_far(aio):
    reader = aio.StreamReader(limit=2)
    reader.feed_data(b"abcdef")
    await reader.readuntil()


async def too_long_a_line(aio):
    reader = aio.StreamReader(limit=2)
    reader.feed_data(b"abcdef")
    await reader.readline()


@pytest.mark.parametrize("read", [too_short, without_end, too_far, too_long_a_line])
def test_what_a_reader_raises_has_what_is_being_handled_as_its_context(read):
    def chain(aio, new_event_loop):
        async def main():
            try:
                raise LookupError
            except LookupError:
                await read(aio)

        with asyncio.Runner(loop_factory=new_event_loop) as runner, pytest.raises(Exception) as caught:
            runner.run(main())
        return described(caught.value)

    found = chain(velodrome, LOOPS[1])
    assert found == chain(asyncio, LOOPS[0])
    assert "LookupError" in str(found)


async def leave(aio):
    raise SystemExit(4)


async def group_that_is_left(aio):
    async with aio.TaskGroup() as group:
        group.create_task(leave(aio))
        await aio.sleep(10)


async def task_that_is_cancelled_at_the_end(aio):
    async def fail_at_the_end():
        try:
            await aio.sleep(10)
        finally:
            raise OSError("at the end")

    tasks = [aio.create_task(fail_at_the_end())]
    await aio.sleep(0)
    raise LookupError(len(tasks))


@pytest.mark.parametrize("program", [group_that_is_left, task_that_is_cancelled_at_the_end])
def test_what_a_run_ends_with_is_being_handled_while_it_is_wound_up(program):
    def chains(aio):
        reported = []

        def report(loop, context):
            # Whether the main task is said to have a SystemExit that nobody asked for is up to the collector.
            if "never retrieved" not in context["message"]:
                reported.append(described(context["exception"]))

        async def main():
            asyncio.get_running_loop().set_exception_handler(report)
            await program(aio)

        with pytest.raises((SystemExit, LookupError)) as caught:
            aio.run(main())
        return described(caught.value), reported

    assert chains(velodrome) == chains(asyncio)
