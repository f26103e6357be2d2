"""Connecting, accepting and upgrading to TLS, cancelled at every point where they can be suspended.

How that is done, and what is checked, is in differential/cancellation.py.
"""

import asyncio
import contextlib
import random
import socket
import ssl
from pathlib import Path

import pytest
from differential import worlds
from differential.cancellation import (
    REPEAT,
    Operation,
    crowded,
    descriptors,
    every_point,
    settle,
    tokens,
    trial,
)

either_loop = worlds.either_loop

TLS = Path(__file__).with_name("tls")

pytestmark = [
    # A socket that nobody got to see is left to the garbage collector, which says so: asyncio does that.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    # The Server of some versions trips over a connection that arrives while it closes.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(120),
]


@pytest.fixture(scope="module")
def server_tls():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "certificate.pem", TLS / "key.pem")
    return context


@pytest.fixture(scope="module")
def client_tls():
    return ssl.create_default_context(cafile=TLS / "certificate.pem")


@pytest.fixture
def loop(either_loop):
    either_loop.set_exception_handler(lambda loop, context: None)
    return either_loop


class Client(asyncio.Protocol):
    """Says its own token, which must come back, and nothing else."""

    def __init__(self):
        self.token = next(tokens)
        self.received = b""
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport
        transport.write(self.token)

    def data_received(self, data):
        self.received += data
        assert self.token.startswith(self.received)


class Echo(asyncio.Protocol):
    """Sends everything back."""

    def __init__(self, met):
        self.transport = None
        self.received = b""
        met.append(self)

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.received += data
        self.transport.write(data)


class Meeting(Operation):
    """Something that is about to be cancelled, and those who take part in it."""

    def __init__(self, loop):
        super().__init__(loop)
        self.clients = []
        self.met = []  # the servers' ends
        self.sockets = []  # that the test itself has made

    def check_and_finish(self):
        """What was completed works; what was not has told nobody anything; all of it is closed."""
        for task in self.tasks:
            if not task.cancelled() and task.exception() is None and (client := self.client_of(task)):
                assert settle(self.loop, lambda: client.received == client.token)
        said = [client.token for client in self.clients]
        for server in self.met:
            assert any(token.startswith(server.received) for token in [b"", *said])
        for party in [*self.clients, *self.met]:
            if party.transport is not None:
                party.transport.abort()
        for sock in self.sockets:
            sock.close()
        self.tasks.clear()  # whose exceptions hold frames, and they sockets

    def client_of(self, task):
        result = task.result()
        return result[1] if isinstance(result, tuple) else None

    def factory(self):
        self.clients.append(client := Client())
        return client


@pytest.fixture
def serve(loop):
    """A function that starts a server and returns its address; what it met goes into `serve.met`."""
    servers = []

    def serve(**options):
        server = loop.run_until_complete(
            loop.create_server(lambda: Echo(serve.met), "127.0.0.1", 0, **options)
        )
        servers.append(server)
        return server.sockets[0].getsockname()

    serve.met = []
    yield serve
    for server in servers:
        server.close()
    settle(loop, lambda: not any(server.sockets for server in servers))


# -- create_connection -------------------------------------------------------------------------------------


def connecting(loop, serve, *arguments, **options):
    """Make a function that begins to connect."""

    def begin():
        operation = Meeting(loop)
        serve.met = operation.met
        operation.tasks.append(
            loop.create_task(loop.create_connection(operation.factory, *arguments, **options))
        )
        return operation

    return begin


def test_connecting_to_an_address(loop, serve):
    assert every_point(loop, connecting(loop, serve, *serve())) > 1


def test_connecting_from_an_address(loop, serve):
    begin = connecting(loop, serve, *serve(), local_addr=("127.0.0.1", 0))
    assert every_point(loop, begin) > 1


@pytest.mark.parametrize("delay", [None, 0, 0.25], ids="delay={}".format)
def test_connecting_to_a_name_with_many_addresses(loop, serve, delay):
    """Two that refuse, and one that does not; with a delay they are tried side by side."""
    _, port = serve()

    async def getaddrinfo(host, port, **hints):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        found = socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, ""
        return [(*found, (host, port)) for host in ("127.0.0.2", "127.0.0.3", "127.0.0.1")]

    loop.getaddrinfo = getaddrinfo
    begin = connecting(loop, serve, "name.invalid", port, happy_eyeballs_delay=delay)
    assert every_point(loop, begin) > 3


def test_connecting_with_tls(loop, serve, server_tls, client_tls):
    begin = connecting(loop, serve, *serve(ssl=server_tls), ssl=client_tls)
    assert every_point(loop, begin) > 3


def test_connecting_with_a_socket_that_is_connected(loop, serve):
    address = serve()

    def begin():
        operation = Meeting(loop)
        serve.met = operation.met
        operation.sockets.append(sock := socket.create_connection(address))
        coroutine = loop.create_connection(operation.factory, sock=sock)
        operation.begin(coroutine)
        return operation

    assert every_point(loop, begin) > 0


def test_connecting_to_who_does_not_answer(loop):
    """A listener with a full queue leaves sockets hanging, which are cancelled while they connect."""
    with crowded() as address:

        def begin():
            operation = Meeting(loop)
            for options in {}, {"happy_eyeballs_delay": 0}, {"local_addr": ("127.0.0.1", 0)}:
                operation.begin(loop.create_connection(operation.factory, *address, **options))
            return operation

        for turns in range(8):
            for _ in range(REPEAT):
                assert not trial(loop, begin, turns)


# -- create_server -----------------------------------------------------------------------------------------


def test_making_a_server(loop):
    """On two addresses that have to be looked up. Who did not get it is left with no listener."""
    if isinstance(loop, asyncio.SelectorEventLoop):
        pytest.skip("asyncio's loop goes on listening for a server that nobody has")

    async def getaddrinfo(host, port, **hints):
        await asyncio.sleep(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]

    loop.getaddrinfo = getaddrinfo

    def begin():
        operation = Meeting(loop)
        coroutine = loop.create_server(lambda: Echo(operation.met), ["127.0.0.1", "127.0.0.2"], 0)
        operation.begin(coroutine)

        def client_of(task):
            server = task.result()
            party = Client()
            client = socket.create_connection(server.sockets[1].getsockname())
            operation.sockets.append(client)
            operation.clients.append(party)
            client.send(party.token)
            client.setblocking(False)

            def arrived():
                with contextlib.suppress(BlockingIOError):
                    party.received += client.recv(100)
                return party.received == party.token

            assert settle(loop, arrived)
            server.close()
            return party

        operation.client_of = client_of
        return operation

    assert every_point(loop, begin) > 2


# -- connect_accepted_socket -------------------------------------------------------------------------------


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def taking_over(loop, listening, **options):
    """Make a function that begins to take over a connection that was accepted elsewhere."""

    def begin():
        operation = Meeting(loop)
        operation.sockets.append(client := socket.create_connection(listening.getsockname(), timeout=10))
        operation.sockets.append(accepted := listening.accept()[0])
        # Who is taken over is the server here, and echoes.
        operation.clients.append(party := Client())
        client.send(party.token)
        coroutine = loop.connect_accepted_socket(lambda: Echo(operation.met), accepted, **options)
        operation.begin(coroutine)

        def client_of(task):
            if options:
                return None  # it does not speak TLS

            def arrived():
                client.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    party.received += client.recv(100)
                return party.received == party.token

            assert settle(loop, arrived)
            return party

        operation.client_of = client_of
        return operation

    return begin


def test_taking_over_an_accepted_socket(loop, listening):
    assert every_point(loop, taking_over(loop, listening)) > 0


def test_taking_over_an_accepted_socket_with_tls(loop, listening, server_tls, client_tls):
    def begin():
        operation = Meeting(loop)
        operation.sockets.append(client := socket.create_connection(listening.getsockname()))
        operation.sockets.append(accepted := listening.accept()[0])
        server = loop.connect_accepted_socket(lambda: Echo(operation.met), accepted, ssl=server_tls)
        connecting = loop.create_connection(
            operation.factory, sock=client, ssl=client_tls, server_hostname="localhost"
        )
        operation.tasks += [loop.create_task(server), loop.create_task(connecting)]
        operation.tasks[0].add_done_callback(hang_up_on(accepted))
        # Only the server's side is cancelled; the client's then fails, or is cut off.
        operation.cancel = lambda: not operation.tasks[0].cancel()
        operation.client_of = lambda task: (
            None if operation.tasks[0].cancelled() or task is operation.tasks[0] else operation.clients[0]
        )
        return operation

    def hang_up_on(accepted):
        """A task that is cancelled before its first step leaves the socket to us."""

        def hang_up(task):
            with contextlib.suppress(OSError):
                if task.cancelled():
                    accepted.shutdown(socket.SHUT_RDWR)

        return hang_up

    assert every_point(loop, begin) > 2


# -- Accepting ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["tasks are cancelled", "the server closes"])
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_accepting(loop, server_tls, client_tls, end, encrypted):
    def begin():
        operation = Meeting(loop)
        server = loop.run_until_complete(
            loop.create_server(
                lambda: Echo(operation.met), "127.0.0.1", 0, ssl=server_tls if encrypted else None
            )
        )
        address = server.sockets[0].getsockname()
        operation.clients = [Client(), Client()]
        for party in operation.clients:
            operation.sockets.append(client := socket.create_connection(address, timeout=10))
            if encrypted:
                # By hand, since it must not run on the loop, whose tasks are cancelled.
                party.tls = client_tls.wrap_socket(
                    client, server_hostname="localhost", do_handshake_on_connect=False
                )
                operation.sockets[-1] = client = party.tls
                client.setblocking(False)
                with contextlib.suppress(ssl.SSLWantReadError):
                    client.do_handshake()
            else:
                client.setblocking(False)
                client.send(party.token)

        def cancel():
            if end == "tasks are cancelled":
                for task in asyncio.all_tasks(loop):
                    task.cancel()
            else:
                server.close()
            return False

        def check_and_finish():
            for party, client in zip(operation.clients, operation.sockets, strict=True):
                assert settle(loop, lambda: heard(party, client))
            server.close()
            finish()

        operation.cancel = cancel
        finish = operation.check_and_finish
        operation.check_and_finish = check_and_finish
        return operation

    def heard(party, client):
        """Whether the client has heard its own words or the end."""
        try:
            if encrypted and not getattr(party, "greeted", False):
                client.do_handshake()
                client.send(party.token)
                party.greeted = True
            data = client.recv(100)
        except (ssl.SSLWantReadError, BlockingIOError):
            return False
        except (ConnectionError, ssl.SSLError):
            return True
        party.received += data
        assert party.token.startswith(party.received)
        return not data or party.received == party.token

    for turns in range(12 if encrypted else 6):
        for _ in range(REPEAT):
            trial(loop, begin, turns)


# -- start_tls ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["client", "server", "both"])
def test_upgrading_to_tls(loop, listening, server_tls, client_tls, side):
    def upgrade(party, plain, *arguments, **options):
        """Make a task that upgrades; who fails to hangs up, which the other end waits for."""

        async def upgrade():
            party.transport = await loop.start_tls(plain, party, *arguments, **options)

        def upgraded(task):
            if task.cancelled() or task.exception():
                plain.abort()

        task = loop.create_task(upgrade())
        task.add_done_callback(upgraded)
        return task

    def begin():
        operation = Meeting(loop)
        client = socket.create_connection(listening.getsockname())
        server = listening.accept()[0]
        plain = [
            loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=client))[0],
            loop.run_until_complete(loop.connect_accepted_socket(asyncio.Protocol, server))[0],
        ]
        operation.clients.append(party := Client())
        operation.tasks += [
            upgrade(party, plain[0], client_tls, server_hostname="localhost"),
            upgrade(Echo(operation.met), plain[1], server_tls, server_side=True),
        ]

        def cancel():
            wanted = {"client": [0], "server": [1], "both": [0, 1]}[side]
            cancelled = [operation.tasks[index].cancel() for index in wanted]
            return not any(cancelled)

        def check_and_finish():
            if not any(task.cancelled() or task.exception() for task in operation.tasks):
                party.transport.write(party.token)
                assert settle(loop, lambda: party.received == party.token)
            for transport in plain:
                transport.abort()
            finish()

        operation.cancel = cancel
        finish = operation.check_and_finish
        operation.check_and_finish = check_and_finish
        return operation

    assert every_point(loop, begin) > 2


# -- Everything at once ------------------------------------------------------------------------------------


def test_storm_of_cancellations_leaves_the_others_alone(loop, serve, server_tls, client_tls):
    """Connections are made and cancelled by the hundred, while others are busy talking on the same loop."""
    dice = random.Random(1)
    plain, encrypted = serve(), serve(ssl=server_tls)
    before = descriptors()
    done = []

    class Talker(asyncio.Protocol):
        """Keeps a conversation going, each message another one, until it is over."""

        def connection_made(self, transport):
            self.transport, self.left, self.received = transport, 200, b""
            self.speak()

        def speak(self):
            self.token, self.received = next(tokens), b""
            self.transport.write(self.token)

        def data_received(self, data):
            self.received += data
            assert self.token.startswith(self.received), (self.token, self.received)
            if self.received == self.token:
                self.left -= 1
                if self.left:
                    self.speak()
                else:
                    self.transport.close()

        def connection_lost(self, error):
            done.append((self.left, error))

    async def attempt():
        address, context = dice.choice([(plain, None), (encrypted, client_tls)])
        task = loop.create_task(loop.create_connection(Client, *address, ssl=context))
        for _ in range(dice.randrange(20)):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            transport, client = await task
            transport.abort()

    async def main():
        talkers = 20
        for number in range(talkers):
            await loop.create_connection(
                Talker, *(plain if number % 2 else encrypted), ssl=None if number % 2 else client_tls
            )
        for _ in range(50):
            await asyncio.gather(*[attempt() for _ in range(10)])
        while len(done) < talkers:
            await asyncio.sleep(0)
        assert done == [(0, None)] * talkers

    loop.run_until_complete(asyncio.wait_for(main(), 100))
    assert settle(loop, lambda: descriptors() == before)
