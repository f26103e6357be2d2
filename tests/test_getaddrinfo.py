"""`loop.getaddrinfo()` and `loop.getnameinfo()`: what the socket module and asyncio's loop say."""

import asyncio
import itertools
import socket

import pytest
from differential.compare import LOOPS, outcome
from differential.worlds import close

pytestmark = pytest.mark.timeout(60)

HOSTS = [
    None,
    "",
    b"",
    "127.0.0.1",
    b"127.0.0.1",
    bytearray(b"127.0.0.1"),
    "0.0.0.0",
    "255.255.255.255",
    "127.1",
    "::1",
    b"::1",
    "::",
    "::ffff:127.0.0.1",
    "fe80::1%lo",
    "fe80::1%1",
    "::1%lo",
    "localhost",
    b"localhost",
    5,
    ("127.0.0.1",),
]
# Not asked of a name server.
NUMERIC_ONLY = [
    "1.2.3.4.5",
    "256.0.0.1",
    "127.0.0.01",
    "0x7f.1",
    "fe80::1%nowhere",
    "127.0.0.1%lo",
    "x" * 300,
    "localhost\0",
    "\udc80",
    " 127.0.0.1",
]
PORTS = [
    None,
    0,
    80,
    65535,
    65536,
    -1,
    2**40,
    "80",
    b"80",
    "http",
    "nonsense",
    "",
    b"",
    "\0",
    80.0,
    True,
    "٣",
]
FAMILIES = [0, socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, 1000]
KINDS = [0, socket.SOCK_STREAM, socket.SOCK_DGRAM, 1000]
PROTOCOLS = [0, socket.IPPROTO_TCP, socket.IPPROTO_UDP, 1000]
FLAGS = [
    0,
    socket.AI_PASSIVE,
    socket.AI_CANONNAME,
    socket.AI_NUMERICHOST,
    socket.AI_NUMERICSERV,
    socket.AI_NUMERICHOST | socket.AI_NUMERICSERV | socket.AI_PASSIVE,
    1 << 20,
]


@pytest.fixture(scope="module")
def loops():
    """asyncio's loop and ours, for all questions."""
    made = [new_loop() for new_loop in LOOPS]
    yield made
    for loop in made:
        close(loop)


def ask_all(loops, questions, method, function):
    """Ask everybody; return how many questions had an answer."""
    answered = 0
    for arguments, keywords in questions:
        expected = outcome(function, *arguments, **keywords)
        for loop in loops:
            call = getattr(loop, method)(*arguments, **keywords)
            assert outcome(loop.run_until_complete, call) == expected, (loop, arguments, keywords)
        answered += expected[0] == "returned"
    return answered


def test_every_host_with_every_port(loops):
    questions = [((host, port), {}) for host, port in itertools.product(HOSTS, PORTS)]
    numeric = {"flags": socket.AI_NUMERICHOST}
    questions += [((host, port), numeric) for host, port in itertools.product(NUMERIC_ONLY, PORTS)]
    assert ask_all(loops, questions, "getaddrinfo", socket.getaddrinfo) > 30


@pytest.mark.parametrize("host", [None, "", "127.0.0.1", b"127.0.0.1", "::1", "fe80::1%lo"], ids=repr)
def test_every_hint(loops, host):
    questions = [
        ((host, port), {"family": family, "type": kind, "proto": protocol, "flags": flags})
        for port in (None, 80)
        for family, kind, protocol in itertools.product(FAMILIES, KINDS, PROTOCOLS)
        for flags in FLAGS
    ]
    assert ask_all(loops, questions, "getaddrinfo", socket.getaddrinfo) > (-1 if host == "" else 5)


@pytest.mark.parametrize("keyword", ["family", "type", "proto", "flags"])
def test_bad_hints(loops, keyword):
    questions = [(("127.0.0.1", 80), {keyword: value}) for value in (None, "text", 2**40, -1, 1.0)]
    ask_all(loops, questions, "getaddrinfo", socket.getaddrinfo)


def test_names_of_addresses(loops):
    addresses = [
        ("127.0.0.1", 80),
        ("::1", 80),
        ("::1", 80, 0, 0),
        ("fe80::1", 80, 0, 1),
        ("fe80::1%lo", 80),
        ("localhost", 80),
        ("127.0.0.1", 65536),
        ("127.0.0.1", -1),
        ("127.0.0.1", "80"),
        ("127.0.0.1",),
        ("::1", 80, 1 << 20),
        "127.0.0.1",
        None,
        5,
    ]
    flags = [
        0,
        socket.NI_NUMERICHOST,
        socket.NI_NUMERICSERV,
        socket.NI_NUMERICHOST | socket.NI_NUMERICSERV | socket.NI_DGRAM,
        "text",
    ]
    questions = [((address, flag), {}) for address, flag in itertools.product(addresses, flags)]
    assert ask_all(loops, questions, "getnameinfo", socket.getnameinfo) > 10


def test_in_debug_mode_too(loops):
    for loop in loops:
        loop.set_debug(True)
    try:
        questions = [((host, 80), {}) for host in (None, "127.0.0.1", "::1", 5)]
        ask_all(loops, questions, "getaddrinfo", socket.getaddrinfo)
    finally:
        for loop in loops:
            loop.set_debug(False)


def test_cancelled_while_a_thread_asks(loops):
    """The thread goes on; nobody waits for it any more."""
    for loop in loops:

        async def main(loop=loop):
            task = loop.create_task(loop.getaddrinfo("localhost", 80))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return await loop.getaddrinfo("127.0.0.1", 80)

        assert loop.run_until_complete(main()) == socket.getaddrinfo("127.0.0.1", 80)
