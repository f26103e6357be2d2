"""An asyncpg client; it asks the PostgreSQL server at argv[2], over TLS if there is an argv[3]."""

import asyncio
import contextlib
import sys

import asyncpg
import ways


async def main(port, tls):
    server = {"host": "127.0.0.1", "port": int(port), "user": "tester", "database": "postgres"}
    server["ssl"] = ways.trust() if tls else False
    async with asyncpg.create_pool(**server, min_size=2, max_size=20) as pool:
        await pool.execute("DROP TABLE IF EXISTS things")
        await pool.execute("CREATE TABLE things (number int PRIMARY KEY, content bytea, at timestamptz)")

        async def ask(number):
            content = bytes([number % 256]) * (number * 50)
            query = "INSERT INTO things VALUES ($1, $2, now()) RETURNING content"
            assert await pool.fetchval(query, number, content) == content
            return number

        assert await asyncio.gather(*map(ask, range(400))) == list(range(400))
        assert await pool.fetchval("SELECT count(*) FROM things") == 400

        # Many rows in one go, in and out, all at once and as a cursor moves.
        rows = [(number, b"x" * 100) for number in range(1000, 21_000)]
        async with pool.acquire() as connection:
            await connection.copy_records_to_table("things", records=rows, columns=["number", "content"])
            assert len(await connection.fetch("SELECT * FROM things")) == 20_400
            async with connection.transaction():
                numbers = [row[0] async for row in connection.cursor("SELECT number FROM things")]
            assert len(set(numbers)) == 20_400
            with contextlib.suppress(ZeroDivisionError):
                async with connection.transaction():
                    await connection.execute("DELETE FROM things")
                    raise ZeroDivisionError
            assert await connection.fetchval("SELECT count(*) FROM things") == 20_400
            try:
                await connection.execute("SELECT 1/0")
            except asyncpg.DivisionByZeroError:
                pass
            else:
                raise AssertionError("nothing was raised")

        # A query that is given up is cancelled at the server, by a connection of its own.
        for turns in range(40):
            task = asyncio.create_task(pool.fetchval("SELECT count(*) FROM things, pg_sleep(0.002)"))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                assert await task == 20_400
            assert await pool.fetchval("SELECT $1::int", turns) == turns
        try:
            await pool.execute("SELECT pg_sleep(30)", timeout=0.05)
        except TimeoutError:
            pass
        else:
            raise AssertionError("no timeout")
        await notify(pool)


async def notify(pool):
    """Every listener hears everything, in order."""
    heard, over = {}, asyncio.Event()

    def hear(connection, process, channel, payload):
        heard.setdefault(connection.get_server_pid(), []).append(int(payload))
        if len(heard) == 5 and all(len(numbers) == 100 for numbers in heard.values()):
            over.set()

    async with contextlib.AsyncExitStack() as stack:
        listeners = [await stack.enter_async_context(pool.acquire()) for _ in range(5)]
        for listener in listeners:
            await listener.add_listener("channel", hear)
        for number in range(100):
            await pool.execute("SELECT pg_notify('channel', $1::int::text)", number)
        await over.wait()
        for listener in listeners:
            await listener.remove_listener("channel", hear)
    assert list(heard.values()) == [list(range(100))] * 5


how, port, *tls = sys.argv[1:]
ways.run(main(port, tls), how)
