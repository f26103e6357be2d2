"""Peers that break TLS: what becomes of a connection is what asyncio makes of it, and nothing stays open."""

import asyncio
import contextlib
import socket
import ssl
import threading
from asyncio.sslproto import SSLProtocol

import pytest
from tls.sides import (
    LIMIT,
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


class Raw:
    """The other side, byte by byte: TLS over memory, so that what is on the wire can be anything."""

    def __init__(self, sock, role, version):
        self.sock = sock
        self.sock.settimeout(LIMIT)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.connection = CONTEXTS[role](version).wrap_bio(
            self.incoming, self.outgoing, role == "server", "localhost" if role == "client" else None
        )

    def step(self, call):
        """Call until it gives a result; what comes out meanwhile goes to the wire."""
        while True:
            try:
                result = call()
                self.sock.sendall(self.outgoing.read())
                return result
            except ssl.SSLWantReadError:
                self.sock.sendall(self.outgoing.read())
                data = self.sock.recv(65536)
                if not data:
                    raise ConnectionResetError from None
                self.incoming.write(data)

    def record(self, data):
        """Return the records that carry some data."""
        self.connection.write(data)
        return self.outgoing.read()

    def wait_for_end(self):
        with contextlib.suppress(OSError):
            while self.sock.recv(65536):
                pass


def play(loop, role, version, mischief, *, protocol=Recorder, talk=None, **options):
    """Be `role` on a loop while the other side does its mischief; return what became of us."""
    ours, theirs = sockets()
    descriptor = ours.fileno()
    outcome = []

    def peer():
        with theirs, contextlib.suppress(OSError):
            raw = Raw(theirs, other(role), version)
            mischief(raw)
            raw.wait_for_end()

    thread = threading.Thread(target=peer, daemon=True)
    thread.start()

    async def main():
        recorder = protocol()
        try:
            transport = await connected(ours, CONTEXTS[role](version), role, recorder, **options)
        except Exception as error:
            outcome.append(described(error))
        else:
            if talk is not None:
                await talk(transport, recorder)
            await recorder.lost
            outcome.extend(recorder.events)
            outcome.append(bytes(recorder.data))
        # The socket is closed in the iteration in which the protocol is told, or in the next ones.
        for _ in range(10):
            await asyncio.sleep(0)
        outcome.append(ours.fileno())
        del recorder

    _, told = run(loop, main)
    thread.join(LIMIT)
    assert not thread.is_alive()
    assert ours.fileno() == -1, descriptor
    return outcome, told


def same(*arguments, **options):
    """Play it on both loops, and compare."""
    outcomes = {loop: play(loop, *arguments, **options) for loop in ("asyncio", "velodrome")}
    assert outcomes["velodrome"] == outcomes["asyncio"]
    return outcomes["velodrome"]


roles = pytest.mark.parametrize("role", ["client", "server"])
versions = pytest.mark.parametrize("version", VERSIONS)
protocols = pytest.mark.parametrize("protocol", [Recorder, BufferedRecorder])


@protocols
@roles
@versions
@pytest.mark.parametrize("offset", [0, 1, 3, 4, 5, 12, 20, -1])
def test_a_record_that_is_corrupt(role, version, offset, protocol):
    def mischief(raw):
        raw.step(raw.connection.do_handshake)
        record = bytearray(raw.record(b"some data"))
        record[offset] ^= 0x55
        raw.sock.sendall(raw.record(b"good") + record)
        # A length that was corrupted may make it wait for more.
        raw.sock.sendall(b"\0" * 70_000)
        raw.sock.shutdown(socket.SHUT_WR)

    same(role, version, mischief, protocol=protocol)


@roles
@versions
@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, b"\x16\x03\x01\xff\xff", b"\x15\x03\x03\0\x02\x02\x28"],
)
def test_garbage_in_place_of_a_handshake(role, version, garbage):
    def mischief(raw):
        raw.sock.sendall(garbage)
        raw.sock.shutdown(socket.SHUT_WR)

    same(role, version, mischief)


@roles
@versions
def test_a_handshake_that_ends_at_any_byte(role, version):
    lengths = []

    def flight_cut_at(cut):
        def mischief(raw):
            if role == "client":
                raw.incoming.write(raw.sock.recv(65536))
            with contextlib.suppress(ssl.SSLWantReadError):
                raw.connection.do_handshake()
            flight = raw.outgoing.read()
            lengths.append(len(flight))
            raw.sock.sendall(flight[:cut])
            raw.sock.shutdown(socket.SHUT_WR)

        return mischief

    same(role, version, flight_cut_at(0))
    # Signatures differ in length by a few bytes.
    for cut in [1, 4, 5, 6, 9, 10, 44, 100, *range(150, lengths[0] - 20, 97), -1, None]:
        same(role, version, flight_cut_at(cut))


@protocols
@roles
@versions
def test_the_end_of_the_stream_without_a_notice(role, version, protocol):
    def mischief(raw):
        raw.step(raw.connection.do_handshake)
        raw.sock.sendall(raw.record(b"data"))
        raw.sock.shutdown(socket.SHUT_WR)

    same(role, version, mischief, protocol=protocol)


@protocols
@roles
@versions
def test_a_notice_of_the_end_right_behind_the_data(role, version, protocol):
    def mischief(raw):
        raw.step(raw.connection.do_handshake)
        record = raw.record(b"data")
        # It is said before anything is read: no answer, perhaps data already.
        with contextlib.suppress(ssl.SSLError):
            raw.connection.unwrap()
        raw.sock.sendall(record + raw.outgoing.read())

    same(role, version, mischief, protocol=protocol)


@roles
@versions
def test_data_byte_by_byte(role, version):
    def mischief(raw):
        raw.step(raw.connection.do_handshake)
        for byte in raw.record(b"some data"):
            raw.sock.sendall(bytes([byte]))
        raw.step(raw.connection.unwrap)

    same(role, version, mischief)


@roles
@versions
def test_a_reset(role, version):
    def mischief(raw):
        raw.step(raw.connection.do_handshake)
        raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        raw.sock.close()

    same(role, version, mischief)


@roles
@versions
def test_a_peer_that_says_nothing(role, version):
    same(role, version, lambda raw: None, ssl_handshake_timeout=0.1)


@roles
@versions
def test_a_peer_that_never_answers_the_end(role, version):
    def mischief(raw):
        raw.step(raw.connection.do_handshake)

    async def talk(transport, recorder):
        transport.close()

    same(role, version, mischief, talk=talk, ssl_shutdown_timeout=0.1)


@roles
@versions
def test_a_peer_that_stops_reading_while_we_close(role, version):
    """Before asyncio had a time-out for it, the transport is aborted in the end."""
    done = threading.Event()

    def mischief(raw):
        raw.step(raw.connection.do_handshake)
        done.wait(LIMIT)

    async def talk(transport, recorder):
        done.clear()
        transport.write(b"x" * 10_000_000)
        transport.close()
        # The time-out was set before, so its turn has come before this one's.
        await asyncio.sleep(0.2)
        for _ in range(10):
            await asyncio.sleep(0)
        if not recorder.lost.done():
            recorder.note("still waits")
            transport._ssl_protocol and transport._ssl_protocol._transport.abort()
        await recorder.lost
        done.set()

    same(role, version, mischief, talk=talk, ssl_shutdown_timeout=0.1)


@roles
@versions
def test_a_peer_that_says_its_last_word_and_stops_reading(role, version):
    """The time-out ends it, also where asyncio's is over as soon as TLS has nothing more to say."""
    begun, done = threading.Event(), threading.Event()

    def mischief(raw):
        raw.step(raw.connection.do_handshake)
        begun.wait(LIMIT)
        # It is said before anything is read: no answer, perhaps data already.
        with contextlib.suppress(ssl.SSLError):
            raw.connection.unwrap()
        raw.sock.sendall(raw.outgoing.read())
        done.wait(LIMIT)

    async def talk(transport, recorder):
        transport.write(b"x" * 10_000_000)
        layer = transport._ssl_protocol
        underneath = layer._transport
        begun.set()
        while not underneath.is_closing():
            await asyncio.sleep(0.001)
        # The time-out was set before, so its turn has come before this one's.
        await asyncio.sleep(0.2)
        for _ in range(10):
            await asyncio.sleep(0)
        if not recorder.lost.done():
            recorder.note("still waits")
            underneath.abort()
        await recorder.lost
        done.set()

    def played(loop):
        begun.clear()
        done.clear()
        (*events, data, descriptor), told = play(
            loop, role, version, mischief, talk=talk, ssl_shutdown_timeout=0.1
        )
        return events, data, descriptor, told

    theirs, ours = played("asyncio"), played("velodrome")
    if "_check_shutdown_timeout" in SSLProtocol._on_shutdown_complete.__code__.co_names:
        assert ours == theirs
    else:
        assert ("still waits",) in theirs[0]
    assert ours[0][-1] == ("lost", ("TimeoutError", None, None, None, "SSL shutdown timed out"))


@roles
@versions
def test_a_peer_that_keeps_sending_while_we_close(role, version):
    def mischief(raw):
        raw.step(raw.connection.do_handshake)
        while True:
            raw.sock.sendall(raw.record(b"x" * 10_000))

    async def talk(transport, recorder):
        await recorder.receive(1)
        transport.close()
        await recorder.lost
        # How much came is a matter of luck, and so is whether the kernel says so first.
        recorder.data.clear()
        recorder.events = [event[0] for event in recorder.events if event[0] != "eof"]

    same(role, version, mischief, talk=talk, ssl_shutdown_timeout=0.3)


@roles
@versions
def test_memory_is_bounded_while_reading_is_paused(role, version):
    """What a peer may send before the transport underneath is paused is a matter of the high-water mark."""

    def mischief(raw):
        raw.step(raw.connection.do_handshake)
        while True:
            raw.sock.sendall(raw.record(b"x" * 100_000))

    async def talk(transport, recorder):
        transport.pause_reading()
        layer = transport._ssl_protocol
        while layer._transport.is_reading():
            await asyncio.sleep(0.001)
        assert transport.get_read_buffer_size() <= 3 * 256 * 1024
        assert layer._ssl_reading_paused
        assert not transport.is_reading()
        transport.abort()
        await recorder.lost
        recorder.data.clear()

    same(role, version, mischief, talk=talk)
