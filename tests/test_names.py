"""loop.getaddrinfo: the answers of socket.getaddrinfo, and no thread where nothing has to be looked up."""

import asyncio
import itertools
import socket

import pytest
from differential.compare import outcome

FAMILIES = (0, socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, 9999)
TYPES = (0, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, 99)
PROTOCOLS = (0, socket.IPPROTO_TCP, socket.IPPROTO_UDP, 255)
FLAGS = (
    0,
    socket.AI_PASSIVE,
    socket.AI_CANONNAME,
    socket.AI_NUMERICHOST,
    socket.AI_NUMERICSERV,
    socket.AI_ADDRCONFIG,
    socket.AI_V4MAPPED,
    socket.AI_V4MAPPED | socket.AI_ALL,
    socket.AI_PASSIVE | socket.AI_CANONNAME | socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    1 << 30,
)
LITERALS = (
    *("127.0.0.1", "0.0.0.0", "255.255.255.255", "::1", "::", "::ffff:1.2.3.4", "2001:db8::1"),
    *("fe80::1%lo", "fe80::1%1", "fe80::1%nosuch", "::1%lo", b"127.0.0.1", b"::1", None),
)
# Nor are these looked up, but it takes the C library to know.
OTHERS = ("127.1", "0x7f000001", "2130706433", "1.2.3.4%lo", "", 5, object, "127.0.0.1\0", "\udc80")
PORTS = (80, "80", b"80", None, 0, -1, 65536, 2**70)
NAMED_PORTS = ("http", "", "no-such-service", "-1", "８０", 1.5, True)


def everything(hosts, ports, families=FAMILIES, flags=FLAGS):
    return itertools.product(hosts, ports, families, TYPES, PROTOCOLS, flags)


def check_same(loop, questions):
    async def program():
        for host, port, family, type, proto, flags in questions:
            try:
                ours = (
                    "returned",
                    await loop.getaddrinfo(host, port, family=family, type=type, proto=proto, flags=flags),
                )
            except Exception as error:
                ours = error.__class__.__name__, str(error)
            theirs = outcome(socket.getaddrinfo, host, port, family, type, proto, flags)
            assert ours == theirs, (host, port, family, type, proto, flags)

    loop.run_until_complete(program())


@pytest.mark.parametrize("host", LITERALS, ids=repr)
def test_address_literals_are_answered_without_a_thread(loop, host):
    check_same(loop, everything([host], PORTS))
    assert loop._default_executor is None


def test_what_has_to_be_looked_up_is_answered_as_well(loop):
    few = {"families": (0, socket.AF_INET6), "flags": (0, socket.AI_NUMERICHOST)}
    check_same(loop, everything(["127.0.0.1", None], NAMED_PORTS, **few))
    check_same(loop, everything(OTHERS, [80], families=(0,), flags=(socket.AI_NUMERICHOST,)))
    check_same(loop, everything(["localhost"], [80], families=(0, socket.AF_INET), flags=(0,)))
    assert loop._default_executor is not None


def test_it_is_a_coroutine_that_does_nothing_before_it_is_awaited(loop):
    question = loop.getaddrinfo("127.0.0.1", -(2**70))
    assert asyncio.iscoroutine(question)
    question.close()
