"""The transport of a TLS connection, and what its protocols may do: as on asyncio, call by call."""

import array
import asyncio
import socket
import ssl
from asyncio import sslproto

import pytest
from tls.pairs import both_protocols, ended, pair, same, versions
from tls.sides import (
    CERTIFICATE,
    KEY,
    LOOPS,
    BufferedRecorder,
    Peer,
    Recorder,
    client_context,
    connected,
    described,
    run,
    server_context,
)


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


def test_debug_mode_says_as_much(caplog):
    """In the log: of the handshake, and of errors of the connection."""

    def records(loop):
        async def main():
            running = asyncio.get_running_loop()
            running.set_debug(True)
            running.slow_callback_duration = 60  # however busy the machine is
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
