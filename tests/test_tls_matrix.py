"""TLS connections do what they do on asyncio, and what Python's ssl does over plain sockets.

Each scenario is played as client and as server, under TLS 1.2 and 1.3; the other side is Python's ssl in
blocking calls. `test_tls_fallback` plays all of it again where OpenSSL is not called natively.
"""

import asyncio
import contextlib
import itertools
import ssl

import pytest
import velodrome
from tls.sides import (
    CERTIFICATE,
    KEY,
    VERSIONS,
    BufferedRecorder,
    Peer,
    Recorder,
    client_context,
    connected,
    described,
    other,
    run,
    server_context,
    sockets,
)

MESSAGE = b"hello" * 1000
SIZES = [1, 5_000, 16_384, 16_385, 300_000]


class Scenario:
    """Contexts and names; what the client offers, and what the server wants."""

    hostname = "localhost"

    def __init__(self, version, tmp_path):
        self.version, self.tmp_path = version, tmp_path
        self.seen = []
        self.client = client_context(version)
        self.server = server_context(version)
        self.prepare()

    def prepare(self):
        pass

    def context(self, role):
        return getattr(self, role)

    def ask(self, connection):
        """Say what a side knows when the connection is made."""
        return connection.selected_alpn_protocol(), connection.version(), bool(connection.getpeercert())


class Plain(Scenario):
    pass


class Alpn(Scenario):
    def prepare(self):
        self.client.set_alpn_protocols(["h2", "http/1.1"])
        self.server.set_alpn_protocols(["http/1.1", "spdy"])


class NoCommonAlpn(Scenario):
    def prepare(self):
        self.client.set_alpn_protocols(["h2"])
        self.server.set_alpn_protocols(["spdy"])


class SwitchedByName(Scenario):
    def prepare(self):
        another = server_context()
        another.set_alpn_protocols(["another"])
        self.client.set_alpn_protocols(["first", "another"])
        self.server.set_alpn_protocols(["first"])

        def switch(connection, name, context):
            self.seen.append((name, context is self.server))
            connection.context = another

        self.server.sni_callback = switch


class NameCallbackRaises(Scenario):
    def prepare(self):
        def callback(connection, name, context):
            raise ValueError

        self.server.sni_callback = callback


class NameRefused(Scenario):
    def prepare(self):
        self.server.sni_callback = lambda *_: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME


class ClientCertificate(Scenario):
    def prepare(self):
        self.server.verify_mode = ssl.CERT_REQUIRED
        self.server.load_verify_locations(CERTIFICATE)
        self.client.load_cert_chain(CERTIFICATE, KEY)


class NoClientCertificate(ClientCertificate):
    def prepare(self):
        super().prepare()
        self.client = client_context(self.version)


class WrongName(Scenario):
    hostname = "elsewhere.example"


class Address(Scenario):
    hostname = "127.0.0.1"


class WrongAddress(Scenario):
    hostname = "127.0.0.2"


class Untrusted(Scenario):
    def prepare(self):
        self.client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.client.minimum_version = self.client.maximum_version = VERSIONS[self.version]


class NoCommonVersion(Scenario):
    def prepare(self):
        self.server = server_context({"1.2": "1.3", "1.3": "1.2"}[self.version])


class RemembersSession(ssl.SSLContext):
    """A client's way to resume a session on asyncio, which has no argument for it."""

    session = None

    def wrap_bio(self, *arguments, **options):
        return super().wrap_bio(*arguments, **options, session=self.session)

    def wrap_socket(self, *arguments, **options):
        return super().wrap_socket(*arguments, **options, session=self.session)


class SessionResumed(Scenario):
    def prepare(self):
        self.client = RemembersSession(ssl.PROTOCOL_TLS_CLIENT)
        self.client.minimum_version = self.client.maximum_version = VERSIONS[self.version]
        self.client.load_verify_locations(CERTIFICATE)
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = self.client.wrap_bio(to_client, to_server, server_hostname=self.hostname)
        server = self.server.wrap_bio(to_server, to_client, server_side=True)
        # What is written at last carries TLS 1.3's tickets along.
        for call in (client.do_handshake, server.do_handshake) * 2 + (
            lambda: server.write(b"x"),
            lambda: client.read(1),
        ):
            with contextlib.suppress(ssl.SSLWantReadError):
                call()
        self.client.session = client.session

    def ask(self, connection):
        return connection.session_reused, super().ask(connection)


class KeyLog(Scenario):
    def prepare(self):
        self.log = self.tmp_path / "keys"
        self.client.keylog_filename = self.server.keylog_filename = str(self.log)

    def ask(self, connection):
        # Both sides write, one after the other.
        labels = {line.split()[0] for line in self.log.read_text().splitlines() if line[0] != "#"}
        return "CLIENT_RANDOM" in labels, super().ask(connection)


class MessageCallback(Scenario):
    """A program that wants to be told of every message, which only Python's own methods do properly."""

    def prepare(self):
        def callback(connection, direction, version, content_type, msg_type, data):
            self.seen.append((direction, int(content_type)))

        self.client._msg_callback = callback

    def ask(self, connection):
        return sorted(set(self.seen)), super().ask(connection)


SCENARIOS = Scenario.__subclasses__() + [NoClientCertificate]


def blocking(scenario, role):
    """Play a role in blocking calls; return the exception that ended it, if one did."""
    ours, theirs = sockets()
    peer = Peer(theirs, scenario.context(other(role)), other(role), answer(scenario), scenario.hostname)
    context, hostname = scenario.context(role), scenario.hostname
    us = Peer(ours, context, role, lambda connection, note: say(connection), hostname, last=False)
    raised = us.join()
    peer.join()
    return raised


def say(connection):
    connection.sendall(MESSAGE)
    received = b""
    while len(received) < len(MESSAGE):
        chunk = connection.recv(65536)
        if not chunk:
            break
        received += chunk
    connection.unwrap()


def answer(scenario):
    """Return what the other side does: send everything back until it is told to end."""

    def talk(connection, note):
        note(scenario.ask(connection))
        total = 0
        while data := connection.recv(65536):
            total += len(data)
            connection.sendall(data)
        note(total)
        connection.unwrap()

    return talk


class ByProtocol:
    """A side on a loop that is a protocol, of one kind or the other."""

    def __init__(self, kind):
        self.kind = kind

    async def begin(self, sock, context, role, hostname):
        self.protocol = self.kind()
        self.transport = await connected(sock, context, role, self.protocol, hostname)
        return self.transport.get_extra_info

    async def exchange(self, data):
        self.protocol.data.clear()
        self.transport.write(data)
        await self.protocol.receive(len(data))
        return len(self.protocol.data)

    async def end(self):
        self.transport.close()
        await self.protocol.lost
        return self.protocol.events


class ByStreams:
    """The same by streams: asyncio's on asyncio, ours on ours."""

    async def begin(self, sock, context, role, hostname):
        loop = asyncio.get_running_loop()
        streams = velodrome if isinstance(loop, velodrome.Loop) else asyncio
        self.reader = streams.StreamReader(loop=loop)
        protocol = streams.StreamReaderProtocol(self.reader, loop=loop)
        transport = await connected(sock, context, role, protocol, hostname)
        self.writer = streams.StreamWriter(transport, protocol, self.reader, loop)
        return self.writer.get_extra_info

    async def exchange(self, data):
        try:
            self.writer.write(data)
            await self.writer.drain()
            return len(await self.reader.readexactly(len(data)))
        except (OSError, asyncio.IncompleteReadError) as error:
            return described(error)

    async def end(self):
        self.writer.close()
        outcome = [self.writer.is_closing()]
        for waiting in (self.writer.wait_closed(), self.reader.read()):
            try:
                outcome.append(await waiting)
            except OSError as error:
                outcome.append(("lost", described(error)))
        return outcome


SIDES = {
    "protocol": lambda: ByProtocol(Recorder),
    "buffered": lambda: ByProtocol(BufferedRecorder),
    "streams": ByStreams,
}


def on_loop(loop, scenario, role, side="protocol", debug=False):
    """Play a role on a loop; return what became of us, of the other side, and what the loop was told."""
    ours, theirs = sockets()
    peer = Peer(theirs, scenario.context(other(role)), other(role), answer(scenario), scenario.hostname)
    outcome = []

    async def main():
        us = SIDES[side]()
        try:
            info = await us.begin(ours, scenario.context(role), role, scenario.hostname)
        except Exception as error:
            outcome.append(described(error))
            return
        outcome.append(scenario.ask(info("ssl_object")))
        outcome.append((info("sslcontext") is scenario.context(role), info("cipher"), info("compression")))
        outcome.append((info("peercert"), info("peername") is not None, info("nothing", "default")))
        for size in SIZES:
            outcome.append(await us.exchange(MESSAGE[:1] * size))
        outcome.extend(await us.end())

    _, told = run(loop, main, debug=debug)
    return outcome, peer.join(), told


def cases():
    """Every scenario with every kind of side; quickly, those in which the side has something to say in it."""
    quick = (Plain, SessionResumed, NoClientCertificate)
    for side, kind in itertools.product(SIDES, SCENARIOS):
        marks = () if side == "protocol" or kind in quick else pytest.mark.slow
        yield pytest.param(side, kind, marks=marks, id=f"{side}-{kind.__name__}")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the callback that raises
@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("side", "kind"), list(cases()))
def test_a_connection_is_what_it_is_on_asyncio(side, kind, version, role, tmp_path):
    """And is logged in the same way: in debug mode too, in which every handshake is."""
    debug = side != "protocol"
    outcomes = {
        loop: on_loop(loop, kind(version, tmp_path), role, side, debug) for loop in ("asyncio", "velodrome")
    }
    assert outcomes["velodrome"] == outcomes["asyncio"]
    (came_of_us, *_), _, told = outcomes["velodrome"]
    if kind is SessionResumed:
        assert came_of_us[0] is True
    assert ("%r starts SSL handshake" in [message for _, message, *_ in told]) == debug


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "kind",
    [Plain, NoClientCertificate, WrongName, WrongAddress, Untrusted, NoCommonVersion, NameRefused],
    ids=lambda kind: kind.__name__,
)
def test_exceptions_are_those_of_blocking_calls(kind, version, role, tmp_path):
    raised = blocking(kind(version, tmp_path), role)
    outcome, _, _ = on_loop("velodrome", kind(version, tmp_path), role)
    exceptions = [entry for entry in outcome if isinstance(entry, tuple) and "Error" in str(entry[0])]
    lost = (
        [entry[1] for entry in outcome if isinstance(entry, tuple) and entry[:1] == ("lost",)]
        if not exceptions
        else []
    )
    assert [exception for exception in exceptions + lost if exception] == raised
