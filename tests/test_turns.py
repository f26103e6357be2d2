"""Several writes in one turn of the loop (transport/turn.rs): one segment, and never forgotten."""

import asyncio
import fcntl
import socket
import struct

import pytest

SIOCOUTQNSD = 0x894B  # linux/sockios.h: how much the kernel has accepted and not sent


def unsent(sock):
    return struct.unpack("i", fcntl.ioctl(sock.fileno(), SIOCOUTQNSD, b"\0\0\0\0"))[0]


class Pieces(asyncio.Protocol):
    """Answers each request with that many pieces; notes what the kernel holds back after each."""

    def connection_made(self, transport):
        self.transport = transport
        self.socket = transport.get_extra_info("socket")
        self.held_back = []

    def data_received(self, request):
        for piece in range(request[0]):
            self.transport.write(b"%d" % piece)
            self.held_back.append(unsent(self.socket))


@pytest.fixture
def connection(loop):
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    accepted, _ = server.accept()
    server.close()
    client.settimeout(20)
    transport, protocol = loop.run_until_complete(loop.connect_accepted_socket(Pieces, accepted))
    yield client, protocol
    transport.abort()
    loop.run_until_complete(asyncio.sleep(0))
    client.close()


def test_pieces_of_an_answer_go_together_once_there_were_several(loop, connection):
    async def program():
        client, protocol = connection
        client.setblocking(False)
        seen = []
        for pieces in (1, 3, 3, 4, 1, 1, 2, 2):
            protocol.held_back.clear()
            await loop.sock_sendall(client, bytes([pieces]))
            received = b""
            while len(received) < pieces:
                received += await loop.sock_recv(client, 100)
            assert unsent(protocol.socket) == 0
            seen.append((received, protocol.held_back[:]))
        return seen

    assert loop.run_until_complete(program()) == [
        (b"0", [0]),
        (b"012", [0, 0, 0]),
        (b"012", [1, 2, 0]),  # the last that is expected sends them all
        (b"0123", [1, 2, 0, 0]),
        (b"0", [1]),  # more was expected
        (b"0", [0]),
        (b"01", [0, 0]),
        (b"01", [1, 0]),
    ]


def test_a_peer_that_is_waited_for_in_the_same_turn_gets_everything(loop, connection):
    """The kernel sends by itself what a blocked callback does not let the loop send."""
    client, protocol = connection

    async def program():
        for _ in range(2):
            protocol.transport.write(b"a")
            protocol.transport.write(b"b")
            received = b""
            while len(received) < 2:
                received += client.recv(100)  # blocks the loop
            assert received == b"ab"
            await asyncio.sleep(0)

    loop.run_until_complete(program())


def test_a_transport_that_is_closed_in_its_turn_sends_everything(loop, connection):
    client, protocol = connection

    async def program():
        for _ in range(2):
            protocol.transport.write(b"a")
            protocol.transport.write(b"b")
            await asyncio.sleep(0)
        protocol.transport.write(b"a")
        protocol.transport.write(b"b")
        protocol.transport.close()

    loop.run_until_complete(program())
    loop.run_until_complete(asyncio.sleep(0))
    received = b""
    while chunk := client.recv(100):
        received += chunk
    assert received == b"ababab"


def test_writes_outside_a_run_are_not_held_back(loop, connection):
    client, protocol = connection

    async def program():
        protocol.transport.write(b"a")
        protocol.transport.write(b"b")

    loop.run_until_complete(program())
    protocol.transport.write(b"c")
    assert unsent(protocol.socket) == 0
    received = b""
    while len(received) < 3:
        received += client.recv(100)
    assert received == b"abc"


def test_a_socket_that_the_program_has_corked_stays_corked(loop, connection):
    """Also where the loop would have the kernel send what it held back for a write that did not come."""
    client, protocol = connection

    async def program():
        protocol.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        for pieces in (2, 2, 1):
            for _ in range(pieces):
                protocol.transport.write(b"x")
            await asyncio.sleep(0)
        assert protocol.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK) == 1
        protocol.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)

    loop.run_until_complete(program())
    received = b""
    while len(received) < 5:
        received += client.recv(100)
    assert received == b"xxxxx"
