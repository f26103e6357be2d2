"""A redis-py client; it asks the server at argv[2], over TLS if there is an argv[3]."""

import asyncio
import contextlib
import sys

import redis.asyncio as redis
import ways


async def main(port, tls):
    options = {}
    if tls:
        options = {"connection_class": redis.SSLConnection, "ssl_ca_certs": str(ways.TLS / "certificate.pem")}
    pool = redis.BlockingConnectionPool(
        host="127.0.0.1", port=int(port), max_connections=30, timeout=30, **options
    )
    client = redis.Redis(connection_pool=pool)
    await client.flushall()

    async def ask(number):
        key, value = f"key:{number}", bytes([number % 256]) * (number * 50)
        await client.set(key, value)
        assert await client.get(key) == value
        return number

    assert await asyncio.gather(*map(ask, range(400))) == list(range(400))

    # Thousands of commands in one go, and megabytes in one answer.
    async with client.pipeline(transaction=True) as pipeline:
        for number in range(3000):
            pipeline.incrby("counter", number)
        assert (await pipeline.execute())[-1] == sum(range(3000))
    large = bytes(range(256)) * 20_000
    await client.set("large", large)
    assert await client.get("large") == large
    assert len([key async for key in client.scan_iter("key:*", count=50)]) == 400

    # Waiting for what another connection brings.
    async def consume(amount):
        return [(await client.blpop("queue", timeout=30))[1] for _ in range(amount)]

    consumers = [asyncio.create_task(consume(50)) for _ in range(10)]
    for number in range(500):
        await client.rpush("queue", number)
    taken = [int(item) for items in await asyncio.gather(*consumers) for item in items]
    assert sorted(taken) == list(range(500))

    await publish(client)

    # A command that is given up must not have its answer taken for another's.
    for turns in range(60):
        task = asyncio.create_task(client.get("large"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            assert await task == large
        assert await client.get("key:7") == bytes([7]) * 350
    try:
        async with asyncio.timeout(0.05):
            await client.blpop("nothing", timeout=30)
    except TimeoutError:
        pass
    assert await ask(8) == 8
    await client.aclose()
    await pool.aclose()


async def publish(client):
    """Every subscriber hears everything, in order."""
    heard = []

    async def subscribe(ready):
        async with client.pubsub() as subscription:
            await subscription.subscribe("channel")
            messages = subscription.listen()
            assert (await anext(messages))["type"] == "subscribe"
            ready.set()
            heard.append([int((await anext(messages))["data"]) for _ in range(200)])

    ready = [asyncio.Event() for _ in range(10)]
    async with asyncio.TaskGroup() as group:
        for event in ready:
            group.create_task(subscribe(event))
        for event in ready:
            await event.wait()
        for number in range(200):
            assert await client.publish("channel", number) == 10
    assert heard == [list(range(200))] * 10


how, port, *tls = sys.argv[1:]
ways.run(main(port, tls), how)
