"""`loop.sock_recv()` and its like: asyncio's answers, at once or after a wait, on every kind of socket."""

import array
import asyncio
import contextlib
import errno
import gc
import inspect
import os
import socket
import ssl
import sys
import weakref

import pytest
import velodrome
from differential.compare import check_same, one_turn, outcome, plain, turns
from differential.worlds import either_loop  # noqa: F401

pytestmark = pytest.mark.timeout(60)

CALLS = {
    "sock_recv": (b"", [10]),
    "sock_recv_into": (b"", [bytearray(10)]),
    "sock_recvfrom": (b"", [10]),
    "sock_recvfrom_into": (b"", [bytearray(10)]),
}


class Subclass(socket.socket):
    """Overrides nothing."""


class Counting(socket.socket):
    """Notes what is called."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.calls = []

    def recv(self, *args):
        self.calls.append(("recv", *args))
        return super().recv(*args)

    def recv_into(self, buffer, *args):
        self.calls.append(("recv_into", len(buffer), *args))
        return super().recv_into(buffer, *args)

    def recvfrom(self, *args):
        self.calls.append(("recvfrom", *args))
        return super().recvfrom(*args)

    def recvfrom_into(self, buffer, *args):
        self.calls.append(("recvfrom_into", len(buffer), *args))
        return super().recvfrom_into(buffer, *args)

    def send(self, data, *args):
        self.calls.append(("send", len(data), *args))
        return super().send(data, *args)

    def sendto(self, data, *args):
        self.calls.append(("sendto", len(data), *args[:-1]))
        return super().sendto(data, *args)


class Wrapped:
    """No socket, but something that behaves like one."""

    def __init__(self, sock):
        self.sock = sock

    def __getattr__(self, name):
        return getattr(self.sock, name)

    def __repr__(self):
        return "<wrapped>"


def pair(kind=socket.socket, type=socket.SOCK_STREAM):
    """Two connected sockets that do not block, the first of this class."""
    one, other = socket.socketpair(socket.AF_UNIX, type)
    one.setblocking(False)
    other.setblocking(False)
    if kind is Wrapped:
        return Wrapped(one), other
    if kind is not socket.socket:
        one = kind(one.family, one.type, one.proto, one.detach())
        one.setblocking(False)
    return one, other


def bound(family=socket.AF_INET, type=socket.SOCK_DGRAM, kind=socket.socket):
    sock = kind(family, type)
    sock.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
    sock.setblocking(False)
    return sock


KINDS = [socket.socket, Subclass, Counting, Wrapped]
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def fill(sock):
    """Write until the kernel takes no more; return how much it took."""
    total = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            total += sock.send(b"x" * 65536)
    return total


def scrubbed(value):
    return plain(repr(value))


# -- Results ---------------------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("waits", [False, True], ids=["at once", "after a wait"])
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("sent", [b"five!", b"more than ten bytes", b""], ids=len)
def test_what_is_received(kind, name, waits, sent):
    def program(loop):
        one, other = pair(kind)
        target = bytearray(10)
        argument = 10 if name in ("sock_recv", "sock_recvfrom") else target
        with one.sock if kind is Wrapped else one:
            send = other.send if sent else lambda _: other.close()
            if not waits:
                send(sent)
            task = loop.create_task(getattr(loop, name)(one, argument))
            one_turn(loop)
            if waits:
                assert not task.done()
                send(sent)
            other.close()
            result = loop.run_until_complete(task)
            return result, bytes(target), getattr(one, "calls", None)

    check_same(program)


@kinds
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("waits", [False, True], ids=["at once", "after a wait"])
def test_datagrams_and_their_senders(kind, family, waits):
    def program(loop):
        inner = bound(family, kind=kind if isinstance(kind, type) and kind is not Wrapped else socket.socket)
        other = bound(family)
        one = Wrapped(inner) if kind is Wrapped else inner
        address = inner.getsockname()
        said = []
        with inner, other:
            for size in (0, 1, 20):
                for target in (None, bytearray(8)):
                    for most in (0, 4, 8) if target is not None else (1, 10, 70000):
                        if target is None:
                            call = loop.sock_recvfrom(one, most)
                        else:
                            call = loop.sock_recvfrom_into(one, target, most)
                        if not waits:
                            other.sendto(b"y" * size, address)
                        task = loop.create_task(call)
                        one_turn(loop)
                        if waits:
                            assert not task.done()
                            count = loop.run_until_complete(loop.sock_sendto(other, b"y" * size, address))
                            assert count == size
                        data, sender = loop.run_until_complete(task)
                        assert sender == other.getsockname()
                        said.append((data, target and bytes(target), len(sender)))
            said.append(getattr(one, "calls", None))
        return said

    check_same(program)


@kinds
@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, array.array], ids=lambda make: make.__name__)
@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_what_is_sent(kind, make, size):
    content = os.urandom(1000) * (size // 1000) + b"z" * (size % 1000)

    def program(loop):
        one, other = pair(kind)
        data = array.array("B", content) if make is array.array else make(content)

        async def receive():
            received = bytearray()
            while len(received) < size:
                received += await loop.sock_recv(other, 65536)
            return bytes(received)

        async def both():
            return await asyncio.gather(loop.sock_sendall(one, data), receive())

        with one.sock if kind is Wrapped else one, other:
            nothing, received = loop.run_until_complete(both())
            return nothing, received == content

    assert check_same(program) == ("returned", (None, True))


def test_accepting_and_connecting(either_loop):  # noqa: F811
    loop = either_loop

    async def main():
        with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
            server.setblocking(False)
            client.setblocking(False)
            accepting = loop.create_task(loop.sock_accept(server))
            await asyncio.sleep(0)
            assert await loop.sock_connect(client, server.getsockname()) is None
            connection, address = await accepting
            with connection:
                assert address == client.getsockname()
                assert connection.gettimeout() == 0
                assert type(connection) is socket.socket
                await loop.sock_sendall(client, b"hello")
                assert await loop.sock_recv(connection, 10) == b"hello"

    loop.run_until_complete(main())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_refused_connection(host):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

        def program(loop):
            with socket.socket() as client:
                client.setblocking(False)
                loop.run_until_complete(loop.sock_connect(client, (host, port)))

        kind, text = check_same(program)
        assert kind == "ConnectionRefusedError" and "Connect call failed" in text


def test_connecting_a_unix_socket(tmp_path):
    path = str(tmp_path / "socket")

    def program(loop):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            refused = outcome(lambda: loop.run_until_complete(loop.sock_connect(client, path)))
            server.bind(path)
            server.listen()
            return refused, loop.run_until_complete(loop.sock_connect(client, path))

    check_same(program)


# -- Refusals --------------------------------------------------------------------------------------------

BAD = {
    "sock_recv": [("n",), (-1,), (None,), (1.5,), (0,), (2**70,)],
    "sock_recv_into": [(b"bytes",), (5,), (memoryview(b"read-only"),), (bytearray(),)],
    "sock_recvfrom": [("n",), (-1,)],
    "sock_recvfrom_into": [(b"bytes",), (5,), (bytearray(5), 6), (bytearray(5), -1), (bytearray(5), "n")],
    "sock_sendall": [("text",), (5,), (None,), (memoryview(b"123456")[::2],)],
    "sock_sendto": [
        ("text", ("127.0.0.1", 1)),
        (b"", None),
        (b"", ("127.0.0.1", 70000)),
        (b"", ("127.0.0.1", -1)),
        (b"", ("127.0.0.1",)),
        (b"", ("::1", 1)),
        (b"", 5),
    ],
    "sock_connect": [(None,), (5,), (("127.0.0.1", 70000),), (("127.0.0.1",),)],
    "sock_accept": [()],
}


@kinds
@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("state", ["open", "closed", "blocking", "timeout"])
@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_refused_as_by_asyncio(kind, name, state, debug):
    blocks = state in ("blocking", "timeout")
    if blocks and not debug and name == "sock_accept":
        arguments = []  # which waits for a time, or for ever, on asyncio's loop
    else:
        arguments = BAD[name]

    def program(loop):
        loop.set_debug(debug)
        said = []
        for given in arguments:
            inner = bound(kind=kind if kind is not Wrapped else socket.socket)
            sock = Wrapped(inner) if kind is Wrapped else inner
            with inner:
                if state == "closed":
                    inner.close()
                elif blocks:
                    inner.settimeout(None if state == "blocking" else 0.01)
                if blocks and not debug and given == (0,):
                    continue  # it would wait
                call = getattr(loop, name)(sock, *given)
                said.append(outcome(lambda call=call: loop.run_until_complete(asyncio.wait_for(call, 5))))
        return said

    check_same(program)


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_socket_is_refused(name):
    def program(loop):
        rest = {"sock_sendto": (b"", ("127.0.0.1", 1)), "sock_accept": ()}.get(name, (bytearray(1),))
        said = []
        for debug in (False, True):
            loop.set_debug(debug)
            for thing in (None, 5, "socket"):
                call = getattr(loop, name)(thing, *rest)
                said.append(outcome(lambda call=call: loop.run_until_complete(call)))
        return said

    check_same(program)


@pytest.mark.parametrize("name", BAD)
def test_a_tls_socket_is_refused(name):
    context = ssl.create_default_context()

    def program(loop):
        rest = {"sock_sendto": (b"", ("127.0.0.1", 1)), "sock_accept": ()}.get(name, (bytearray(1),))
        with context.wrap_socket(socket.socket(), server_hostname="name") as sock:
            loop.run_until_complete(getattr(loop, name)(sock, *rest))

    assert check_same(program) == ("TypeError", "Socket cannot be of type SSLSocket")


@pytest.mark.parametrize("name", [*CALLS, "sock_sendall"])
def test_the_descriptor_of_a_transport_is_refused(name):
    def program(loop):
        one, other = pair()

        async def main():
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=one)
            if name == "sock_sendall":
                fill(one)
            argument = 5 if name in ("sock_recv", "sock_recvfrom") else bytearray(5)
            try:
                await getattr(loop, name)(one, argument)
            except RuntimeError as error:
                return plain(str(error)).split("<")[0]
            finally:
                transport.abort()
                await asyncio.sleep(0.01)

        with one, other:
            return loop.run_until_complete(main())

    outcome = check_same(program)
    assert outcome[1].endswith("is used by transport ")


def test_a_closed_loop_is_told_when_it_would_have_to_wait():
    def program(loop):
        one, other = pair()
        with one, other:
            call = loop.sock_recv(one, 5)
            loop.close()
            call.send(None)

    assert check_same(program) == ("RuntimeError", "Event loop is closed")


def test_nothing_happens_before_it_is_awaited(either_loop):  # noqa: F811
    one, other = pair()
    with one, other:
        other.send(b"data")
        call = either_loop.sock_recv(one, 5)
        call.close()
        assert either_loop.run_until_complete(either_loop.sock_recv(one, 5)) == b"data"


def test_parameters_have_asyncios_names(loop):
    for name in BAD:
        theirs = inspect.signature(getattr(asyncio.SelectorEventLoop, name))
        ours = inspect.signature(getattr(velodrome.Loop, name))
        assert list(ours.parameters) == list(theirs.parameters)
        assert [p.default for p in ours.parameters.values()] == [
            p.default for p in theirs.parameters.values()
        ]
    one, other = pair()
    with one, other:
        loop.run_until_complete(loop.sock_sendall(data=b"1", sock=other))
        assert loop.run_until_complete(loop.sock_recv(n=5, sock=one)) == b"1"


def test_audit_hooks_hear_of_datagrams(run_python):
    done = run_python(
        """
        import asyncio, socket, sys, velodrome
        heard = []
        sys.addaudithook(lambda event, args: event == "socket.sendto" and heard.append(args[1:]))
        for new in asyncio.SelectorEventLoop, velodrome.new_event_loop:
            loop = new()
            with socket.socket(type=socket.SOCK_DGRAM) as sock:
                sock.bind(("127.0.0.1", 0))
                sock.setblocking(False)
                loop.run_until_complete(loop.sock_sendto(sock, b"", sock.getsockname()))
                heard[-1] = heard[-1] == (sock.getsockname(),)
            loop.close()
        print(heard)
        """.replace("\n        ", "\n")
    )
    assert done.stdout == "[True, True]\n"


# -- Waiting ---------------------------------------------------------------------------------------------


def test_the_task_shows_what_it_waits_for(either_loop):  # noqa: F811
    loop = either_loop
    one, other = pair()

    async def main():
        return await loop.sock_recv(one, 5)

    with one, other:
        task = loop.create_task(main())
        one_turn(loop)
        future = task._fut_waiter
        assert asyncio.isfuture(future) and not future.done()
        future.set_result(b"from elsewhere")
        assert loop.run_until_complete(task) == b"from elsewhere"
        one_turn(loop)
        assert not loop.remove_reader(one)


@kinds
@pytest.mark.parametrize("name", [*CALLS, "sock_sendall", "sock_accept"])
def test_a_cancelled_wait_takes_nothing_and_watches_nothing(either_loop, kind, name):  # noqa: F811
    loop = either_loop
    if name == "sock_accept":
        inner, other = socket.create_server(("127.0.0.1", 0)), socket.socket()
        inner.setblocking(False)
        sock = inner
    else:
        sock, other = pair(kind)
        inner = sock.sock if kind is Wrapped else sock
    with inner, other:
        arguments = {"sock_recv": (5,), "sock_recvfrom": (5,), "sock_accept": ()}.get(name, (bytearray(5),))
        if name == "sock_sendall":
            fill(inner)
        task = loop.create_task(getattr(loop, name)(sock, *arguments))
        turns(loop, 2)
        assert not task.done()
        task.cancel()
        turns(loop, 2)
        assert task.cancelled()
        assert not loop.remove_reader(inner)
        assert not loop.remove_writer(inner)
        if name in CALLS:
            other.send(b"data")
            turns(loop, 2)
            assert inner.recv(5) == b"data"


@pytest.mark.parametrize("direction", ["reader", "writer"])
def test_a_later_call_takes_the_place_of_an_earlier_one(direction):
    """Of two on the same socket, the first never ends, also when the second is over."""

    def program(loop):
        one, other = pair()
        with one, other:
            if direction == "writer":
                fill(one)

            def call():
                return loop.sock_recv(one, 5) if direction == "reader" else loop.sock_sendall(one, b"data")

            def go():
                return other.send(b"12") if direction == "reader" else other.recv(1 << 20)

            first, second = loop.create_task(call()), loop.create_task(call())
            turns(loop, 2)
            go()
            turns(loop, 3)
            said = [first.done(), second.done() and second.result()]
            third = loop.create_task(call())
            turns(loop, 2)
            first.cancel()
            turns(loop, 2)
            if direction == "reader":
                go()
            turns(loop, 3)
            return [*said, first.cancelled(), third.result()]

    check_same(program)


@pytest.mark.parametrize("way", ["add", "remove", "remove twice"])
def test_readers_of_the_program_take_the_place_of_a_call(way):
    def program(loop):
        one, other = pair()
        with one, other:
            task = loop.create_task(loop.sock_recv(one, 5))
            turns(loop, 2)
            said = []
            if way == "add":
                loop.add_reader(one, lambda: said.append(one.recv(5)))
            else:
                said.append(loop.remove_reader(one))
            if way == "remove twice":
                said.append(loop.remove_reader(one))
            other.send(b"data")
            turns(loop, 3)
            said.append(task.done())
            task.cancel()
            turns(loop, 3)
            other.send(b"more")
            turns(loop, 3)
            said.append(loop.remove_reader(one))
            return said

    check_same(program)


def test_a_call_takes_the_place_of_a_reader():
    def program(loop):
        one, other = pair()
        said = []
        with one, other:
            loop.add_reader(one, said.append, "reader")
            task = loop.create_task(loop.sock_recv(one, 5))
            turns(loop, 2)
            other.send(b"data")
            turns(loop, 4)
            said.append(task.result())
            said.append(loop.remove_reader(one))
            return said

    check_same(program)


def test_what_is_watched_after_a_call_is_the_programs_own(loop):
    """When a call ends its registration rests for an iteration; whatever happens then finds none of it."""
    one, other = pair()
    third, fourth = pair()
    seen = []

    async def main(act):
        data = await loop.sock_recv(one, 5)
        act()
        return data

    def replace():
        os.dup2(third.fileno(), one.fileno())
        loop.add_reader(one, lambda: seen.append(one.recv(5)))

    with one, other, third, fourth:
        task = loop.create_task(main(lambda: seen.append(loop.remove_reader(one))))
        turns(loop, 2)
        other.send(b"data")
        turns(loop, 2)
        assert task.result() == b"data" and seen == [False]

        task = loop.create_task(main(replace))
        turns(loop, 2)
        other.send(b"data")
        turns(loop, 2)
        assert task.result() == b"data"
        fourth.send(b"new")
        turns(loop, 2)
        assert seen == [False, b"new"]
        assert loop.remove_reader(one)


def test_another_file_of_the_same_number_is_waited_for(loop):
    """The next call renews the registration of the last one: for the file that is there now."""
    one, other = pair()
    third, fourth = pair()

    async def main():
        first = await loop.sock_recv(one, 5)
        os.dup2(third.fileno(), one.fileno())
        return first, await loop.sock_recv(one, 5)

    with one, other, third, fourth:
        task = loop.create_task(main())
        turns(loop, 2)
        other.send(b"old")
        turns(loop, 3)
        fourth.send(b"new")
        assert loop.run_until_complete(asyncio.wait_for(task, 10)) == (b"old", b"new")


def test_a_socket_that_is_closed_meanwhile_harms_nobody(either_loop):  # noqa: F811
    """The call waits until it is cancelled; whoever has the number then is served, and stays registered."""
    loop = either_loop
    one, other = pair()
    number = one.fileno()
    task = loop.create_task(loop.sock_recv(one, 5))
    turns(loop, 2)
    one.close()
    other.close()
    third, fourth = pair()
    with third, fourth:
        assert number in (third.fileno(), fourth.fileno())
        mine, peer = (third, fourth) if third.fileno() == number else (fourth, third)
        if isinstance(loop, velodrome.Loop):
            # On asyncio's loop the number is still taken for watched, and nothing is ever heard of it.
            stranger = loop.create_task(loop.sock_recv(mine, 5))
            turns(loop, 2)
            task.cancel()
            turns(loop, 2)
            assert task.cancelled() and not stranger.done()
            peer.send(b"data")
            assert loop.run_until_complete(asyncio.wait_for(stranger, 10)) == b"data"
        else:
            task.cancel()
            turns(loop, 2)


def test_a_call_that_is_over_keeps_nothing(loop):
    one, other = pair()

    class Buffer(bytearray):
        pass

    async def main():
        other.send(b"data")
        buffer = Buffer(5)
        watched = weakref.ref(buffer)
        await loop.sock_recv_into(one, buffer)
        waiting = asyncio.ensure_future(loop.sock_recv_into(one, buffer))
        await asyncio.sleep(0)
        other.send(b"data")
        await waiting
        del buffer, waiting
        gc.collect()
        return watched()

    with one, other:
        assert loop.run_until_complete(main()) is None


def test_an_abandoned_wait_is_ended(loop):
    """As its coroutine is when nobody holds it: nothing is watched then, and nothing received."""
    one, other = pair()

    async def main():
        await loop.sock_recv(one, 5)

    with one, other:
        coroutine = main()
        coroutine.send(None)
        coroutine.close()
        assert not loop.remove_reader(one)
        other.send(b"data")
        turns(loop, 2)
        assert one.recv(5) == b"data"


def test_a_call_keeps_its_place_while_attempts_come_too_early(loop):
    """Somebody else may take what has come, before the call does."""
    one, other = pair()
    with one, other:
        task = loop.create_task(loop.sock_recv(one, 5))
        turns(loop, 2)
        other.send(b"data")
        loop.call_soon(one.recv, 5)
        one_turn(loop)
        turns(loop, 3)
        assert not task.done()
        other.send(b"more")
        assert loop.run_until_complete(task) == b"more"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_stops_the_loop_goes_out_of_it(stop):
    class Stopping(Subclass):
        ready = False

        def recv(self, count):
            if self.ready:
                raise stop("now")
            return super().recv(count)

    def program(loop):
        one, other = pair(Stopping)
        with one, other:
            task = loop.create_task(loop.sock_recv(one, 5))
            turns(loop, 2)
            one.ready = True
            other.send(b"data")
            said = outcome(turns, loop, 3)
            one.ready = False
            said = said, task.done()
            return said, loop.run_until_complete(task)

    check_same(program)


def test_other_exceptions_are_the_calls(loop):
    class Failing(Subclass):
        error = BlockingIOError

        def send(self, data):
            raise self.error("message")

    def program(loop):
        one, other = pair(Failing)
        with one, other:
            task = loop.create_task(loop.sock_sendall(one, b"data"))
            turns(loop, 2)
            one.error = ZeroDivisionError
            return loop.run_until_complete(task)

    assert check_same(program) == ("ZeroDivisionError", "message")


def test_a_resized_buffer_is_refused_while_it_is_sent():
    def program(loop):
        one, other = pair()
        data = bytearray(3_000_000)
        with one, other:
            task = loop.create_task(loop.sock_sendall(one, data))
            turns(loop, 2)
            said = outcome(data.clear)
            task.cancel()
            turns(loop, 2)
            del task
            data.clear()
            return said

    assert check_same(program)[1][0] == "BufferError"


def test_the_slow_callback_is_named(loop):
    loop.set_debug(True)
    loop.slow_callback_duration = 0
    one, other = pair()
    with one, other:
        task = loop.create_task(loop.sock_recv(one, 5))
        turns(loop, 2)
        other.send(b"data")
        loop.call_soon(lambda: None)
        assert loop.run_until_complete(task) == b"data"


@pytest.mark.skipif(sys.platform != "linux", reason="counts by /proc")
def test_many_turns_leave_nothing_open(loop):
    async def main():
        for _ in range(200):
            one, other = pair()
            with one, other:
                task = loop.create_task(loop.sock_recv(one, 5))
                await asyncio.sleep(0)
                other.send(b"data")
                await task

    before = os.listdir("/proc/self/fd")
    loop.run_until_complete(main())
    assert os.listdir("/proc/self/fd") == before
    assert errno.EAGAIN
