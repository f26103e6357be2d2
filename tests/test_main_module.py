"""`python -m velodrome PROGRAM` is `python PROGRAM`, except for the loop."""

import py_compile
import re
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path

import pytest

VELODROME = ["-m", "velodrome"]


def start(arguments, *, options=(), **keywords):
    """Start an interpreter."""
    return subprocess.Popen(
        [sys.executable, *options, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **keywords,
    )


def result(process):
    """Return an interpreter's exit status, stdout and stderr."""
    stdout, stderr = process.communicate(timeout=30)
    return process.returncode, stdout, stderr


def run(arguments, **keywords):
    """Run an interpreter to its end."""
    return result(start(arguments, **keywords))


def wait_until_asleep(process):
    """Wait until a process waits in the kernel: then a signal meets it at a known line."""
    state = re.compile(r"^State:\s*S", re.MULTILINE)
    while process.poll() is None and not state.search(Path(f"/proc/{process.pid}/status").read_text()):
        time.sleep(0.01)


def comparable(stderr):
    """Remove addresses, and what asyncio, being written in Python, adds to a traceback: its frames."""
    stderr = re.sub(r"\b0x[0-9a-f]+", "0x", stderr)
    frame = r'  File "[^"]*/(?:asyncio/\w+|selectors)\.py", line .*\n(?:    .*\n)*'
    return re.sub(frame, "", stderr)


@pytest.fixture
def same(tmp_path):
    """Run a program with and without velodrome, in tmp_path, and compare all that comes out of it."""

    def same(*arguments, status=0, cwd=tmp_path, **keywords):
        # At the same time, to save half of it.
        processes = [start([*prefix, *arguments], cwd=cwd, **keywords) for prefix in ([], VELODROME)]
        plain, ours = map(result, processes)
        assert comparable(ours[2]) == comparable(plain[2])
        assert ours[:2] == plain[:2]
        assert ours[0] == status, ours[2]
        return ours

    return same


@pytest.fixture
def write(tmp_path):
    """Write a file below tmp_path."""

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return write


# What a program can see of how it was started. Not the loader's address.
LOOK = """
    "A docstring."
    import sys
    def show():
        print(sys.argv)
        print(sys.path)
        print(__name__, sys.modules["__main__"].__dict__ is globals())
        for name, value in list(globals().items()):
            if name == "__loader__":
                value = value if isinstance(value, type) else (type(value), vars(value))
            if name not in ("__spec__", "show"):
                print(name, value)
        print(__spec__ and (__spec__.name, __spec__.origin, __spec__.parent))
    if __name__ == "__main__":
        show()
"""


class TestWhatTheProgramSees:
    def test_script(self, same, write):
        write("look.py", LOOK)
        _, stdout, _ = same("look.py", "a", "-b", "--help", "-m", "c d", "")
        assert stdout.startswith("['look.py', 'a', '-b', '--help', '-m', 'c d', '']\n")

    def test_script_in_another_folder(self, same, write):
        write("sub/look.py", LOOK)
        same("sub/look.py")
        same("./sub/../sub//look.py")

    def test_script_by_absolute_path(self, same, write):
        same(write("sub/look.py", LOOK))

    def test_script_through_a_link(self, same, write, tmp_path):
        write("sub/look.py", LOOK)
        (tmp_path / "link.py").symlink_to("sub/look.py")
        same("link.py")

    def test_script_without_a_suffix(self, same, write):
        write("look", LOOK)
        same("look")

    def test_compiled_script(self, same, write, tmp_path):
        py_compile.compile(str(write("look.py", LOOK)), cfile=str(tmp_path / "compiled.pyc"))
        same("compiled.pyc", "a")

    def test_script_leaves_no_cache_behind(self, same, write, tmp_path):
        write("look.py", LOOK)
        same("look.py")
        assert [path.name for path in tmp_path.iterdir()] == ["look.py"]

    def test_module(self, same, write):
        write("look.py", LOOK)
        write("package/__init__.py", "print(__name__, 'imported')")
        write("package/look.py", LOOK)
        same("-m", "look", "a", "-b")
        same("-mlook", "a", "-b")
        same("-m", "package.look", "a")

    def test_package(self, same, write):
        write("package/__init__.py", "")
        write("package/__main__.py", LOOK)
        same("-m", "package", "a")

    def test_relative_import(self, same, write):
        write("package/__init__.py", "")
        write("package/greeting.py", "greeting = 'hello'")
        write("package/program.py", "from .greeting import greeting\nprint(greeting, __package__)")
        _, stdout, _ = same("-m", "package.program")
        assert stdout == "hello package\n"
        same("package/program.py", status=1)

    def test_code(self, same):
        code = textwrap.dedent(LOOK)
        same("-c", code, "a", "-b")
        same(f"-c{code}")

    @pytest.mark.skipif(sys.version_info < (3, 14), reason="3.14 began to remove the indentation")
    def test_indented_code(self, same):
        same("-c", LOOK)

    @pytest.mark.skipif(sys.version_info < (3, 13), reason="before, tracebacks do not show such lines")
    @pytest.mark.parametrize("kind", ["by_name", "by_code"])
    def test_code_is_registered_as_the_patch_release_wants_it(self, kind):
        """The first releases of 3.13 take a name for it, later ones the code."""
        program = """
import linecache, sys
from velodrome.__main__ import _run_code

def by_name(name, source, filename):
    seen.append(name.strip())

def by_code(code, source, filename):
    seen.append(code.co_filename if code.co_consts else None)

seen = []
linecache._register_code = globals()[sys.argv[1]]
_run_code("print(1)")
print(seen)
"""
        assert run(["-c", program, kind]) == (0, "1\n['<string>']\n", "")

    def test_folder(self, same, write):
        write("program/__main__.py", "import helper\n" + textwrap.dedent(LOOK))
        write("program/helper.py", "")
        same("program", "a")
        same("./program/", "a")
        same(".", "a", cwd=write("program/helper.py", "").parent)
        same("./", "a", cwd=write("program/helper.py", "").parent)

    def test_zip_file(self, same, tmp_path):
        with zipfile.ZipFile(tmp_path / "program.zip", "w") as archive:
            archive.writestr("__main__.py", "import helper\n" + textwrap.dedent(LOOK))
            archive.writestr("helper.py", "")
        same("program.zip", "a")

    def test_safe_path(self, same, write):
        write("look.py", LOOK)
        write("program/__main__.py", LOOK)
        same("look.py", options=["-P"])
        same("program", options=["-P"])
        same("-c", "import sys; print(sys.path)", options=["-P"])
        assert "No module named look" in same("-m", "look", options=["-P"], status=1)[2]

    def test_modules_beside_the_script(self, same, write):
        write("program.py", "import helper")
        write("sub/program.py", "import helper")
        write("sub/helper.py", "print('helper')")
        assert "No module named 'helper'" in same("program.py", status=1)[2]
        same("sub/program.py")

    def test_globals_are_those_of_main(self, same, write):
        write(
            "program.py",
            """
            import inspect, pickle, __main__
            class Thing:
                "A class that can be pickled and whose source can be found."
            print(__main__.Thing is Thing, type(pickle.loads(pickle.dumps(Thing()))) is Thing)
            print(inspect.getsource(Thing))
            """,
        )
        same("program.py")

    def test_interpreter_options(self, same, write):
        write("program.py", "import sys; print(sys.flags, sys.warnoptions); assert False")
        same("program.py", options=["-O", "-W", "error::DeprecationWarning", "-X", "utf8"])

    def test_warnings_in_main_are_shown(self, same, write):
        write("program.py", "import warnings\nwarnings.warn('old', DeprecationWarning)\nprint('\\d')")
        assert "DeprecationWarning: old" in same("program.py")[2]

    def test_future_imports_are_not_inherited(self, same):
        same("-c", "def f(x: undefined): pass", status=int(sys.version_info < (3, 14)))


class TestHowTheProgramEnds:
    @pytest.mark.parametrize(
        ("code", "status"),
        [
            ("import sys; sys.exit()", 0),
            ("import sys; sys.exit(3)", 3),
            ("import sys; sys.exit('a message')", 1),
            ("import sys; sys.exit(-1)", 255),
            ("raise SystemExit(None)", 0),
            ("class Leaving(SystemExit): pass\nraise Leaving(4)", 4),
            ("import os; os._exit(5)", 5),
            ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
            ("import os; os.abort()", -signal.SIGABRT),
            ("import atexit; atexit.register(print, 'at exit'); 1/0", 1),
            ("raise KeyboardInterrupt", -signal.SIGINT),
            ("class Stopping(KeyboardInterrupt): pass\nraise Stopping", None),
            ("import asyncio, sys\nasync def main(): sys.exit(6)\nasyncio.run(main())", 6),
        ],
    )
    def test_exit_status(self, same, write, code, status):
        write("program.py", code)
        if status is None:  # versions differ; ours has to be the same as python's
            status = run([write("program.py", code)])[0]
        same("program.py", status=status)
        same("-m", "program", status=status)
        same("-c", code, status=status)

    @pytest.mark.parametrize(
        "code",
        [
            "def f():\n    1 / 0\n\nf()",
            "raise ValueError('several\\nlines')",
            "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise OSError('outer') from error",
            "try:\n    1 / 0\nfinally:\n    [].pop()",
            "raise ExceptionGroup('group', [ValueError(1), TypeError(2)])",
            "error = ValueError('noted')\nerror.add_note('a note')\nraise error",
            "import nothing_of_this_name",
            "import json\njson.loads('{')",
            "def f(): return f()\nf()",
            "x = = 1",
            "if True:\npass",
            "print('no end",
            "exec('1 +')",
            "exec(compile('1/0', '<elsewhere>', 'exec'))",
            "class Odd(Exception):\n    def __str__(self): raise ValueError\nraise Odd",
            "import sys\nsys.excepthook = lambda kind, value, tb: print(value, tb.tb_lineno)\n1/0",
            "import sys\ndef hook(*_): sys.exit(7)\nsys.excepthook = hook\n1/0",
            "import sys\nsys.tracebacklimit = 0\n1/0",
            "import threading\nthreading.Thread(target=lambda: 1/0, name='other').start()",
            "import atexit\natexit.register(lambda: 1/0)",
            "import atexit, sys\natexit.register(lambda: print(sys.excepthook is sys.__excepthook__))\n1/0",
            "import atexit, sys, traceback\natexit.register(lambda: traceback.print_last())\n1/0",
            "import asyncio\nasync def main():\n    await asyncio.sleep(0)\n    1/0\n\nasyncio.run(main())",
            "import asyncio\nasync def main(): pass\nmain()",
        ],
    )
    def test_traceback(self, same, write, code):
        path = write("program.py", code)
        status = run([path])[0]
        if "f(): return f()" in code:
            # How deep it goes depends on how deep it starts, and the traceback says how deep.
            for process in (start([path]), start([*VELODROME, path])):
                assert "RecursionError: maximum recursion depth exceeded" in result(process)[2]
            return
        same("program.py", status=status)
        same("-c", code, status=status)
        same("-m", "program", status=status)

    def test_traceback_from_a_folder(self, same, write):
        write("program/__main__.py", "def f():\n    1 / 0\n\nf()")
        same("program", status=1)

    def test_inspect(self, same, write):
        """With -i the prompt comes after the program, here at the end of its input at once."""
        write("program.py", "import sys\nx = 1\nsys.exit(3)")
        same("program.py", options=["-i"])
        write("program.py", "1/0")
        same("program.py", options=["-i"])

    def test_missing_script(self, same):
        assert "can't open file" in same("missing.py", status=2)[2]

    def test_unreadable_script(self, same, write):
        write("program.py", "")
        assert "Errno 20" in same("program.py/below", status=2)[2]  # unreadable even for root

    def test_missing_module(self, same, write):
        write("package/__init__.py", "")
        assert "No module named missing" in same("-m", "missing", status=1)[2]
        same("-m", "package.missing", status=1)
        same("-m", "package", status=1)
        same("package", status=1)

    def test_stdout_closed(self, write):
        """After `| head` has gone, the interpreter complains, in its own words."""
        path = write("program.py", "import sys\nfor i in range(100_000): print(i)")
        ends = []
        for prefix in ([], VELODROME):
            process = start([*prefix, path])
            process.stdout.readline()
            process.stdout.close()
            ends.append((process.stderr.read(), process.wait(30)))
            process.stderr.close()
        assert ends[0] == ends[1]

    @pytest.mark.parametrize(
        "code",
        [
            "import time\nprint('ready', flush=True)\ntime.sleep(60)",
            """
            import asyncio
            async def main():
                print("ready", flush=True)
                try:
                    await asyncio.sleep(60)
                finally:
                    print("cleaned up")
            asyncio.run(main())
            """,
        ],
    )
    def test_ctrl_c(self, write, code):
        path = write("program.py", code)
        ends = []
        for prefix in ([], VELODROME):
            process = start([*prefix, path])
            assert process.stdout.readline() == "ready\n"
            wait_until_asleep(process)
            process.send_signal(signal.SIGINT)
            status, stdout, stderr = result(process)
            ends.append((status, stdout, comparable(stderr)))
        assert ends[0] == ends[1]
        assert ends[1][0] == -signal.SIGINT


class TestMultiprocessing:
    PROGRAM = """
        import multiprocessing, sys

        def where(number):
            main = sys.modules["__main__"]
            return number, __name__, main.__name__, main.__spec__ and main.__spec__.name

        if __name__ == "__main__":
            context = multiprocessing.get_context(sys.argv[1])
            with context.Pool(1) as pool:
                print(pool.map(where, [1, 2]))
        else:
            print("imported as", __name__, flush=True)
    """

    @pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
    def test_script(self, same, write, method):
        write("program.py", self.PROGRAM)
        stdout = same("program.py", method)[1]
        assert ("imported as __mp_main__" in stdout) == (method != "fork")

    @pytest.mark.parametrize("method", ["spawn", "fork"])
    def test_module(self, same, write, method):
        write("package/__init__.py", "")
        write("package/program.py", self.PROGRAM)
        same("-m", "package.program", method)

    def test_folder(self, same, write):
        write("program/__main__.py", self.PROGRAM)
        same("program", "fork")


class TestTheLoop:
    """Whatever way a program gets its loop, it is velodrome's, and only then."""

    CHECK = """
        import asyncio, sys, warnings
        warnings.simplefilter("ignore")

        def check(loop, expected="velodrome"):
            kind = type(loop)
            assert kind.__module__.split(".")[0] == expected, kind
            if not loop.is_running():
                loop.close()

        async def main():
            check(asyncio.get_running_loop())
    """

    @pytest.mark.parametrize(
        "code",
        [
            "asyncio.run(main())",
            "asyncio.run(main(), debug=True)",
            "with asyncio.Runner() as runner: runner.run(main()); loop = runner.get_loop()\ncheck(loop)",
            "check(asyncio.new_event_loop())",
            "check(asyncio.events.new_event_loop())",
            "from asyncio import *; check(new_event_loop()); check(SelectorEventLoop())",
            "check(asyncio.SelectorEventLoop())",
            "import selectors; check(asyncio.SelectorEventLoop(selectors.SelectSelector()))",
            "from asyncio.unix_events import SelectorEventLoop; check(SelectorEventLoop())",
            "assert isinstance(asyncio.new_event_loop(), asyncio.SelectorEventLoop)",
            "class Mine(asyncio.SelectorEventLoop): pass\n"
            "assert isinstance(Mine(), asyncio.SelectorEventLoop)\nassert 'velodrome' in str(Mine.__mro__)",
            "asyncio.set_event_loop_policy(None); check(asyncio.new_event_loop()); asyncio.run(main())",
            "check(asyncio.get_event_loop_policy().new_event_loop())",
            "asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy()); asyncio.run(main())",
            "loop = asyncio.new_event_loop(); asyncio.set_event_loop(loop)\n"
            "assert asyncio.get_event_loop() is loop; loop.run_until_complete(main())",
            "import threading\nthread = threading.Thread(target=asyncio.run, args=(main(),))\n"
            "thread.start(); thread.join()",
        ],
    )
    def test_is_velodromes(self, write, code):
        path = write("program.py", textwrap.dedent(self.CHECK) + code + "\nprint('done')\n")
        assert run([*VELODROME, path]) == (0, "done\n", "")
        assert run([*VELODROME, "--loop-only", path]) == (0, "done\n", "")

    @pytest.mark.skipif(sys.version_info >= (3, 14), reason="no longer makes loops")
    def test_get_event_loop(self, write):
        path = write("program.py", textwrap.dedent(self.CHECK) + "check(asyncio.get_event_loop())\n")
        assert run([*VELODROME, path]) == (0, "", "")

    @pytest.mark.skipif(sys.version_info < (3, 13), reason="came with 3.13")
    def test_event_loop(self, write):
        code = "check(asyncio.EventLoop()); asyncio.run(main(), loop_factory=asyncio.EventLoop)\n"
        path = write("program.py", textwrap.dedent(self.CHECK) + code)
        assert run([*VELODROME, path]) == (0, "", "")

    def test_is_velodromes_in_modules_and_code(self, write):
        code = textwrap.dedent(self.CHECK) + "asyncio.run(main())"
        path = write("program.py", code)
        assert run([*VELODROME, "-m", "program"], cwd=path.parent) == (0, "", "")
        assert run([*VELODROME, "-c", code]) == (0, "", "")

    def test_is_velodromes_in_forked_children(self, write):
        code = """
        import multiprocessing
        child = multiprocessing.get_context("fork").Process(target=lambda: asyncio.run(main()))
        child.start()
        child.join()
        assert child.exitcode == 0
        """
        path = write("program.py", textwrap.dedent(self.CHECK) + textwrap.dedent(code))
        assert run([*VELODROME, path]) == (0, "", "")

    @pytest.mark.parametrize("options", [[], ["--loop-only"]], ids=["installed", "loop alone"])
    @pytest.mark.parametrize("method", ["spawn", "forkserver"])
    def test_is_velodromes_in_children_that_multiprocessing_starts_afresh(self, write, method, options):
        """In theirs as well, and from the first import on: the program itself takes names out of asyncio."""
        code = """
        import multiprocessing
        import velodrome
        from asyncio import Lock

        def work(generations):
            asyncio.run(main())
            assert (Lock is velodrome.Lock) == ("--loop-only" not in sys.orig_argv), Lock
            if generations:
                context = multiprocessing.get_context(sys.argv[1])
                child = context.Process(target=work, args=(generations - 1,))
                child.start()
                child.join()
                sys.exit(child.exitcode)

        if __name__ == "__main__":
            work(2)
        """
        path = write("program.py", textwrap.dedent(self.CHECK) + textwrap.dedent(code))
        assert run([*VELODROME, *options, path, method]) == (0, "", "")

    def test_is_velodromes_in_tests_that_pytest_runs(self, write):
        code = """
        import unittest

        class TestLoop(unittest.IsolatedAsyncioTestCase):
            async def test_loop(self):
                await main()
        """
        path = write("test_program.py", textwrap.dedent(self.CHECK) + textwrap.dedent(code))
        status, stdout, stderr = run([*VELODROME, "-m", "pytest", "-q", "-p", "no:cacheprovider", path])
        assert (status, stderr) == (0, ""), stdout
        assert "1 passed" in stdout

    def test_is_what_a_command_line_says_in_children_that_a_program_starts_by_one(self, write):
        code = """
        import subprocess, textwrap
        loop = "import asyncio; print(type(asyncio.new_event_loop()).__module__.split('.')[0])"
        for options in [], ["-m", "velodrome"]:
            subprocess.run([sys.executable, "-W", "ignore", *options, "-c", loop], check=True)
        """
        path = write("program.py", textwrap.dedent(self.CHECK) + textwrap.dedent(code))
        assert run([*VELODROME, path]) == (0, "asyncio\nvelodrome\n", "")

    def test_a_programs_own_choice_stays(self, write):
        code = """
        from asyncio.unix_events import _UnixSelectorEventLoop as Theirs
        from asyncio import DefaultEventLoopPolicy

        async def theirs():
            check(asyncio.get_running_loop(), "asyncio")

        with asyncio.Runner(loop_factory=Theirs) as runner:
            runner.run(theirs())

        class Policy(DefaultEventLoopPolicy):
            def new_event_loop(self):
                return Theirs()

        asyncio.set_event_loop_policy(Policy())
        asyncio.run(theirs())
        check(asyncio.new_event_loop(), "asyncio")
        """
        path = write("program.py", textwrap.dedent(self.CHECK) + textwrap.dedent(code))
        assert run([*VELODROME, path]) == (0, "", "")

    def test_all_of_asyncio_is_velodromes_unless_the_loop_alone_is_asked_for(self, write):
        code = """
        import velodrome
        from asyncio import Lock, gather

        async def main():
            return asyncio.current_task()

        timeout = asyncio.timeouts.timeout
        ours = [Lock is velodrome.Lock, gather is velodrome.gather, timeout is velodrome.timeout]
        print(ours, type(asyncio.run(main())) is velodrome.Task)
        """
        path = write("program.py", "import asyncio\n" + textwrap.dedent(code))
        assert run([*VELODROME, path]) == (0, "[True, True, True] True\n", "")
        assert run([*VELODROME, "--loop-only", path]) == (0, "[False, False, False] True\n", "")

    def test_a_program_may_replace_the_rest_itself(self, write):
        code = """
        import asyncio, velodrome
        velodrome.install()
        print(asyncio.Lock is velodrome.Lock, type(asyncio.new_event_loop()) is velodrome.Loop)
        velodrome.uninstall()
        print(asyncio.Lock is velodrome.Lock, type(asyncio.new_event_loop()) is velodrome.Loop)
        """
        path = write("program.py", code)
        for options in [], ["--loop-only"]:
            assert run([*VELODROME, *options, path]) == (0, "True True\nFalse False\n", "")

    def test_importing_velodrome_swaps_nothing(self, write):
        code = """
        import velodrome, velodrome.__main__
        check(asyncio.new_event_loop(), "asyncio")
        check(asyncio.SelectorEventLoop(), "asyncio")
        """
        path = write("program.py", textwrap.dedent(self.CHECK) + textwrap.dedent(code))
        assert run([path]) == (0, "", "")


class TestItsOwnOptions:
    def test_help(self):
        for option in ("--help", "-h"):
            status, stdout, stderr = run([*VELODROME, option])
            assert (status, stderr) == (0, "")
            assert stdout.startswith("usage: python -m velodrome")
            assert "--loop-only" in stdout

    def test_version(self):
        import velodrome

        status, stdout, _ = run([*VELODROME, "--version"])
        assert status == 0
        assert stdout.startswith(f"velodrome {velodrome.__version__} (cpython {sys.version_info.major}.")

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            ([], "a program is expected"),
            (["--loop-only"], "a program is expected"),
            (["-"], "a program from standard input is not supported"),
            (["-m"], "argument expected for the -m option"),
            (["-c"], "argument expected for the -c option"),
            (["--fast", "program.py"], "unknown option --fast"),
            (["-X", "dev", "program.py"], "unknown option -X; python's own go before -m velodrome"),
        ],
    )
    def test_usage(self, arguments, error):
        status, stdout, stderr = run([*VELODROME, *arguments])
        assert (status, stdout) == (2, "")
        assert stderr.startswith(f"velodrome: {error}\nusage: python -m velodrome")

    def test_options_end_where_the_program_begins(self, write):
        path = write("program.py", "import sys; print(sys.argv[1:])")
        assert run([*VELODROME, path, "--loop-only", "--version"])[1] == "['--loop-only', '--version']\n"
