"""A server for the server rows, in a process of its own: `serve.py LOOP KIND`; it prints its port."""

import asyncio
import importlib
import socket
import sys


class Echo(asyncio.Protocol):
    """Sends everything back."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


async def protocol(listening):
    """Echo by way of a Protocol."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, sock=listening)
    await server.serve_forever()


async def streams(listening):
    """Echo by way of the standard library's streams."""

    async def echo(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, sock=listening)
    await server.serve_forever()


async def uvicorn(listening):
    """Say hello by way of uvicorn, in plain text."""
    import uvicorn

    start = {"type": "http.response.start", "status": 200}
    start["headers"] = [(b"content-type", b"text/plain"), (b"content-length", b"13")]
    body = {"type": "http.response.body", "body": b"Hello, world!"}

    async def app(scope, receive, send):
        await send(start)
        await send(body)

    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        timeout_keep_alive=3600,  # connections wait for their turn
    )
    await uvicorn.Server(config).serve(sockets=[listening])


def main():
    """Make the loop that the arguments name, and serve on it."""
    loop, kind = sys.argv[1:]
    # The protocol is named: asyncio sends small packets at once (TCP_NODELAY) only where it sees it.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen(1024)
    print(listening.getsockname()[1], flush=True)
    serve = {"protocol": protocol, "streams": streams, "uvicorn": uvicorn}[kind]
    with asyncio.Runner(loop_factory=importlib.import_module(loop).new_event_loop) as runner:
        runner.run(serve(listening))


if __name__ == "__main__":
    main()
