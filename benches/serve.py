"""A server for the server rows, in a process of its own: `serve.py LOOP KIND [--own]`; it prints where it is.

With `--own` the loop's own pieces are put in the place of asyncio's first.
"""

import asyncio
import importlib
import socket
import ssl
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

TLS = Path(__file__).parent.parent / "tests" / "tls"
CERTIFICATE = TLS / "certificate.pem", TLS / "key.pem"


class Echo(asyncio.Protocol):
    """Sends everything back."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


def started(server):
    """Say where a server is to be found."""
    print(server.sockets[0].getsockname()[1], flush=True)


async def protocol():
    """Echo by way of a Protocol."""
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0, backlog=1024)
    started(server)
    await asyncio.Event().wait()


async def unix():
    """Echo by way of a Protocol, over Unix sockets."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "socket"))
        await asyncio.get_running_loop().create_unix_server(Echo, path, backlog=1024)
        print(path, flush=True)
        await asyncio.Event().wait()


def tls_context():
    """Make the context of a server, with the certificate of the tests."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*CERTIFICATE)
    return context


async def tls():
    """Echo by way of a Protocol, over TLS."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=1024, ssl=tls_context())
    started(server)
    await asyncio.Event().wait()


def streams(converse, context=lambda: None):
    """Serve by way of asyncio's streams: a function of a reader and a writer."""

    async def serve():
        async def connected(reader, writer):
            with suppress(asyncio.IncompleteReadError):
                await converse(reader, writer)
            writer.close()

        started(await asyncio.start_server(connected, "127.0.0.1", 0, backlog=1024, ssl=context()))
        await asyncio.Event().wait()

    return serve


async def chunks(reader, writer):
    """Echo what comes as it comes."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def lines(reader, writer):
    """Echo lines."""
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()


async def frames(reader, writer):
    """Echo frames: four bytes tell how many follow."""
    while True:
        header = await reader.readexactly(4)
        body = await reader.readexactly(int.from_bytes(header))
        writer.writelines((header, body))
        await writer.drain()


async def short_lines(reader, writer):
    """Read lines by the thousand, and send the last of each thousand back."""
    count = 0
    async for line in reader:
        count += 1
        if count % 1000 == 0:
            writer.write(line)
            await writer.drain()


async def sockets():
    """Echo by way of the loop's calls on sockets."""
    loop = asyncio.get_running_loop()

    async def echo(sock):
        with sock:
            while data := await loop.sock_recv(sock, 65536):
                await loop.sock_sendall(sock, data)

    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:
        server.setblocking(False)
        print(server.getsockname()[1], flush=True)
        tasks = set()
        while True:
            connection, _address = await loop.sock_accept(server)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tasks.add(loop.create_task(echo(connection)))


class EchoDatagrams(asyncio.DatagramProtocol):
    """Sends every datagram back."""

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.transport.sendto(data, addr)


async def datagrams():
    """Echo datagrams."""
    loop = asyncio.get_running_loop()
    transport, _protocol = await loop.create_datagram_endpoint(EchoDatagrams, ("127.0.0.1", 0))
    print(transport.get_extra_info("sockname")[1], flush=True)
    await asyncio.Event().wait()


async def files():
    """Answer each byte with a file of 100 MiB."""
    loop = asyncio.get_running_loop()

    class Sender(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.task = loop.create_task(loop.sendfile(self.transport, file))

    with tempfile.TemporaryFile() as file:
        file.truncate(100 * 1024 * 1024)
        server = await loop.create_server(Sender, "127.0.0.1", 0)
        started(server)
        await asyncio.Event().wait()


async def uvicorn():
    """Say hello by way of uvicorn, in plain text."""
    import uvicorn

    start = {"type": "http.response.start", "status": 200}
    start["headers"] = [(b"content-type", b"text/plain"), (b"content-length", b"13")]
    body = {"type": "http.response.body", "body": b"Hello, world!"}

    async def app(scope, receive, send):
        await send(start)
        await send(body)

    class Server(uvicorn.Server):
        async def startup(self, sockets=None):
            await super().startup(sockets)
            started(self.servers[0])

    config = uvicorn.Config(
        app,
        port=0,
        http="httptools",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        timeout_keep_alive=3600,  # connections wait for their turn
    )
    await Server(config).serve()


KINDS = {
    "protocol": protocol,
    "unix": unix,
    "tls": tls,
    "tls_streams": streams(chunks, tls_context),
    "streams": streams(chunks),
    "lines": streams(lines),
    "frames": streams(frames),
    "short_lines": streams(short_lines),
    "sockets": sockets,
    "datagrams": datagrams,
    "files": files,
    "uvicorn": uvicorn,
}


def main():
    """Make the loop that the arguments name, and serve on it."""
    loop, kind, *own = sys.argv[1:]
    module = importlib.import_module(loop)
    if own:
        module.install()
    with asyncio.Runner(loop_factory=module.new_event_loop) as runner:
        runner.run(KINDS[kind]())


if __name__ == "__main__":
    main()
