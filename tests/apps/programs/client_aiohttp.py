"""An aiohttp client that refuses to run on any loop but velodrome's; it asks the server at argv[2]."""

import asyncio
import contextlib
import sys

import aiohttp
import ways


async def main(url):
    async with aiohttp.ClientSession(
        url, connector=aiohttp.TCPConnector(limit=100, ssl=ways.trust())
    ) as session:

        async def ask(number):
            if number % 3 == 0:
                async with session.get("/slow") as response:
                    assert await response.read() == b"slow"
            else:
                body = bytes([number % 256]) * (number * 100)
                async with session.post("/echo", data=body) as response:
                    assert await response.read() == body
            return number

        assert await asyncio.gather(*map(ask, range(400))) == list(range(400))

        async with session.get("/large") as response:
            assert await response.read() == bytes(64 * 65536)

        async with session.ws_connect("/ws") as socket:
            for size in 0, 1, 125, 126, 70_000:
                await socket.send_str("x" * size)
                assert await socket.receive_str() == "x" * size
                await socket.send_bytes(b"y" * size)
                assert await socket.receive_bytes() == b"y" * size

        # Half of an answer is enough for some: the connection is closed rather than used again.
        for _ in range(20):
            async with session.get("/large") as response:
                await response.content.read(1000)

        # And some do not wait at all.
        for turns in range(60):
            task = asyncio.create_task(ask(0))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        assert await ask(7) == 7

    await difficult_servers()


async def difficult_servers():
    """Servers that stall, hang up, and send a byte at a time."""
    held = []

    async def stall(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Le")
        held.append(writer)

    async def reset(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        writer.transport.abort()

    async def drip(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello":
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        writer.close()

    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())

        async def served_by(handler):
            server = await asyncio.start_server(handler, "127.0.0.1", 0)
            stack.callback(server.close)
            return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"

        async def get(url):
            async with session.get(url, timeout=aiohttp.ClientTimeout(total=0.2)) as response:
                return await response.read()

        # Whether a timeout or an answer comes first is not a matter of luck: a stalling server never answers.
        results = await asyncio.gather(
            *[get(await served_by(stall)) for _ in range(20)], return_exceptions=True
        )
        assert {type(result) for result in results} <= {aiohttp.ServerTimeoutError, TimeoutError}, results

        async def get_patiently(url):
            async with session.get(url) as response:
                return await response.read()

        url = await served_by(reset)
        results = await asyncio.gather(*[get_patiently(url) for _ in range(50)], return_exceptions=True)
        assert all(isinstance(result, aiohttp.ClientError) for result in results), results
        url = await served_by(drip)
        assert await asyncio.gather(*[get_patiently(url) for _ in range(50)]) == [b"hello"] * 50
        for writer in held:
            writer.close()


how, url = sys.argv[1:]
ways.run(main(url), how)
