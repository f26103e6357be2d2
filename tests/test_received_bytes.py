"""What a protocol is given is a `bytes` of its own for as long as anybody can see it, though one that nobody
has kept is filled again."""

import asyncio
import contextlib
import ctypes
import os
import socket

import pytest
import velodrome
from hypothesis import given, settings
from hypothesis import strategies as st
from tls.sides import client_context, server_context

SIZES = st.one_of(
    st.integers(1, 40), st.integers(990, 1100), st.sampled_from([511, 4096, 16_384, 16_385, 20_000])
)
#: What a protocol may do with a message, and what that leaves; the message can be told from it.
USES = {
    "forget": lambda data: None,
    "keep": lambda data: data,
    "hash": lambda data: hash(data) and None,
    "keep hashed": lambda data: {data: None},
    "view": memoryview,
    "iterate": iter,
    "bind a method": lambda data: data.hex,
    "slice all": lambda data: data[:],
    "share": lambda data: [data, data],
}
CONTENT = {
    "keep": lambda kept: kept,
    "keep hashed": lambda kept: next(iter(kept)),
    "view": bytes,
    "iterate": bytes,
    "bind a method": lambda kept: bytes.fromhex(kept()),
    "slice all": lambda kept: kept,
    "share": lambda kept: kept[1],
}


class Using(asyncio.Protocol):
    """Uses each message in its own way."""

    def __init__(self, uses):
        self.uses = uses
        self.seen = []
        self.kept = []
        self.more = asyncio.Event()

    def data_received(self, data):
        # All that can be read from the object, to be compared with what was sent.
        self.seen.append((bytes(bytearray(data)), hash(data), len(data), ctypes.string_at(data)))
        use = self.uses[len(self.kept) % len(self.uses)]
        self.kept.append((use, USES[use](data)))
        self.more.set()

    def datagram_received(self, data, address):
        self.data_received(data)


@contextlib.asynccontextmanager
async def over_socket(protocol):
    """Give the transport's protocol what is sent through a pair of sockets."""
    ours, theirs = socket.socketpair()
    with theirs:
        ours.setblocking(False)
        transport, _ = await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, ours)
        yield theirs.sendall
        transport.close()


@contextlib.asynccontextmanager
async def over_pipe(protocol):
    reader, writer = os.pipe()
    with open(writer, "wb", buffering=0) as writer:
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: protocol, open(reader, "rb", buffering=0)
        )
        yield writer.write
        transport.close()


@contextlib.asynccontextmanager
async def over_datagrams(protocol):
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: protocol, ("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        yield lambda data: peer.sendto(data, transport.get_extra_info("sockname"))
    transport.close()


@contextlib.asynccontextmanager
async def over_tls(protocol):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: protocol, "127.0.0.1", 0, ssl=server_context())
    port = server.sockets[0].getsockname()[1]
    transport, _ = await loop.create_connection(
        asyncio.Protocol, "127.0.0.1", port, ssl=client_context(), server_hostname="localhost"
    )
    yield transport.write
    transport.close()
    server.close()


WAYS = {"socket": over_socket, "pipe": over_pipe, "datagrams": over_datagrams, "tls": over_tls}


async def exchange(way, messages, protocol):
    """Send the messages one by one, each when the last has come whole."""
    async with WAYS[way](protocol) as send:
        for message in messages:
            before = sum(length for _, _, length, _ in protocol.seen)
            send(message)
            while sum(length for _, _, length, _ in protocol.seen) < before + len(message):
                await asyncio.wait_for(protocol.more.wait(), 10)
                protocol.more.clear()


def run(coroutine):
    with asyncio.Runner(loop_factory=velodrome.new_event_loop) as runner:
        return runner.run(coroutine)


@pytest.mark.parametrize("way", WAYS)
@settings(deadline=None, max_examples=30)
@given(
    sizes=st.lists(SIZES, min_size=1, max_size=25),
    uses=st.lists(st.sampled_from(sorted(USES)), min_size=1, max_size=7),
)
def test_what_is_kept_stays_as_it_was_sent(way, sizes, uses):
    messages = [
        bytes((7 * place + number) % 255 + 1 for place in range(size)) for number, size in enumerate(sizes)
    ]

    async def main():
        protocol = Using(uses)
        await exchange(way, messages, protocol)
        return protocol

    protocol = run(main())
    assert b"".join(content for content, *_ in protocol.seen) == b"".join(messages)
    for content, hashed, length, text in protocol.seen:
        assert (hash(content), len(content), content) == (hashed, length, text)
    for (use, kept), (content, *_) in zip(protocol.kept, protocol.seen, strict=True):
        if use in CONTENT:
            assert CONTENT[use](kept) == content
        if use == "keep hashed":
            assert content in kept


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [1000, 1100, 5000])
def test_what_nobody_keeps_is_filled_again(way, size):
    class Watching(asyncio.Protocol):
        def __init__(self):
            self.seen = []
            self.found = []
            self.others = []
            self.more = asyncio.Event()

        def data_received(self, data):
            self.found.append(id(data))
            self.seen.append((b"", 0, len(data), b""))
            asyncio.get_running_loop().call_soon(self.take_memory)

        datagram_received = lambda self, data, address: self.data_received(data)  # noqa: E731

        def take_memory(self):
            # Of a size that the message would have left if it had been given back.
            self.others.extend(bytes(size) for _ in range(10))
            self.more.set()

    async def main():
        protocol = Watching()
        await exchange(way, [bytes(size)] * 5, protocol)
        return protocol

    found = run(main()).found
    assert len(found) == 5
    assert len(set(found)) == 1


def test_single_bytes_are_those_that_python_has():
    class Keeping(Using):
        def data_received(self, data):
            super().data_received(data)
            self.kept[-1] = data

    async def main():
        protocol = Keeping(["keep"])
        await exchange("socket", [b"ab", b"c", b"de", b"c"], protocol)
        return protocol.kept

    kept = run(main())
    assert kept == [b"ab", b"c", b"de", b"c"]
    assert kept[1] is kept[3] is b"abc"[2:]


def test_messages_received_within_a_call_do_not_disturb_each_other():
    """A protocol may read on another transport meanwhile, as nested loops do."""

    class Noting(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            if data.startswith(b"outer"):
                send(b"inner" * 200)
                inner.transport._read_ready()
            seen.append(bytes(bytearray(data)))

    seen, inner = [], Noting()

    async def main():
        nonlocal send
        async with over_socket(Noting()) as begin, over_socket(inner) as send:
            for number in range(1, 6):
                begin(b"outer" * 200)
                while len(seen) < 2 * number:
                    await asyncio.sleep(0)

    send = None
    run(main())
    assert seen == [b"inner" * 200, b"outer" * 200] * 5
