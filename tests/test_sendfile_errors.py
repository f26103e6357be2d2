"""Files that cannot be sent, or not to their end: who is refused, who is told, where the file is left."""

import asyncio
import io
import socket

import pytest
from differential.cancellation import settle
from differential.compare import check_same, one_turn, outcome, turns
from differential.sendfile import (
    DATA,
    SMALL,
    Protocol,
    awaited,
    chunks_until,
    connection,
    drained,
    file_of,
    in_a_thread,
    pair,
    result_of,
    shown,
)
from tls.sides import client_context, server_context

pytestmark = pytest.mark.timeout(120)


# -- What is refused ---------------------------------------------------------------------------------------


def test_sockets_that_are_refused():
    """TLS sockets, datagrams, and in debug mode sockets that block; of closed ones the kernel says so."""

    def tls_socket():
        context = client_context()
        return context.wrap_socket(socket.socket(), server_hostname="name", do_handshake_on_connect=False)

    def program(loop):
        results = []
        for debug in (False, True):
            loop.set_debug(debug)
            with (
                file_of(SMALL) as file,
                socket.socket(type=socket.SOCK_DGRAM) as datagrams,
                tls_socket() as tls,
                socket.socket() as unconnected,
            ):
                gone = socket.socket()
                gone.close()
                for sock in datagrams, tls, unconnected, gone, None:
                    if isinstance(sock, socket.socket) and sock is not gone:
                        sock.setblocking(False)
                    for fallback in (False, True):
                        task = loop.create_task(loop.sock_sendfile(sock, file, fallback=fallback))
                        in_a_thread(loop, task, datagrams)
                        results.append((result_of(task), file.tell()))
        with pair() as (ours, _theirs), file_of(SMALL) as file:
            ours.setblocking(True)
            results.append(result_of(awaited(loop, loop.sock_sendfile(ours, file))))
        loop.set_debug(False)
        return results

    check_same(program)


@pytest.mark.parametrize("fallback", [True, False])
def test_transports_that_are_refused(fallback):
    """Those that close, and those that know nothing of files."""

    class Strange(asyncio.Transport):
        def __repr__(self):
            return "<strange>"

        def is_closing(self):
            return False

    def program(loop):
        results = []
        with file_of(SMALL) as file:
            results.append(result_of(awaited(loop, loop.sendfile(Strange(), file, fallback=fallback))))
            with connection(loop) as (transport, *_):
                transport.close()
                results.append(result_of(awaited(loop, loop.sendfile(transport, file, fallback=fallback))))
            return results, file.tell()

    check_same(program)


@pytest.mark.parametrize("fallback", [True, False])
def test_over_tls(fallback):
    """There the kernel cannot do it: the file is read and encrypted piece by piece."""

    def program(loop):
        async def main():
            served = Protocol()
            server = await loop.create_server(lambda: served, "127.0.0.1", 0, ssl=server_context())
            async with server:
                address = server.sockets[0].getsockname()
                transport, _ = await loop.create_connection(
                    Protocol, *address, ssl=client_context(), server_hostname="localhost"
                )
                try:
                    with file_of(DATA) as file:
                        try:
                            result = await loop.sendfile(transport, file, 10, fallback=fallback)
                        except RuntimeError as error:
                            result = str(error).partition(" for transport ")[0]
                        left = file.tell()
                    transport.write(b"end")
                    while not b"".join(served.told).endswith(b"end"):
                        await asyncio.sleep(0)
                finally:
                    transport.abort()
                    served.transport.abort()
                return result, left, b"".join(served.told) == (DATA[10:] if fallback else b"") + b"end"

        result = loop.run_until_complete(main())
        settle(loop, lambda: len(asyncio.all_tasks(loop)) == 0)
        return result

    found = check_same(program)[1]
    assert found[1:] == (len(DATA) if fallback else 0, True)


def test_a_transport_has_its_socket_to_itself():
    """A program cannot send a file to a transport's socket behind its back, more than fits at once."""

    def program(loop):
        with connection(loop) as (transport, _protocol, theirs), file_of(DATA) as file:
            sock = transport._sock
            task = loop.create_task(loop.sock_sendfile(sock, file))
            chunks_until(loop, task, theirs)
            name, text, cause = result_of(task)
            return name, text.split(" by transport ")[0].rstrip("0123456789"), cause, file.tell()

    assert check_same(program)[1][0] == "RuntimeError"


def test_a_second_file_does_not_disturb_the_first():
    """It is refused (by asyncio with a KeyError), and nothing is written between the first one's pieces."""

    def program(loop):
        with (
            connection(loop) as (transport, _protocol, theirs),
            file_of(DATA) as file,
            file_of(SMALL) as second,
        ):
            task = loop.create_task(loop.sendfile(transport, file))
            turns(loop, 3)
            refused = awaited(loop, loop.sendfile(transport, second)).exception() is not None
            written = outcome(transport.write, b"between")
            reading = transport.is_reading()
            arrived = b"".join(chunks_until(loop, task, theirs))
            return refused, written, reading, result_of(task), arrived == DATA, transport.is_reading()

    refused, written, *rest = check_same(program)[1]
    assert refused and written[0] == "RuntimeError"
    assert rest == [False, len(DATA), True, True]


# -- What goes wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [None, len(DATA)])
@pytest.mark.parametrize("at", [0, 1, 2, 5])
def test_a_peer_that_closes_in_the_middle(at, count):
    """The error says so, and the file is left where the next piece would begin."""

    def program(loop):
        with pair() as (ours, theirs), file_of(DATA) as file:
            task = loop.create_task(loop.sock_sendfile(ours, file, 1, count))
            arrived = b""
            for _ in range(at):
                one_turn(loop)
                arrived += drained(theirs)
            theirs.close()
            assert settle(loop, task.done)
            return result_of(task), file.tell(), arrived == DATA[1 : 1 + len(arrived)]

    check_same(program)


@pytest.mark.parametrize("at", [1, 3, 6])
def test_a_peer_that_resets_a_transport(at):
    """The error is one of the connection's, and the file's position has moved on by what the kernel took."""

    def program(loop):
        with connection(loop) as (transport, protocol, theirs), file_of(DATA) as file:
            task = loop.create_task(loop.sendfile(transport, file))
            for _ in range(at):
                one_turn(loop)
                drained(theirs)
            theirs.close()
            assert settle(loop, task.done)
            turns(loop, 3)
            return result_of(task), file.tell(), transport.is_closing(), protocol.told

    check_same(program)


def test_a_file_that_is_closed_meanwhile():
    """Then there is no position to be set; the loop is told, and whoever waits is not. So asyncio has it."""

    def program(loop):
        reports = []
        loop.set_exception_handler(
            lambda loop, context: reports.append((context["message"][:18], shown(context["exception"])))
        )
        with pair() as (ours, theirs):
            with file_of(DATA) as file:
                task = loop.create_task(loop.sock_sendfile(ours, file))
                turns(loop, 3)
            drained(theirs)
            turns(loop, 3)
            done = task.done()
            task.cancel()
            assert settle(loop, task.done)
            return reports, done

    reports, done = check_same(program)[1]
    assert len(reports) == 1 and not done


@pytest.mark.parametrize("kind", ["file", "memory"])
@pytest.mark.parametrize("how", ["close", "abort"])
def test_a_transport_that_is_closed_meanwhile(kind, how):
    """Whoever sends a file does not hear of it; piece by piece it does. So asyncio has it."""

    def program(loop):
        file = file_of(DATA) if kind == "file" else io.BytesIO(DATA)
        loop.set_exception_handler(lambda loop, context: None)
        with connection(loop) as (transport, protocol, theirs):
            task = loop.create_task(loop.sendfile(transport, file))
            turns(loop, 3)
            getattr(transport, how)()
            turns(loop, 10)
            if kind == "memory":
                in_a_thread(loop, task, theirs)
            done = task.done()
            task.cancel()
            assert settle(loop, task.done)
            return done, result_of(task), transport.is_closing(), protocol.told

    check_same(program)
