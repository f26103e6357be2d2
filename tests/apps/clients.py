"""Clients of an HTTP server: patient ones, many at a time, and those that a server must bear with.

They run on asyncio's own loop or in plain threads: what is tested here is the server.
"""

import asyncio
import contextlib
import itertools
import json
import re
import socket
import struct
import time

GET = b"GET %s HTTP/1.1\r\nHost: here\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n%s"
#: All bytes, so that one that is lost or doubled shows.
BODY = bytes(range(256)) * 40


def parse(answer):
    """Return the status and the body of an answer, or None if it is not complete."""
    head, found, rest = answer.partition(b"\r\n\r\n")
    if not found:
        return None
    status = int(re.match(rb"HTTP/1\.1 (\d+) ", head)[1])
    if length := re.search(rb"^content-length: *(\d+)", head, re.IGNORECASE | re.MULTILINE):
        body = rest[: int(length[1])]
        return (status, body) if len(body) == int(length[1]) else None
    body = b""
    while True:  # in chunks
        size, found, rest = rest.partition(b"\r\n")
        if not found or len(rest) < int(size, 16) + 2:
            return None
        if int(size, 16) == 0:
            return status, body
        body += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]


def ask(address, request):
    """Send a request over a connection of its own; return the status and the body of the answer."""
    with socket.create_connection(address, timeout=30) as client:
        client.sendall(request)
        return receive(client)


def receive(client, at_once=65536):
    answer = b""
    while True:
        data = client.recv(at_once)
        assert data, answer
        answer += data
        # Parsing anew for each of many small pieces would take long.
        if (len(data) < at_once or at_once == 1) and (parsed := parse(answer)):
            return parsed


def wait_until_served(address):
    """Wait until a server whose workers are still to listen answers."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return ask(address, GET % b"/")
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "nobody listens"
            time.sleep(0.05)


def how_many_open(address):
    status, body = ask(address, GET % b"/open")
    assert status == 200
    return json.loads(body)


def wait_until_open(address, expected):
    """Wait until the server has no more open than this: it learns of lost connections when it learns."""
    for _ in range(1000):
        found = how_many_open(address)
        if all(found[what] <= expected[what] for what in expected):
            return
        time.sleep(0.01)
    raise AssertionError(f"open: {found}, before: {expected}")


def crowd(address, clients, requests):
    """Have many clients make requests at the same time, each one after the other on one connection."""

    async def client(number):
        reader, writer = await asyncio.open_connection(*address)
        kinds = itertools.cycle([GET % b"/", GET % b"/slow", POST % (len(BODY) - number, BODY[number:])])
        for request in itertools.islice(kinds, number, number + requests):
            writer.write(request)
            answer = b""
            while (parsed := parse(answer)) is None:
                data = await reader.read(65536)
                assert data, answer
                answer += data
            assert parsed[0] == 200
            expected = BODY[number:] if b"echo" in request else b"slow" if b"slow" in request else b"hello"
            assert parsed[1] == expected
        writer.close()
        await writer.wait_closed()

    async def main():
        await asyncio.gather(*[client(number) for number in range(clients)])

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(main())


def reset(client):
    """Close a socket the hard way: the other end gets ECONNRESET."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@contextlib.contextmanager
def stalled(address, count):
    """Have clients that send a part of a request, or read none of an answer, for as long as this lasts."""
    clients = []
    try:
        for number in range(count):
            clients.append(client := socket.create_connection(address, timeout=30))
            if number % 3 == 0:
                client.sendall((GET % b"/")[: number % 20])
            elif number % 3 == 1:
                client.sendall((POST % (len(BODY), BODY))[: -1 - number])
            else:
                client.sendall(GET % b"/large")
        yield
    finally:
        for client in clients:
            client.close()


def resets(address, count):
    """Reset connections in every state that a connection can be in."""
    for number in range(count):
        client = socket.create_connection(address, timeout=30)
        match number % 6:
            case 0:
                pass
            case 1:
                client.sendall((GET % b"/")[: 5 + number % 20])
            case 2:
                client.sendall((POST % (len(BODY), BODY))[: -1 - number])
            case 3:
                client.sendall(GET % b"/slow")
            case 4:
                client.sendall(GET % b"/large")
                assert client.recv(10)
            case 5:
                client.sendall(GET % b"/" * 50)
        reset(client)


def byte_at_a_time(address, request, expected):
    """Send a request a byte at a time, and read the answer in the same way."""
    with socket.create_connection(address, timeout=30) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request:
            client.send(bytes([byte]))
        assert receive(client, at_once=1) == (200, expected)
