"""Memory that runs out: whichever allocation fails, the caller gets a MemoryError, and the loop goes on."""

import sys

import pytest

pytest.importorskip(
    "_testcapi", reason="this Python was built without _testcapi, which makes allocations fail"
)

PROGRAM = """
import gc, logging, socket, sys
import _testcapi
import velodrome

logging.disable()

unraisable = []
sys.unraisablehook = lambda report: unraisable.append(report.exc_type)

def nothing(*_):
    pass

async def result():
    return 1

def sends(make):
    # A use that makes what is to be awaited, and drives it until it waits, or is over.
    def make_use(loop):
        def use():
            coroutine = make(loop)
            try:
                coroutine.send(None)
            except StopIteration:
                pass
            finally:
                coroutine.close()
        return use
    return make_use

# Nothing is shown here: up to 3.13 the interpreter itself crashes in asyncio's Python code for that.

def used(loop):
    future = loop.create_future()
    future.add_done_callback(nothing)
    future.add_done_callback(nothing)
    future.set_result(1)
    future.remove_done_callback(nothing)

def scheduled(loop):
    loop.call_soon(nothing, 1), loop.call_later(0, nothing), loop.call_soon_threadsafe(nothing)
    loop.call_at(loop.time() + 100, nothing).cancel()

def made(loop):
    velodrome.Lock(), velodrome.Event(), velodrome.Condition(), velodrome.Semaphore(2), velodrome.Barrier(3)
    velodrome.Queue(), velodrome.LifoQueue(), velodrome.PriorityQueue(1)
    velodrome.TaskGroup(), velodrome.timeout(1)

def fed(loop):
    reader = velodrome.StreamReader(loop=loop)
    reader.feed_data(b"one")
    reader.feed_data(b"two")
    reader.feed_eof()

def watched(loop):
    loop.add_reader(one, nothing)
    loop.add_writer(one, nothing)
    loop.remove_reader(one), loop.remove_writer(one)

def tasked(loop):
    coroutine = result()
    try:
        task = loop.create_task(coroutine, name="task")
    except MemoryError:
        coroutine.close()
        raise
    task.add_done_callback(nothing)
    task.cancel()

def gathered(loop):
    velodrome.gather(loop.create_future(), loop.create_future()).cancel()
    velodrome.shield(loop.create_future()).cancel()

def connect(loop):
    client = socket.socket()
    client.setblocking(False)
    clients.append(client)
    return loop.sock_connect(client, listening.getsockname())

async def joining():
    queue = velodrome.Queue()
    queue.put_nowait(1)
    await queue.join()

async def timed():
    async with velodrome.timeout(100):
        await velodrome.sleep(100)

USES = {
    **{use.__name__: lambda loop, use=use: lambda: use(loop)
       for use in (used, scheduled, made, fed, watched, tasked, gathered)},
    "sleep": sends(lambda loop: velodrome.sleep(100, 1)),
    "yield": sends(lambda loop: velodrome.sleep(0)),
    "acquire": sends(lambda loop: velodrome.Lock().acquire()),
    "wait": sends(lambda loop: velodrome.Event().wait()),
    "get": sends(lambda loop: velodrome.Queue().get()),
    "join": sends(lambda loop: joining()),
    "timeout": sends(lambda loop: timed()),
    "wait_for": sends(lambda loop: velodrome.wait_for(loop.create_future(), 100)),
    "wait_any": sends(lambda loop: velodrome.wait([loop.create_future()], timeout=100)),
    "sock_recv": sends(lambda loop: loop.sock_recv(one, 5)),
    "sock_sendall": sends(lambda loop: loop.sock_sendall(one, b"x")),
    "sock_connect": sends(connect),
    "readline": sends(lambda loop: velodrome.StreamReader(loop=loop).readline()),
}

def strike(use, number):
    # What came of it, and whether that allocation was made.
    reached, came = True, None
    _testcapi.set_nomemory(number, number + 1)
    try:
        try:
            use()
        except Exception as exception:
            came = exception
        try:
            for _ in range(number + 1):
                object()
        except MemoryError:
            reached = False
    finally:
        _testcapi.remove_mem_hooks()
    return reached, came

async def alive():
    loop = velodrome.get_running_loop()
    future = loop.create_future()
    loop.call_soon(future.set_result, 1)
    await future
    await velodrome.sleep(0)
    assert await loop.create_task(result()) == 1

async def in_loop(name):
    # What is awaited by hand wants a running loop; what is scheduled runs in between.
    loop = velodrome.get_running_loop()
    make, failed = USES[name], 0
    for number in range(1000):
        reached, came = strike(make(loop), number)
        assert came is None or type(came) is MemoryError, (number, came)
        while clients:
            clients.pop().close()
        await alive()
        if not reached:
            assert came is None
            return failed
        failed += came is not None
    raise AssertionError("no end")

clients = []
listening = socket.create_server(("127.0.0.1", 0), backlog=1000)
one, other = socket.socketpair()
one.setblocking(False)
with listening, one, other:
    for name in USES:
        velodrome.run(in_loop(name))  # what is made once is there
        print(name, velodrome.run(in_loop(name)))
gc.collect()
assert set(unraisable) <= {MemoryError}, unraisable
"""


@pytest.mark.skipif(
    sys.version_info[:2] == (3, 12),
    reason="3.12's interpreter loses a MemoryError itself, in asyncio's code as well",
)
def test_the_caller_gets_a_memory_error_and_the_loop_goes_on(run_python):
    done = run_python(PROGRAM, options=("-W", "ignore"))
    assert "SystemError" not in done.stderr and "panicked" not in done.stderr, done.stderr
    struck = {name: int(count) for name, count in map(str.split, done.stdout.splitlines())}
    assert len(struck) == 20
    # What needs no memory of Python's, and what waits in kept instances, has nothing that could fail.
    assert struck["sock_connect"] > 10 and struck["made"] > 5
