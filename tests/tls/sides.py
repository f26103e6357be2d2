"""Both sides of a TLS connection: contexts, a side on a loop, and a side without one.

What happened to a side is told as a list, which does not depend on who it was.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
from pathlib import Path

import velodrome

HERE = Path(__file__).parent
CERTIFICATE = str(HERE / "certificate.pem")
KEY = str(HERE / "key.pem")
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
LOOPS = {"asyncio": asyncio.new_event_loop, "velodrome": velodrome.new_event_loop}

#: Seconds after which a test has failed; nothing waits for them to pass.
LIMIT = 20


def server_context(version=None):
    """Make the context of a server for localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, KEY)
    return _only(context, version)


def client_context(version=None):
    """Make the context of a client that trusts that server."""
    context = ssl.create_default_context(cafile=CERTIFICATE)
    return _only(context, version)


def _only(context, version):
    if version is not None:
        context.minimum_version = context.maximum_version = VERSIONS[version]
    return context


def described(exception):
    """Return what programs can tell exceptions by."""
    if exception is None:
        return None
    return (
        type(exception).__name__,
        getattr(exception, "reason", None),
        getattr(exception, "library", None),
        getattr(exception, "verify_message", None),
        None if isinstance(exception, ssl.SSLError) else str(exception),
    )


def sockets():
    """Return two sockets connected by TCP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    return ours, theirs


class Recorder(asyncio.Protocol):
    """Notes what it is called with; data as how much there was."""

    def __init__(self):
        self.events = []
        self.data = bytearray()
        self.changed = asyncio.Event()
        self.lost = asyncio.get_running_loop().create_future()

    def note(self, *event):
        self.events.append(event)
        self.changed.set()

    def connection_made(self, transport):
        self.transport = transport
        self.note("made")

    def data_received(self, data):
        assert type(data) is bytes
        assert data
        self.data += data
        self.changed.set()

    def eof_received(self):
        self.note("eof")

    def pause_writing(self):
        self.note("pause")

    def resume_writing(self):
        self.note("resume")

    def connection_lost(self, exc):
        self.note("lost", described(exc))
        if not self.lost.done():
            self.lost.set_result(None)

    async def until(self, condition):
        """Wait until a condition holds, or the connection is lost."""
        while not condition() and not self.lost.done():
            self.changed.clear()
            await self.changed.wait()

    async def receive(self, count):
        await self.until(lambda: len(self.data) >= count)


class BufferedRecorder(Recorder, asyncio.BufferedProtocol):
    """The same with memory of its own."""

    def __init__(self, size=10_000):
        super().__init__()
        self.space = memoryview(bytearray(size))

    def get_buffer(self, hint):
        return self.space

    def buffer_updated(self, count):
        assert count
        self.data_received(bytes(self.space[:count]))


async def connected(sock, context, role, protocol, hostname="localhost", **options):
    """Make a TLS connection of a socket that is connected; return its transport."""
    loop = asyncio.get_running_loop()
    if role == "client":
        transport, _ = await loop.create_connection(
            lambda: protocol, sock=sock, ssl=context, server_hostname=hostname, **options
        )
    else:
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock, ssl=context, **options)
    return transport


class Peer:
    """The other side, in a thread, in blocking calls. `talk(connection)` is what it says."""

    def __init__(self, sock, context, role, talk, hostname="localhost", last=True):
        self.sock, self.context, self.role, self.talk = sock, context, role, talk
        self.last = last
        self.hostname = hostname if role == "client" else None
        self.outcome = []
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        self.sock.settimeout(LIMIT)
        connection = self.context.wrap_socket(
            self.sock,
            server_side=self.role == "server",
            server_hostname=self.hostname,
            do_handshake_on_connect=False,
        )
        with connection:
            try:
                connection.do_handshake()
                self.talk(connection, self.outcome.append)
            except OSError as error:
                self.outcome.append(described(error))
            # What the other side still has to read must not be lost to a reset: one of them closes last.
            with contextlib.suppress(OSError):
                while self.last and socket.socket.recv(connection, 65536):
                    pass

    def join(self):
        self.thread.join(LIMIT)
        assert not self.thread.is_alive(), "the peer still waits"
        return self.outcome


@contextlib.contextmanager
def logged(told, debug):
    """Note what asyncio logs meanwhile: warnings, and in debug mode whatever is about TLS."""

    def note(record):
        if record.levelno >= logging.WARNING or "SSL" in record.msg:
            # In its arguments are addresses of objects, and times.
            raised = record.exc_info and described(record.exc_info[1])
            told.append((record.levelname, record.msg, raised))
        return False

    logger = logging.getLogger("asyncio")
    level = logger.level
    logger.addFilter(note)
    logger.setLevel(logging.DEBUG if debug else logging.WARNING)
    try:
        yield
    finally:
        logger.removeFilter(note)
        logger.setLevel(level)


def run(loop, main, limit=LIMIT, debug=False):
    """Run a coroutine on a loop of this name.

    Returns its result, and what the loop has told its exception handler and asyncio's log.
    """
    told = []

    def note(loop, context):
        # Callbacks have the names of classes.
        message = context["message"].partition(" in callback ")[0]
        told.append((message, described(context.get("exception"))))

    async def limited():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(note)
        # How long callbacks take is a matter of luck.
        loop.slow_callback_duration = limit
        async with asyncio.timeout(limit):
            return await main()

    with logged(told, debug), asyncio.Runner(loop_factory=LOOPS[loop], debug=debug) as runner:
        return runner.run(limited()), told


def other(role):
    """Return the other role."""
    return {"client": "server", "server": "client"}[role]
