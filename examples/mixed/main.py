"""Python coroutines and Rust futures in one loop: `python examples/mixed/main.py [asyncio]`.

`pip install . ./examples/mixed` comes first. The same extension module serves velodrome's loop and asyncio's.
"""

import asyncio
import sys

import mixed

VALUES = {}


async def serve_keys(reader, writer):
    """A key-value server that knows three words of Redis's protocol."""
    while header := await reader.readline():
        words = []
        for _ in range(int(header[1:])):
            size = int((await reader.readline())[1:])
            words.append((await reader.readexactly(size + 2))[:-2])
        match words:
            case [b"GET", key]:
                value = VALUES.get(key)
                answer = b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)
            case [b"SET", key, value]:
                VALUES[key] = value
                answer = b"+OK\r\n"
            case [b"DEL", key]:
                answer = b":%d\r\n" % (VALUES.pop(key, None) is not None)
            case _:
                answer = b"-ERR unknown command\r\n"
        writer.write(answer)
        await writer.drain()
    writer.close()


async def serve_page(reader, writer):
    """An HTTP server of one page."""
    while (await reader.readline()).strip():
        pass
    writer.write(b"HTTP/1.0 200 OK\r\n\r\nhello from a page")
    await writer.drain()
    writer.close()


async def listen(serve):
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


async def fetch(key):
    """A coroutine of Python's, which Rust gathers."""
    await asyncio.sleep(0.01)
    return f"{key} fetched"


async def main():
    keys, keys_port = await listen(serve_keys)
    page, page_port = await listen(serve_page)
    async with keys, page:
        client = await mixed.KeyValue.connect("127.0.0.1", keys_port)
        print("set:", await client.set(b"track", b"velodrome"))

        # Rust futures and a coroutine, gathered by Python.
        value, missing, slept = await asyncio.gather(
            client.get(b"track"), client.get(b"field"), asyncio.sleep(0.01, "slept")
        )
        print("gathered:", value, missing, slept)

        # Coroutines, gathered by Rust.
        print("fetched:", await mixed.fetch_all(fetch, ["bend", "sprint"], timeout=5))

        # Rust's errors and time limits are Python's exceptions, and Python's time limits end Rust's futures.
        try:
            await mixed.fetch_all(lambda key: asyncio.sleep(60), ["bend"], timeout=0.01)
        except TimeoutError as error:
            print("too slow:", error)
        try:
            async with asyncio.timeout(0.01):
                await mixed.fetch_all(lambda key: asyncio.sleep(60), ["bend"], timeout=60)
        except TimeoutError:
            print("too slow for Python, too")

        # A future of tokio's, woken by tokio's own thread.
        print("tokio:", await mixed.tokio_get("127.0.0.1", page_port, "/"))
        print("deleted:", await client.delete(b"track"))
        del client
        # The servers' side hears of it.
        await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})


if __name__ == "__main__":
    if sys.argv[1:] == ["asyncio"]:
        asyncio.run(main())
    else:
        import velodrome

        velodrome.run(main())
