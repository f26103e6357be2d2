"""`create_datagram_endpoint()` and its transport: what programs do with them has asyncio's outcome."""

import asyncio
import contextlib
import contextvars
import gc
import os
import random
import socket
import sys
import tempfile
import warnings

import pytest
import velodrome
from differential.compare import check_same, one_turn, outcome, plain, turns
from differential.worlds import either_loop  # noqa: F401

pytestmark = pytest.mark.timeout(60)


class Protocol(asyncio.DatagramProtocol):
    """Notes what it is told, and does what it was asked to when it is told that."""

    def __init__(self, **acts):
        self.told = []
        self.acts = acts

    def note(self, name, *what):
        self.told.append((name, *what))
        if name in self.acts:
            self.acts[name](self)

    def connection_made(self, transport):
        self.transport = transport
        self.note("made")

    def datagram_received(self, data, addr):
        self.addr = addr
        self.note("received", data)

    def error_received(self, exc):
        self.note("error", type(exc).__name__, str(exc))

    def connection_lost(self, exc):
        self.note("lost", repr(exc))

    def pause_writing(self):
        self.note("pause")

    def resume_writing(self):
        self.note("resume")


def endpoint(loop, protocol=None, **options):
    """Make an endpoint; return its transport and its protocol."""
    factory = Protocol if protocol is None else lambda: protocol
    return loop.run_until_complete(loop.create_datagram_endpoint(factory, **options))


def local(loop, protocol=None, **options):
    return endpoint(loop, protocol, local_addr=("127.0.0.1", 0), **options)


def peer():
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


def unix_pair():
    """Two sockets of datagrams that lose none: the first is connected to the other, and soon has to wait."""
    ours, theirs = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    theirs.bind(b"\0velodrome-%d-%d" % (os.getpid(), theirs.fileno()))
    ours.connect(theirs.getsockname())
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    theirs.setblocking(False)
    return ours, theirs


def drain(sock):
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(sock.recv(70000))
    return found


def end(loop, *transports):
    for transport in transports:
        transport.abort()
    turns(loop, 3)


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


# -- Sending ----------------------------------------------------------------------------------------------

DATA = [b"bytes", bytearray(b"array"), memoryview(b"view"), memoryview(b"abcdef")[::2], b"", bytearray()]
NO_DATA = ["text", 5, None, [b"list"]]
ADDRESSES = [
    None,
    ("127.0.0.1", "port"),
    ("localhost", 9),
    ("127.0.0.1", 70000),
    ("127.0.0.1", -1),
    ("127.0.0.1",),
    ("256.0.0.1", 9),
    ("127.1", 9),
    ("", 9),
    ("::1", 9),
    ("127.0.0.1", 9.0),
    ("127.0.0.1", True),
    "text",
    5,
    ["127.0.0.1", 9],
]


@pytest.mark.parametrize("connected", [False, True])
@pytest.mark.parametrize("data", [*DATA, *NO_DATA], ids=repr)
def test_what_can_be_sent(connected, data):
    def program(loop):
        with peer() as other:
            where = {"remote_addr": other.getsockname()} if connected else {}
            transport, protocol = local(loop, **where)
            said = [outcome(transport.sendto, data, None if connected else other.getsockname())]
            said.append(drain(other))
            turns(loop, 3)
            said += protocol.told, transport.get_write_buffer_size(), transport.is_closing()
            end(loop, transport)
            return said

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_same(program)


@pytest.mark.parametrize("connected", [False, True])
@pytest.mark.parametrize("address", ADDRESSES, ids=repr)
def test_where_it_can_be_sent(connected, address):
    def program(loop):
        heard = []
        loop.set_exception_handler(lambda loop, context: heard.append(plain(repr(context["exception"]))))
        with peer() as other:
            where = {"remote_addr": ("127.0.0.1", other.getsockname()[1])} if connected else {}
            transport, protocol = local(loop, **where)
            said = [outcome(transport.sendto, b"data", address)]
            turns(loop, 3)
            told = [(name, *what) for name, *what in protocol.told if name != "error" or not connected]
            said += told, transport.is_closing(), heard
            end(loop, transport)
            return [plain(repr(part)).replace(str(other.getsockname()[1]), "port") for part in said]

    check_same(program)


def test_a_datagram_that_is_too_long_is_an_error_and_the_next_one_is_sent(either_loop):  # noqa: F811
    with peer() as other:
        transport, protocol = local(either_loop)
        transport.sendto(b"x" * 70000, other.getsockname())
        transport.sendto(b"next", other.getsockname())
        assert [told[:2] for told in protocol.told] == [("made",), ("error", "OSError")]
        assert drain(other) == [b"next"]
        end(either_loop, transport)


def test_a_refusal_of_the_peers_machine_is_an_error():
    def program(loop):
        with peer() as other:
            transport, protocol = endpoint(loop, remote_addr=other.getsockname())
        transport.sendto(b"one")
        turns(loop, 3)
        transport.sendto(b"two")
        transport.sendto(b"three")
        turns(loop, 3)
        end(loop, transport)
        return protocol.told

    check_same(program)


@pytest.mark.skipif(
    sys.version_info[:2] == (3, 13)
    and not hasattr(asyncio.selector_events._SelectorDatagramTransport, "_header_size"),
    reason="asyncio counts headers in and not out there, and never resumes",
)
@pytest.mark.parametrize("size", [10, 1000])
@pytest.mark.parametrize("close", [False, True])
def test_flow_control(size, close):
    """More than the kernel takes waits, in order; the protocol is told to stop, and to go on."""

    def program(loop):
        ours, theirs = unix_pair()
        with theirs:
            transport, protocol = endpoint(loop, sock=ours)
            transport.set_write_buffer_limits(high=5 * size, low=size)
            sent, sizes = [], []
            for number in range(2000):
                sent.append(b"%0*d" % (size, number))
                transport.sendto(sent[-1])
                sizes.append(transport.get_write_buffer_size())
                if sizes[-1] > 12 * size:
                    break
            if close:
                transport.close()
                outcome(transport.sendto, b"late")
            received = []
            for _ in range(500):
                received += drain(theirs)
                one_turn(loop)
            said = [protocol.told, received == sent, len(sent), transport.is_closing()]
            said += sizes
            if not close:
                end(loop, transport)
            return said

    check_same(program)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="empty datagrams are not sent before")
def test_empty_datagrams_count_for_flow_control(loop):
    ours, theirs = unix_pair()
    with theirs:
        transport, protocol = endpoint(loop, sock=ours)
        transport.set_write_buffer_limits(high=100)
        count = 0
        while transport.get_write_buffer_size() <= 100:
            transport.sendto(b"")
            count += 1
        assert ("pause",) in protocol.told
        received = []
        for _ in range(500):
            received += drain(theirs)
            one_turn(loop)
        assert len(received) == count
        one_turn(loop)
        assert transport.get_write_buffer_size() == 0
        assert protocol.told[-1] == ("resume",)
        end(loop, transport)


def test_what_is_kept_cannot_be_changed(loop):
    ours, theirs = unix_pair()
    with theirs:
        transport, _protocol = endpoint(loop, sock=ours)
        data = bytearray(b"before")
        count = 0
        while not transport.get_write_buffer_size():
            transport.sendto(data)
            count += 1
        data[:] = b"after!"
        received = []
        for _ in range(500):
            received += drain(theirs)
            one_turn(loop)
        assert len(received) == count
        assert set(received) == {b"before"}
        end(loop, transport)


def narrow():
    """A socket whose larger datagrams go in pieces, for which the kernel then has no room."""
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.bind(("::1", 0))
    sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU, 1280)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    return sock


IPV6_MTU = 24  # linux/in6.h
TOO_LARGE = bytes(20_000)


@pytest.mark.parametrize("connected", [False, True])
def test_no_buffer_space(connected):
    """The protocol is told of ENOBUFS; the datagram is not kept, and the next one goes."""

    def program(loop):
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as theirs:
            theirs.bind(("::1", 0))
            theirs.setblocking(False)
            sock, address = narrow(), None
            if connected:
                sock.connect(theirs.getsockname())
            else:
                address = theirs.getsockname()
            transport, protocol = endpoint(loop, sock=sock)
            kept = []
            for data in (b"first", TOO_LARGE, TOO_LARGE, b"last"):
                transport.sendto(data, address)
                kept.append(transport.get_write_buffer_size())
            turns(loop, 3)
            arrived, closing = drain(theirs), transport.is_closing()
            end(loop, transport)
            return protocol.told, kept, arrived, closing

    told, _, arrived, closing = check_same(program)[1]
    assert [name for name, *_ in told].count("error") == 2
    assert arrived == [b"first", b"last"] and not closing


def test_no_buffer_space_for_a_call():
    """`sock_sendto` raises it."""

    def program(loop):
        with narrow() as ours, narrow() as theirs:
            ours.setblocking(False)
            return outcome(loop.run_until_complete, loop.sock_sendto(ours, TOO_LARGE, theirs.getsockname()))

    assert check_same(program)[1][0] == "OSError"


def test_an_error_in_the_middle_of_what_is_kept():
    """What waits behind it goes when the socket is ready the next time, as with asyncio."""

    def program(loop):
        ours, theirs = unix_pair()
        with theirs:
            transport, protocol = endpoint(loop, sock=ours)
            for number in range(200):
                transport.sendto(b"%d" % number)
            transport.sendto(bytes(1 << 20))  # larger than any that the socket sends
            for number in range(5):
                transport.sendto(b"behind %d" % number)
            kept = transport.get_write_buffer_size() > 0
            arrived = []
            for _ in range(100):
                one_turn(loop)
                arrived += drain(theirs)
            left = transport.get_write_buffer_size()
            end(loop, transport)
            lefts.append(left)
            return protocol.told, kept, arrived

    # asyncio of 3.13.0 counts a header for each datagram that it keeps, and forgets it when that goes.
    lefts = []
    told, kept, arrived = check_same(program)[1]
    assert kept and "error" in [name for name, *_ in told]
    assert len(arrived) == 205 and lefts[-1] == 0


# -- Receiving --------------------------------------------------------------------------------------------


def test_one_datagram_is_received_in_an_iteration_where_that_can_be_told():
    """What a protocol queues runs before it hears of the next datagram."""

    def program(loop):
        order = []
        protocol = Protocol(
            received=lambda protocol: (
                order.append(protocol.told[-1][1]),
                loop.call_soon(order.append, "queued"),
            )
        )
        transport, _ = local(loop, protocol)
        with peer() as other:
            for number in range(5):
                other.sendto(b"%d" % number, transport.get_extra_info("sockname"))
        turns(loop, 12)
        end(loop, transport)
        return order

    check_same(program)


@pytest.mark.parametrize(
    "act",
    [
        lambda loop, protocol: protocol.transport.pause_reading(),
        lambda loop, protocol: (protocol.transport.pause_reading(), protocol.transport.resume_reading()),
        lambda loop, protocol: protocol.transport.close(),
        lambda loop, protocol: protocol.transport.abort(),
        lambda loop, protocol: loop.stop(),
        lambda loop, protocol: loop.call_later(0, loop.stop),
        lambda loop, protocol: loop.call_soon(loop.stop),
        lambda loop, protocol: loop.call_soon_threadsafe(loop.stop),
        lambda loop, protocol: protocol.transport.set_protocol(Protocol(received=protocol.acts["received"])),
        lambda loop, protocol: 1 / 0,
    ],
    ids=["pause", "pause, resume", "close", "abort", "stop", "later", "soon", "thread", "protocol", "raise"],
)
def test_what_a_protocol_does_counts_before_the_next_datagram(act):
    """Five are there when the loop runs for as long as it is not stopped."""

    def program(loop):
        heard = []
        loop.set_exception_handler(lambda loop, context: heard.append(context["message"].split()[0]))
        told = []

        def received(protocol):
            told.append(protocol.told[-1])
            act(loop, protocol)

        transport, protocol = local(loop, Protocol(received=received))
        with peer() as other:
            for number in range(5):
                other.sendto(b"%d" % number, transport.get_extra_info("sockname"))
        loop.call_later(0.05, loop.stop)
        loop.run_forever()
        said = list(told), list(protocol.told), heard
        end(loop, transport)
        return said

    check_same(program)


def test_many_arrive_in_order_and_alone(loop):
    """Also where nothing else is watched, so that many are received for one readiness."""
    transport, protocol = local(loop)
    with peer() as other:
        for number in range(100):
            other.sendto(b"%d" % number, transport.get_extra_info("sockname"))
    one_turn(loop)
    while len(protocol.told) < 101:
        one_turn(loop)
    assert [told[1] for told in protocol.told[1:]] == [b"%d" % number for number in range(100)]
    end(loop, transport)


def test_addresses_are_told_apart(loop):
    """More senders than the loop remembers, each with its own address, and each is answered."""
    protocol = Protocol()
    protocol.datagram_received = lambda data, addr: protocol.transport.sendto(b"%d" % addr[1], addr)
    transport, _ = local(loop, protocol)
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(peer()) for _ in range(150)]
        for _ in range(3):
            for other in others:
                other.sendto(b"?", transport.get_extra_info("sockname"))
                answer = []
                while not answer:
                    one_turn(loop)
                    answer = drain(other)
                assert answer == [b"%d" % other.getsockname()[1]]
    end(loop, transport)


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


def test_contexts():
    """A protocol is called in the context in which its transport was made, or reading was resumed."""
    variable = contextvars.ContextVar("variable", default="none")

    def program(loop):
        said = []
        protocol = Protocol()
        for name in ("connection_made", "datagram_received", "connection_lost", "resume_writing"):
            method = getattr(protocol, name)
            setattr(
                protocol,
                name,
                lambda *args, name=name, method=method: (method(*args), said.append((name, variable.get()))),
            )

        async def main():
            variable.set("made")
            transport, _ = await loop.create_datagram_endpoint(lambda: protocol, ("127.0.0.1", 0))
            variable.set("later")
            with peer() as other:
                other.sendto(b"one", transport.get_extra_info("sockname"))
                await asyncio.sleep(0.01)
                transport.pause_reading()
                variable.set("resumed")
                transport.resume_reading()
                other.sendto(b"two", transport.get_extra_info("sockname"))
                await asyncio.sleep(0.01)
            variable.set("closed")
            transport.close()
            await asyncio.sleep(0.01)

        loop.run_until_complete(main())
        return said

    check_same(program)


# -- The end ----------------------------------------------------------------------------------------------


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


def test_sendto_takes_names(either_loop):  # noqa: F811
    with peer() as other:
        transport, _ = local(either_loop)
        transport.sendto(addr=other.getsockname(), data=b"named")
        assert drain(other) == [b"named"]
        end(either_loop, transport)


def test_isinstance(loop):
    transport, _ = local(loop)
    assert isinstance(transport, asyncio.DatagramTransport)
    assert type(transport) is velodrome._velodrome.DatagramTransport
    end(loop, transport)


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
