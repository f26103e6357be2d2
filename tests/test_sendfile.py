"""`loop.sendfile()` and `loop.sock_sendfile()`: what arrives, what is returned, where the file is left."""

import asyncio
import contextlib
import gc
import io
import os
import socket
import tempfile

import pytest
import velodrome
from differential import worlds
from differential.cancellation import Operation, every_point, settle, tokens
from differential.compare import check_same, one_turn, outcome, turns
from tls.sides import client_context, server_context

either_loop = worlds.either_loop

pytestmark = pytest.mark.timeout(120)

#: More than the sockets here take at once.
DATA = bytes(range(256)) * 4096
SMALL = b"0123456789" * 100


@contextlib.contextmanager
def pair():
    """Two connected sockets that do not block and take little at a time."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for sock in ours, theirs:
            sock.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        yield ours, theirs


def file_of(data):
    """A file on the disk, at its beginning."""
    file = tempfile.TemporaryFile()
    file.write(data)
    file.seek(0)
    return file


def drained(sock):
    """What has arrived."""
    found = b""
    with contextlib.suppress(BlockingIOError):
        while data := sock.recv(1 << 20):
            found += data
    return found


def chunks_until(loop, task, theirs, limit=3000):
    """Run turn by turn; return what arrived after each of them, as long as the task is not done."""
    found = []
    for _ in range(limit):
        found.append(drained(theirs))
        if task.done():
            return found
        one_turn(loop)
    raise AssertionError("it is never done")


def in_a_thread(loop, task, theirs):
    """The same for a task that waits for a thread: all that arrived."""
    found = b""

    def more():
        nonlocal found
        found += drained(theirs)
        return task.done()

    assert settle(loop, more)
    return found + drained(theirs)


def result_of(task):
    """What became of a task, with the errors that led to that."""
    if task.cancelled():
        return "cancelled"
    error = task.exception()
    return task.result() if error is None else shown(error)


def shown(error):
    return type(error).__name__, str(error), error.__cause__ and shown(error.__cause__)


# -- What is sent ------------------------------------------------------------------------------------------


class NoNumber(io.BytesIO):
    """A file in memory that counts what is asked of it."""

    def __init__(self, data):
        super().__init__(data)
        self.sought = []

    def seek(self, *where):
        self.sought.append(where)
        return super().seek(*where)


class OnlyReads:
    """The least that can be sent: it cannot be sought in."""

    def __init__(self, data):
        self.readinto = io.BytesIO(data).readinto


def pipe_of(data):
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    return open(reader, "rb", buffering=0)


FILES = {
    "a file": lambda: file_of(DATA),
    "a small file": lambda: file_of(SMALL),
    "an empty file": lambda: file_of(b""),
    "memory": lambda: NoNumber(SMALL),
    "empty memory": lambda: NoNumber(b""),
    "no seek": lambda: OnlyReads(SMALL),
    "a pipe": lambda: pipe_of(SMALL),
    "text": lambda: open(__file__),
    "no file": lambda: None,
    "a closed file": lambda: closed(file_of(SMALL)),
}


def closed(file):
    file.close()
    return file


ARGUMENTS = {
    "all": ((), {}),
    "offset": ((100,), {}),
    "count": ((0, 300), {}),
    "offset and count": ((5, 300), {}),
    "by name": ((), {"offset": 7, "count": 9}),
    "too much": ((0, len(DATA) * 2), {}),
    "much too much": ((0, 1 << 70), {}),
    "from behind the end": ((len(DATA) * 2,), {}),
    "from far behind the end": ((1 << 70,), {}),
    "no fallback": ((), {"fallback": False}),
    "count 0": ((0, 0), {}),
    "count -1": ((0, -1), {}),
    "count 1.0": ((0, 1.0), {}),
    "count True": ((0, True), {}),
    "offset -1": ((-1,), {}),
    "offset None": ((None,), {}),
}


def position_of(file):
    """Where a file is, as far as it can be asked."""
    return outcome(lambda: (file.tell(), getattr(file, "sought", None)))


@pytest.mark.parametrize("arguments", ARGUMENTS)
@pytest.mark.parametrize("kind", FILES)
def test_to_a_socket(kind, arguments):
    positional, named = ARGUMENTS[arguments]

    def program(loop):
        file = FILES[kind]()
        with pair() as (ours, theirs):
            task = loop.create_task(loop.sock_sendfile(ours, file, *positional, **named))
            arrived = in_a_thread(loop, task, theirs)
            return result_of(task), arrived, position_of(file)

    check_same(program)


class Protocol(asyncio.Protocol):
    """Notes what it is told."""

    def __init__(self):
        self.told = []

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.told.append(data)

    def pause_writing(self):
        self.told.append("pause")

    def resume_writing(self):
        self.told.append("resume")

    def connection_lost(self, exc):
        self.told.append(("lost", repr(exc)))


@contextlib.contextmanager
def connection(loop):
    """A transport with its protocol, and the socket at the other end."""
    with pair() as (ours, theirs):
        protocol = Protocol()
        transport = loop._make_socket_transport(ours, protocol)
        turns(loop, 3)
        try:
            yield transport, protocol, theirs
        finally:
            transport.abort()
            turns(loop, 3)


@pytest.mark.parametrize("arguments", ARGUMENTS)
@pytest.mark.parametrize("kind", FILES)
def test_to_a_transport(kind, arguments):
    """Then the transport is as it was: it reads, and can be written to."""
    positional, named = ARGUMENTS[arguments]

    def program(loop):
        file = FILES[kind]()
        with connection(loop) as (transport, protocol, theirs):
            task = loop.create_task(loop.sendfile(transport, file, *positional, **named))
            arrived = in_a_thread(loop, task, theirs)
            transport.write(b"written afterwards")
            theirs.send(b"received afterwards")
            turns(loop, 3)
            left = position_of(file)
            same = transport.get_protocol() is protocol
            return (
                result_of(task),
                arrived,
                left,
                same,
                transport.is_reading(),
                drained(theirs),
                protocol.told,
            )

    check_same(program)


def test_a_chunk_for_each_turn():
    """As much as the socket takes, no more than once in a turn."""

    def program(loop):
        with pair() as (ours, theirs), file_of(DATA) as file:
            task = loop.create_task(loop.sock_sendfile(ours, file, 3))
            chunks = chunks_until(loop, task, theirs)
            assert b"".join(chunks) == DATA[3:]
            return [len(chunk) for chunk in chunks], task.result(), file.tell()

    sizes, *_ = check_same(program)[1]
    assert sum(size > 0 for size in sizes) > 3


def test_a_file_that_becomes_shorter():
    def program(loop):
        with pair() as (ours, theirs), file_of(DATA) as file:
            task = loop.create_task(loop.sock_sendfile(ours, file, 0, len(DATA)))
            turns(loop, 3)
            file.truncate(len(DATA) // 2)
            arrived = b"".join(chunks_until(loop, task, theirs))
            return task.result(), arrived, file.tell()

    assert check_same(program)[1][0] == len(DATA) // 2


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_what_waits_to_be_sent_goes_first(kind):
    """And nothing can be written until the file has gone, unless it is read and written piece by piece."""

    def program(loop):
        file = file_of(SMALL) if kind == "file" else io.BytesIO(SMALL)
        with connection(loop) as (transport, protocol, theirs):
            transport.write(DATA)
            task = loop.create_task(loop.sendfile(transport, file))
            turns(loop, 2)
            writing = outcome(transport.write, b"between")
            lines = outcome(transport.writelines, [b"between"])
            reading = transport.is_reading()
            arrived = in_a_thread(loop, task, theirs)
            return writing, lines, reading, arrived.endswith(SMALL), result_of(task), transport.is_reading()

    check_same(program)


def test_reading_stays_paused():
    def program(loop):
        with connection(loop) as (transport, _protocol, theirs), file_of(SMALL) as file:
            transport.pause_reading()
            task = loop.create_task(loop.sendfile(transport, file))
            chunks_until(loop, task, theirs)
            return result_of(task), transport.is_reading()

    assert check_same(program)[1] == (len(SMALL), False)


@pytest.mark.parametrize("reads", [True, False])
def test_flow_control_of_the_fallback(reads):
    """The protocol is replaced meanwhile, and hears nothing of it."""

    def program(loop):
        with connection(loop) as (transport, protocol, theirs):
            if not reads:
                transport.pause_reading()
            transport.set_write_buffer_limits(1)
            task = loop.create_task(loop.sendfile(transport, io.BytesIO(DATA)))
            one_turn(loop)
            one_turn(loop)
            during = type(transport.get_protocol()).__name__, transport.is_reading()
            arrived = in_a_thread(loop, task, theirs)
            return during, arrived == DATA, result_of(task), protocol.told, transport.is_reading()

    check_same(program)


# -- What is refused ---------------------------------------------------------------------------------------


def test_sockets_that_are_refused():
    """TLS sockets, datagrams, and in debug mode sockets that block; of closed ones the kernel says so."""

    def tls_socket():
        context = client_context()
        return context.wrap_socket(socket.socket(), server_hostname="name", do_handshake_on_connect=False)

    def program(loop):
        results = []
        for debug in (False, True):
            loop.set_debug(debug)
            with (
                file_of(SMALL) as file,
                socket.socket(type=socket.SOCK_DGRAM) as datagrams,
                tls_socket() as tls,
                socket.socket() as unconnected,
            ):
                gone = socket.socket()
                gone.close()
                for sock in datagrams, tls, unconnected, gone, None:
                    if isinstance(sock, socket.socket) and sock is not gone:
                        sock.setblocking(False)
                    for fallback in (False, True):
                        task = loop.create_task(loop.sock_sendfile(sock, file, fallback=fallback))
                        in_a_thread(loop, task, datagrams)
                        results.append((result_of(task), file.tell()))
        with pair() as (ours, _theirs), file_of(SMALL) as file:
            ours.setblocking(True)
            results.append(result_of(awaited(loop, loop.sock_sendfile(ours, file))))
        loop.set_debug(False)
        return results

    check_same(program)


def awaited(loop, coroutine):
    """A task that is over."""
    task = loop.create_task(coroutine)
    assert settle(loop, task.done)
    return task


@pytest.mark.parametrize("fallback", [True, False])
def test_transports_that_are_refused(fallback):
    """Those that close, and those that know nothing of files."""

    class Strange(asyncio.Transport):
        def __repr__(self):
            return "<strange>"

        def is_closing(self):
            return False

    def program(loop):
        results = []
        with file_of(SMALL) as file:
            results.append(result_of(awaited(loop, loop.sendfile(Strange(), file, fallback=fallback))))
            with connection(loop) as (transport, *_):
                transport.close()
                results.append(result_of(awaited(loop, loop.sendfile(transport, file, fallback=fallback))))
            return results, file.tell()

    check_same(program)


@pytest.mark.parametrize("fallback", [True, False])
def test_over_tls(fallback):
    """There the kernel cannot do it: the file is read and encrypted piece by piece."""

    def program(loop):
        async def main():
            served = Protocol()
            server = await loop.create_server(lambda: served, "127.0.0.1", 0, ssl=server_context())
            async with server:
                address = server.sockets[0].getsockname()
                transport, _ = await loop.create_connection(
                    Protocol, *address, ssl=client_context(), server_hostname="localhost"
                )
                try:
                    with file_of(DATA) as file:
                        try:
                            result = await loop.sendfile(transport, file, 10, fallback=fallback)
                        except RuntimeError as error:
                            result = str(error).partition(" for transport ")[0]
                        left = file.tell()
                    transport.write(b"end")
                    while not b"".join(served.told).endswith(b"end"):
                        await asyncio.sleep(0)
                finally:
                    transport.abort()
                    served.transport.abort()
                return result, left, b"".join(served.told) == (DATA[10:] if fallback else b"") + b"end"

        result = loop.run_until_complete(main())
        settle(loop, lambda: len(asyncio.all_tasks(loop)) == 0)
        return result

    found = check_same(program)[1]
    assert found[1:] == (len(DATA) if fallback else 0, True)


def test_a_transport_has_its_socket_to_itself():
    """A program cannot send a file to a transport's socket behind its back, more than fits at once."""

    def program(loop):
        with connection(loop) as (transport, _protocol, theirs), file_of(DATA) as file:
            sock = transport._sock
            task = loop.create_task(loop.sock_sendfile(sock, file))
            chunks_until(loop, task, theirs)
            name, text, cause = result_of(task)
            return name, text.split(" by transport ")[0].rstrip("0123456789"), cause, file.tell()

    assert check_same(program)[1][0] == "RuntimeError"


# -- What goes wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [None, len(DATA)])
@pytest.mark.parametrize("at", [0, 1, 2, 5])
def test_a_peer_that_closes_in_the_middle(at, count):
    """The error says so, and the file is left where the next piece would begin."""

    def program(loop):
        with pair() as (ours, theirs), file_of(DATA) as file:
            task = loop.create_task(loop.sock_sendfile(ours, file, 1, count))
            arrived = b""
            for _ in range(at):
                one_turn(loop)
                arrived += drained(theirs)
            theirs.close()
            assert settle(loop, task.done)
            return result_of(task), file.tell(), arrived == DATA[1 : 1 + len(arrived)]

    check_same(program)


@pytest.mark.parametrize("at", [1, 3, 6])
def test_a_peer_that_resets_a_transport(at):
    """The error is one of the connection's, and the file's position has moved on by what the kernel took."""

    def program(loop):
        with connection(loop) as (transport, protocol, theirs), file_of(DATA) as file:
            task = loop.create_task(loop.sendfile(transport, file))
            for _ in range(at):
                one_turn(loop)
                drained(theirs)
            theirs.close()
            assert settle(loop, task.done)
            turns(loop, 3)
            return result_of(task), file.tell(), transport.is_closing(), protocol.told

    check_same(program)


def test_a_file_that_is_closed_meanwhile():
    """Then there is no position to be set; the loop is told, and whoever waits is not. So asyncio has it."""

    def program(loop):
        reports = []
        loop.set_exception_handler(
            lambda loop, context: reports.append((context["message"][:18], shown(context["exception"])))
        )
        with pair() as (ours, theirs):
            with file_of(DATA) as file:
                task = loop.create_task(loop.sock_sendfile(ours, file))
                turns(loop, 3)
            drained(theirs)
            turns(loop, 3)
            done = task.done()
            task.cancel()
            assert settle(loop, task.done)
            return reports, done

    reports, done = check_same(program)[1]
    assert len(reports) == 1 and not done


@pytest.mark.parametrize("kind", ["file", "memory"])
@pytest.mark.parametrize("how", ["close", "abort"])
def test_a_transport_that_is_closed_meanwhile(kind, how):
    """Whoever sends a file does not hear of it; piece by piece it does. So asyncio has it."""

    def program(loop):
        file = file_of(DATA) if kind == "file" else io.BytesIO(DATA)
        loop.set_exception_handler(lambda loop, context: None)
        with connection(loop) as (transport, protocol, theirs):
            task = loop.create_task(loop.sendfile(transport, file))
            turns(loop, 3)
            getattr(transport, how)()
            turns(loop, 10)
            if kind == "memory":
                in_a_thread(loop, task, theirs)
            done = task.done()
            task.cancel()
            assert settle(loop, task.done)
            return done, result_of(task), transport.is_closing(), protocol.told

    check_same(program)


# -- What is cancelled -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ready", [False, True], ids=["waiting", "ready as well"])
@pytest.mark.parametrize("at", range(6))
def test_the_position_after_a_cancellation(at, ready):
    """As it was, unless the socket was found ready in the very turn in which it was cancelled."""

    def program(loop):
        with pair() as (ours, theirs), file_of(DATA) as file:
            file.seek(17)
            task = loop.create_task(loop.sock_sendfile(ours, file, 5))
            arrived = b""
            for _ in range(at):
                one_turn(loop)
                arrived += drained(theirs)
            if ready:
                loop.call_soon(task.cancel)
            else:
                one_turn(loop)
                one_turn(loop)
                task.cancel()
            one_turn(loop)
            one_turn(loop)
            assert settle(loop, task.done)
            arrived += drained(theirs)
            assert not loop.remove_writer(ours)
            return result_of(task), file.tell(), len(arrived)

    check_same(program)


class Sendings(Operation):
    """Files that are being sent, about to be cancelled."""

    #: So many chunks that it takes several turns, and not so many that it takes long to try each.
    data = DATA[:300_000]

    def __init__(self, loop):
        super().__init__(loop)
        self.things = contextlib.ExitStack()
        self.checks = []

    def file_of(self, kind):
        return self.things.enter_context(file_of(self.data) if kind == "file" else io.BytesIO(self.data))

    def check_and_finish(self):
        for task in self.tasks:
            if not task.cancelled():
                assert task.result() == len(self.data)
        for check in self.checks:
            check()
        self.tasks.clear()
        self.things.close()
        turns(self.loop, 2)

    def drain(self, sock):
        """Have the peer read, turn by turn."""
        if not self.over():
            self.heard = getattr(self, "heard", 0) + len(drained(sock))
            self.loop.call_soon(self.drain, sock)


@pytest.fixture
def loop(either_loop):
    either_loop.set_exception_handler(lambda loop, context: None)
    # What waits for a thread is at the same point every time.
    either_loop.run_in_executor = run_at_once(either_loop)
    return either_loop


def run_at_once(loop):
    def run_in_executor(executor, function, *arguments):
        future = loop.create_future()
        loop.call_soon(lambda: future.cancelled() or future.set_result(function(*arguments)))
        return future

    return run_in_executor


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_cancelled_to_a_socket(loop, kind):
    def begin():
        sendings = Sendings(loop)
        ours, theirs = sendings.things.enter_context(pair())
        file = sendings.things.enter_context(sendings.file_of(kind))
        sendings.begin(loop.sock_sendfile(ours, file))
        sendings.drain(theirs)

        def check():
            # Nothing is watched, and nothing more comes.
            assert not loop.remove_writer(ours)
            drained(theirs)
            one_turn(loop)
            assert drained(theirs) == b""

        sendings.checks.append(check)
        return sendings

    assert every_point(loop, begin) > 5


@pytest.mark.parametrize("buffered", [False, True], ids=["", "after what waits"])
@pytest.mark.parametrize("kind", ["file", "memory"])
def test_cancelled_to_a_transport(loop, kind, buffered):
    """Then the transport reads and writes as before."""
    if buffered and isinstance(loop, asyncio.SelectorEventLoop):
        pytest.skip("asyncio leaves the transport unable to write, and does not resume reading")

    def begin():
        sendings = Sendings(loop)
        transport, protocol, theirs = sendings.things.enter_context(connection(loop))
        file = sendings.things.enter_context(sendings.file_of(kind))
        if buffered:
            transport.write(Sendings.data)
        sendings.begin(loop.sendfile(transport, file))
        sendings.drain(theirs)

        def check():
            assert transport.get_protocol() is protocol
            assert transport.is_reading()
            token = next(tokens)
            transport.write(token)
            received = b""

            def arrived():
                nonlocal received
                received += drained(theirs)
                return received.endswith(token)

            assert settle(loop, arrived)
            theirs.send(token)
            assert settle(loop, lambda: token in protocol.told)

        sendings.checks.append(check)
        return sendings

    assert every_point(loop, begin) > 5


def test_a_number_that_is_taken_over(loop):
    """A socket that is closed while a file is sent to it: whoever has its number then is sent nothing."""
    if isinstance(loop, asyncio.SelectorEventLoop):
        pytest.skip("asyncio's selector keeps a closed number, and then refuses or mistakes the stranger's")

    def begin():
        sendings = Sendings(loop)
        ours, theirs = sendings.things.enter_context(pair())
        file = sendings.things.enter_context(file_of(DATA))
        sendings.begin(loop.sock_sendfile(ours, file))

        def close():
            ours.close()
            loop.call_soon(loop.call_soon, lambda: [task.cancel() for task in sendings.tasks])

        loop.call_soon(loop.call_soon, loop.call_soon, close)
        return sendings

    assert every_point(loop, begin) > 2


# -- Who else takes part -----------------------------------------------------------------------------------


def test_a_writer_takes_its_place():
    """Who watches the socket for room is the one who is told; the file waits until it is cancelled."""

    def program(loop):
        with pair() as (ours, theirs), file_of(DATA) as file:
            told = []
            task = loop.create_task(loop.sock_sendfile(ours, file))
            turns(loop, 3)
            loop.add_writer(ours, told.append, "ready")
            drained(theirs)
            turns(loop, 3)
            arrived = drained(theirs)
            removed = loop.remove_writer(ours), loop.remove_writer(ours)
            task.cancel()
            assert settle(loop, task.done)
            return len(told) > 0, arrived, removed, result_of(task), file.tell()

    assert check_same(program)[1][:3] == (True, b"", (True, False))


def test_removing_the_writer_ends_it():
    def program(loop):
        with pair() as (ours, theirs), file_of(DATA) as file:
            task = loop.create_task(loop.sock_sendfile(ours, file))
            turns(loop, 3)
            watched = loop._selector.get_key(ours.fileno()).events
            removed = loop.remove_writer(ours), loop.remove_writer(ours)
            drained(theirs)
            turns(loop, 3)
            task.cancel()
            assert settle(loop, task.done)
            return watched, removed, drained(theirs), file.tell()

    assert check_same(program)[1][:3] == (2, (True, False), b"")


def test_a_replaced_sendfile_is_asked(monkeypatch):
    """Programs and tests put their own `os.sendfile` in the place of the kernel's."""
    asked = []

    def sendfile(out, file, offset, count):
        asked.append((offset, count))
        return os.write(out, DATA[offset : offset + min(count, 1000)])

    def program(loop):
        asked.clear()
        with pair() as (ours, theirs), file_of(SMALL * 10) as file:
            task = loop.create_task(loop.sock_sendfile(ours, file, 0, 2500))
            arrived = b"".join(chunks_until(loop, task, theirs))
            return task.result(), arrived, file.tell(), list(asked)

    monkeypatch.setattr(os, "sendfile", sendfile)
    assert len(check_same(program)[1][3]) == 3


@pytest.mark.parametrize("sock_class", [socket.socket, type("Subclass", (socket.socket,), {})])
def test_own_methods_of_the_loop(sock_class):
    """Where a subclass has them, they are asked as asyncio asks its own."""

    def program(loop):
        noted = []
        update, native = loop._sock_sendfile_update_filepos, loop._sock_sendfile_native
        loop._sock_sendfile_update_filepos = lambda *where: (noted.append(where[1:]), update(*where))
        loop._sock_sendfile_native = lambda *what: (noted.append(what[2:]), native(*what))[1]
        with pair() as (ours, theirs), file_of(DATA) as file:
            own = sock_class(fileno=os.dup(ours.fileno()))
            with own:
                task = loop.create_task(loop.sock_sendfile(own, file, 1))
                chunks_until(loop, task, theirs)
            return task.result(), noted

    check_same(program)


def test_the_callers_future_may_be_any(monkeypatch):
    """A loop's own futures are what it waits for."""

    class Future(asyncio.Future):
        pass

    def program(loop):
        made = []

        def create_future():
            made.append(Future(loop=loop))
            return made[-1]

        loop.create_future = create_future
        with pair() as (ours, theirs), file_of(DATA) as file:
            task = loop.create_task(loop.sock_sendfile(ours, file))
            chunks_until(loop, task, theirs)
            return task.result(), len(made), made[0].result()

    assert check_same(program)[1] == (len(DATA), 1, len(DATA))


def test_a_loop_that_is_closed_meanwhile_leaves_nothing():
    """Neither descriptors nor objects; the socket and the file are their owner's."""
    loop = velodrome.new_event_loop()
    with pair() as (ours, _theirs), file_of(DATA) as file:
        task = loop.create_task(loop.sock_sendfile(ours, file))
        turns(loop, 3)
        loop.close()
        loop.set_exception_handler(lambda loop, context: None)
        task._log_destroy_pending = False
        del task
        gc.collect()
        assert not [thing for thing in gc.get_objects() if type(thing).__name__ == "SendFile"]
        assert ours.fileno() >= 0 and not file.closed
