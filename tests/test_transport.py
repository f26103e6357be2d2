"""Stream transports do what asyncio's do, call for call, and keep what asyncio promises of them."""

import asyncio
import contextlib
import contextvars
import os
import random
import socket

import pytest
from differential import worlds
from differential.compare import check_same, on_both, one_turn
from differential.transports import Scene, scripts
from hypothesis import HealthCheck, given, settings

either_loop = worlds.either_loop

# The same scripts every time, unless told to look for new ones.
SEARCH = int(os.environ.get("VELODROME_SEARCH", "0"))


@pytest.mark.timeout(1200 if SEARCH else 60)
def test_same_calls_results_and_reports():
    @settings(
        max_examples=SEARCH or 300,
        derandomize=not SEARCH,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(scripts)
    def check(script):
        expected, found = on_both(lambda loop: contextvars.Context().run(Scene(loop, script).play))
        assert found[0] == expected[0] == "returned", (found, expected)
        for number, (ours, theirs) in enumerate(zip(found[1], expected[1], strict=False)):
            assert ours == theirs, ["the same", *expected[1][:number]][-15:]
        assert len(found[1]) == len(expected[1])

    check()


# -- What asyncio promises, said plainly


class Recorder(asyncio.Protocol):
    """Keeps what it is told."""

    def __init__(self):
        self.calls = []
        self.received = b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.received += data
        self.calls.append("data_received")

    def eof_received(self):
        self.calls.append("eof_received")

    def connection_lost(self, error):
        self.calls.append("connection_lost")

    def pause_writing(self):
        self.calls.append("pause_writing")

    def resume_writing(self):
        self.calls.append("resume_writing")


#: More than a kernel takes at once: TCP begins with buffers of 4 MiB where much was sent before.
MUCH = 20_000_000


@pytest.fixture(params=["unix", "tcp"])
def pair(request):
    """Two connected sockets: one for the loop, and the peer's, which blocks."""
    if request.param == "unix":
        ours, theirs = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as server:
            ours = socket.create_connection(server.getsockname())
            theirs = server.accept()[0]
    theirs.settimeout(20)
    with ours, theirs:
        yield ours, theirs


def connect(loop, sock, factory=Recorder):
    return loop.run_until_complete(loop.create_connection(factory, sock=sock))


def wait(loop, condition):
    async def main():
        while not condition():
            await asyncio.sleep(0)

    loop.run_until_complete(asyncio.wait_for(main(), 30))


def available(sock):
    """Return what a socket has right now."""
    timeout = sock.gettimeout()
    sock.setblocking(False)
    try:
        return sock.recv(1 << 20)
    except BlockingIOError:
        return b""
    finally:
        sock.settimeout(timeout)


def receive(sock, count):
    """Receive so many bytes while nobody runs the loop."""
    received = b""
    while len(received) < count:
        received += sock.recv(count - len(received))
    return received


def test_transport_is_one_of_asyncio(either_loop, pair):
    transport, _ = connect(either_loop, pair[0])
    assert isinstance(transport, asyncio.Transport)
    assert issubclass(type(transport), asyncio.ReadTransport)
    assert isinstance(transport.get_extra_info("socket"), asyncio.trsock.TransportSocket)
    assert transport._start_tls_compatible is True
    assert transport._protocol_paused is False
    transport.abort()


def test_write_reaches_the_peer_before_the_loop_runs_again(either_loop, pair):
    """A blocking recv() in the same thread would wait for ever otherwise."""
    transport, _ = connect(either_loop, pair[0])
    for data in b"hello", bytearray(b"hello"), memoryview(b"hello"):
        transport.write(data)
        assert receive(pair[1], 5) == b"hello"
    transport.writelines([b"hel", b"lo"])
    assert receive(pair[1], 5) == b"hello"
    transport.close()


@pytest.mark.parametrize("lines", [False, True], ids=["write", "writelines"])
def test_buffer_that_is_changed_after_write_changes_nothing(loop, pair, lines):
    """Nor is it held on to. (Some versions of asyncio keep a view of what they are given.)"""
    transport, _ = connect(loop, pair[0])
    size = MUCH
    data = bytearray(b"a") * size
    transport.writelines([data]) if lines else transport.write(data)
    assert transport.get_write_buffer_size() > 0
    data[:] = b"b" * size
    data.clear()
    received = bytearray()
    wait(loop, lambda: received.extend(available(pair[1])) or len(received) >= size)
    assert received == b"a" * size
    transport.close()


def test_pausing_inside_data_received_holds_at_once(either_loop, pair):
    class Pausing(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()

    transport, protocol = connect(either_loop, pair[0], Pausing)
    for number in range(1, 6):
        pair[1].send(b"x")
        wait(either_loop, lambda: len(protocol.received) == number)
        assert not transport.is_reading()
        pair[1].send(b"x")
        for _ in range(5):
            one_turn(either_loop)
        assert len(protocol.received) == number
        assert receive(pair[0], 1) == b"x"  # it is still in the kernel
        transport.resume_reading()
    transport.abort()


def test_calls_come_in_the_context_in_which_the_connection_was_made(either_loop, pair):
    variable = contextvars.ContextVar("variable", default="unset")
    seen = {}

    class Seeing(asyncio.Protocol):
        def __getattribute__(self, name):
            if not name.startswith("_"):
                seen.setdefault(name, set()).add(variable.get())
            return super().__getattribute__(name)

        def connection_made(self, transport):
            seen["connection_made"] = {variable.get()}

        def data_received(self, data):
            seen["data_received"] = {variable.get()}

        def eof_received(self):
            seen["eof_received"] = {variable.get()}

        def connection_lost(self, error):
            seen["connection_lost"] = {variable.get()}

    async def main():
        variable.set("made")
        await either_loop.create_connection(Seeing, sock=pair[0])

    variable.set("outside")
    either_loop.run_until_complete(main())
    variable.set("later")
    pair[1].send(b"x")
    wait(either_loop, lambda: "data_received" in seen)
    pair[1].shutdown(socket.SHUT_WR)
    wait(either_loop, lambda: "connection_lost" in seen)
    calls = ("connection_made", "data_received", "eof_received", "connection_lost")
    assert {call: seen[call] for call in calls} == dict.fromkeys(calls, {"made"})


@pytest.mark.parametrize("end", ["close", "abort"])
def test_ending_from_resume_writing_ends_once(loop, pair, end):
    """asyncio's own calls connection_lost() and then fails to do so again; velodrome's does it once."""
    reports = []
    loop.set_exception_handler(lambda loop, context: reports.append(context))

    class Ending(Recorder):
        def resume_writing(self):
            super().resume_writing()
            getattr(self.transport, end)()

    transport, protocol = connect(loop, pair[0], Ending)
    transport.write(bytes(MUCH))

    def ended():
        with contextlib.suppress(ConnectionError):
            available(pair[1])
        return "connection_lost" in protocol.calls

    wait(loop, ended)
    for _ in range(5):
        one_turn(loop)
    assert protocol.calls == ["pause_writing", "resume_writing", "connection_lost"]
    assert reports == []


def test_random_traffic_arrives_whole_and_in_order(either_loop, pair):
    """Writes of all sizes and kinds, read in pieces of all sizes, with pauses on both sides."""
    dice = random.Random(2)
    ours, theirs = pair
    theirs.setblocking(False)
    sent, expected, back = bytearray(), bytearray(), bytearray()

    class Pausing(Recorder):
        def data_received(self, data):
            super().data_received(data)
            if dice.random() < 0.3:
                self.transport.pause_reading()
                either_loop.call_soon(self.transport.resume_reading)

    transport, protocol = connect(either_loop, ours, Pausing)

    async def main():
        for _ in range(400):
            size = dice.choice([0, 1, 100, 5_000, 70_000, 300_000])
            data = dice.randbytes(size)
            match dice.randrange(4):
                case 0:
                    transport.write(data)
                case 1:
                    transport.write(bytearray(data))
                case 2:
                    transport.write(memoryview(data)[size // 2 :])
                    data = data[size // 2 :]
                case 3:
                    # Never ending with nothing, which some asyncios take for something yet to be sent.
                    transport.writelines([data[: size // 2], data[size // 2 :] + b"."])
                    data += b"."
            expected.extend(data)
            try:
                piece = dice.randbytes(dice.choice([1, 3_000, 100_000]))
                back.extend(piece[: theirs.send(piece)])
            except BlockingIOError:
                pass
            try:
                sent.extend(theirs.recv(dice.choice([1, 1000, 1_000_000])))
            except BlockingIOError:
                pass
            await asyncio.sleep(0)
        while len(sent) < len(expected) or len(protocol.received) < len(back):
            try:
                sent.extend(theirs.recv(1 << 20))
            except BlockingIOError:
                pass
            await asyncio.sleep(0)

    either_loop.run_until_complete(asyncio.wait_for(main(), 40))
    assert sent == expected
    assert protocol.received == back
    transport.abort()


@pytest.mark.parametrize("size", [0, 1, 100, 1 << 20])
def test_half_closed_connection_is_written_to_its_end(either_loop, pair, size):
    """What was written before write_eof() arrives, then the end; the other direction stays open."""
    transport, protocol = connect(either_loop, pair[0])
    transport.write(bytes(size))
    transport.write_eof()
    assert transport.can_write_eof()
    received = bytearray()
    wait(either_loop, lambda: received.extend(available(pair[1])) or len(received) >= size)
    assert len(received) == size
    assert pair[1].recv(1) == b""
    pair[1].send(b"still there")
    wait(either_loop, lambda: protocol.received == b"still there")
    with pytest.raises(RuntimeError, match="Cannot call write"):
        transport.write(b"x")
    transport.close()
    wait(either_loop, lambda: protocol.calls[-1] == "connection_lost")


def test_same_texts_about_a_transport():
    """What a transport is asked for by name."""

    def program(loop):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            transport, _ = connect(loop, ours)
            texts = [repr(transport).partition(" ")[2]]
            transport.pause_reading()
            texts.append(repr(transport).partition(" ")[2])
            transport.write(bytes(1 << 20))
            texts.append("polling" in repr(transport))
            transport.abort()
            texts.append(repr(transport).partition(" ")[2])
            one_turn(loop)
            one_turn(loop)
            texts.append(repr(transport).partition(" ")[2])
            # Numbers are as they fall.
            return [text if isinstance(text, bool) else text.split(" ")[0] for text in texts]

    check_same(program)
