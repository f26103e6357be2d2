"""The operations that are measured, one function each, and the table's rows that they make.

A function is given `aio`, a namespace with asyncio's names, and a number `n`. It does its operation n times
on the running loop. In `aio` every name is asyncio's, or velodrome's own where it has it: that is the only
difference between the two columns of velodrome. The code is the same for every loop.
"""

import asyncio
import socket
import subprocess
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any


@dataclass(frozen=True)
class Row:
    """An operation and what the table says of it."""

    key: str
    name: str
    n: int  # operations in a round: such that asyncio's takes about ten milliseconds
    measure: Callable[[Any, int], Awaitable[None]]
    own: tuple[str, ...]  # names of asyncio that the row is about, and that velodrome may have of its own
    loop: bool  # whether the loop does anything; if not, only the pieces above it are compared
    cpu: bool  # processor time rather than time on the clock, for what also waits
    others: bool  # whether another thread or process takes part: then the median of the rounds counts


ROWS: dict[str, Row] = {}


def row(name, n, *, own=(), loop=True, cpu=False, others=False):
    """Make a row of a function."""

    def register(measure):
        key = measure.__name__
        ROWS[key] = Row(key, name, n, measure, tuple(own), loop, cpu, others)
        return measure

    return register


class Names:
    """asyncio's names, each from the first of the modules that has it."""

    def __init__(self, *modules):
        self._modules = modules

    def __getattr__(self, name):
        for module in self._modules:
            if hasattr(module, name):
                value = getattr(module, name)
                setattr(self, name, value)  # the next look-up is as fast as asyncio's
                return value
        raise AttributeError(name)


async def noop():
    """Finish at once."""


def nothing(*_):
    """Do nothing, as a callback."""


async def turn(loop):
    """Wait until the loop has run everything that is queued now."""
    future = loop.create_future()
    loop.call_soon(future.set_result, None)
    await future


# --- tasks and futures


@row("`await sleep(0)`", 5_000, own=["sleep"])
async def sleep_zero(aio, n):
    sleep = aio.sleep
    for _ in range(n):
        await sleep(0)


@row("`await create_task(noop())`", 2_500, own=["create_task"])
async def create_task(aio, n):
    create_task = aio.create_task
    for _ in range(n):
        await create_task(noop())


@row("`await loop.create_task(noop())`", 2_500)
async def loop_create_task(aio, n):
    create_task = aio.get_running_loop().create_task
    for _ in range(n):
        await create_task(noop())


@row("`gather` of 100, per task", 4_000, own=["gather"])
async def gather(aio, n):
    gather = aio.gather
    for _ in range(n // 100):
        await gather(*[noop() for _ in range(100)])


@row("`TaskGroup` of 100, per task", 4_000, own=["TaskGroup"])
async def task_group(aio, n):
    for _ in range(n // 100):
        async with aio.TaskGroup() as group:
            for _ in range(100):
                group.create_task(noop())


@row("a future's round trip, between two tasks", 2_500)
async def future_round_trip(aio, n):
    create_future = aio.get_running_loop().create_future
    ask, answer = create_future(), create_future()

    async def partner():
        nonlocal ask
        for _ in range(n):
            await ask
            ask = create_future()
            answer.set_result(None)

    task = aio.get_running_loop().create_task(partner())
    for _ in range(n):
        ask.set_result(None)
        await answer
        answer = create_future()
    await task


@row("a future, completed by `call_soon`", 5_000)
async def future_call_soon(aio, n):
    loop = aio.get_running_loop()
    for _ in range(n):
        await turn(loop)


# --- callbacks and timers


@row("`call_soon`, each from the one before", 7_500)
async def call_soon(aio, n):
    loop = aio.get_running_loop()
    call_soon, done, left = loop.call_soon, loop.create_future(), n

    def step():
        nonlocal left
        left -= 1
        if left:
            call_soon(step)
        else:
            done.set_result(None)

    call_soon(step)
    await done


@row("`call_soon`, 1,000 at a time", 20_000)
async def call_soon_batch(aio, n):
    loop = aio.get_running_loop()
    call_soon = loop.call_soon
    for _ in range(n // 1000):
        for _ in range(1000):
            call_soon(nothing)
        await turn(loop)


@row("`call_soon` with three arguments, 1,000 at a time", 20_000)
async def call_soon_arguments(aio, n):
    loop = aio.get_running_loop()
    call_soon = loop.call_soon
    for _ in range(n // 1000):
        for _ in range(1000):
            call_soon(nothing, 1, 2, 3)
        await turn(loop)


@row("`call_later` and `cancel`", 10_000)
async def call_later_cancel(aio, n):
    loop = aio.get_running_loop()
    call_later = loop.call_later
    for _ in range(n // 100):
        for _ in range(100):
            call_later(60, nothing).cancel()
        await turn(loop)


@row("`call_at`, 1,000 due at once", 10_000)
async def call_at(aio, n):
    loop = aio.get_running_loop()
    call_at = loop.call_at
    done, left = None, 0

    def due():
        nonlocal left
        left -= 1
        if not left:
            done.set_result(None)

    for _ in range(n // 1000):
        done, left, now = loop.create_future(), 1000, loop.time()
        for _ in range(1000):
            call_at(now, due)
        await done


@row(
    "30,000 tasks `sleep` 0 to 10 ms, processor time per task", 30_000, own=["sleep", "create_task"], cpu=True
)
async def sleeps(aio, n):
    # Processor time: the clock would also count the ten milliseconds. The end is counted rather than
    # gathered, so that nothing is measured but tasks and timers.
    sleep, create_task = aio.sleep, aio.create_task
    done, left = aio.get_running_loop().create_future(), n

    async def nap(delay):
        nonlocal left
        await sleep(delay)
        left -= 1
        if not left:
            done.set_result(None)

    # 7919 is prime to 10,000: every delay from 0 to 9,999 µs comes as often, far from sorted.
    tasks = [create_task(nap(i * 7919 % 10_000 * 1e-6)) for i in range(n)]
    await done
    del tasks


# --- locks, queues, timeouts


@row("`Lock`, free", 20_000, own=["Lock"], loop=False)
async def lock_free(aio, n):
    lock = aio.Lock()
    for _ in range(n):
        async with lock:
            pass


@row("`Lock`, ten tasks in turn", 2_000, own=["Lock"])
async def lock_contended(aio, n):
    lock, sleep = aio.Lock(), aio.sleep

    async def user():
        for _ in range(n // 10):
            async with lock:
                await sleep(0)

    for task in [aio.create_task(user()) for _ in range(10)]:
        await task


@row("`Semaphore(2)`, ten tasks in turn", 2_000, own=["Semaphore"])
async def semaphore(aio, n):
    semaphore, sleep = aio.Semaphore(2), aio.sleep

    async def user():
        for _ in range(n // 10):
            async with semaphore:
                await sleep(0)

    for task in [aio.create_task(user()) for _ in range(10)]:
        await task


@row("`Event`, set for a task that waits", 2_500, own=["Event"])
async def event(aio, n):
    ping, pong = aio.Event(), aio.Event()

    async def partner():
        for _ in range(n // 2):
            await ping.wait()
            ping.clear()
            pong.set()

    task = aio.create_task(partner())
    for _ in range(n // 2):
        ping.set()
        await pong.wait()
        pong.clear()
    await task


@row("`Condition`, handed over between two tasks", 1_000, own=["Condition"])
async def condition(aio, n):
    condition, turns = aio.Condition(), 0

    async def partner(parity):
        nonlocal turns
        async with condition:
            while turns < n:
                if turns % 2 == parity:
                    turns += 1
                    condition.notify()
                else:
                    await condition.wait()
            condition.notify()

    task = aio.create_task(partner(0))
    await partner(1)
    await task


@row("`Barrier` of ten tasks, per task", 1_000, own=["Barrier"])
async def barrier(aio, n):
    barrier = aio.Barrier(10)

    async def party():
        for _ in range(n // 10):
            await barrier.wait()

    for task in [aio.create_task(party()) for _ in range(10)]:
        await task


@row("`wait` of 100, per task", 2_000, own=["wait", "create_task"])
async def wait_all(aio, n):
    create_task = aio.create_task
    for _ in range(n // 100):
        await aio.wait([create_task(noop()) for _ in range(100)])


@row("`as_completed` of 100, per task", 2_000, own=["as_completed", "create_task"])
async def as_completed(aio, n):
    for _ in range(n // 100):
        for each in aio.as_completed([noop() for _ in range(100)]):
            await each


@row("`Queue`, put and get in one task", 10_000, own=["Queue"], loop=False)
async def queue_one_task(aio, n):
    queue = aio.Queue()
    for item in range(n):
        await queue.put(item)
        await queue.get()


@row("`Queue(1)`, from task to task", 2_500, own=["Queue"])
async def queue_two_tasks(aio, n):
    queue = aio.Queue(1)

    async def producer():
        for item in range(n):
            await queue.put(item)

    task = aio.create_task(producer())
    for _ in range(n):
        await queue.get()
    await task


async def lines_byte_by_byte(aio, n, length):
    """Read lines that come in pieces of a byte, giving way after every 64."""
    reader = aio.StreamReader(limit=2 * length, loop=aio.get_running_loop())

    async def feed():
        for number in range(1, n + 1):
            reader.feed_data(b"x" if number % length else b"\n")
            if number % 64 == 0:
                await aio.sleep(0)

    feeding = aio.create_task(feed())
    for _ in range(n // length):
        await reader.readline()
    await feeding


@row("`readline`, 1 KiB byte by byte, each byte", 1 << 14, own=["StreamReader"], loop=False)
async def line_of_1k(aio, n):
    await lines_byte_by_byte(aio, n, 1 << 10)


@row("`readline`, 1 MiB byte by byte, each byte", 1 << 20, own=["StreamReader"], loop=False)
async def line_of_1m(aio, n):
    await lines_byte_by_byte(aio, n, 1 << 20)


@row("`timeout(60)` around a `sleep(0)`", 2_000, own=["timeout"])
async def timeout(aio, n):
    sleep, timeout = aio.sleep, aio.timeout
    for _ in range(n):
        async with timeout(60):
            await sleep(0)


@row("`wait_for` of a `sleep(0)`", 2_000, own=["wait_for"])
async def wait_for(aio, n):
    sleep, wait_for = aio.sleep, aio.wait_for

    async def nap():
        await sleep(0)

    for _ in range(n):
        await wait_for(nap(), 60)


# --- the kernel and other threads


@row("`add_reader`: a byte there and back over a socket pair", 1_000)
async def add_reader(aio, n):
    loop = aio.get_running_loop()
    here, there = socket.socketpair()
    done, left = loop.create_future(), n

    def arrived():
        nonlocal left
        here.recv(1)
        left -= 1
        if left:
            here.send(b"x")
        else:
            done.set_result(None)

    def echo():
        there.send(there.recv(1))

    with here, there:
        here.setblocking(False)
        there.setblocking(False)
        loop.add_reader(here.fileno(), arrived)  # numbers: rloop takes no sockets
        loop.add_reader(there.fileno(), echo)
        here.send(b"x")
        await done
        loop.remove_reader(here.fileno())
        loop.remove_reader(there.fileno())


@row("`call_soon_threadsafe`, 100 at a time in the loop's own thread", 5_000)
async def threadsafe_own_thread(aio, n):
    loop = aio.get_running_loop()
    call_soon_threadsafe = loop.call_soon_threadsafe
    for _ in range(n // 100):
        for _ in range(100):
            call_soon_threadsafe(nothing)
        await turn(loop)


@row("`call_soon_threadsafe`, round trip to another thread", 500, others=True)
async def threadsafe_round_trip(aio, n):
    loop = aio.get_running_loop()
    asked = SimpleQueue()

    def answer():
        while future := asked.get():
            loop.call_soon_threadsafe(future.set_result, None)

    thread = threading.Thread(target=answer)
    thread.start()
    for _ in range(n):
        future = loop.create_future()
        asked.put(future)
        await future
    asked.put(None)
    thread.join()


@row("`run_in_executor`, round trip", 500, others=True)
async def run_in_executor(aio, n):
    loop = aio.get_running_loop()
    for _ in range(n):
        await loop.run_in_executor(None, nothing)


@row("subprocess, started and awaited", 10, cpu=True, others=True)
async def subprocess_exec(aio, n):
    for _ in range(n):
        process = await aio.create_subprocess_exec("/bin/true")
        await process.wait()


@row("1 KiB to a subprocess and back", 200, cpu=True, others=True)
async def subprocess_pipes(aio, n):
    process = await aio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    message = bytes(1024)
    for _ in range(n):
        process.stdin.write(message)
        await process.stdout.readexactly(1024)
    process.stdin.close()
    await process.wait()


# --- memory: what a task costs while it is blocked


@dataclass(frozen=True)
class MemoryRow:
    """A way of being blocked; `start` fills a list with tasks that are."""

    key: str
    name: str
    start: Callable[[Any, list[asyncio.Task | None]], None]
    own: tuple[str, ...]


MEMORY_ROWS: dict[str, MemoryRow] = {}


def memory_row(name, *, own):
    """Make a row of a function."""

    def register(start):
        key = start.__name__
        MEMORY_ROWS[key] = MemoryRow(key, name, start, tuple(own))
        return start

    return register


async def wait(future):
    """Be blocked."""
    await future


@memory_row("all awaiting one future", own=["create_task"])
def one_future(aio, tasks):
    future = aio.get_running_loop().create_future()
    for i in range(len(tasks)):
        tasks[i] = aio.create_task(wait(future))


@memory_row("each awaiting a future of its own", own=["create_task"])
def own_futures(aio, tasks):
    create_future = aio.get_running_loop().create_future
    for i in range(len(tasks)):
        tasks[i] = aio.create_task(wait(create_future()))


@memory_row("each in `sleep(1000)`", own=["create_task", "sleep"])
def asleep(aio, tasks):
    async def nap():
        await aio.sleep(1000)

    for i in range(len(tasks)):
        tasks[i] = aio.create_task(nap())
