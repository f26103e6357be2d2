"""A server for the server rows, in a process of its own: `serve.py LOOP KIND`; it prints its port."""

import asyncio
import importlib
import socket
import sys
import tempfile


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


async def streams():
    """Echo by way of the standard library's streams."""

    async def echo(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=1024)
    started(server)
    await asyncio.Event().wait()


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


def main():
    """Make the loop that the arguments name, and serve on it."""
    loop, kind = sys.argv[1:]
    kinds = [protocol, streams, sockets, datagrams, files, uvicorn]
    serve = {kind.__name__: kind for kind in kinds}[kind]
    with asyncio.Runner(loop_factory=importlib.import_module(loop).new_event_loop) as runner:
        runner.run(serve())


if __name__ == "__main__":
    main()
