"""Loops beside and after one another: in runners, threads, forked and spawned processes, and at the end."""

import asyncio
import errno
import os
import signal
import socket
import threading

import pytest
import velodrome

# -- Runners -----------------------------------------------------------------------------------------------


async def where():
    """Do something of every kind; return the loop."""
    loop = asyncio.get_running_loop()
    woken = loop.create_future()
    threading.Thread(target=loop.call_soon_threadsafe, args=(woken.set_result, None)).start()
    await woken
    await asyncio.sleep(0.001)
    return loop


def test_runners_by_turns():
    """Each keeps its loop, and what was there before the first is there after the last."""
    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    with velodrome.Runner() as one, velodrome.Runner() as two, asyncio.Runner() as theirs:
        loops = [runner.run(where()) for runner in (one, two, theirs, two, one, theirs)]
        assert loops == [one.get_loop(), two.get_loop(), theirs.get_loop()] + [
            two.get_loop(),
            one.get_loop(),
            theirs.get_loop(),
        ]
        assert signal.set_wakeup_fd(before) == before
    assert all(loop.is_closed() for loop in loops)


def test_runner_within_a_run_is_for_other_threads():
    """Refused where a loop runs; in a thread it is one of its own."""

    async def main():
        coroutine = where()
        with pytest.raises(RuntimeError, match="running event loop"):
            velodrome.Runner().run(coroutine)
        coroutine.close()
        return await asyncio.to_thread(velodrome.run, where())

    with velodrome.Runner() as runner:
        inner = runner.run(main())
        assert isinstance(inner, velodrome.Loop) and inner is not runner.get_loop() and inner.is_closed()
        assert runner.run(where()) is runner.get_loop()


def test_run_after_run_leaves_the_wakeup_descriptor_as_it_was():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer)
    try:
        for _ in range(3):
            loop = velodrome.run(with_handler())
            assert loop.is_closed()
            assert signal.set_wakeup_fd(writer) == writer
    finally:
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)


async def with_handler():
    loop = asyncio.get_running_loop()
    heard = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR1, heard.set_result, None)
    signal.raise_signal(signal.SIGUSR1)
    await heard
    return loop


# -- Threads -----------------------------------------------------------------------------------------------


def test_two_loops_in_two_threads_talk():
    """Through sockets, call_soon_threadsafe and run_coroutine_threadsafe, in both directions."""
    ends = socket.socketpair()
    loops, results, ready = [None, None], [None, None], threading.Barrier(2, timeout=30)

    async def talk(index):
        loops[index] = asyncio.get_running_loop()
        ready.wait()
        other = loops[1 - index]
        reader, writer = await asyncio.open_connection(sock=ends[index])
        called = 0

        def call():
            nonlocal called
            called += 1

        for number in range(500):
            writer.write(b"%d\n" % number)
            assert await reader.readline() == b"%d\n" % number
            other.call_soon_threadsafe(call)
            if number % 50 == 0:
                done = asyncio.run_coroutine_threadsafe(double(number), other)
                assert await asyncio.wrap_future(done) == 2 * number
        writer.write(b"over\n")
        assert await reader.readline() == b"over\n"
        await asyncio.sleep(0.01)
        writer.close()
        ready.wait()  # neither loop ends while the other may still ask it
        return called

    async def double(number):
        await asyncio.sleep(0)
        return 2 * number

    def run(index):
        results[index] = velodrome.run(talk(index))

    threads = [threading.Thread(target=run, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results[0] is not None and results[0] + results[1] == 1000


# -- Forks -------------------------------------------------------------------------------------------------


FORK = """
import asyncio, os, signal, subprocess, sys, warnings
import velodrome
warnings.simplefilter("ignore", DeprecationWarning)

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(data)

async def use_everything(loop):
    # A server, a connection, a process with its pipes, a signal.
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    process = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    heard = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, heard.set)
    async def check():
        writer.write(b"data")
        assert await reader.readexactly(4) == b"data"
        process.stdin.write(b"line\\n")
        assert await process.stdout.readline() == b"line\\n"
        heard.clear()
        signal.raise_signal(signal.SIGUSR1)
        await heard.wait()
    async def end():
        process.stdin.close()
        assert await process.wait() == 0
        writer.close()
        server.close()
        loop.remove_signal_handler(signal.SIGUSR1)
    await check()
    return check, end

async def whole(loop):
    check, end = await use_everything(loop)
    await check()
    await end()

def child():
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise AssertionError("a loop is running")
    with asyncio.Runner(loop_factory=velodrome.new_event_loop) as runner:
        runner.run(whole(runner.get_loop()))

async def main():
    loop = asyncio.get_running_loop()
    check, end = await use_everything(loop)
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                child()
                status = 0
            finally:
                sys.stderr.flush()
                os._exit(status)
        await check()
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                break
            await check()
        assert status == 0, status
        await check()
    await end()

velodrome.run(main())
print("all is well")
"""


def test_forked_child_runs_a_loop_of_its_own(run_python):
    """Servers, processes and signals of the parent go on meanwhile, and the child has its own."""
    done = run_python(FORK, options=("-W", "ignore"))
    assert done.stdout == "all is well\n"


INHERITED = """
import asyncio, os, signal, socket, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)
if sys.argv[1] == "velodrome":
    import velodrome
    new_loop = velodrome.new_event_loop
else:
    new_loop = asyncio.SelectorEventLoop

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

loop = new_loop()
read, write = os.pipe()
seen = []

async def prepare():
    # All that a program can have on its loop before it becomes a daemon.
    loop.add_reader(read, lambda: seen.append(os.read(read, 10)))
    loop.call_soon(seen.append, "soon")
    loop.call_later(0.01, seen.append, "later")
    loop.add_signal_handler(signal.SIGUSR1, print)
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    return server, asyncio.create_task(asyncio.sleep(0.01, "slept"))

async def until(done):
    async with asyncio.timeout(20):
        while not done():
            await asyncio.sleep(0.001)

async def main(server, task):
    print(await task)
    os.write(write, b"x")
    await until(lambda: b"x" in seen and "later" in seen)
    threading.Thread(target=loop.call_soon_threadsafe, args=(seen.append, "thread")).start()
    await until(lambda: "thread" in seen)
    print(await loop.run_in_executor(None, str.upper, "executor"))
    # From 3.12 on, Python itself takes the wake-up descriptor from the child.
    loop.add_signal_handler(signal.SIGUSR1, lambda: seen.append("signal"))
    os.kill(os.getpid(), signal.SIGUSR1)
    await until(lambda: "signal" in seen)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"there and back")
    print(await reader.readexactly(14))
    writer.close()
    await writer.wait_closed()
    print(sorted(map(str, seen)))
    process = await asyncio.create_subprocess_exec("true")
    print(await process.wait())

def daemon(server, task, generations):
    if generations and (pid := os.fork()):
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    status = 1
    try:
        if generations > 1:
            daemon(server, task, generations - 1)
        asyncio.set_event_loop(loop)
        loop.run_until_complete(main(server, task))
        server.close()
        loop.remove_reader(read)
        loop.close()
        status = 0
    finally:
        sys.stdout.flush()
        os._exit(status)

prepared = loop.run_until_complete(prepare())
pid = os.fork()
if pid == 0:
    daemon(*prepared, int(sys.argv[2]))
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print("status", status)
# The child has closed the loop, but not the parent's.
if sys.argv[1] == "velodrome":
    loop.run_until_complete(main(*prepared))
"""


@pytest.mark.parametrize("generations", [0, 2])
def test_inherited_loop_runs_in_the_child(run_python, generations):
    """As of a program that makes its loop and then becomes a daemon, which forks twice."""
    outcomes = [run_python(INHERITED, name, str(generations)) for name in ("asyncio", "velodrome")]
    said, ours = (outcome.stdout.splitlines() for outcome in outcomes)
    assert said[-1] == "status 0", outcomes[0].stderr
    assert ours[: len(said)] == said, outcomes[1].stderr
    assert ours[len(said) :] == said[:-1], "the parent's loop suffered"


OUT_OF_DESCRIPTORS = """
import os, resource, sys
import velodrome

loop = velodrome.new_event_loop()
if pid := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
loop.call_soon(loop.stop)
try:
    loop.run_forever()
except OSError as error:
    print(os.strerror(error.errno))
resource.setrlimit(resource.RLIMIT_NOFILE, limits)
loop.run_forever()
print("ran")
"""


def test_inherited_loop_waits_for_descriptors_to_be_had(run_python):
    assert run_python(OUT_OF_DESCRIPTORS).stdout.splitlines() == [os.strerror(errno.EMFILE), "ran"]


POOL = """
import asyncio, concurrent.futures, multiprocessing, sys
import velodrome

async def inside(number):
    process = await asyncio.create_subprocess_shell(f"exit {number}")
    return isinstance(asyncio.get_running_loop(), velodrome.Loop), await process.wait()

def work(number):
    return velodrome.run(inside(number))

async def main(method):
    loop = asyncio.get_running_loop()
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        done = await asyncio.gather(*[loop.run_in_executor(pool, work, number) for number in range(10)])
    assert done == [(True, number) for number in range(10)], done

if __name__ == "__main__":
    velodrome.run(main(sys.argv[1]))
    print("all is well")
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pools_of_processes(tmp_path, run_python, method):
    """Started from within a running loop, each process runs loops and processes of its own."""
    # Spawned processes import it, which they could not if it came from the command line.
    (tmp_path / "pool.py").write_text(POOL)
    command = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, *sys.argv[1:]]))"
    done = run_python(command, "-W", "ignore", tmp_path / "pool.py", method)
    assert done.stdout == "all is well\n"


# -- The end of the interpreter ----------------------------------------------------------------------------


OPEN = {
    "idle": "",
    "used": "loop.run_until_complete(asyncio.sleep(0))",
    "callbacks": "loop.call_soon(print, loop); loop.call_later(100, print, loop)",
    "threadsafe": "loop.call_soon_threadsafe(print, loop)",
    "reader": "loop.add_reader(os.pipe()[0], print, loop)",
    "signal": "loop.add_signal_handler(signal.SIGUSR1, print, loop)",
    "task": "task = loop.create_task(asyncio.sleep(100)); loop.run_until_complete(asyncio.sleep(0))",
    "generator": "loop.run_until_complete(anext(generate()))",
    "executor": "loop.run_until_complete(loop.run_in_executor(None, print))",
    "connection": """
one, two = socket.socketpair()
streams = loop.run_until_complete(asyncio.open_connection(sock=one))
""",
    "server": "server = loop.run_until_complete(asyncio.start_server(print, '127.0.0.1', 0))",
    "pipe": """
reader, writer = os.pipe()
pipes = [
    loop.run_until_complete(loop.connect_read_pipe(asyncio.Protocol, open(reader, "rb", buffering=0))),
    loop.run_until_complete(loop.connect_write_pipe(asyncio.Protocol, open(writer, "wb", buffering=0))),
]
pipes[1][0].write(bytes(1_000_000))
""",
    "subprocess": """
process = loop.run_until_complete(asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1))
""",
    "thread": """
def call():
    while True:
        try:
            loop.call_soon_threadsafe(int)
        except RuntimeError:
            break
        time.sleep(0.0001)
threading.Thread(target=call, daemon=True).start()
loop.run_until_complete(asyncio.sleep(0.01))
""",
    "running_thread": """
threading.Thread(target=loop.run_forever, daemon=True).start()
asyncio.run_coroutine_threadsafe(asyncio.sleep(0.001), loop).result()
""",
    "cycle": "loop.itself = loop; loop.call_soon(print, loop)",
}


@pytest.mark.parametrize("kept", ["module", "cycle"])
@pytest.mark.parametrize("what", OPEN)
def test_interpreter_that_ends_with_an_open_loop(run_python, what, kept):
    """Nothing crashes or hangs, and nothing but warnings is said."""
    program = f"""
import asyncio, os, signal, socket, sys, threading, time
import velodrome
async def generate():
    try:
        yield
    finally:
        await asyncio.sleep(1)
loop = velodrome.new_event_loop()
{OPEN[what]}
if {kept!r} == "cycle":
    class Holder: pass
    holder = Holder()
    holder.all = dict(globals()), holder
    if "pipes" in globals():
        del pipes
    del holder, loop
"""
    done = run_python(program, options=("-X", "dev"))
    for trouble in ("Fatal", "panicked", "SystemError", "Segmentation"):
        assert trouble not in done.stderr, done.stderr


def test_exit_from_within_a_callback(run_python):
    program = """
import asyncio, sys, velodrome
async def main():
    asyncio.get_running_loop().call_soon(sys.exit, 7)
    await asyncio.sleep(100)
velodrome.run(main())
"""
    assert run_python(program, check=False).returncode == 7


@pytest.mark.parametrize("loop", ["asyncio", "velodrome"])
def test_death_by_a_signal_while_waiting(run_python, loop):
    program = f"""
import asyncio, os, signal, {loop}
async def main():
    asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGTERM)
    await asyncio.sleep(100)
with asyncio.Runner(loop_factory={loop}.new_event_loop) as runner:
    runner.run(main())
"""
    assert run_python(program, check=False).returncode == -signal.SIGTERM


BUSY = {
    "callbacks": """
async def main():
    loop = asyncio.get_running_loop()
    while True:
        loop.call_soon(time.sleep, 0.0003)
        await asyncio.sleep(0)
""",
    "tasks": """
async def work():
    time.sleep(0.0003)
    for _ in range(500):
        pass
async def main():
    while True:
        await velodrome.gather(work(), work())
""",
    "protocols": """
class Slow(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        transport.write(b"x")
    def data_received(self, data):
        time.sleep(0.0003)
        self.transport.write(data)
async def main():
    loop = asyncio.get_running_loop()
    one, other = socket.socketpair()
    await loop.create_connection(Slow, sock=one)
    await loop.create_connection(Slow, sock=other)
    await asyncio.sleep(1000)
""",
    "destructors": """
class Slow:
    def __del__(self):
        time.sleep(0.0003)
async def main():
    loop = asyncio.get_running_loop()
    while True:
        loop.call_soon(id, Slow())
        future = loop.create_future()
        future.set_result(Slow())
        await future
        del future
        await asyncio.sleep(0)
""",
}


@pytest.mark.parametrize("busy", BUSY)
def test_loops_of_daemon_threads_do_not_disturb_the_end_of_the_interpreter(run_python, busy):
    """Up to 3.13 such a thread ends, on the spot, in the middle of what it calls."""
    program = f"""
import asyncio, socket, threading, time
import velodrome
{BUSY[busy]}
for _ in range(3):
    threading.Thread(target=velodrome.run, args=(main(),), daemon=True).start()
time.sleep(0.05)
"""
    for _ in range(4):
        assert run_python(program).stderr == ""
