"""A forked child has the parent's loop in its memory: what it does there must leave the parent's alone."""

import pytest

FORK = """
import asyncio, gc, os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
if sys.argv[1] == "velodrome":
    import velodrome
    new_loop = velodrome.new_event_loop
else:
    new_loop = asyncio.SelectorEventLoop

async def child_main():
    await asyncio.sleep(0.001)
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon_threadsafe(future.set_result, "child ran")
    return await future

def child(parents):
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError as error:
        print("child:", error)
    else:
        print("child: running loop", loop)
    # What the parent's loop holds in the child must not reach the parent.
    parents.call_soon_threadsafe(print, "never")
    loop = new_loop()
    print("child:", loop.run_until_complete(child_main()), flush=True)
    loop.close()

async def main():
    loop = asyncio.get_running_loop()
    read, write = os.pipe()
    arrived = loop.create_future()
    loop.add_reader(read, lambda: arrived.done() or arrived.set_result(os.read(read, 10)))
    timer = asyncio.create_task(asyncio.sleep(0.01, "timer"))
    await asyncio.sleep(0)
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            child(loop)
            gc.collect()
            status = 0
        finally:
            sys.stdout.flush()
            os._exit(status)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        await asyncio.sleep(0.001)
    print("parent: child's status", status)
    assert asyncio.get_running_loop() is loop
    os.write(write, b"x")
    print("parent:", await arrived, await timer)
    other = loop.create_future()
    import threading
    threading.Thread(target=loop.call_soon_threadsafe, args=(other.set_result, "thread")).start()
    print("parent:", await other)
    loop.remove_reader(read)

loop = new_loop()
loop.run_until_complete(main())
loop.close()
"""


@pytest.mark.parametrize("name", ["asyncio", "velodrome"])
def test_fork_leaves_the_parents_loop_alone(run_python, name):
    assert run_python(FORK, name).stdout.splitlines() == [
        "child: no running event loop",
        "child: child ran",
        "parent: child's status 0",
        "parent: b'x' timer",
        "parent: thread",
    ]


FORK_IDLE = """
import asyncio, os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
if sys.argv[1] == "velodrome":
    import velodrome
    new_loop = velodrome.new_event_loop
else:
    new_loop = asyncio.SelectorEventLoop
loop = new_loop()
loop.run_until_complete(asyncio.sleep(0))
read, write = os.pipe()
loop.add_reader(read, print)
pid = os.fork()
if pid == 0:
    # The child may close its copy; the parent's registrations stay.
    loop.remove_reader(read)
    loop.close()
    os._exit(0)
os.waitpid(pid, 0)
future = loop.create_future()
loop.add_reader(read, lambda: future.set_result(os.read(read, 10)))
os.write(write, b"watched")
print(loop.run_until_complete(asyncio.wait_for(future, 10)))
loop.remove_reader(read)
loop.close()
"""


def test_closing_a_loop_in_the_child_leaves_the_parents_registrations(run_python):
    """asyncio fails here: its child unregisters in the epoll set that both share."""
    assert run_python(FORK_IDLE, "velodrome").stdout == "b'watched'\n"
