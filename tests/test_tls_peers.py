"""Peers with another TLS than OpenSSL's: with rustls, connections are what they are on asyncio.

`test_tls_fallback` plays all of it again where OpenSSL is not called natively.
"""

import asyncio
import contextlib
import socket
import ssl

import pytest
from tls.rustls import AUTHORITY, CHAIN, KEY, RustlsPeer
from tls.sides import (
    CERTIFICATE,
    LIMIT,
    VERSIONS,
    BufferedRecorder,
    Recorder,
    connected,
    described,
    other,
    run,
    sockets,
)

# The first one may have to wait for rustls to be compiled.
pytestmark = [pytest.mark.timeout(300)]

roles = pytest.mark.parametrize("role", ["client", "server"])
versions = pytest.mark.parametrize("version", VERSIONS)
protocols = pytest.mark.parametrize("protocol", [Recorder, BufferedRecorder])


def context_of(role, version):
    """Our side, with a certificate as rustls wants it: not an authority's."""
    if role == "client":
        context = ssl.create_default_context(cafile=AUTHORITY)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CHAIN, KEY)
    context.minimum_version = context.maximum_version = VERSIONS[version]
    return context


def play(loop, role, version, steps, talk, *, protocol, prepare, **options):
    """Be `role` on a loop, with rustls as the other side; return what became of both."""
    context = context_of(role, version)
    context = prepare(context) or context
    ours, theirs = sockets()
    peer = RustlsPeer(theirs, other(role), version, *steps, **options)
    outcome = []

    async def main():
        recorder = protocol()
        try:
            transport = await connected(ours, context, role, recorder)
        except Exception as error:
            outcome.append(described(error))
            return
        connection = transport.get_extra_info("ssl_object")
        outcome.append((connection.version(), connection.cipher(), connection.selected_alpn_protocol()))
        outcome.append(bool(connection.getpeercert()))
        if talk is not None:
            await talk(transport, recorder)
        await recorder.lost
        outcome.extend(recorder.events)
        outcome.append(len(recorder.data))

    _, told = run(loop, main)
    assert ours.fileno() == -1
    return outcome, told, peer.join()


def same(role, version, steps, talk=None, *, protocol=Recorder, prepare=lambda context: None, **options):
    """Play it on both loops, and compare; return what the peer has said after the handshake."""
    outcomes = {
        loop: play(loop, role, version, steps, talk, protocol=protocol, prepare=prepare, **options)
        for loop in ("asyncio", "velodrome")
    }
    assert outcomes["velodrome"] == outcomes["asyncio"]
    return outcomes["velodrome"][2]


async def close_after(transport, recorder, count):
    await recorder.receive(count)
    transport.close()


@protocols
@roles
@versions
def test_everything_comes_back(role, version, protocol):
    sizes = [1, 5_000, 16_384, 16_385, 300_000]

    async def talk(transport, recorder):
        for size in sizes:
            recorder.data.clear()
            transport.write(b"x" * size)
            await recorder.receive(size)
        transport.close()

    said = same(role, version, ["echo"], talk, protocol=protocol)
    assert said[1:] == [f"echo: {sum(sizes)} bytes, announced"]


@roles
@versions
@pytest.mark.parametrize("names", ["http/1.1,h2", "spdy"])
def test_protocols_are_agreed_on(role, version, names):
    async def talk(transport, recorder):
        transport.close()

    said = same(
        role,
        version,
        ["end"],
        talk,
        prepare=lambda context: context.set_alpn_protocols(["h2", "http/1.1"]),
        alpn=names,
    )
    assert "h2" in said[0] or "http/1.1" in said[0] or names == "spdy"


@roles
@versions
@pytest.mark.parametrize("given", [True, False])
def test_client_certificates(role, version, given):
    """As one who presents it, or does not; and as one who demands it."""

    def prepare(context):
        if role == "server":
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(AUTHORITY)
        elif given:
            context.load_cert_chain(CHAIN, KEY)

    async def talk(transport, recorder):
        transport.write(b"x")
        await close_after(transport, recorder, 1)

    options = {"certificate": given} if role == "server" else {"demand": True}
    said = same(role, version, ["echo"], talk, prepare=prepare, **options)
    assert (said[-1] == "echo: 1 bytes, announced") == given


@roles
@versions
def test_who_is_not_trusted_is_told(role, version):
    """The client does not know the authority of the server."""

    def prepare(context):
        if role == "client":
            stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            stranger.minimum_version = stranger.maximum_version = VERSIONS[version]
            return stranger

    [said] = same(role, version, ["end"], prepare=prepare, authority=CERTIFICATE)
    assert said.startswith("failed: ")


@roles
@versions
def test_no_common_version(role, version):
    def prepare(context):
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = ssl.TLSVersion.TLSv1_3
        elsewhere = VERSIONS["1.2" if version == "1.3" else "1.3"]
        context.minimum_version = context.maximum_version = elsewhere

    [said] = same(role, version, ["end"], prepare=prepare)
    assert said.startswith("failed: ")


@protocols
@roles
def test_new_keys(role, protocol):
    """Again and again, asked for by the peer between and behind its data."""

    async def talk(transport, recorder):
        await recorder.receive(100_000)
        transport.write(b"x" * 100_000)
        await recorder.receive(250_000)
        transport.write(b"x" * 50_000)
        await recorder.receive(300_000)
        transport.close()

    steps = "update send:100000 update receive:100000 flood:20 send:150000 update echo".split()
    said = same(role, "1.3", steps, talk, protocol=protocol)
    assert said[-1] == "echo: 50000 bytes, announced"


@protocols
@roles
@versions
def test_the_end_is_announced(role, version, protocol):
    said = same(role, version, ["send:5", "notify", "end"], protocol=protocol)
    assert said[-1] == "end: 0 bytes, announced"


@protocols
@roles
@versions
def test_the_end_is_not_announced(role, version, protocol):
    said = same(role, version, ["send:5", "cut", "end"], protocol=protocol)
    assert said[-1].startswith("end: ")


@roles
@versions
def test_we_announce_the_end(role, version):
    async def talk(transport, recorder):
        await close_after(transport, recorder, 5)

    said = same(role, version, ["send:5", "end"], talk)
    assert said[-1] == "end: 0 bytes, announced"


@roles
@versions
def test_we_cut_the_stream_off(role, version):
    async def talk(transport, recorder):
        await recorder.receive(5)
        transport.abort()

    said = same(role, version, ["send:5", "end"], talk)
    assert said[-1] == "end: 0 bytes, cut off"


@pytest.mark.parametrize("protocol", [Recorder, pytest.param(BufferedRecorder, marks=pytest.mark.slow)])
@roles
def test_who_asks_for_keys_and_never_reads_is_not_read_from(role, protocol):
    """The answers would need memory without bound; whoever reads again is read from again."""
    count = 15_000
    # Not TCP, which drops what full buffers cannot take, acknowledgements too, and then tries more and more
    # seldom.
    ours, theirs = socket.socketpair()
    wire = theirs.dup()
    peer = RustlsPeer(theirs, other(role), "1.3", "receive:1", f"flood:{count}", "send:5", "cut")

    async def main():
        recorder = protocol()
        transport = await connected(ours, context_of(role, "1.3"), role, recorder)
        transport.write(b"x")
        layer = transport._ssl_protocol
        underneath = layer._transport
        while underneath.is_reading():
            await asyncio.sleep(0.001)
        unsent = underneath.get_write_buffer_size() + layer._outgoing.pending
        async with asyncio.timeout(LIMIT):
            while len(recorder.data) < 5:
                # What the peer does not read is taken away in its place.
                with contextlib.suppress(BlockingIOError):
                    wire.recv(65536, socket.MSG_DONTWAIT)
                await asyncio.sleep(0)
        wire.close()
        transport.abort()
        await recorder.lost
        return unsent

    unsent, told = run("velodrome", main)
    # What the kernel has taken, and a last read; every key asked for is answered with 22 bytes.
    assert unsent < 250_000 < count * 22
    assert told == []
    assert peer.join()[1:] == ["receive:1: done", f"flood:{count}: done", "send:5: done", "cut: done"]
