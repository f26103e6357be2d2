"""Peers that ask for new handshakes and new keys without end, or never end their handshakes.

What becomes of a connection is what asyncio makes of it; memory stays in bounds, and nothing stays open.
"""

import asyncio
import contextlib
import gc
import os
import socket
import ssl

import pytest
from tls.openssl import OpenSslPeer
from tls.sides import (
    VERSIONS,
    BufferedRecorder,
    Recorder,
    client_context,
    connected,
    described,
    other,
    run,
    server_context,
    sockets,
)

CONTEXTS = {"client": client_context, "server": server_context}
LOOPS = ("asyncio", "velodrome")

#: `SSL_OP_ALLOW_CLIENT_RENEGOTIATION` of OpenSSL 3, which `ssl` has no name for.
ALLOW_CLIENT_RENEGOTIATION = 1 << 8

#: More than any program has to do with; a handshake takes a millisecond or two.
MANY = 100

#: Bytes that may wait to be sent: as many as one handshake needs, far fewer than all that is answered.
FEW = 1_600

roles = pytest.mark.parametrize("role", ["client", "server"])
protocols = pytest.mark.parametrize("protocol", [Recorder, BufferedRecorder])


class Echo:
    """Mixed into a protocol that sends back what comes; the most that ever waited to be sent is noted."""

    most = 0

    def data_received(self, data):
        super().data_received(data)
        layer = self.transport._ssl_protocol
        waiting = layer._outgoing.pending + layer._transport.get_write_buffer_size()
        self.most = max(self.most, waiting)
        self.transport.write(data)


def echo(loop, role, version, talk, protocol, prepare=lambda context: None):
    """Send back what a peer says; return what became of us, and of the peer."""
    ours, theirs = sockets()
    context = CONTEXTS[role](version)
    prepare(context)
    peer = OpenSslPeer(theirs, other(role), version, talk)

    async def main():
        recorder = type("Echo", (Echo, protocol), {})()
        await connected(ours, context, role, recorder)
        await recorder.lost
        return recorder.events, bytes(recorder.data), recorder.most < FEW

    outcome = run(loop, main)
    assert ours.fileno() == -1
    return outcome, peer.join()


def same(*arguments, **options):
    """Play it on both loops, and compare."""
    outcomes = {loop: echo(loop, *arguments, **options) for loop in LOOPS}
    assert outcomes["velodrome"] == outcomes["asyncio"]
    return outcomes["velodrome"]


def ask_again_and_again(call):
    def talk(peer):
        for _ in range(MANY):
            asked = call(peer)
            peer.write(b"x")
            peer.said.append((asked, peer.read(1)))
            if peer.said[-1] != (True, 1):
                return
        peer.library.SSL_shutdown(peer.connection)

    return talk


@protocols
@roles
def test_handshakes_again_and_again(role, protocol):
    """Which a server has to be told to allow."""

    def prepare(context):
        context.options |= ALLOW_CLIENT_RENEGOTIATION
        context.options &= ~ssl.OP_NO_RENEGOTIATION

    talk = ask_again_and_again(OpenSslPeer.renegotiate)
    ((_, data, bounded), told), said = same(role, "1.2", talk, protocol, prepare=prepare)
    assert (data, told) == (b"x" * MANY, [])
    assert said == [(True, 1)] * MANY
    assert bounded


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the callback that raises
@pytest.mark.parametrize("deed", ["nothing", "another context", "an error", "a refusal", "abort", "collect"])
@protocols
def test_what_callbacks_do_during_new_handshakes(protocol, deed):
    """They are called while the connection is read, natively or not."""
    seen = []

    def prepare(context):
        context.options |= ALLOW_CLIENT_RENEGOTIATION
        context.options &= ~ssl.OP_NO_RENEGOTIATION
        seen.clear()

        def callback(connection, name, context):
            seen.append((name, type(connection).__name__))
            if len(seen) == 1:
                return None
            match deed:
                case "another context":
                    connection.context = server_context("1.2")
                case "an error":
                    raise ValueError
                case "a refusal":
                    return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
                case "abort":
                    Aborted.last.abort()
                case "collect":
                    gc.collect()

        context.sni_callback = callback

    class Aborted(protocol):
        def connection_made(self, transport):
            super().connection_made(transport)
            Aborted.last = transport

    def talk(peer):
        for _ in range(3):
            peer.said.append((peer.renegotiate(), peer.write(b"x"), peer.read(1)))
            if peer.said[-1] != (True, 1, 1):
                return
        peer.library.SSL_shutdown(peer.connection)

    ((events, *_), _), _ = same("server", "1.2", talk, Aborted, prepare=prepare)
    assert events[-1][0] == "lost"
    assert len(seen) > 1


@protocols
@roles
def test_handshakes_that_are_refused(role, protocol):
    def prepare(context):
        context.options |= ssl.OP_NO_RENEGOTIATION

    def talk(peer):
        # Data that comes together with an alert is lost on asyncio, so there is none.
        peer.said.append((peer.renegotiate(), peer.read(1)))

    same(role, "1.2", talk, protocol, prepare=prepare)


@protocols
@roles
def test_new_keys_again_and_again(role, protocol):
    talk = ask_again_and_again(OpenSslPeer.ask_for_keys)
    ((_, data, bounded), told), said = same(role, "1.3", talk, protocol)
    assert (data, told) == (b"x" * MANY, [])
    assert said == [(True, 1)] * MANY
    assert bounded


@protocols
@roles
def test_new_keys_all_at_once(role, protocol):
    """They are all answered before the data behind them.

    What may wait meanwhile is tested with rustls, in test_tls_peers.
    """
    count = 12 * MANY

    def talk(peer):
        peer.write(b"before")
        for _ in range(count):
            peer.said.append(peer.ask_for_keys())
        peer.write(b"behind")
        received = 0
        while received < 12:
            received += peer.read()
        peer.said.append(received)

    outcomes = {loop: echo(loop, role, "1.3", talk, protocol) for loop in LOOPS}
    for ((events, data, _), told), said in outcomes.values():
        assert (events[-1], data, told) == (("lost", None), b"beforebehind", [])
        assert said == [True] * count + [12]


def first_flight_of_client(version):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = client_context(version).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("version", VERSIONS)
def test_handshakes_that_servers_wait_for_in_vain(version):
    """After nothing, a part of the first message, and all of it; in time, everything is closed."""
    hello = first_flight_of_client(version)
    beginnings = [b"", hello[:1], hello[:5], hello[: len(hello) // 2], hello] * 10

    async def main():
        loop = asyncio.get_running_loop()
        made = []
        before = len(os.listdir("/proc/self/fd"))
        server = await loop.create_server(
            lambda: made.append(Recorder()) or made[-1],
            "127.0.0.1",
            0,
            ssl=server_context(version),
            ssl_handshake_timeout=0.2,
        )
        address = server.sockets[0].getsockname()

        def connect(beginning):
            client = socket.create_connection(address, timeout=20)
            client.sendall(beginning)
            return client

        def wait_for_end(client):
            with client, contextlib.suppress(ConnectionError):
                while client.recv(65536):
                    pass

        clients = [connect(beginning) for beginning in beginnings]
        for client in clients:
            await asyncio.to_thread(wait_for_end, client)
        server.close()
        # Sockets are closed in the iteration in which the connection is given up, or in the next ones.
        for _ in range(10):
            await asyncio.sleep(0)
        return len(os.listdir("/proc/self/fd")) - before, [recorder.events for recorder in made]

    outcomes = {loop: run(loop, main) for loop in LOOPS}
    assert outcomes["velodrome"] == outcomes["asyncio"]
    (left, _), _ = outcomes["velodrome"]
    assert left == 0


@roles
@pytest.mark.parametrize("version", VERSIONS)
def test_a_handshake_that_stops_halfway(role, version):
    ended = {}
    for loop in LOOPS:
        ours, theirs = sockets()

        async def main():
            if role == "server":
                theirs.sendall(first_flight_of_client(version))
            connecting = connected(ours, CONTEXTS[role](version), role, Recorder(), ssl_handshake_timeout=0.1)
            try:
                await connecting
            except Exception as error:
                return described(error)

        with theirs:
            ended[loop] = run(loop, main)
        assert ours.fileno() == -1
    assert ended["velodrome"] == ended["asyncio"]
    assert ended["velodrome"][0][0] == "ConnectionAbortedError"
