"""What is wrong is answered as asyncio answers it, word for word, and nothing is left open."""

import asyncio
import contextlib
import errno
import gc
import inspect
import os
import socket
import ssl
import sys

import pytest
import velodrome
from differential.compare import LOOPS, close, one_turn, outcome, plain


def sockets():
    """Return the numbers of the sockets that this process has open."""
    gc.collect()
    names = [(name, f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
    return {int(name) for name, path in names if os.path.islink(path) and "socket:" in os.readlink(path)}


def same(program):
    """Check that a coroutine function of the loop comes to the same end on both loops; return that.

    The end is what it returns or raises, and what the exception handler was told. No socket is left open.
    """
    ends = []
    for new_loop in LOOPS:
        before = sockets()
        loop, reports = new_loop(), []
        loop.set_exception_handler(lambda loop, context: reports.append(report(context)))
        try:
            end = outcome(loop.run_until_complete, asyncio.wait_for(program(loop), 30))
            for _ in range(5):
                one_turn(loop)
            ends.append((end, list(reports)))
            if isinstance(loop, velodrome.Loop):
                assert sockets() == before
        finally:
            close(loop)
        assert sockets() == before
    assert ends[1] == ends[0]
    return ends[0]


def report(context):
    """What the exception handler was told, in a form that can be compared."""
    shown = {key: type(value).__name__ for key, value in context.items() if key in ("exception",)}
    message = context["message"].split("\n")[0]
    return (
        "Exception in callback" if message.startswith("Exception in callback") else plain(message),
        shown,
        plain(str(context.get("exception", ""))),
        sorted(set(context) - {"handle", "socket"}),
    )


@contextlib.contextmanager
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server, server.getsockname()[1]


@contextlib.contextmanager
def closed_port():
    """A port that nobody listens on, nor can begin to."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


class Failing(asyncio.Protocol):
    """Raises in one of its methods."""

    def __init__(self, method, error=ValueError):
        self.calls = []
        for name in (
            *("connection_made", "data_received", "eof_received", "connection_lost"),
            *("pause_writing", "resume_writing"),
        ):
            setattr(self, name, self.recorder(name, error if name == method else None))

    def recorder(self, name, error):
        def called(*arguments):
            self.calls.append(name)
            if name == "connection_made":
                self.transport = arguments[0]
            if error:
                raise error(f"from {name}")

        return called


# -- Addresses


def test_port_in_use():
    with listening() as (_, port):

        async def program(loop):
            try:
                await loop.create_server(asyncio.Protocol, "127.0.0.1", port)
            except OSError as error:
                return error.errno, error.strerror

        (_, (number, _)), _ = same(program)
        assert number == errno.EADDRINUSE


def test_port_in_use_with_streams():
    with listening() as (_, port):
        same(lambda loop: asyncio.start_server(None, "127.0.0.1", port))


@pytest.mark.parametrize("all_errors", [False, True])
@pytest.mark.parametrize("delay", [None, 0.01])
def test_refused(delay, all_errors):
    if all_errors and sys.version_info < (3, 12):
        pytest.skip("all_errors came with 3.12")
    options = {"all_errors": True} if all_errors else {}
    with closed_port() as port:

        async def program(loop):
            try:
                await loop.create_connection(
                    asyncio.Protocol, "127.0.0.1", port, happy_eyeballs_delay=delay, **options
                )
            except ExceptionGroup as group:
                return plain(str(group)), [(type(error), error.errno) for error in group.exceptions]

        end, _ = same(program)
        assert end[0] == ("returned" if all_errors else "ConnectionRefusedError")


@pytest.mark.parametrize("host", ["240.0.0.1", "255.255.255.255"])
def test_unreachable(host):
    """Addresses to which this machine's kernel sends nothing."""
    with socket.socket() as sock:
        sock.setblocking(False)
        if sock.connect_ex((host, 9)) == errno.EINPROGRESS:
            pytest.skip("this machine has a route even to there")
    same(lambda loop: loop.create_connection(asyncio.Protocol, host, 9))


def test_many_addresses_that_fail_in_different_ways():
    with closed_port() as port:

        async def program(loop):
            async def getaddrinfo(host, port, **hints):
                found = socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, ""
                return [(*found, (host, port)) for host in ("127.0.0.1", "255.255.255.255", "127.0.0.2")]

            loop.getaddrinfo = getaddrinfo
            await loop.create_connection(asyncio.Protocol, "name.invalid", port)

        end, _ = same(program)
        assert "Multiple exceptions" in end[1]


def test_name_that_has_no_addresses():
    async def program(loop):
        async def getaddrinfo(host, port, **hints):
            return []

        loop.getaddrinfo = getaddrinfo
        await loop.create_connection(asyncio.Protocol, "name.invalid", 9)

    same(program)


def test_local_address_that_is_not_ours():
    with listening() as (_, port):
        same(
            lambda loop: loop.create_connection(
                asyncio.Protocol, "127.0.0.1", port, local_addr=("203.0.113.1", 0)
            )
        )


# -- Arguments

NONSENSE = {
    "nothing": {},
    "host and sock": {"host": "127.0.0.1", "port": 1, "sock": None},
    "ssl that is none": {"host": "127.0.0.1", "port": 1, "ssl": "yes"},
    "server_hostname without ssl": {"host": "127.0.0.1", "port": 1, "server_hostname": "x"},
    "ssl without a name": {"sock": None, "ssl": True},
    "timeout without ssl": {"host": "127.0.0.1", "port": 1, "ssl_handshake_timeout": 1},
    "shutdown timeout without ssl": {"host": "127.0.0.1", "port": 1, "ssl_shutdown_timeout": 1},
    "unknown": {"host": "127.0.0.1", "port": 1, "colour": "red"},
    "text for a port": {"host": "127.0.0.1", "port": "no such service"},
    "large port": {"host": "127.0.0.1", "port": 70_000},
    "bytes for a host": {"host": b"127.0.0.1", "port": 1},
    "number for a host": {"host": 5, "port": 1},
}


@pytest.mark.parametrize("arguments", NONSENSE.values(), ids=NONSENSE)
def test_arguments_of_create_connection(arguments):
    async def program(loop):
        with contextlib.ExitStack() as stack:
            if "sock" in arguments:
                ours, theirs = map(stack.enter_context, socket.socketpair())
                given = {**arguments, "sock": ours}
            else:
                given = arguments
            await loop.create_connection(asyncio.Protocol, **given)

    same(program)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"host": "127.0.0.1", "port": 0, "sock": "one"},
        {"host": "127.0.0.1", "port": 0, "ssl": True},
        {"host": "127.0.0.1", "port": 0, "ssl": "yes"},
        {"host": "127.0.0.1", "port": 0, "ssl_handshake_timeout": 1},
        {"host": "127.0.0.1", "port": 0, "ssl_shutdown_timeout": 1},
        {"host": "127.0.0.1", "port": 0, "colour": "red"},
        {"host": "127.0.0.1", "port": 0, "keep_alive": "maybe"},
        {"host": "203.0.113.1", "port": 0},
        {"host": "127.0.0.1", "port": 70_000},
        {"host": "127.0.0.1", "port": 0, "backlog": "many"},
        {"host": 5, "port": 0},
        {"sock": "a socket"},
    ],
    ids=str,
)
def test_arguments_of_create_server(arguments):
    async def program(loop):
        with contextlib.ExitStack() as stack:
            given = dict(arguments)
            if given.get("sock") == "one":
                given["sock"] = stack.enter_context(socket.socket())
            server = await loop.create_server(asyncio.Protocol, **given)
            server.close()

    same(program)


@pytest.mark.parametrize("kind", ["datagram", "not connected", "closed", "none", "blocking"])
@pytest.mark.parametrize("method", ["create_connection", "connect_accepted_socket", "create_server"])
def test_sockets_that_do_not_fit(method, kind):
    if method == "create_server" and kind in ("none",):
        pytest.skip("create_server() without a socket has a test of its own")

    async def program(loop):
        with contextlib.ExitStack() as stack:
            if kind == "datagram":
                sock = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            elif kind == "not connected":
                sock = stack.enter_context(socket.socket())
            elif kind == "closed":
                sock = socket.socket()
                sock.close()
            elif kind == "none":
                sock = None
            else:
                sock, other = map(stack.enter_context, socket.socketpair())
            if method == "connect_accepted_socket":
                transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, sock)
                transport.abort()
            elif method == "create_connection":
                transport, _ = await loop.create_connection(asyncio.Protocol, sock=sock)
                transport.abort()
            else:
                server = await loop.create_server(asyncio.Protocol, sock=sock)
                server.close()

    same(program)


def test_start_tls_of_what_cannot_be_upgraded():
    context = ssl.create_default_context()

    async def program(loop):
        ours, theirs = socket.socketpair()
        with theirs:
            transport, protocol = await loop.create_connection(asyncio.Protocol, sock=ours)
            results = []
            for arguments in [
                (transport, protocol, None),
                (transport, protocol, "context"),
                (None, protocol, context),
                (asyncio.Transport(), protocol, context),
            ]:
                try:
                    await loop.start_tls(*arguments)
                except Exception as error:
                    text = plain(str(error))
                    results.append((type(error), text if "object at" not in text else "with an address"))
            transport.abort()
            return results

    same(program)


# -- Protocols and their factories


def test_factory_that_raises_when_connecting():
    def factory():
        raise ValueError("no protocol today")

    with listening() as (_, port):
        end, _ = same(lambda loop: loop.create_connection(factory, "127.0.0.1", port))
        assert end == ("ValueError", "no protocol today")


@pytest.mark.parametrize("debug", [False, True])
def test_factory_that_raises_when_accepting(debug):
    """The client is hung up on, the handler is told in debug mode, and the next client is served."""

    async def program(loop):
        loop.set_debug(debug)
        failures = [ValueError("no protocol today"), None]

        def factory():
            if error := failures.pop(0):
                raise error
            return Failing(None)

        server = await loop.create_server(factory, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while len(failures) == 2:
            await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
        gc.collect()  # asyncio leaves the socket to it
        first = await reader.read()
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write_eof()
        second = await reader.read()
        writer.close()
        server.close()
        await asyncio.sleep(0.01)
        return first, second

    _, reports = same(program)
    assert len(reports) == debug


@pytest.mark.parametrize("protocol", [None, 5, "text", object], ids=str)
def test_factory_that_makes_no_protocol(protocol):
    async def program(loop):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            task = loop.create_task(loop.create_connection(lambda: protocol, sock=ours))
            for _ in range(10):
                await asyncio.sleep(0)
            with contextlib.suppress(BrokenPipeError):  # asyncio leaves the socket open, velodrome does not
                theirs.send(b"x")
            for _ in range(10):
                await asyncio.sleep(0)
            over = task.done()
            if over and not task.exception():
                task.result()[0].abort()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return over

    same(program)


@pytest.mark.parametrize("error", [ValueError, OSError, ConnectionResetError])
@pytest.mark.parametrize(
    "method",
    [
        *("connection_made", "data_received", "eof_received", "connection_lost"),
        *("pause_writing", "resume_writing"),
    ],
)
def test_method_that_raises(method, error):
    async def program(loop):
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        protocol = Failing(method, error)
        with theirs:
            task = loop.create_task(loop.create_connection(lambda: protocol, sock=ours))
            for _ in range(10):
                await asyncio.sleep(0)
            if task.done():
                protocol.transport.write(bytes(1 << 20))
                while "resume_writing" not in protocol.calls and not protocol.transport.is_closing():
                    with contextlib.suppress(BlockingIOError):
                        theirs.recv(1 << 20)
                    await asyncio.sleep(0)
                with contextlib.suppress(BrokenPipeError):
                    theirs.send(b"x")
                await asyncio.sleep(0.01)
                with contextlib.suppress(OSError):
                    theirs.shutdown(socket.SHUT_WR)
                await asyncio.sleep(0.01)
                protocol.transport.abort()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.sleep(0.01)
            return protocol.calls

    end, reports = same(program)
    assert method in end[1]
    assert reports or error is not ValueError


# -- Transports


@pytest.mark.parametrize("data", ["text", None, 5, [1, 2], object(), memoryview(b"x" * 10)[::2]], ids=repr)
def test_wrong_types_to_write(data):
    async def program(loop):
        ours, theirs = socket.socketpair()
        with theirs:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            results = [outcome(transport.write, data)]
            if not transport.is_closing():
                results.append(outcome(transport.writelines, data))
                if data:  # some versions pass over what is false
                    results.append(outcome(transport.writelines, [b"x", data]))
            transport.abort()
            await asyncio.sleep(0.01)
            return results

    same(program)


@pytest.mark.parametrize("end", ["close", "abort", "peer", "write_eof"])
def test_writing_after_the_end(caplog, end):
    async def program(loop):
        caplog.clear()
        ours, theirs = socket.socketpair()
        with theirs:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            if end == "peer":
                theirs.close()
            else:
                getattr(transport, end)()
            results = []
            for _ in range(8):
                results.append(outcome(transport.write, b"x"))
                await asyncio.sleep(0)
            for call in (
                transport.write_eof,
                transport.close,
                transport.pause_reading,
                transport.resume_reading,
            ):
                results.append((outcome(call), transport.is_closing(), transport.is_reading()))
            transport.close()
            await asyncio.sleep(0.01)
            logged = [record.getMessage() for record in caplog.records if record.name == "asyncio"]
            return results, [text for text in logged if "socket.send" in text]

    (kind, (_, logged)), _ = same(program)
    assert kind == "returned"
    assert (logged != []) == (end != "write_eof")


def test_same_signatures():
    """Every keyword of this Python's asyncio is there, with the same default, and no other."""
    for name in (
        *("create_connection", "create_server", "connect_accepted_socket", "start_tls", "sendfile"),
        *("create_unix_connection", "create_unix_server"),
    ):
        theirs = inspect.signature(getattr(asyncio.SelectorEventLoop, name))
        ours = inspect.signature(getattr(velodrome.Loop, name))
        assert str(ours) == str(theirs), name


def test_server_that_is_closed():
    async def program(loop):
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, start_serving=False)
        results = [server.is_serving(), len(server.sockets), server.get_loop() is loop]
        await server.start_serving()
        await server.start_serving()
        task = loop.create_task(server.serve_forever())
        await asyncio.sleep(0)
        try:
            await server.serve_forever()
        except RuntimeError as error:
            results.append(str(error).rpartition(">")[2])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        results += [task.cancelled(), server.is_serving(), len(server.sockets)]
        server.close()
        try:
            await server.start_serving()
        except RuntimeError as error:
            results.append(str(error).rpartition(">")[2])
        try:
            await server.serve_forever()
        except RuntimeError as error:
            results.append(str(error).rpartition(">")[2])
        await server.wait_closed()
        return results

    same(program)
