"""Endpoints of datagrams: how `create_datagram_endpoint()` makes them, how they talk, and how they end."""

import asyncio
import contextlib
import gc
import os
import random
import socket
import sys
import tempfile

import pytest
import velodrome
from differential.compare import check_same, one_turn, outcome, turns
from differential.datagrams import Protocol, drain, end, endpoint, local, peer
from differential.worlds import either_loop  # noqa: F401

pytestmark = pytest.mark.timeout(60)


# -- Making an endpoint ------------------------------------------------------------------------------------

ENDPOINTS = {
    "local": {"local_addr": ("127.0.0.1", 0)},
    "local name": {"local_addr": ("localhost", 0), "family": socket.AF_INET},
    "remote": {"remote_addr": ("127.0.0.1", 9)},
    "both": {"local_addr": ("127.0.0.1", 0), "remote_addr": ("127.0.0.1", 9)},
    "family": {"family": socket.AF_INET},
    "IPv6": {"local_addr": ("::1", 0)},
    "mixed": {"local_addr": ("::1", 0), "remote_addr": ("127.0.0.1", 9)},
    "broadcast": {"local_addr": ("127.0.0.1", 0), "allow_broadcast": True},
    "reuse port": {"local_addr": ("127.0.0.1", 0), "reuse_port": True},
    "nothing": {},
    "no tuple": {"local_addr": 5},
    "short": {"local_addr": ("127.0.0.1",)},
    "bad port": {"local_addr": ("127.0.0.1", "port")},
    "reuse address": {"local_addr": ("127.0.0.1", 0), "reuse_address": True},
    "not reuse address": {"local_addr": ("127.0.0.1", 0), "reuse_address": False},
    "unknown": {"local_addr": ("127.0.0.1", 0), "nonsense": 1},
    "stream": {"sock": socket.SOCK_STREAM},
    "socket and address": {"sock": socket.SOCK_DGRAM, "local_addr": ("127.0.0.1", 0)},
    "no socket": {"sock": 5},
    "taken": {"local_addr": "taken"},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ENDPOINTS)
def test_every_keyword(name):
    def program(loop):
        with contextlib.ExitStack() as stack:
            options = dict(ENDPOINTS[name])
            if isinstance(options.get("sock"), socket.SocketKind):
                options["sock"] = stack.enter_context(socket.socket(type=options["sock"]))
            if options.get("local_addr") == "taken":
                options["local_addr"] = stack.enter_context(peer()).getsockname()
            try:
                transport, protocol = endpoint(loop, **options)
            except OSError as error:
                return type(error).__name__, error.errno
            sock = transport.get_extra_info("socket")
            told = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
            said = [
                sock.family,
                sock.type,
                bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)),
                bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)),
                [address and (address[0], address[1] if address[1] < 10 else "port") for address in told],
                type(sock).__name__,
                sock.gettimeout(),
                transport.get_extra_info("nonsense", "default"),
                transport.is_closing(),
                transport.is_reading(),
                transport.get_write_buffer_limits(),
                isinstance(transport, asyncio.Transport),
            ]
            end(loop, transport)
            return *said, protocol.told

    check_same(program)


def test_a_socket_of_the_program(either_loop):  # noqa: F811
    with peer() as other:
        sock = socket.socket(type=socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        transport, protocol = endpoint(either_loop, sock=sock)
        other.sendto(b"hello", sock.getsockname())
        turns(either_loop, 2)
        assert protocol.told == [("made",), ("received", b"hello")]
        assert protocol.addr == other.getsockname()
        end(either_loop, transport)
        assert sock.fileno() == -1


@pytest.mark.parametrize("remote", [False, True])
def test_unix_datagrams(remote):
    def program(loop):
        with tempfile.TemporaryDirectory() as folder:
            ours, theirs = os.path.join(folder, "ours"), os.path.join(folder, "theirs")
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
                other.bind(theirs)
                other.setblocking(False)
                where = {"remote_addr": theirs} if remote else {}
                transport, protocol = endpoint(loop, local_addr=ours, family=socket.AF_UNIX, **where)
                transport.sendto(b"one", None if remote else theirs)
                said = [other.recvfrom(10)[0]]
                other.sendto(b"two", ours)
                turns(loop, 2)
                said += protocol.told, os.path.basename(protocol.addr)
                with contextlib.suppress(ValueError):
                    transport.sendto(b"three", os.path.join(folder, "nowhere"))
                said += protocol.told[-1], os.path.basename(transport.get_extra_info("sockname"))
                end(loop, transport)
                return said

    check_same(program)


def test_unix_addresses_of_every_kind():
    """A name, an abstract one, and none."""

    def program(loop):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        name = b"\0velodrome-%d" % os.getpid()
        with theirs, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            ours.setblocking(False)
            transport, protocol = endpoint(loop, sock=ours)
            theirs.send(b"nobody")
            turns(loop, 2)
            said = [protocol.addr]
            end(loop, transport)
            other.bind(name)
            bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            bound.bind(name + b"2")
            bound.setblocking(False)
            transport, protocol = endpoint(loop, sock=bound)
            other.sendto(b"abstract", name + b"2")
            turns(loop, 2)
            said.append(protocol.addr == name)
            end(loop, transport)
            return said

    check_same(program)


def test_isinstance(loop):
    transport, _ = local(loop)
    assert isinstance(transport, asyncio.DatagramTransport)
    assert type(transport) is velodrome._velodrome.DatagramTransport
    end(loop, transport)


# -- Conversations -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_an_echo(either_loop, family):  # noqa: F811
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    protocol = Protocol(received=lambda echo: echo.transport.sendto(echo.told[-1][1], echo.addr))
    server, _ = endpoint(either_loop, protocol, local_addr=(host, 0))
    client, heard = endpoint(either_loop, remote_addr=server.get_extra_info("sockname")[:2])
    for size in (0, 1, 1000, 60000) if sys.version_info >= (3, 13) else (1, 1000, 60000):
        client.sendto(b"x" * size)
        turns(either_loop, 4)
        assert heard.told[-1] == ("received", b"x" * size)
        assert heard.addr == server.get_extra_info("sockname")
    end(either_loop, client, server)


@pytest.mark.parametrize("seed", range(30))
def test_random_conversations(seed):
    """The same steps on both loops: what each party is told, and when, is the same."""

    def program(loop):
        dice = random.Random(seed)
        protocols = [Protocol() for _ in range(3)]
        parties = []
        for number, protocol in enumerate(protocols):
            where = {"remote_addr": parties[0].get_extra_info("sockname")} if number == 2 else {}
            parties.append(local(loop, protocol, **where)[0])
        addresses = [party.get_extra_info("sockname") for party in parties]
        said = []
        for step in range(60):
            one = dice.randrange(3)
            transport = parties[one]
            act = dice.choice(["send"] * 8 + ["turn"] * 6 + ["pause", "resume", "resume", "close"])
            if act == "send":
                to = dice.choice([0, 1, 2])
                address = None if one == 2 and dice.random() < 0.8 else addresses[to]
                data = b"%d" % step * dice.choice([1, 10, 5000])
                kind, text = outcome(transport.sendto, dice.choice([bytes, bytearray])(data), address)
                said.append((kind, str(text).split(":")[0]))
            elif act == "turn":
                one_turn(loop)
            elif act == "close" and dice.random() < 0.3:
                transport.close()
            elif act in ("pause", "resume"):
                getattr(transport, f"{act}_reading")()
            said.append([len(protocol.told) for protocol in protocols])
        turns(loop, 100)
        end(loop, *parties)
        return said, [protocol.told for protocol in protocols]

    check_same(program)


class Own(socket.socket):
    """Receives and sends in its own way."""

    def recvfrom(self, size):
        data, address = super().recvfrom(size)
        return data.upper(), address

    def sendto(self, data, address):
        return super().sendto(bytes(data).lower(), address)

    def send(self, data):
        raise self.error


@pytest.mark.parametrize("error", [OSError(5, "five"), ValueError("bad"), BlockingIOError()], ids=repr)
def test_a_sockets_own_methods_are_called(error):
    def program(loop):
        heard = []
        loop.set_exception_handler(lambda loop, context: heard.append(context["message"]))
        sock = Own(type=socket.SOCK_DGRAM)
        sock.error = error
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        transport, protocol = endpoint(loop, sock=sock)
        with peer() as other:
            other.sendto(b"Data", transport.get_extra_info("sockname"))
            turns(loop, 2)
            transport.sendto(b"Answer", other.getsockname())
            said = [drain(other), list(protocol.told)]
            end(loop, transport)
            sock = Own(type=socket.SOCK_DGRAM)
            sock.error = error
            sock.connect(other.getsockname())
            sock.setblocking(False)
            transport, protocol = endpoint(loop, sock=sock)
            said.append(outcome(transport.sendto, b"fails"))
            turns(loop, 2)
            said += protocol.told, heard, transport.get_write_buffer_size(), transport.is_closing()
            end(loop, transport)
            return said

    check_same(program)


# -- The end -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["close", "abort"])
@pytest.mark.parametrize("connected", [False, True])
def test_after_the_end(way, connected):
    def program(loop):
        heard = []
        loop.set_exception_handler(lambda loop, context: heard.append(context["message"]))
        with peer() as other:
            where = {"remote_addr": other.getsockname()} if connected else {}
            transport, protocol = local(loop, **where)
            getattr(transport, way)()
            getattr(transport, way)()
            address = None if connected else other.getsockname()
            said = [transport.is_closing(), transport.is_reading()]
            said.append(outcome(transport.sendto, b"late", address))
            turns(loop, 3)
            said += protocol.told, repr(transport).split()[1]
            for _ in range(7):
                said.append(outcome(transport.sendto, b"later", address))
            said += outcome(transport.close), outcome(transport.pause_reading), drain(other)
            return said, heard

    check_same(program)


def test_an_abandoned_transport_warns_and_is_closed(loop):
    transport, _protocol = local(loop)
    number = transport.get_extra_info("socket").fileno()
    loop.run_until_complete(asyncio.sleep(0))
    transport.pause_reading()
    _protocol.transport = None
    with pytest.warns(ResourceWarning, match="unclosed transport <DatagramTransport fd="):
        del transport
        gc.collect()
    with pytest.raises(OSError):
        os.fstat(number)


def test_a_socket_closed_behind_its_back_is_an_error():
    def program(loop):
        transport, protocol = local(loop)
        transport._sock.close()
        transport.sendto(b"data", ("127.0.0.1", 9))
        turns(loop, 2)
        said = protocol.told
        end(loop, transport)
        return said

    check_same(program)
