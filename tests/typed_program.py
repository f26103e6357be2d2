"""A program that says velodrome for asyncio, and which types that gives: mypy checks it, and it runs."""

import asyncio as plain
import concurrent.futures
from typing import assert_type

import velodrome as asyncio


async def number() -> int:
    return 1


async def text() -> str:
    return "text"


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Numbers(asyncio.Queue[int]):
    pass


class Group(asyncio.TaskGroup):
    pass


async def several() -> None:
    a, b = await asyncio.gather(number(), text())
    assert_type(a, int)
    assert_type(b, str)
    assert_type(
        await asyncio.gather(number(), text(), return_exceptions=True),
        tuple[int | BaseException, str | BaseException],
    )
    assert_type(await asyncio.gather(*[number(), number()]), list[int])
    tasks = [asyncio.create_task(number(), name="one"), asyncio.ensure_future(number())]
    done, _pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert_type(done, set[plain.Task[int]])
    for coming in asyncio.as_completed(tasks, timeout=10):
        assert_type(await coming, int)
    assert_type(await asyncio.shield(number()), int)
    assert_type(await asyncio.wait_for(number(), 10), int)
    assert_type(await asyncio.sleep(0, "result"), str)
    assert_type(await asyncio.to_thread(len, "text"), int)
    try:
        async with asyncio.timeout(0.01) as time_limit:
            assert_type(time_limit, asyncio.Timeout)
            await asyncio.Event().wait()
    except asyncio.TimeoutError:
        pass


async def in_a_group() -> int:
    async with Group() as group:
        assert_type(group, Group)
        task = group.create_task(text())
        also: asyncio.Future[str] = task  # every task is a future
        assert_type(await also, str)
        assert_type(task, plain.Task[str])
        return len(task.result())  # the group lets exceptions through, so that nothing comes behind it


async def with_a_queue_and_locks() -> None:
    queue = Numbers(maxsize=3)
    await queue.put(1)
    assert_type(await queue.get(), int)
    ordered = asyncio.PriorityQueue[tuple[int, str]]()
    ordered.put_nowait((1, "one"))
    assert_type(ordered.get_nowait(), tuple[int, str])
    condition = asyncio.Condition(asyncio.Lock())
    async with asyncio.Semaphore(2), condition:
        assert_type(await condition.wait_for(lambda: 1), int)


async def over_the_network(loop: asyncio.Loop) -> None:
    async def handle(reader: asyncio.StreamReader, writer: plain.StreamWriter) -> None:
        writer.write(await reader.readexactly(3))
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        writer.write(b"abc")
        assert_type(await reader.read(), bytes)
        writer.close()
    async with await loop.create_server(Echo, "127.0.0.1", 0) as echo:
        made = await loop.create_connection(Echo, *echo.sockets[0].getsockname()[:2])
        assert_type(made, tuple[plain.Transport, Echo])
        made[0].close()
    process = await asyncio.create_subprocess_exec("true", stdout=asyncio.subprocess.PIPE)
    assert_type(await process.communicate(), tuple[bytes, bytes])


async def main() -> int:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, asyncio.Loop)
    await several()
    await with_a_queue_and_locks()
    await over_the_network(loop)
    future: asyncio.Future[int] = loop.create_future()
    handle: asyncio.Handle = loop.call_soon(future.set_result, 3)
    assert not handle.cancelled() and asyncio.isfuture(future)
    assert_type(await future + await in_a_group(), int)
    outside = await asyncio.to_thread(asyncio.run_coroutine_threadsafe, number(), loop)
    assert_type(outside, concurrent.futures.Future[int])
    assert_type(await asyncio.wrap_future(outside), int)
    assert_type(await loop.run_in_executor(None, len, "text"), int)
    return len(asyncio.all_tasks())


if __name__ == "__main__":
    assert_type(asyncio.run(main()), int)
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        print(assert_type(runner.run(main()), int))
