"""Sending datagrams: what and where to, flow control, and what the kernel refuses."""

import asyncio
import socket
import sys
import warnings

import pytest
from differential.compare import check_same, one_turn, outcome, plain, turns
from differential.datagrams import drain, end, endpoint, local, peer, unix_pair
from differential.worlds import either_loop  # noqa: F401

pytestmark = pytest.mark.timeout(60)

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


def test_sendto_takes_names(either_loop):  # noqa: F811
    with peer() as other:
        transport, _ = local(either_loop)
        transport.sendto(addr=other.getsockname(), data=b"named")
        assert drain(other) == [b"named"]
        end(either_loop, transport)
