"""`loop.sock_recv()` and its like: asyncio's answers, at once or after a wait, on every kind of socket."""

import array
import asyncio
import contextlib
import os
import socket

import pytest
from differential.compare import check_same, one_turn, outcome
from differential.sockets import CALLS, Wrapped, bound, kinds, pair
from differential.worlds import either_loop  # noqa: F401

pytestmark = pytest.mark.timeout(60)


@kinds
@pytest.mark.parametrize("waits", [False, True], ids=["at once", "after a wait"])
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("sent", [b"five!", b"more than ten bytes", b""], ids=len)
def test_what_is_received(kind, name, waits, sent):
    def program(loop):
        one, other = pair(kind)
        target = bytearray(10)
        argument = 10 if name in ("sock_recv", "sock_recvfrom") else target
        with one.sock if kind is Wrapped else one:
            send = other.send if sent else lambda _: other.close()
            if not waits:
                send(sent)
            task = loop.create_task(getattr(loop, name)(one, argument))
            one_turn(loop)
            if waits:
                assert not task.done()
                send(sent)
            other.close()
            result = loop.run_until_complete(task)
            return result, bytes(target), getattr(one, "calls", None)

    check_same(program)


@kinds
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("waits", [False, True], ids=["at once", "after a wait"])
def test_datagrams_and_their_senders(kind, family, waits):
    def program(loop):
        inner = bound(family, kind=kind if isinstance(kind, type) and kind is not Wrapped else socket.socket)
        other = bound(family)
        one = Wrapped(inner) if kind is Wrapped else inner
        address = inner.getsockname()
        said = []
        with inner, other:
            for size in (0, 1, 20):
                for target in (None, bytearray(8)):
                    for most in (0, 4, 8) if target is not None else (1, 10, 70000):
                        if target is None:
                            call = loop.sock_recvfrom(one, most)
                        else:
                            call = loop.sock_recvfrom_into(one, target, most)
                        if not waits:
                            other.sendto(b"y" * size, address)
                        task = loop.create_task(call)
                        one_turn(loop)
                        if waits:
                            assert not task.done()
                            count = loop.run_until_complete(loop.sock_sendto(other, b"y" * size, address))
                            assert count == size
                        data, sender = loop.run_until_complete(task)
                        assert sender == other.getsockname()
                        said.append((data, target and bytes(target), len(sender)))
            said.append(getattr(one, "calls", None))
        return said

    check_same(program)


@kinds
@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, array.array], ids=lambda make: make.__name__)
@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_what_is_sent(kind, make, size):
    content = os.urandom(1000) * (size // 1000) + b"z" * (size % 1000)

    def program(loop):
        one, other = pair(kind)
        data = array.array("B", content) if make is array.array else make(content)

        async def receive():
            received = bytearray()
            while len(received) < size:
                received += await loop.sock_recv(other, 65536)
            return bytes(received)

        async def both():
            return await asyncio.gather(loop.sock_sendall(one, data), receive())

        with one.sock if kind is Wrapped else one, other:
            nothing, received = loop.run_until_complete(both())
            return nothing, received == content

    assert check_same(program) == ("returned", (None, True))


def test_accepting_and_connecting(either_loop):  # noqa: F811
    loop = either_loop

    async def main():
        with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
            server.setblocking(False)
            client.setblocking(False)
            accepting = loop.create_task(loop.sock_accept(server))
            await asyncio.sleep(0)
            assert await loop.sock_connect(client, server.getsockname()) is None
            connection, address = await accepting
            with connection:
                assert address == client.getsockname()
                assert connection.gettimeout() == 0
                assert type(connection) is socket.socket
                await loop.sock_sendall(client, b"hello")
                assert await loop.sock_recv(connection, 10) == b"hello"

    loop.run_until_complete(main())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_refused_connection(host):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

        def program(loop):
            with socket.socket() as client:
                client.setblocking(False)
                loop.run_until_complete(loop.sock_connect(client, (host, port)))

        kind, text = check_same(program)
        assert kind == "ConnectionRefusedError" and "Connect call failed" in text


def test_connecting_a_unix_socket(tmp_path):
    path = str(tmp_path / "socket")

    def program(loop):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            refused = outcome(lambda: loop.run_until_complete(loop.sock_connect(client, path)))
            server.bind(path)
            server.listen()
            return refused, loop.run_until_complete(loop.sock_connect(client, path))

    check_same(program)


def test_audit_hooks_hear_of_datagrams(run_python):
    done = run_python(
        """
        import asyncio, socket, sys, velodrome
        heard = []
        sys.addaudithook(lambda event, args: event == "socket.sendto" and heard.append(args[1:]))
        for new in asyncio.SelectorEventLoop, velodrome.new_event_loop:
            loop = new()
            with socket.socket(type=socket.SOCK_DGRAM) as sock:
                sock.bind(("127.0.0.1", 0))
                sock.setblocking(False)
                loop.run_until_complete(loop.sock_sendto(sock, b"", sock.getsockname()))
                heard[-1] = heard[-1] == (sock.getsockname(),)
            loop.close()
        print(heard)
        """.replace("\n        ", "\n")
    )
    assert done.stdout == "[True, True]\n"
