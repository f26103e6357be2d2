"""The servers in examples/ do what they say: real processes, and clients that know only the protocol."""

import contextlib
import http.client
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@contextlib.contextmanager
def running(name):
    """Run an example on a free port, give its address, end it with Ctrl-C; nothing must be on stderr."""
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", EXAMPLES / name, "--port", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            line = process.stdout.readline()
            found = re.fullmatch(r"(?:chatting|listening) on (\S+) port (\d+)\n", line)
            assert found, (line, process.poll())
            yield found[1], int(found[2])
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=20)
            assert (process.returncode, stderr) == (0, "")
        finally:
            process.kill()


@pytest.mark.parametrize("name", ["chat.py", "http_service.py"])
def test_help_tells_what_it_is(name):
    command = [sys.executable, EXAMPLES / name, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    assert f"python examples/{name}" in done.stdout
    assert "--host" in done.stdout and "--port" in done.stdout


# -- chat.py


class Guest:
    """Somebody in the room: a socket that speaks in lines."""

    def __init__(self, address, name):
        self.socket = socket.create_connection(address, timeout=20)
        self.lines = self.socket.makefile("rb")
        assert self.hear() == "What is your name?"
        self.say(name)

    def say(self, line):
        self.socket.sendall(line.encode() + b"\n")

    def hear(self):
        return self.lines.readline().decode().rstrip("\n")

    def leave(self):
        self.lines.close()
        self.socket.close()


def test_chat_passes_every_line_to_everybody_else():
    with running("chat.py") as address:
        ann = Guest(address, "ann")
        assert ann.hear() == "Welcome, ann. Here: ann."
        bob = Guest(address, "ann")
        assert bob.hear().startswith("Letters and digits, please")
        bob.say("bob")
        assert bob.hear() == "Welcome, bob. Here: ann, bob."
        assert ann.hear() == "* bob has come in"
        eve = Guest(address, "eve")
        assert eve.hear() == "Welcome, eve. Here: ann, bob, eve."
        assert ann.hear() == bob.hear() == "* eve has come in"
        ann.say("hello, this is ann")
        assert bob.hear() == eve.hear() == "ann: hello, this is ann"
        bob.say("hello, ann, grüß dich")
        assert ann.hear() == eve.hear() == "bob: hello, ann, grüß dich"
        eve.leave()
        assert ann.hear() == bob.hear() == "* eve has left"
        ann.leave()
        assert bob.hear() == "* ann has left"
        # bob is still there when the server ends, and is hung up on.


def test_chat_lets_go_of_who_floods_it_and_of_who_does_not_listen():
    with running("chat.py") as address:
        ann = Guest(address, "ann")
        assert ann.hear().startswith("Welcome")
        deaf = Guest(address, "deaf")
        assert ann.hear() == "* deaf has come in"
        flood = Guest(address, "flood")
        assert ann.hear() == "* flood has come in"
        with contextlib.suppress(ConnectionError):
            flood.say("x" * 200_000)  # a line longer than asyncio's limit
        assert ann.hear() == "* flood has left"
        # Everybody listens but one, who is gone once the kernel's buffers and the room's patience are full.
        bob = Guest(address, "bob")
        assert ann.hear() == "* bob has come in"
        heard = []
        while "* deaf has left" not in heard[-2:]:
            bob.say("x" * 60_000)
            heard.append(ann.hear())
            assert len(heard) < 1000
        for guest in ann, deaf, flood, bob:
            guest.leave()


# -- http_service.py


def ask(connection, method, path, body=None):
    connection.request(method, path, body)
    response = connection.getresponse()
    return response.status, response.read()


def test_service_keeps_notes_over_one_connection():
    with running("http_service.py") as address:
        with contextlib.closing(http.client.HTTPConnection(*address, timeout=20)) as connection:
            assert ask(connection, "GET", "/milk") == (404, b"")
            assert ask(connection, "PUT", "/milk", b"two bottles") == (201, b"")
            assert ask(connection, "PUT", "/bread", b"x" * 1_000_000) == (201, b"")
            assert ask(connection, "PUT", "/milk", b"one bottle") == (204, b"")
            first = connection.sock
            assert ask(connection, "GET", "/milk") == (200, b"one bottle")
            assert ask(connection, "GET", "/bread") == (200, b"x" * 1_000_000)
            assert ask(connection, "GET", "/") == (200, b"bread\nmilk\n")
            assert ask(connection, "DELETE", "/milk") == (204, b"")
            assert ask(connection, "GET", "/milk") == (404, b"")
            assert ask(connection, "POST", "/") == (405, b"")
            assert connection.sock is first


def exchange(address, request):
    """Send bytes, and nothing after them; return all that comes back."""
    with socket.create_connection(address, timeout=20) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))


def statuses(answers):
    return [int(status) for status in re.findall(rb"^HTTP/1.1 (\d+) ", answers, re.MULTILINE)]


def test_service_answers_requests_that_were_sent_ahead_and_in_pieces():
    with running("http_service.py") as address:
        put = b"PUT /a HTTP/1.1\r\nContent-Length: 4\r\n\r\nabc\n"
        get = b"GET /a HTTP/1.1\r\n\r\n"
        last = b"GET /a HTTP/1.1\r\nConnection: close\r\n\r\n"
        answers = exchange(address, put + get * 100 + last + get)
        assert statuses(answers) == [201] + [200] * 101
        with socket.create_connection(address, timeout=20) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in put + last:
                client.send(bytes([byte]))
            assert statuses(b"".join(iter(lambda: client.recv(65536), b""))) == [204, 200]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"PUT /a HTTP/1.1\r\nContent-Length: many\r\n\r\n", 400),
        (b"PUT /a HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"PUT /a HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n", 413),
        (b"PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000, 431),
    ],
    ids=lambda value: value[:40].decode() if isinstance(value, bytes) else value,
)
def test_service_refuses_what_it_does_not_understand(service, request_, status):
    with socket.create_connection(service, timeout=20) as client:
        client.sendall(request_)
        assert statuses(b"".join(iter(lambda: client.recv(65536), b""))) == [status]


@pytest.fixture(scope="module")
def service():
    with running("http_service.py") as address:
        yield address


def test_service_does_not_answer_into_the_void():
    """Many requests for a large note, unread: the service stops reading them, and goes on when it can."""
    with running("http_service.py") as address, socket.create_connection(address, timeout=20) as client:
        size, count = 1_000_000, 50
        client.sendall(b"PUT /a HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size + b"x" * (size - 1) + b"\n")
        client.sendall(b"GET /a HTTP/1.1\r\n\r\n" * count)
        client.shutdown(socket.SHUT_WR)
        # Another client is served meanwhile.
        assert statuses(exchange(address, b"GET / HTTP/1.1\r\n\r\n")) == [200]
        answers = b"".join(iter(lambda: client.recv(1 << 20), b""))
        assert statuses(answers) == [201] + [200] * count
        assert answers.count(b"x") == count * (size - 1)
