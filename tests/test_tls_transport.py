"""The transport of a TLS connection, and the ways in which one comes about: as on asyncio, call by call."""

import array
import asyncio
import contextlib
import os
import select
import shutil
import socket
import ssl
import subprocess
from asyncio import sslproto

import pytest
import velodrome
from tls.sides import (
    CERTIFICATE,
    KEY,
    LIMIT,
    LOOPS,
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

CONTEXTS = {"client": client_context, "server": server_context}

FALLBACK = os.environ.get("VELODROME_TLS") == "fallback"

versions = pytest.mark.parametrize("version", VERSIONS)
both_protocols = pytest.mark.parametrize("protocol", [Recorder, BufferedRecorder])


def same(main):
    """Run a coroutine on both loops; what it returns, and what the loops were told, is the same."""
    outcomes = {loop: run(loop, main) for loop in LOOPS}
    assert outcomes["velodrome"] == outcomes["asyncio"]
    return outcomes["velodrome"][0]


async def pair(version=None, protocol=Recorder, **options):
    """Return a client's and a server's transports with their protocols, connected with each other."""
    ours, theirs = socket.socketpair()
    server, client = protocol(), protocol()
    accepting = asyncio.ensure_future(connected(theirs, server_context(version), "server", server, **options))
    transport = await connected(ours, client_context(version), "client", client, **options)
    return transport, client, await accepting, server


async def ended(*recorders):
    for recorder in recorders:
        await recorder.lost


def test_it_is_in_force():
    """What the tests in this file are about is what they run on."""

    async def main():
        transport, client, accepted, server = await pair()
        layer = transport._ssl_protocol
        found = type(layer).__module__, layer._native
        transport.close()
        await ended(client, server)
        return found

    assert run("velodrome", main)[0] == ("velodrome._tls", not FALLBACK)
    assert velodrome.build_info()["tls"] == ("fallback: VELODROME_TLS=fallback" if FALLBACK else "native")


def test_what_libraries_look_for_is_there():
    async def main():
        transport, client, accepted, server = await pair()
        layer = transport._ssl_protocol
        found = [
            isinstance(transport, asyncio.Transport),
            isinstance(transport, sslproto._SSLProtocolTransport),
            isinstance(layer, sslproto.SSLProtocol),
            transport._start_tls_compatible,
            transport._sendfile_compatible.name,
            transport.get_protocol() is client,
            layer._app_protocol is client,
            layer._transport.get_protocol() is layer,
            layer._sslobj is transport.get_extra_info("ssl_object"),
            layer._app_transport is transport,
            layer._state.name,
            layer._extra["sslcontext"] is transport.get_extra_info("sslcontext"),
            type(transport.get_extra_info("socket")).__name__,
            transport.can_write_eof(),
            transport.get_write_buffer_limits(),
            transport.get_read_buffer_limits(),
            transport.get_write_buffer_size(),
            transport.get_read_buffer_size(),
            transport.is_reading(),
            transport.is_closing(),
            transport._protocol_paused,
        ]
        for call in (
            transport.write_eof,
            lambda: transport.write("text"),
            lambda: transport.write(None),
            lambda: transport.set_write_buffer_limits(1, 2),
            lambda: transport.set_read_buffer_limits(high=-1),
        ):
            with pytest.raises((NotImplementedError, TypeError, ValueError)) as caught:
                call()
            found.append((type(caught.value).__name__, str(caught.value)))
        transport.write(b"")
        transport.write(data=b"by name")
        await server.receive(7)
        transport.close()
        found.append(transport.is_closing())
        await ended(client, server)
        transport.close()
        found.append(transport._ssl_protocol)
        return found, client.events, server.events, bytes(server.data)

    same(main)


@both_protocols
@versions
def test_every_kind_of_bytes(version, protocol):
    async def main():
        transport, client, accepted, server = await pair(version, protocol)
        kept = bytearray(b"bytearray")
        transport.write(kept)
        kept[:] = b".........."
        transport.write(memoryview(b"view"))
        transport.write(memoryview(b"every other")[::1])
        transport.writelines([b"a", bytearray(b"b"), memoryview(b"c"), b""])
        transport.write(b"x" * 50_000)
        await server.receive(50_027)
        accepted.write(server.data)
        await client.receive(50_027)
        transport.close()
        await ended(client, server)
        return bytes(client.data), client.events, server.events

    same(main)


@versions
def test_a_protocol_that_writes_too_fast_is_told(version):
    async def main():
        transport, client, accepted, server = await pair(version)
        accepted.pause_reading()
        total = 0
        while "pause" not in {event[0] for event in client.events}:
            transport.write(b"x" * 100_000)
            total += 100_000
        assert transport._protocol_paused
        assert transport.get_write_buffer_size() > 0
        accepted.resume_reading()
        await server.receive(total)
        await client.until(lambda: ("resume",) in client.events)
        left = transport.get_write_buffer_size()
        transport.set_write_buffer_limits(0)
        transport.close()
        await ended(client, server)
        return len(server.data) == total, left, client.events, server.events

    same(main)


@both_protocols
@versions
def test_nothing_comes_while_reading_is_paused(version, protocol):
    async def main():
        transport, client, accepted, server = await pair(version, protocol)
        outcome = []
        for _ in range(3):
            transport.pause_reading()
            outcome.append(transport.is_reading())
            before = len(client.data)
            accepted.write(b"x" * 30_000)
            for _ in range(20):
                await asyncio.sleep(0.001)
            outcome.append(len(client.data) - before)
            transport.resume_reading()
            transport.resume_reading()
            await client.receive(before + 30_000)
        transport.pause_reading()
        accepted.write(b"last words")
        accepted.close()
        for _ in range(20):
            await asyncio.sleep(0.001)
        transport.resume_reading()
        await ended(client, server)
        return outcome, len(client.data), client.events, server.events

    same(main)


@versions
def test_protocols_that_raise(version):
    class Raises(Recorder):
        def data_received(self, data):
            self.note("data")
            raise ValueError("data")

    class RaisesAtEnd(Recorder):
        def eof_received(self):
            self.note("eof")
            raise ValueError("end")

    class StaysOpen(Recorder):
        def eof_received(self):
            self.note("eof")
            return True

    class HasNoSpace(BufferedRecorder):
        def get_buffer(self, hint):
            raise ValueError("space")

    class HasWrongSpace(BufferedRecorder):
        def get_buffer(self, hint):
            return b"constant"

    class HasEmptySpace(BufferedRecorder):
        def get_buffer(self, hint):
            return bytearray()

    for protocol in (Raises, RaisesAtEnd, StaysOpen, HasNoSpace, HasWrongSpace, HasEmptySpace):

        async def main(protocol=protocol):
            ours, theirs = socket.socketpair()
            recorder, peer = protocol(), Recorder()
            accepting = asyncio.ensure_future(connected(theirs, server_context(version), "server", peer))
            await connected(ours, client_context(version), "client", recorder)
            # It may be gone before the server has heard of it.
            [accepted] = await asyncio.gather(accepting, return_exceptions=True)
            if isinstance(accepted, asyncio.Transport):
                accepted.write(b"data")
                accepted.close()
                await peer.lost
            await recorder.lost
            return recorder.events

        same(main)


def test_exceptions_that_stop_the_loop_stop_it():
    class Stops(Recorder):
        def data_received(self, data):
            raise KeyboardInterrupt

    for name in LOOPS:

        async def main():
            ours, theirs = socket.socketpair()
            recorder, peer = Stops(), Recorder()
            accepting = asyncio.ensure_future(connected(theirs, server_context(), "server", peer))
            await connected(ours, client_context(), "client", recorder)
            (await accepting).write(b"data")
            await peer.lost

        with pytest.raises(KeyboardInterrupt):
            run(name, main)


@both_protocols
@versions
def test_what_cannot_be_written_ends_the_connection(version, protocol):
    """It stays where it waits, so that nothing behind it is written either."""

    async def main():
        transport, client, accepted, server = await pair(version, protocol)
        transport.write(b"before")
        found = []
        for data in (memoryview(b"every other")[::2], b"behind", memoryview(array.array("I", range(100)))):
            transport.write(data)
            found.append((transport.get_write_buffer_size(), transport.is_closing()))
        await ended(client, server)
        return found, client.events, server.events, bytes(server.data)

    same(main)


@pytest.mark.parametrize("deed", ["close", "abort", "write", "pause", "another protocol", "cancelled"])
@both_protocols
@versions
def test_what_protocols_do_when_data_comes(version, protocol, deed):
    async def main():
        loop = asyncio.get_running_loop()

        class Acts(protocol):
            def data_received(self, data):
                super().data_received(data)
                transport = self.transport
                match deed:
                    case "close":
                        transport.close()
                        transport.close()
                    case "abort":
                        transport.abort()
                        transport.write(b"late")
                    case "write":
                        transport.write(b"y" * 300_000)
                        transport.close()
                        transport.write(b"late")
                    case "pause":
                        transport.pause_reading()
                        loop.call_soon(transport.resume_reading)
                    case "another protocol":
                        transport.set_protocol(second)
                    case "cancelled":
                        raise asyncio.CancelledError

        ours, theirs = socket.socketpair()
        acting, peer, second = Acts(), protocol(), protocol()
        accepting = asyncio.ensure_future(connected(theirs, server_context(version), "server", acting))
        transport = await connected(ours, client_context(version), "client", peer)
        await accepting
        transport.write(b"x" * 40_000)
        if deed in ("pause", "another protocol"):
            last = second if deed == "another protocol" else acting
            while len(acting.data) + len(second.data) < 40_000:
                await asyncio.sleep(0.001)
            transport.close()
            await last.lost
        else:
            await acting.lost
        await peer.lost
        # How much comes at a time is a matter of luck.
        return acting.events, second.events, [event[0] for event in peer.events], len(peer.data)

    same(main)


@both_protocols
@versions
def test_what_protocols_do_when_the_connection_is_made(version, protocol):
    """Before that is known to who has asked for it."""

    class Writes(protocol):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.write(b"x" * 200_000)
            transport.writelines([b"a", b"b"])

    class Closes(protocol):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.write(b"first and last")
            transport.close()
            transport.write(b"late")

    class Aborts(protocol):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.abort()
            transport.write(b"late")

    for kind in (Writes, Closes, Aborts):

        async def main(kind=kind):
            ours, theirs = socket.socketpair()
            client, server = protocol(), kind()
            outcomes = await asyncio.gather(
                connected(ours, client_context(version), "client", client),
                connected(theirs, server_context(version), "server", server),
                return_exceptions=True,
            )
            if kind is Writes:
                await client.receive(200_002)
                outcomes[0].close()
            await server.lost
            if hasattr(client, "transport"):
                await client.lost
            told = [described(found) if isinstance(found, Exception) else "made" for found in outcomes]
            return told, client.events, server.events, len(client.data)

        same(main)


@both_protocols
@versions
@pytest.mark.parametrize("end", ["close", "abort", "eof"])
def test_the_end_comes_while_reading_is_paused(version, protocol, end):
    async def main():
        transport, client, accepted, server = await pair(version, protocol)
        transport.pause_reading()
        accepted.write(b"x" * 300_000)
        while not transport.get_read_buffer_size():
            await asyncio.sleep(0.001)
        if end == "eof":
            accepted._ssl_protocol._transport.write_eof()
        else:
            getattr(accepted, end)()
        for _ in range(10):
            await asyncio.sleep(0.001)
        before = list(client.events), len(client.data), transport.is_closing()
        transport.resume_reading()
        await client.lost
        accepted.abort()
        await server.lost
        # Of what is cut off, how much had come before is a matter of luck.
        return before, client.events, server.events, len(client.data) if end != "abort" else None

    same(main)


@versions
def test_another_protocol_takes_over(version):
    async def main():
        transport, client, accepted, server = await pair(version)
        accepted.write(b"for the first")
        await client.receive(13)
        second = BufferedRecorder(5)
        transport.set_protocol(second)
        accepted.write(b"for the second")
        await second.receive(14)
        transport.close()
        await ended(second, server)
        return (
            bytes(client.data),
            bytes(second.data),
            client.events,
            second.events,
            transport.get_protocol() is second,
        )

    with_errors = same(main)
    assert with_errors[1] == b"for the second"


@versions
@pytest.mark.parametrize("role", ["client", "server"])
def test_start_tls(version, role):
    """In the middle of a conversation; what was buffered is not lost."""

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = sockets()

        def talk(connection, note):
            note(connection.recv(100))
            connection.sendall(b"secret answer")
            connection.unwrap()

        def plain_first():
            theirs.sendall(b"plain")
            assert theirs.recv(5) == b"go on"
            other_role = {"client": "server", "server": "client"}[role]
            context = {"client": client_context, "server": server_context}[other_role](version)
            return Peer(theirs, context, other_role, talk)

        recorder = Recorder()
        transport, _ = await loop.create_connection(lambda: recorder, sock=ours)
        peer = asyncio.ensure_future(asyncio.to_thread(plain_first))
        await recorder.receive(5)
        transport.write(b"go on")
        context = {"client": client_context, "server": server_context}[role](version)
        hostname = {"server_hostname": "localhost"} if role == "client" else {"server_side": True}
        upgraded = await loop.start_tls(transport, recorder, context, **hostname)
        upgraded.write(b"secret")
        await recorder.lost
        peer_outcome = await asyncio.to_thread((await peer).join)
        return recorder.events, bytes(recorder.data), peer_outcome, upgraded.get_protocol()

    same(main)


@pytest.mark.skipif(
    "_buffer" not in asyncio.BaseEventLoop.start_tls.__code__.co_names,
    reason="asyncio's start_tls loses what is buffered here (gh-142352)",
)
@versions
def test_start_tls_of_streams_with_data_behind_it(version):
    """The client begins its handshake at once, right behind the command; by both kinds of streams."""

    async def main(streams):
        async def serve(reader, writer):
            command = await reader.readline()
            if len(reader._buffer) == 0:
                await asyncio.sleep(0)
            await writer.start_tls(server_context(version))
            writer.write(command + await reader.readline())
            await writer.drain()
            writer.close()

        server = await streams.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await streams.open_connection("127.0.0.1", port)
        writer.write(b"starttls\n")
        await writer.start_tls(client_context(version), server_hostname="localhost")
        writer.write(b"secret\n")
        data = await reader.read()
        writer.close()
        await writer.wait_closed()
        server.close()
        return data

    for loop, streams in ("asyncio", asyncio), ("velodrome", asyncio), ("velodrome", velodrome):
        assert run(loop, lambda: main(streams)) == (b"starttls\nsecret\n", [])


@both_protocols
@versions
@pytest.mark.parametrize("role", ["client", "server"])
def test_start_tls_with_much_still_to_be_sent(version, role, protocol):
    """What was written before goes before, and as it is; what comes behind it is encrypted."""
    count = 1_000_000

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        recorder = protocol()
        transport, _ = await loop.create_connection(lambda: recorder, sock=ours)
        transport.write(b"p" * count)
        waiting = transport.get_write_buffer_size() > 0

        def talk(connection, note):
            connection.sendall(b"s" * count)
            note(len(connection.recv(100)))
            connection.unwrap()

        def peer():
            missing = count
            theirs.settimeout(LIMIT)
            while missing:
                missing -= len(theirs.recv(min(65536, missing)))
            return Peer(theirs, CONTEXTS[other(role)](version), other(role), talk)

        options = {"server_hostname": "localhost"} if role == "client" else {"server_side": True}
        making = asyncio.ensure_future(
            loop.start_tls(transport, recorder, CONTEXTS[role](version), **options)
        )
        await asyncio.sleep(0)
        elsewhere = await asyncio.to_thread(peer)
        upgraded = await making
        await recorder.receive(count)
        upgraded.write(b"at last")
        await recorder.lost
        return waiting, recorder.events, len(recorder.data), await asyncio.to_thread(elsewhere.join)

    assert same(main)[2] == count


@both_protocols
@versions
def test_start_tls_that_comes_to_nothing(version, protocol):
    """Refused, given up, or too late."""

    async def main():
        loop = asyncio.get_running_loop()
        outcomes = []
        for context, options in (
            (None, {}),
            (client_context(version), {"ssl_handshake_timeout": 0}),
            (client_context(version), {"ssl_shutdown_timeout": -1}),
            (client_context(version), {"server_hostname": ".wrong"}),
            (client_context(version), {"server_hostname": "localhost", "ssl_handshake_timeout": 0.05}),
            (client_context(version), {"server_hostname": "localhost"}),
        ):
            ours, theirs = socket.socketpair()
            recorder = protocol()
            transport, _ = await loop.create_connection(lambda: recorder, sock=ours)
            with theirs:
                making = asyncio.ensure_future(loop.start_tls(transport, recorder, context, **options))
                if len(options) == 1 and options.get("server_hostname") == "localhost":
                    while not select.select([theirs], [], [], 0)[0]:
                        await asyncio.sleep(0)
                    making.cancel()
                [raised] = await asyncio.gather(making, return_exceptions=True)
                for _ in range(10):
                    await asyncio.sleep(0)
                outcomes.append((described(raised), recorder.events, transport.is_closing()))
                transport.abort()
                for _ in range(10):
                    await asyncio.sleep(0)
            outcomes.append(ours.fileno())
        return outcomes

    same(main)


@both_protocols
@versions
def test_tls_in_tls(version, protocol):
    async def main():
        loop = asyncio.get_running_loop()
        transport, client, accepted, server = await pair(version)
        inner_client, inner_server = protocol(), protocol()
        accepting = asyncio.ensure_future(
            loop.start_tls(accepted, inner_server, server_context(version), server_side=True)
        )
        inner = await loop.start_tls(
            transport, inner_client, client_context(version), server_hostname="localhost"
        )
        inner_accepted = await accepting
        for size in (10, 100_000):
            inner_client.data.clear()
            inner_server.data.clear()
            inner.write(b"x" * size)
            await inner_server.receive(size)
            inner_accepted.write(inner_server.data)
            await inner_client.receive(size)
        names = [type(t.get_extra_info("ssl_object")).__name__ for t in (inner, inner_accepted)]
        inner.close()
        await ended(inner_client, inner_server)
        return names, len(inner_client.data), inner_client.events, inner_server.events

    same(main)


@versions
def test_cancelled_handshakes_close_the_socket(version):
    async def main():
        ours, theirs = socket.socketpair()
        with theirs:
            connecting = asyncio.ensure_future(connected(ours, client_context(version), "client", Recorder()))
            while not select.select([theirs], [], [], 0)[0]:
                await asyncio.sleep(0)
            connecting.cancel()
            await asyncio.wait([connecting])
            for _ in range(5):
                await asyncio.sleep(0)
            return connecting.cancelled(), ours.fileno()

    same(main)


def test_debug_mode_says_as_much(caplog):
    """In the log: of the handshake, and of errors of the connection."""

    def records(loop):
        async def main():
            asyncio.get_running_loop().set_debug(True)
            ours, theirs = socket.socketpair()
            recorder = Recorder()
            try:
                connecting = asyncio.ensure_future(connected(ours, client_context(), "client", recorder))
                await asyncio.sleep(0)
                theirs.sendall(b"nonsense")
                await connecting
            except ssl.SSLError as error:
                assert described(error)
            theirs.close()

        caplog.clear()
        with caplog.at_level("DEBUG", logger="asyncio"):
            run(loop, main)
        return [(r.levelname, r.msg, bool(r.exc_info)) for r in caplog.records if "SSL" in r.getMessage()]

    assert records("velodrome") == records("asyncio")


def test_what_a_program_has_put_in_asyncios_place_is_used(monkeypatch):
    class Mine(sslproto.SSLProtocol):
        pass

    async def kind():
        transport, client, accepted, server = await pair()
        found = type(transport._ssl_protocol)
        transport.close()
        await ended(client, server)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(sslproto, "SSLProtocol", Mine)
        assert run("velodrome", kind)[0] is Mine
    seen = []
    original = sslproto.SSLProtocol._process_outgoing
    with monkeypatch.context() as patch:
        patch.setattr(
            sslproto.SSLProtocol, "_process_outgoing", lambda self: (seen.append(self), original(self))[1]
        )
        assert run("velodrome", kind)[0] is sslproto.SSLProtocol
    assert seen
    assert run("velodrome", kind)[0].__module__ == "velodrome._tls"


def test_objects_that_read_and_write_in_their_own_way_are_asked():
    """As truststore's do, or a program's that wants to see what passes."""
    calls = []

    class Watching(ssl.SSLObject):
        def read(self, *arguments):
            calls.append("read")
            return super().read(*arguments)

        def write(self, data):
            calls.append("write")
            return super().write(data)

    async def main():
        context = client_context()
        context.sslobject_class = Watching
        ours, theirs = socket.socketpair()
        client, server = Recorder(), Recorder()
        accepting = asyncio.ensure_future(connected(theirs, server_context(), "server", server))
        transport = await connected(ours, context, "client", client)
        accepted = await accepting
        transport.write(b"there")
        await server.receive(5)
        accepted.write(b"and back")
        await client.receive(8)
        transport.close()
        await ended(client, server)
        return bytes(client.data)

    assert run("velodrome", main)[0] == b"and back"
    assert {"read", "write"} <= set(calls)


def test_only_what_is_made_with_the_layer_is_called_natively():
    """Not what was seen being made then, and is assigned later: by that time it might be gone."""

    class Mine(ssl.SSLObject):
        def read(self, *arguments):
            return super().read(*arguments)

    async def main():
        context = client_context()
        context.sslobject_class = Mine
        loop = asyncio.get_running_loop()
        layer = velodrome._tls.make_protocol(loop, Recorder(), context, None, server_hostname="localhost")
        plain = ssl.SSLObject.__new__(ssl.SSLObject)
        plain._sslobj = layer._sslobj._sslobj
        found = [layer._native]
        layer._sslobj = plain
        found.append(layer._native)
        return found

    assert run("velodrome", main)[0] == [False, False]


def test_an_object_that_is_replaced_is_no_longer_used():
    async def main():
        transport, client, accepted, server = await pair()
        layer = transport._ssl_protocol
        layer._sslobj = layer._sslobj
        native = layer._native
        transport.write(b"still there")
        await server.receive(11)
        accepted.write(b"still here")
        await client.receive(10)
        transport.close()
        await ended(client, server)
        return native, bytes(client.data)

    assert run("velodrome", main)[0] == (False, b"still here")


def test_certificates_asked_for_after_the_handshake():
    def main_of(loop):
        async def main():
            client_side, server_side = client_context("1.3"), server_context("1.3")
            client_side.post_handshake_auth = True
            client_side.load_cert_chain(CERTIFICATE, KEY)
            server_side.verify_mode = ssl.CERT_OPTIONAL
            server_side.load_verify_locations(CERTIFICATE)
            ours, theirs = socket.socketpair()

            def talk(connection, note):
                note(connection.getpeercert() is None)
                connection.verify_client_post_handshake()
                connection.sendall(b"ask")
                note(connection.recv(100))
                note(bool(connection.getpeercert()))
                connection.unwrap()

            server_side.post_handshake_auth = True
            server_side.verify_mode = ssl.CERT_REQUIRED
            peer = Peer(theirs, server_side, "server", talk)
            recorder = Recorder()
            transport = await connected(ours, client_side, "client", recorder)
            await recorder.receive(3)
            transport.write(b"answer")
            await recorder.lost
            return recorder.events, await asyncio.to_thread(peer.join)

        return run(loop, main)

    assert main_of("velodrome") == main_of("asyncio")


@versions
def test_unix_sockets(version, tmp_path):
    """By streams, asyncio's and ours."""

    async def main(streams, path):
        outcome, done = [], asyncio.Event()

        async def serve(reader, writer):
            writer.write(await reader.readexactly(100_000))
            await writer.drain()
            outcome.append(await reader.read())
            writer.close()
            await writer.wait_closed()
            done.set()

        server = await streams.start_unix_server(serve, path, ssl=server_context(version))
        reader, writer = await streams.open_unix_connection(
            path, ssl=client_context(version), server_hostname="localhost"
        )
        info = writer.get_extra_info
        outcome.append((info("cipher"), info("peercert")["notAfter"], info("compression"), info("sockname")))
        outcome.append(info("peername") == path)
        writer.write(b"x" * 100_000)
        outcome.append(len(await reader.readexactly(100_000)))
        with pytest.raises(NotImplementedError):
            writer.write_eof()
        outcome.append(writer.can_write_eof())
        writer.close()
        await writer.wait_closed()
        await done.wait()
        server.close()
        return outcome

    outcomes = [
        run(loop, lambda: main(streams, str(tmp_path / f"{number}")))
        for number, (loop, streams) in enumerate(
            [("asyncio", asyncio), ("velodrome", asyncio), ("velodrome", velodrome)]
        )
    ]
    assert outcomes[1] == outcomes[0]
    assert outcomes[2] == outcomes[0]


@both_protocols
@pytest.mark.parametrize("given", [True, False])
def test_servers_ask_for_certificates_after_the_handshake(given, protocol):
    """And are told of a client that has none."""

    async def main():
        client_side, server_side = client_context("1.3"), server_context("1.3")
        client_side.post_handshake_auth = server_side.post_handshake_auth = True
        if given:
            client_side.load_cert_chain(CERTIFICATE, KEY)
        server_side.verify_mode = ssl.CERT_REQUIRED
        server_side.load_verify_locations(CERTIFICATE)
        ours, theirs = socket.socketpair()
        client, server = protocol(), protocol()
        accepting = asyncio.ensure_future(connected(theirs, server_side, "server", server))
        transport = await connected(ours, client_side, "client", client)
        accepted = await accepting
        connection = accepted.get_extra_info("ssl_object")
        outcome = [connection.getpeercert()]
        connection.verify_client_post_handshake()
        accepted.write(b"who are you?")
        await client.receive(12)
        transport.write(b"answer")
        await server.receive(6)
        if given:
            outcome.append(connection.getpeercert())
            transport.close()
        await ended(client, server)
        return outcome, bytes(server.data), client.events, server.events

    outcome = same(main)
    assert (outcome[1] == b"answer") == given


def test_build_info_says_why(run_python, tmp_path):
    """Of a second OpenSSL in everybody's sight, and of a Python without ssl."""
    code = """if True:
        import ctypes, _ssl, shutil, sys, velodrome
        with open("/proc/self/maps") as maps:
            found = {line.split()[-1] for line in maps if "/libssl" in line}
        for library in found:
            ctypes.CDLL(shutil.copy(library, sys.argv[1]), ctypes.RTLD_GLOBAL)
        print(bool(found), velodrome.build_info()["tls"], sep=": ")
    """
    unforced = {"VELODROME_TLS": ""}
    said = run_python(code, tmp_path, env=unforced).stdout.strip()
    if said.startswith("True"):
        assert said == "True: fallback: another OpenSSL is in the program's global scope"
    code = """if True:
        import sys
        sys.modules["ssl"] = sys.modules["_ssl"] = None
        import velodrome
        print(velodrome.build_info()["tls"])
    """
    assert run_python(code, env=unforced).stdout == "fallback: there is no ssl module\n"


@pytest.fixture
def echo_server():
    """A function that returns what work(port) does, in a thread, while a TLS server echoes lines."""

    def serve(work, version=None):
        async def main():
            async def echo(reader, writer):
                while line := await reader.readline():
                    writer.write(line)
                    if line == b"\r\n":  # the end of an HTTP request's head
                        writer.write(b"")
                        break
                writer.close()

            server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context(version))
            try:
                return await asyncio.to_thread(work, server.sockets[0].getsockname()[1])
            finally:
                server.close()

        return run("velodrome", main)[0]

    return serve


openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl program")


@openssl
@versions
def test_a_client_that_is_openssl(echo_server, version):
    """With a new key, or a whole new handshake, in the middle of the conversation."""
    command, announced = {"1.3": (b"K\n", b"KEYUPDATE"), "1.2": (b"R\n", b"RENEGOTIATING")}[version]

    def until(stream, text):
        seen = b""
        while text not in seen:
            chunk = os.read(stream.fileno(), 4096)
            assert chunk, seen
            seen += chunk

    def work(port):
        arguments = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", CERTIFICATE]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(arguments, bufsize=0, **pipes) as client:
            client.stdin.write(b"one line\n")
            until(client.stdout, b"\none line\n")
            # Commands are recognised at the beginning of what is read at a time.
            client.stdin.write(command)
            until(client.stderr, announced)
            if version == "1.3":
                client.stdin.write(b"another line\n")
                until(client.stdout, b"another line\n")
            # Refused a new handshake, it may have gone by itself.
            with contextlib.suppress(BrokenPipeError):
                client.stdin.write(b"Q\n")
        return True

    assert echo_server(work, version)


@openssl
@versions
def test_a_server_that_is_openssl(version):
    """`s_server -rev` sends every line back reversed."""

    async def main():
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = await asyncio.create_subprocess_exec(
            *("openssl", "s_server", "-accept", str(port), "-cert", CERTIFICATE, "-key", KEY, "-rev"),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )
        try:
            while b"ACCEPT" not in await server.stdout.readline():
                pass
            context = client_context(version)
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=context, server_hostname="localhost"
            )
            writer.write(b"straight\n")
            line = await reader.readline()
            writer.close()
            return line
        finally:
            server.kill()
            await server.wait()

    assert run("velodrome", main)[0] == b"thgiarts\n"


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@versions
def test_a_client_that_is_curl(version):
    async def main():
        async def answer(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 200000\r\nconnection: close\r\n\r\n")
            writer.write(b"x" * 200_000)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server_context(version))
        port = server.sockets[0].getsockname()[1]
        curl = await asyncio.create_subprocess_exec(
            *(
                "curl",
                "--silent",
                "--fail",
                "--noproxy",
                "*",
                "--cacert",
                CERTIFICATE,
                f"https://localhost:{port}/",
            ),
            stdout=subprocess.PIPE,
        )
        output, _ = await curl.communicate()
        server.close()
        return curl.returncode, output

    assert run("velodrome", main)[0] == (0, b"x" * 200_000)
