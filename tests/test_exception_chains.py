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
