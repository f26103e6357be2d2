"""Subprocesses: every keyword of Popen; exits that are noticed in any thread, on any loop, and never lost."""

import asyncio
import contextlib
import errno
import gc
import os
import re
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings

import pytest
import velodrome
from differential import compare, worlds
from differential.cancellation import descriptors, settle
from differential.children import children

either_loop = worlds.either_loop

pytestmark = pytest.mark.timeout(60)

PIPE, STDOUT, DEVNULL = subprocess.PIPE, subprocess.STDOUT, subprocess.DEVNULL


@pytest.fixture(autouse=True)
def _nothing_is_left():
    before, open_before = children(), descriptors()
    yield
    gc.collect()
    deadline = time.monotonic() + 30
    while not children() <= before and time.monotonic() < deadline:
        time.sleep(0.001)
        subprocess._cleanup()  # of those that nobody has waited for
    assert children() <= before
    assert descriptors().items() <= open_before.items()


async def output_of(*command, **options):
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE, **options)
    out, err = await process.communicate()
    return process.returncode, out, err


# -- Keywords ----------------------------------------------------------------------------------------------


def show(expression):
    """A program that shows what it is, by an expression of os, sys and signal."""
    return [sys.executable, "-S", "-c", f"import os, sys, signal; print({expression})"]


root = os.geteuid() == 0

KEYWORDS = {
    "cwd": (show("os.getcwd()"), {"cwd": "/"}),
    "env": (show("os.environ['A'], len(os.environ) < 5"), {"env": {"A": "B"}}),
    "executable": ([*"abc", "exit 3"], {"executable": "/bin/false"}),
    "preexec_fn": (show("os.environ.get('A'), os.getcwd()"), {"preexec_fn": lambda: os.chdir("/")}),
    "umask": (show("oct(os.umask(0))"), {"umask": 0o123}),
    "start_new_session": (show("os.getsid(0) == os.getpid()"), {"start_new_session": True}),
    "process_group": (show("os.getpgid(0) == os.getpid()"), {"process_group": 0}),
    "restore_signals": (show("signal.getsignal(signal.SIGXFSZ)"), {"restore_signals": False}),
    "pipesize": (show("1"), {"pipesize": 65536}),
    "stdin": (["cat"], {"stdin": DEVNULL}),
    "creationflags": (["true"], {"creationflags": 1}),
    "startupinfo": (["true"], {"startupinfo": object()}),
    "limit": (["true"], {"limit": 5}),
    "unknown": (["true"], {"unknown": 5}),
    "text": (["true"], {"text": True}),
    "encoding": (["true"], {"encoding": "utf-8"}),
    "errors": (["true"], {"errors": "ignore"}),
    "universal_newlines": (["true"], {"universal_newlines": True}),
    "shell": (["true"], {"shell": True}),
    "bufsize": (["true"], {"bufsize": 5}),
    "no_program": (["/there/is/no/such/program"], {}),
    "no_folder": (["true"], {"cwd": "/there/is/no/such/folder"}),
    "no_text": ([5], {}),
    "path": ([b"true"], {}),
    "preexec_fn_that_fails": (["true"], {"preexec_fn": lambda: 1 / 0}),
}
if root:
    KEYWORDS |= {
        "user": (show("os.getresuid()"), {"user": 65534}),
        "group": (show("os.getresgid()"), {"group": 65534}),
        "extra_groups": (show("os.getgroups()"), {"extra_groups": [65534]}),
        "user_by_name": (show("os.getresuid()"), {"user": "nobody"}),
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("keyword", KEYWORDS)
def test_keywords(keyword):
    command, options = KEYWORDS[keyword]
    compare.check_same(lambda loop: loop.run_until_complete(output_of(*command, **options)))


@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
def test_descriptors_that_are_passed_on(closed):
    """close_fds and pass_fds."""

    def program(loop):
        reader, writer = os.pipe()
        os.set_inheritable(reader, True)
        try:
            options = {"close_fds": closed, "pass_fds": [writer] if closed else []}
            command = show(f"[os.path.exists('/proc/self/fd/%d' % fd) for fd in ({reader}, {writer})]")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                return loop.run_until_complete(output_of(*command, **options))
        finally:
            os.close(reader)
            os.close(writer)

    expected = b"[False, True]\n" if closed else b"[True, False]\n"
    assert compare.check_same(program)[1] == (0, expected, b"")


def test_files_for_input_and_output(tmp_path):
    def program(loop):
        async def main():
            (tmp_path / "in").write_bytes(b"input")
            with open(tmp_path / "in", "rb") as source, open(tmp_path / "out", "wb") as target:
                process = await asyncio.create_subprocess_exec(
                    "sh", "-c", "cat; echo error >&2", stdin=source, stdout=target, stderr=STDOUT
                )
                told = process.stdin, process.stdout, process.stderr
                return told, await process.wait(), (tmp_path / "out").read_bytes()

        return loop.run_until_complete(main())

    assert compare.check_same(program)[1] == ((None, None, None), 0, b"inputerror\n")


def test_shell():
    def program(loop):
        async def main():
            process = await asyncio.create_subprocess_shell(
                "read word; echo $word $A; exit 7", stdin=PIPE, stdout=PIPE, env={"A": "variable"}
            )
            return await process.communicate(b"word\n"), process.returncode

        return loop.run_until_complete(main())

    assert compare.check_same(program)[1] == ((b"word variable\n", None), 7)


def test_protocol_hears_everything_in_order(either_loop):
    calls = []

    class Protocol(asyncio.SubprocessProtocol):
        def __init__(self):
            self.over = either_loop.create_future()

        def connection_made(self, transport):
            calls.append("made")

        def pipe_data_received(self, fd, data):
            calls.append((fd, data))

        def pipe_connection_lost(self, fd, exc):
            calls.append((fd, exc))

        def process_exited(self):
            calls.append("exited")

        def connection_lost(self, exc):
            calls.append(("lost", exc))
            self.over.set_result(None)

    async def main():
        transport, protocol = await either_loop.subprocess_shell(
            Protocol, "read line; echo out; echo err >&2"
        )
        assert isinstance(transport, asyncio.SubprocessTransport)
        assert transport.get_pid() in children()
        assert transport.get_extra_info("subprocess").pid == transport.get_pid()
        transport.get_pipe_transport(0).write(b"go\n")
        await protocol.over
        assert transport.get_returncode() == 0
        transport.close()

    either_loop.run_until_complete(main())
    assert calls[0] == "made" and calls[-1] == ("lost", None)
    assert {(1, b"out\n"), (2, b"err\n"), (1, None), (2, None), "exited"} <= set(calls)


@pytest.mark.parametrize("start", ["exec", "shell"])
def test_factory_that_makes_no_protocol(loop, start):
    """Starting fails, and the child is killed. (asyncio waits for ever for the end of one that runs.)"""
    loop.set_exception_handler(lambda loop, context: None)

    async def main():
        if start == "exec":
            await loop.subprocess_exec(lambda: None, "sleep", "100")
        else:
            await loop.subprocess_shell(lambda: None, "exec sleep 100")

    with pytest.raises(AttributeError, match="connection_made"):
        loop.run_until_complete(main())


def test_how_it_ended():
    def program(loop):
        async def main():
            ends = []
            for end in ("exit 0", "exit 255", "kill -TERM $$", "kill -KILL $$"):
                process = await asyncio.create_subprocess_shell(end)
                ends.append((await process.wait(), process.returncode, await process.wait()))
            for method, arguments in (("terminate", ()), ("kill", ()), ("send_signal", (signal.SIGUSR1,))):
                process = await asyncio.create_subprocess_exec("sleep", "100")
                getattr(process, method)(*arguments)
                ends.append(await process.wait())
                # It has ended: now there is nobody to send it to.
                ends.append(compare.outcome(getattr(process, method), *arguments))
            return ends

        return loop.run_until_complete(main())

    compare.check_same(program)


def test_megabytes_both_ways(either_loop):
    async def main():
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        data = os.urandom(5_000_000)
        out, _ = await process.communicate(data)
        assert out == data

    either_loop.run_until_complete(main())


def test_child_that_closes_its_input(either_loop):
    """What was not taken is lost, and writing on is no error."""

    async def main():
        process = await asyncio.create_subprocess_shell("exec <&-; read x <&3; exit 5", stdin=PIPE)
        process.stdin.write(b"x" * 1_000_000)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while True:
                await process.stdin.drain()
                await asyncio.sleep(0.01)
        await process.wait()

    either_loop.run_until_complete(main())


# -- Exits ----------------------------------------------------------------------------------------------


async def many(numbers, most=20):
    """Start a child for each number, which it exits with; return what is learned."""
    limit = asyncio.Semaphore(most)

    async def one(number):
        async with limit:
            process = await asyncio.create_subprocess_shell(f"exit {number}")
            return await process.wait()

    return await asyncio.gather(*map(one, numbers))


@pytest.fixture(params=["pidfd", "thread"])
def notice(request, monkeypatch):
    """How the end of a child is noticed."""
    if request.param == "thread":

        def refuse(pid, flags=0):
            raise OSError("no such call")

        monkeypatch.setattr(os, "pidfd_open", refuse)
    return request.param


def test_many_at_once(loop, notice):
    numbers = list(range(100))
    threads = threading.active_count()
    assert loop.run_until_complete(many(numbers)) == numbers
    assert settle(loop, lambda: threading.active_count() <= threads)


def test_another_thread(notice):
    results = []
    thread = threading.Thread(target=lambda: results.append(velodrome.run(many(range(20)))))
    thread.start()
    thread.join()
    assert results == [list(range(20))]


def test_several_loops_at_once(notice):
    """Nobody learns of, or waits for, the children of others."""
    results = {}

    def run(first):
        numbers = range(first, first + 20)
        results[first] = velodrome.run(many(numbers)) == list(numbers)

    threads = [threading.Thread(target=run, args=(20 * index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    run(100)
    for thread in threads:
        thread.join()
    assert results == dict.fromkeys([0, 20, 40, 60, 100], True)


def test_two_loops_by_turns(either_loop):
    """A child is heard of when its loop runs again."""
    other = type(either_loop)()
    try:
        process = either_loop.run_until_complete(asyncio.create_subprocess_shell("exit 3"))
        assert other.run_until_complete(many([4, 5])) == [4, 5]
        assert either_loop.run_until_complete(process.wait()) == 3
    finally:
        other.close()


def test_while_sub_interpreters_live(run_python):
    """As a plug-in may have made one. (With a preexec_fn, CPython's child crashes by itself then.)"""
    run_python(
        textwrap.dedent(
            """\
            import asyncio, subprocess, velodrome
            try:
                import _interpreters as interpreters
            except ImportError:
                import _xxsubinterpreters as interpreters
            other = interpreters.create()
            async def main():
                process = await asyncio.create_subprocess_exec(
                    "sh", "-c", "pwd; exit 3", stdout=subprocess.PIPE, cwd="/", start_new_session=True
                )
                out, _ = await process.communicate()
                assert (out, process.returncode) == (b"/" + bytes([10]), 3)
            velodrome.run(main())
            interpreters.run_string(other, "import sys")
            velodrome.run(main())
            interpreters.destroy(other)
            velodrome.run(main())
            """
        )
    )


def test_status_that_popen_has_read_is_not_lost(loop):
    """As its poll() does, which closing the transport calls too. (asyncio tells of 255 then.)"""

    async def main():
        process = await asyncio.create_subprocess_shell("read line; exit 3", stdin=PIPE)
        process.stdin.write(b"go\n")
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert process._transport.get_extra_info("subprocess").poll() == 3
        return await process.wait()

    assert loop.run_until_complete(main()) == 3


def test_status_that_somebody_else_has_read(loop, caplog):
    async def main():
        process = await asyncio.create_subprocess_shell("read line; exit 3", stdin=PIPE)
        process.stdin.write(b"go\n")
        os.waitpid(process.pid, 0)
        return await process.wait()

    assert loop.run_until_complete(main()) == 255
    assert "will report returncode 255" in caplog.text


def test_children_that_nobody_is_to_wait_for(loop):
    """With SIGCHLD ignored the kernel keeps no status."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert loop.run_until_complete(many([3])) == [255]
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_handler_of_the_end_of_children(loop):
    """The program may have its own, and it hears of all."""
    heard = []
    loop.add_signal_handler(signal.SIGCHLD, heard.append, None)
    assert loop.run_until_complete(many([1, 2, 3], most=1)) == [1, 2, 3]
    assert settle(loop, lambda: heard)
    loop.remove_signal_handler(signal.SIGCHLD)


def test_closing_the_transport_ends_the_child(either_loop):
    async def main():
        process = await asyncio.create_subprocess_exec("sleep", "100", stdin=PIPE)
        process._transport.close()
        assert await process.wait() == -signal.SIGKILL

    either_loop.run_until_complete(main())


def test_process_that_is_dropped_while_it_runs(loop):
    """The loop hears of its end all the same, and no zombie is left."""

    async def start():
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
        return process.pid

    pid = loop.run_until_complete(start())
    assert pid in children()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    os.kill(pid, signal.SIGKILL)
    assert settle(loop, lambda: pid not in children())


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_loops_that_are_closed_before_their_children_end():
    """While these run, and while they are started; what is open is closed, and who runs is killed."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), PIPE)

    async def main(turns):
        tasks = [asyncio.ensure_future(asyncio.create_subprocess_exec("cat", **pipes)) for _ in range(3)]
        for _ in range(turns):
            await asyncio.sleep(0)
        return tasks

    for turns in range(10):
        velodrome.run(main(turns))
    gc.collect()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_loop_that_is_closed_while_a_thread_waits(loop, monkeypatch, caplog):
    def refuse(pid, flags=0):
        raise OSError("no such call")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    process = loop.run_until_complete(asyncio.create_subprocess_exec("cat", stdin=PIPE))
    loop.close()
    os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while not caplog.messages and time.monotonic() < deadline:
        time.sleep(0.01)
    assert f"that handles pid {process.pid} is closed" in caplog.text
    del process
    gc.collect()


def test_too_few_descriptors(loop):
    """Starting fails and leaves nothing, or goes on without a pidfd; with descriptors, all is well again."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), PIPE)
    ends = []

    async def start():
        process = await asyncio.create_subprocess_shell("cat; exit 3", **pipes)
        out, _ = await process.communicate(b"data")
        return out, process.returncode

    open_before, reported = descriptors(), []
    loop.set_exception_handler(lambda loop, context: reported.append(context["message"]))
    loop.run_until_complete(start())  # whatever is imported for it is imported now
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 20, limits[1]))
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(2))
        for _ in range(16):
            try:
                ends.append(loop.run_until_complete(start()))
            except OSError as error:
                ends.append(error.errno)
            gc.collect()
            os.close(taken.pop())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for number in taken:
            os.close(number)
    assert descriptors() == open_before
    assert set(ends) == {errno.EMFILE, (b"data", 3)} and not reported
    assert ends == sorted(ends, key=lambda end: end != errno.EMFILE)


def test_debug_mode(caplog):
    def program(loop):
        caplog.clear()
        caplog.set_level("DEBUG", "asyncio")
        loop.set_debug(True)
        loop.slow_callback_duration = 60  # however busy the machine is

        async def main():
            process = await asyncio.create_subprocess_exec("sleep", "100", stdin=PIPE, stdout=PIPE)
            process._transport.close()
            return await process.wait()

        code = loop.run_until_complete(main())
        plain = [re.sub(r"(pid[= ]|fd=|pipe )\d+|0x\w+", r"\1N", message) for message in caplog.messages]
        plain = [re.sub(r"_Unix|(Read|Write)PipeTransport", "", message) for message in plain]
        # Up to 3.11, asyncio's thread that waits has something to say as well.
        theirs = re.compile("Using selector|^process N exited with returncode|^process [0-9]+ exited")
        return code, [message for message in plain if not theirs.search(message)]

    compare.check_same(program)
