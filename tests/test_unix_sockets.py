"""Unix sockets: every keyword of `create_unix_connection()` and `create_unix_server()`, names of every kind,
what is at a path before and after, and cancellation wherever there is something to wait for."""

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import stat
import sys
import tempfile
from pathlib import Path

import pytest
from differential import worlds
from differential.cancellation import REPEAT, Operation, every_point, gets, settle, tokens, trial
from differential.compare import check_same, outcome, plain, turns

either_loop = worlds.either_loop

pytestmark = [
    pytest.mark.timeout(60),
    # A connection that nobody got to see is left to the garbage collector, which says so: asyncio does that.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

TLS = Path(__file__).with_name("tls")
NAMES = iter(range(1_000_000))


@pytest.fixture(scope="module")
def folder():
    """A short one: a socket's path has 107 bytes at most."""
    with tempfile.TemporaryDirectory() as name:
        yield name


def fresh(folder):
    return os.path.join(folder, str(next(NAMES)))


def abstract():
    return b"\0velodrome-%d-%d" % (os.getpid(), next(NAMES))


class Echo(asyncio.Protocol):
    """Sends back what it gets, and closes with its peer."""

    def __init__(self):
        self.told = []

    def connection_made(self, transport):
        self.transport = transport
        self.told.append("made")

    def data_received(self, data):
        self.told.append(data)
        self.transport.write(data)

    def connection_lost(self, exc):
        self.told.append(("lost", exc))


class Client(Echo):
    def data_received(self, data):
        self.told.append(data)


def tls():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "certificate.pem", TLS / "key.pem")
    return context


# -- What connects -----------------------------------------------------------------------------------------

#: Of a path on which somebody listens, and of the test's stack, the arguments and keywords.
CONNECTIONS = {
    "text": lambda path, stack: ((path,), {}),
    "bytes": lambda path, stack: ((os.fsencode(path),), {}),
    "path": lambda path, stack: ((Path(path),), {}),
    "by name": lambda path, stack: ((), {"path": path}),
    "relative": lambda path, stack: ((os.path.relpath(path),), {}),
    "socket": lambda path, stack: ((), {"sock": connected(stack, path)}),
    "socket that blocks": lambda path, stack: ((), {"sock": connected(stack, path, 5)}),
    "socket that is not connected": lambda path, stack: ((), {"sock": unix(stack)}),
    "nothing": lambda path, stack: ((), {}),
    "both": lambda path, stack: ((path,), {"sock": unix(stack)}),
    "socket of datagrams": lambda path, stack: ((), {"sock": unix(stack, socket.SOCK_DGRAM)}),
    "socket of packets": lambda path, stack: ((), {"sock": unix(stack, socket.SOCK_SEQPACKET)}),
    "socket of the internet": lambda path, stack: ((), {"sock": stack.enter_context(socket.socket())}),
    "no socket": lambda path, stack: ((), {"sock": 5}),
    "number": lambda path, stack: ((5,), {}),
    "empty": lambda path, stack: (("",), {}),
    "empty bytes": lambda path, stack: ((b"",), {}),
    "array": lambda path, stack: ((bytearray(os.fsencode(path)),), {}),
    "missing": lambda path, stack: ((path + "-missing",), {}),
    "missing folder": lambda path, stack: ((path + "/missing",), {}),
    "folder": lambda path, stack: ((os.path.dirname(path),), {}),
    "file": lambda path, stack: ((__file__,), {}),
    "long": lambda path, stack: (("/tmp/" + "x" * 200,), {}),
    "surrogate": lambda path, stack: (("/tmp/\udc80",), {}),
    "not text": lambda path, stack: (("/tmp/\ud800",), {}),
    "zero within": lambda path, stack: (("/tmp/x\0y",), {}),
    "abstract, nobody": lambda path, stack: ((abstract(),), {}),
    "two positions": lambda path, stack: ((path, None), {}),
    "unknown": lambda path, stack: ((path,), {"nonsense": 5}),
    "server_hostname": lambda path, stack: ((path,), {"server_hostname": "localhost"}),
    "server_hostname that is none": lambda path, stack: ((path,), {"server_hostname": 5}),
    "ssl without a name": lambda path, stack: ((path,), {"ssl": True}),
    "ssl_handshake_timeout": lambda path, stack: ((path,), {"ssl_handshake_timeout": 5}),
    "ssl_shutdown_timeout": lambda path, stack: ((path,), {"ssl_shutdown_timeout": 5}),
    "bad ssl": lambda path, stack: ((path,), {"ssl": "text", "server_hostname": ""}),
}


def unix(stack, kind=socket.SOCK_STREAM):
    return stack.enter_context(socket.socket(socket.AF_UNIX, kind))


def connected(stack, path, timeout=None):
    sock = unix(stack)
    sock.settimeout(timeout)
    sock.connect(path)
    return sock


def anonymous(text, path):
    """Take out of a message what differs from one time to the next."""
    text = plain(str(text)).replace(path, "PATH").replace(repr(path.encode())[2:-1], "PATH")
    text = text.replace(os.path.dirname(path), "FOLDER")
    return text if "<socket.socket" not in text else text.partition("<socket.socket")[0]


@pytest.mark.parametrize("name", CONNECTIONS)
def test_every_keyword_of_a_connection(folder, name):
    def program(loop):
        path = fresh(folder)
        heard = []
        loop.set_exception_handler(lambda loop, context: heard.append(context["message"]))
        with contextlib.ExitStack() as stack:
            server = unix(stack)
            server.bind(path)
            server.listen()
            server.settimeout(10)
            arguments, keywords = CONNECTIONS[name](path, stack)
            kind, made = outcome(
                lambda: loop.run_until_complete(loop.create_unix_connection(Client, *arguments, **keywords))
            )
            if kind != "returned":
                return kind, anonymous(made, path), heard
            transport, protocol = made
            sock = transport.get_extra_info("socket")
            said = [sock.family, sock.type, sock.gettimeout(), isinstance(transport, asyncio.Transport)]
            told = [transport.get_extra_info(what) for what in ("sockname", "peername", "sslcontext")]
            said.append(anonymous(told, path).replace(os.path.relpath(path), "PATH"))
            if name != "socket that is not connected":
                other = stack.enter_context(server.accept()[0])
                other.send(b"hello")
                other.shutdown(socket.SHUT_WR)
            turns(loop, 5)
            transport.abort()
            turns(loop, 3)
            return *said, anonymous(protocol.told, path), heard

    check_same(program)


# -- What listens ------------------------------------------------------------------------------------------


def put_socket(path, stack):
    """One that somebody has left behind."""
    unix(stack).bind(path)


SERVERS = {
    "text": lambda path, stack: ((path,), {}),
    "bytes": lambda path, stack: ((os.fsencode(path),), {}),
    "path": lambda path, stack: ((Path(path),), {}),
    "by name": lambda path, stack: ((), {"path": path}),
    "no backlog": lambda path, stack: ((path,), {"backlog": 0}),
    "bad backlog": lambda path, stack: ((path,), {"backlog": "text"}),
    "not yet serving": lambda path, stack: ((path,), {"start_serving": False}),
    "clean up": lambda path, stack: ((path,), {"cleanup_socket": True}),
    "leave": lambda path, stack: ((path,), {"cleanup_socket": False}),
    "socket": lambda path, stack: ((), {"sock": bound(stack, path)}),
    "socket, leave": lambda path, stack: ((), {"sock": bound(stack, path), "cleanup_socket": False}),
    "socket without a name": lambda path, stack: ((), {"sock": unix(stack)}),
    "nothing": lambda path, stack: ((), {}),
    "both": lambda path, stack: ((path,), {"sock": unix(stack)}),
    "socket of datagrams": lambda path, stack: ((), {"sock": unix(stack, socket.SOCK_DGRAM)}),
    "socket of the internet": lambda path, stack: ((), {"sock": stack.enter_context(socket.socket())}),
    "no socket": lambda path, stack: ((), {"sock": 5}),
    "number": lambda path, stack: ((5,), {}),
    "empty": lambda path, stack: (("",), {}),
    "missing folder": lambda path, stack: ((path + "/missing",), {}),
    "folder": lambda path, stack: ((os.path.dirname(path),), {}),
    "long": lambda path, stack: (("/tmp/" + "x" * 200,), {}),
    "stale": lambda path, stack: (put_socket(path, stack), ((path,), {}))[1],
    "file": lambda path, stack: (Path(path).write_text("data"), ((path,), {}))[1],
    "link to nowhere": lambda path, stack: (os.symlink(path + "-", path), ((path,), {}))[1],
    "link to a socket": lambda path, stack: (
        (put_socket(path + "-", stack), os.symlink(path + "-", path)),
        ((path,), {}),
    )[1],
    "unknown": lambda path, stack: ((path,), {"nonsense": 5}),
    "ssl": lambda path, stack: ((path,), {"ssl": True}),
    "no ssl": lambda path, stack: ((path,), {"ssl": False}),
    "ssl_handshake_timeout": lambda path, stack: ((path,), {"ssl_handshake_timeout": 5}),
    "ssl_shutdown_timeout": lambda path, stack: ((path,), {"ssl_shutdown_timeout": 5}),
}


def bound(stack, path):
    sock = unix(stack)
    sock.bind(path)
    return sock


def at(path):
    """What is there: nothing, a socket, or something else."""
    with contextlib.suppress(FileNotFoundError):
        return stat.filemode(os.lstat(path).st_mode)[0]


@pytest.mark.parametrize("name", SERVERS)
def test_every_keyword_of_a_server(folder, name):
    """And what is at the path before, meanwhile and after."""

    def program(loop):
        path = fresh(folder)
        with contextlib.ExitStack() as stack:
            arguments, keywords = SERVERS[name](path, stack)
            kind, server = outcome(
                lambda: loop.run_until_complete(loop.create_unix_server(Echo, *arguments, **keywords))
            )
            if kind != "returned":
                return kind, anonymous(server, path), at(path)
            said = [at(path), server.is_serving(), len(server.sockets), server.sockets[0].gettimeout()]
            said.append(anonymous(server.sockets[0].getsockname(), path))
            if server.is_serving() and at(path) == "s":
                with unix(stack) as client:
                    client.connect(path)
                    client.send(b"hello")
                    turns(loop, 5)
                    client.setblocking(False)
                    said.append(client.recv(100))
                turns(loop, 5)
            server.close()
            turns(loop, 2)
            return *said, at(path), at(path + "-"), server.is_serving()

    check_same(program)


@pytest.mark.parametrize("meanwhile", ["removed", "another socket", "a file", "moved", "a folder"])
@pytest.mark.parametrize("end", ["server", "loop"])
def test_what_is_at_the_path_when_the_server_closes(folder, meanwhile, end, caplog):
    """From 3.13 on the server's own socket goes with it, and nobody else's."""

    def program(loop):
        caplog.clear()
        path = fresh(folder)
        server = loop.run_until_complete(loop.create_unix_server(Echo, path))
        # Kept aside, so that its inode is not given out again.
        os.rename(path, path + "-aside")
        with contextlib.ExitStack() as stack:
            if meanwhile == "another socket":
                put_socket(path, stack)
            elif meanwhile == "a file":
                Path(path).write_text("data")
            elif meanwhile == "a folder":
                os.mkdir(path)
            elif meanwhile == "moved":
                os.rename(path + "-aside", path)
            if end == "server":
                server.close()
                turns(loop, 2)
            else:
                loop.close()
            return at(path), at(path + "-aside"), [anonymous(text, path) for text in caplog.messages]

    check_same(program)


def test_who_is_connected_stays_when_the_server_closes(folder):
    """While its path goes or stays, as the version has it. It is closed twice."""

    def program(loop):
        path = fresh(folder)

        async def main():
            server = await loop.create_unix_server(Echo, path)
            transport, protocol = await loop.create_unix_connection(Client, path)
            for word in (b"before", b"after"):
                transport.write(word)
                while word not in protocol.told:
                    await asyncio.sleep(0)
                server.close()
                server.close()
            with socket.socket(socket.AF_UNIX) as late:
                said = at(path), late.connect_ex(path)
            transport.close()
            await asyncio.sleep(0.001)
            return said

        return loop.run_until_complete(main())

    check_same(program)


@pytest.mark.parametrize("kind", ["path", "bytes", "abstract", "abstract text"])
def test_streams_over_every_kind_of_name(either_loop, folder, kind):
    """Megabytes both ways, an end in one direction, and what both sides know of each other."""
    path = {
        "path": fresh(folder),
        "bytes": os.fsencode(fresh(folder)),
        "abstract": abstract(),
        "abstract text": abstract().decode(),
    }[kind]
    data = os.urandom(3_000_000)
    name = path if kind == "path" else os.fsencode(path)
    name = os.fsdecode(name) if kind == "bytes" else name

    async def main():
        ended = asyncio.get_running_loop().create_future()

        async def serve(reader, writer):
            assert writer.get_extra_info("sockname") == name
            assert writer.get_extra_info("peername") in ("", b"")
            received = await reader.read()
            writer.write(received[::-1])
            writer.write_eof()
            writer.close()
            await writer.wait_closed()
            ended.set_result(None)

        server = await asyncio.start_unix_server(serve, path)
        reader, writer = await asyncio.open_unix_connection(path)
        assert writer.get_extra_info("peername") == name
        assert writer.get_extra_info("sockname") in ("", b"")
        writer.write(data)
        await writer.drain()
        writer.write_eof()
        assert await reader.read() == data[::-1]
        writer.close()
        await ended
        server.close()
        await server.wait_closed()

    either_loop.run_until_complete(main())


def test_tls_over_a_unix_socket(either_loop, folder):
    path = fresh(folder)
    trusting = ssl.create_default_context(cafile=TLS / "certificate.pem")

    async def main():
        async def serve(reader, writer):
            writer.write(await reader.readline())
            writer.close()

        server = await asyncio.start_unix_server(
            serve, path, ssl=tls(), ssl_handshake_timeout=30, ssl_shutdown_timeout=30
        )
        reader, writer = await asyncio.open_unix_connection(path, ssl=trusting, server_hostname="localhost")
        assert writer.get_extra_info("cipher")
        writer.write(b"line\n")
        assert await reader.read() == b"line\n"
        writer.close()
        server.close()

    either_loop.run_until_complete(main())


def test_it_is_asyncio_that_looks_at_a_path_and_removes_it(folder, monkeypatch):
    """BlockBuster tells by the file and the name of a function whether it may do that while a loop runs."""
    callers = []

    def noted(function):
        def call(*arguments, **keywords):
            code = sys._getframe(1).f_code
            callers.append((function.__name__, code.co_filename, code.co_qualname))
            return function(*arguments, **keywords)

        return call

    for name in ("stat", "unlink"):
        monkeypatch.setattr(os, name, noted(getattr(os, name)))

    def program(loop):
        async def main():
            path = fresh(folder)
            for _ in range(2):
                server = await loop.create_unix_server(Echo, path)
                server.close()
            return os.path.exists(path)

        callers.clear()
        return loop.run_until_complete(main()), list(callers)

    check_same(program)


def test_names_are_free_again(folder):
    """An abstract name once its server is closed, a path at any time: who listens there now is asked."""

    def program(loop):
        async def main():
            said = []
            for path in (abstract(), fresh(folder)):
                first = await loop.create_unix_server(Echo, path)
                try:
                    second = await loop.create_unix_server(Client, path)
                except OSError as error:
                    said.append(error.errno)
                    first.close()
                    second = await loop.create_unix_server(Client, path)
                transport, protocol = await loop.create_unix_connection(Client, path)
                transport.write(b"to the second")
                for _ in range(5):
                    await asyncio.sleep(0)
                said.append(protocol.told)
                transport.close()
                first.close()
                said.append(isinstance(path, str) and at(path))
                second.close()
                said.append(isinstance(path, str) and at(path))
                await asyncio.sleep(0)
            return said

        return loop.run_until_complete(main())

    assert check_same(program)[1][0] == errno.EADDRINUSE


def test_a_listener_whose_queue_is_full(folder):
    """The kernel says that it cannot connect now; what asyncio makes of that is what we make."""

    def program(loop):
        path = fresh(folder)
        with contextlib.ExitStack() as stack:
            listener = bound(stack, path)
            listener.listen(0)
            full = unix(stack)
            full.setblocking(False)
            full.connect(path)
            other = unix(stack)
            other.setblocking(False)
            with pytest.raises(BlockingIOError):
                other.connect(path)
            task = loop.create_task(loop.create_unix_connection(Client, path))
            turns(loop, 10)
            over = task.done()
            if not over:
                task.cancel()
                turns(loop, 3)
                return over, task.cancelled()
            kind, made = outcome(task.result)
            if kind != "returned":
                return over, kind, anonymous(made, path)
            transport, protocol = made
            transport.write(b"data")
            turns(loop, 5)
            said = transport.is_closing(), anonymous(protocol.told, path)
            transport.abort()
            turns(loop, 3)
            return over, *said, anonymous(protocol.told, path)

    check_same(program)


# -- What is cancelled -------------------------------------------------------------------------------------


class Making(Operation):
    """Tasks that are about to be cancelled, with what they leave."""

    def __init__(self, loop):
        super().__init__(loop)
        self.parties = []
        self.things = contextlib.ExitStack()
        self.checks = []

    def factory(self, made):
        def make():
            self.parties.append(made())
            return self.parties[-1]

        return make

    def check_and_finish(self):
        for task in self.tasks:
            if not task.cancelled():
                for check in self.checks:
                    check(task.result())
        for party in self.parties:
            if hasattr(party, "transport"):
                party.transport.abort()
        self.tasks.clear()
        self.things.close()


@pytest.fixture
def loop(either_loop):
    either_loop.set_exception_handler(lambda loop, context: None)
    return either_loop


def check_conversation(loop):
    def check(made):
        transport, protocol = made
        token = next(tokens)
        transport.write(token)
        assert settle(loop, lambda: b"".join(protocol.told[1:]) == token)

    return check


@pytest.mark.parametrize("kind", ["path", "abstract", "sock"])
def test_cancelled_while_connecting(loop, folder, kind):
    """Its bytes reach nobody else, and it gets its own."""
    path = abstract() if kind == "abstract" else fresh(folder)
    server = loop.run_until_complete(loop.create_unix_server(Echo, path))

    def begin():
        operation = Making(loop)
        if kind == "sock":
            sock = connected(operation.things, path)
            operation.begin(loop.create_unix_connection(operation.factory(Client), sock=sock))
        else:
            operation.begin(loop.create_unix_connection(operation.factory(Client), path))
        operation.checks.append(check_conversation(loop))
        return operation

    assert every_point(loop, begin) > 1
    server.close()
    turns(loop, 3)


def test_cancelled_while_nobody_accepts(loop, folder):
    with contextlib.ExitStack() as stack:
        path = fresh(folder)
        listener = bound(stack, path)
        listener.listen(0)
        full = unix(stack)
        full.setblocking(False)
        full.connect(path)

        def begin():
            operation = Making(loop)
            operation.begin(loop.create_unix_connection(operation.factory(Client), path))
            return operation

        for count in range(6):
            for _ in range(REPEAT):
                trial(loop, begin, count)


@pytest.mark.parametrize("kind", ["path", "abstract", "sock"])
def test_cancelled_while_a_server_is_made(loop, folder, kind):
    """Who got no server is left with no listener, and its name is free."""

    def begin():
        path = abstract() if kind == "abstract" else fresh(folder)
        operation = Making(loop)
        if kind == "sock":
            # The program's own, which it closes itself.
            sock = bound(operation.things, path)
            operation.begin(loop.create_unix_server(operation.factory(Echo), sock=sock))
        else:
            operation.begin(loop.create_unix_server(operation.factory(Echo), path))

        def check(server):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                token = next(tokens)
                client.send(token)
                client.setblocking(False)
                assert gets(loop, client, token)
            server.close()

        operation.checks.append(check)
        return operation

    if isinstance(loop, asyncio.SelectorEventLoop):
        pytest.skip("asyncio's loop goes on listening for a server that nobody has")
    assert every_point(loop, begin) > 0
