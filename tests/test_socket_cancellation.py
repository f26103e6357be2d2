"""Calls on sockets and endpoints, cancelled wherever they wait, while strangers take the free numbers."""

import asyncio
import contextlib
import socket

import pytest
from differential import worlds
from differential.cancellation import REPEAT, Operation, crowded, every_point, settle, tokens, trial
from differential.compare import one_turn

either_loop = worlds.either_loop

pytestmark = [
    # A connection accepted for a call that is cancelled is left to the garbage collector: asyncio does that.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.timeout(120),
]


@pytest.fixture
def loop(either_loop):
    either_loop.set_exception_handler(lambda loop, context: None)
    return either_loop


class Calls(Operation):
    """Tasks that are about to be cancelled, and the sockets that they use."""

    def __init__(self, loop):
        super().__init__(loop)
        self.sockets = []
        self.given = []  # to transports, if they get so far
        self.transports = []
        self.checks = []

    def sock(self, sock):
        sock.setblocking(False)
        self.sockets.append(sock)
        return sock

    def pair(self, type=socket.SOCK_STREAM):
        one, other = socket.socketpair(socket.AF_UNIX, type)
        return self.sock(one), self.sock(other)

    def check_and_finish(self):
        for task in self.tasks:
            if not task.cancelled():
                task.result()
        for check in self.checks:
            check()
        for sock in self.sockets:
            # Nothing watches what is given up.
            assert not self.loop.remove_reader(sock)
            assert not self.loop.remove_writer(sock)
            sock.close()
        for transport in self.transports:
            transport.abort()
        self.tasks.clear()
        one_turn(self.loop)
        one_turn(self.loop)
        for sock in self.given:
            sock.close()


def later(loop, turns, act):
    """Do something after so many turns."""
    if turns:
        loop.call_soon(later, loop, turns - 1, act)
    else:
        with contextlib.suppress(OSError):
            act()


RECEIVING = {
    "sock_recv": lambda loop, sock: loop.sock_recv(sock, 100),
    "sock_recv_into": lambda loop, sock: loop.sock_recv_into(sock, bytearray(100)),
    "sock_recvfrom": lambda loop, sock: loop.sock_recvfrom(sock, 100),
    "sock_recvfrom_into": lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(100)),
}


@pytest.mark.parametrize("closed", [False, True], ids=["", "closed meanwhile"])
@pytest.mark.parametrize("name", RECEIVING)
def test_receiving(loop, name, closed):
    """What is cancelled before anything came takes nothing; what comes later is still there."""

    def begin():
        calls = Calls(loop)
        one, other = calls.pair()
        calls.begin(RECEIVING[name](loop, one))
        token = next(tokens)
        if closed:
            # The number is free for a stranger while the call still waits.
            later(loop, 3, lambda: (calls.sockets.remove(one), one.close()))
            later(loop, 5, lambda: [task.cancel() for task in calls.tasks])
        else:
            later(loop, 3, lambda: other.send(token))

            def check():
                with contextlib.suppress(BlockingIOError):
                    assert one.recv(100) == token

            calls.checks.append(check)
        return calls

    if closed and isinstance(loop, asyncio.SelectorEventLoop):
        pytest.skip("asyncio's selector keeps a closed number, and then refuses or mistakes the stranger's")
    assert every_point(loop, begin) > 2


@pytest.mark.parametrize("closed", [False, True], ids=["", "closed meanwhile"])
def test_sending(loop, closed):
    def begin():
        calls = Calls(loop)
        one, other = calls.pair()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        calls.begin(loop.sock_sendall(one, b"x" * 60_000))
        if closed:
            later(loop, 3, lambda: (calls.sockets.remove(one), one.close()))
            later(loop, 5, lambda: [task.cancel() for task in calls.tasks])
        else:

            def drain():
                with contextlib.suppress(BlockingIOError, OSError):
                    while other.recv(65536):
                        pass
                if not calls.over():
                    loop.call_soon(drain)

            later(loop, 3, drain)
        return calls

    if closed and isinstance(loop, asyncio.SelectorEventLoop):
        pytest.skip("asyncio's selector keeps a closed number, and then refuses or mistakes the stranger's")
    assert every_point(loop, begin) > 2


def test_accepting_and_connecting(loop):
    """Both sides at once, to a name: the address is looked up first."""

    async def getaddrinfo(host, port, **hints):
        await asyncio.sleep(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))]

    loop.getaddrinfo = getaddrinfo

    async def serve(server):
        connection, _address = await loop.sock_accept(server)
        with connection:
            data = await loop.sock_recv(connection, 100)
            await loop.sock_sendall(connection, data)

    async def ask(client, port):
        await loop.sock_connect(client, ("name.invalid", port))
        token = next(tokens)
        await loop.sock_sendall(client, token)
        # From a server that was cancelled as well nothing comes.
        assert await loop.sock_recv(client, 100) in (token, b"")

    def begin():
        calls = Calls(loop)
        server = calls.sock(socket.create_server(("127.0.0.1", 0)))
        calls.begin(serve(server))
        calls.begin(ask(calls.sock(socket.socket()), server.getsockname()[1]))
        return calls

    assert every_point(loop, begin) > 3


@pytest.mark.parametrize("closed", [False, True], ids=["", "closed meanwhile"])
@pytest.mark.parametrize("name", ["sock_accept", "sock_connect", "sock_sendto"])
def test_what_waits_for_a_peer(loop, name, closed):
    """Nobody connects, nobody answers, nobody makes room; the socket stays or goes."""
    if closed and isinstance(loop, asyncio.SelectorEventLoop):
        pytest.skip("asyncio's selector keeps a closed number, and then refuses or mistakes the stranger's")
    with crowded() as full, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as silent:
        silent.bind("")

        def begin():
            calls = Calls(loop)
            if name == "sock_accept":
                sock = calls.sock(socket.create_server(("127.0.0.1", 0)))
                calls.begin(loop.sock_accept(sock))
            elif name == "sock_connect":
                sock = calls.sock(socket.socket())
                calls.begin(loop.sock_connect(sock, full))
            else:
                sock = calls.sock(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
                sock.connect(silent.getsockname())  # as its room does not show otherwise
                with contextlib.suppress(BlockingIOError):
                    while True:
                        sock.send(b"full")
                calls.begin(loop.sock_sendto(sock, b"last", silent.getsockname()))
            if closed:
                later(loop, 3, lambda: (calls.sockets.remove(sock), sock.close()))
            return calls

        for count in range(8):
            for _ in range(REPEAT):
                assert not trial(loop, begin, count)


def test_sending_datagrams(loop):
    """To a peer whose buffer is full for a while."""

    def begin():
        calls = Calls(loop)
        one, other = calls.sock(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)), None
        other = calls.sock(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        other.bind("")
        address = other.getsockname()
        with contextlib.suppress(BlockingIOError):
            while True:
                one.sendto(b"full", address)
        calls.begin(loop.sock_sendto(one, b"last", address))

        def drain():
            with contextlib.suppress(BlockingIOError, OSError):
                while other.recv(100):
                    pass

        later(loop, 3, drain)
        return calls

    assert every_point(loop, begin) >= 1


@pytest.mark.parametrize("kind", ["local", "remote", "unix", "socket"])
def test_making_an_endpoint(loop, kind):
    """Its datagrams reach nobody else, and it hears nobody else's."""

    class Protocol(asyncio.DatagramProtocol):
        def __init__(self, calls):
            self.calls = calls
            self.heard = []

        def connection_made(self, transport):
            self.calls.transports.append(transport)

        def datagram_received(self, data, addr):
            self.heard.append(data)

    async def getaddrinfo(host, port, **hints):
        await asyncio.sleep(0)
        return [(socket.AF_INET, socket.SOCK_DGRAM, 0, "", ("127.0.0.1", port))]

    loop.getaddrinfo = getaddrinfo

    def begin():
        calls = Calls(loop)
        peer = calls.sock(socket.socket(type=socket.SOCK_DGRAM))
        peer.bind(("127.0.0.1", 0))
        where = {"local_addr": ("name.invalid", 0)}
        if kind == "remote":
            where["remote_addr"] = ("name.invalid", peer.getsockname()[1])
        elif kind == "unix":
            peer = calls.sock(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            where = {"family": socket.AF_UNIX, "local_addr": "\0velodrome-" + next(tokens).decode()}
        elif kind == "socket":
            where = {"sock": socket.socket(type=socket.SOCK_DGRAM)}
            where["sock"].bind(("127.0.0.1", 0))
            calls.given.append(where["sock"])
        calls.begin(loop.create_datagram_endpoint(lambda: Protocol(calls), **where))

        def check():
            [task] = calls.tasks
            if task.cancelled():
                return
            transport, protocol = task.result()
            token = next(tokens)
            peer.sendto(token, transport.get_extra_info("sockname"))
            assert settle(loop, lambda: protocol.heard)
            assert protocol.heard == [token]

        calls.checks.append(check)
        return calls

    assert every_point(loop, begin) > (2 if kind in ("local", "remote") else 0)


def test_traffic_on_recycled_numbers(loop):
    """Thousands of calls, many of them cancelled, on sockets that come and go: each pair hears itself."""
    heard = []

    async def echo(sock):
        with sock:
            while data := await loop.sock_recv(sock, 100):
                await loop.sock_sendall(sock, data)

    async def talk(number):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        server = loop.create_task(echo(theirs))
        with ours:
            for _ in range(5):
                token = next(tokens)
                if number % 3 == 0:
                    waiting = loop.create_task(loop.sock_recv(ours, 100))
                    await asyncio.sleep(0)
                    waiting.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        assert await waiting is None
                await loop.sock_sendall(ours, token)
                heard.append(await loop.sock_recv(ours, 100) == token)
        if number % 5 == 0:
            server.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await server

    async def main():
        for first in range(0, 600, 30):
            await asyncio.gather(*(talk(number) for number in range(first, first + 30)))

    loop.run_until_complete(main())
    assert len(heard) == 3000 and all(heard)
