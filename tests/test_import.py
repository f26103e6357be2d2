"""Importing the package: where it cannot run it says so, and it leaves asyncio as it is."""

import asyncio
import faulthandler
import os
import shutil
import subprocess
import sys

import compiled
import pytest

# -- Where it cannot run -----------------------------------------------------------------------------------

IMPORT = "\ntry:\n    import velodrome\nexcept ImportError as error:\n    print(error)\n"


@pytest.mark.parametrize(
    "pretence, message",
    [
        (
            "sys.version_info = Version(3, 10, 14)",
            "velodrome runs on CPython 3.11 to 3.15, this is cpython 3.10",
        ),
        (
            "sys.version_info = Version(3, 16, 0)",
            "velodrome runs on CPython 3.11 to 3.15, this is cpython 3.16",
        ),
        ("sys.implementation.name = 'pypy'", "velodrome runs on CPython 3.11 to 3.15, this is pypy 3."),
        ("sys.platform = 'win32'", "velodrome runs on Linux, this is win32"),
        ("sys.platform = 'darwin'", "velodrome runs on Linux, this is darwin"),
        (
            "sys.abiflags = 't'",
            "velodrome needs a CPython with the GIL, this is a free-threaded build",
        ),
    ],
)
def test_an_unsupported_place_is_named_in_one_sentence(run_python, pretence, message):
    prelude = "import asyncio, collections, sys\nVersion = collections.namedtuple('V', 'major minor micro')\n"
    [line] = run_python(prelude + pretence + IMPORT).stdout.splitlines()
    assert line.startswith(message)


def test_a_missing_native_module_is_named_in_one_sentence(run_python):
    """As in a checkout that was not built, or on an interpreter that the wheel is not for."""
    code = "import sys\nsys.modules['velodrome._velodrome'] = None" + IMPORT
    [line] = run_python(code).stdout.splitlines()
    assert "velodrome" in line


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_build_for_a_free_threaded_interpreter_is_refused_in_one_sentence(tmp_path):
    cargo = shutil.which("cargo") or shutil.which("cargo", path=os.path.expanduser("~/.cargo/bin"))
    if cargo is None:
        pytest.skip("building needs cargo")
    faulthandler.cancel_dump_traceback_later()  # the limit is the one above
    described = tmp_path / "interpreter"
    described.write_text(
        "implementation=CPython\nversion=3.14\nshared=true\ntarget_abi=CPython-free_threaded-3.14\n"
        "build_flags=Py_GIL_DISABLED\nsuppress_build_script_link_lines=false\n"
    )
    environ = os.environ | {
        "CARGO_TARGET_DIR": str(compiled.folder("free-threaded")),
        "PYO3_CONFIG_FILE": str(described),
    }
    command = [cargo, "check", "--locked", "--manifest-path", str(compiled.ROOT / "crates/python/Cargo.toml")]
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert done.returncode != 0
    [line] = [line for line in done.stderr.splitlines() if "velodrome-python@" in line]
    assert line.endswith("velodrome needs a CPython with the GIL, this is a free-threaded build")


@pytest.mark.skipif(sys.version_info < (3, 14), reason="concurrent.interpreters came with Python 3.14")
def test_a_subinterpreter_is_refused_and_does_no_harm(run_python):
    done = run_python(
        """
import velodrome
from concurrent import interpreters

async def main():
    await velodrome.sleep(0)
    return "works"

other = interpreters.create()
try:
    other.exec("import velodrome")
except interpreters.ExecutionFailed as error:
    print(error.excinfo.type.__name__)
else:
    print("imported")
other.close()
print(velodrome.run(main()))
"""
    )
    assert done.stdout.splitlines() == ["ImportError", "works"]


def test_importing_it_once_more_is_harmless(run_python):
    """Test runners do this: forget modules and import them afresh."""
    done = run_python(
        """
import sys, gc
import velodrome
old, loop = velodrome, velodrome.new_event_loop()

async def main(module):
    await module.sleep(0)
    task = module.create_task(module.sleep(0, "result"))
    return await task

task = loop.create_task(main(old))
for name in [name for name in sys.modules if name.startswith("velodrome")]:
    del sys.modules[name]
import velodrome
print(velodrome.run(main(velodrome)))
print(loop.run_until_complete(task))
loop.close()
del loop, task, old
gc.collect()
print(velodrome.run(main(velodrome)))
"""
    )
    assert done.stdout.split() == ["result"] * 3


def test_importing_warns_of_nothing(run_python):
    done = run_python("import velodrome", options=["-W", "error", "-X", "dev"])
    assert done.stdout + done.stderr == ""


def test_importing_loads_no_other_modules(run_python):
    """asyncio has loaded what we need; `typing` alone would take as long as all of ours."""
    done = run_python(
        """
import asyncio, sys
before = set(sys.modules)
import velodrome
print([name for name in sys.modules.keys() - before if name.partition(".")[0] != "velodrome"])
"""
    )
    assert done.stdout == "[]\n"


def test_functions_that_a_tool_has_wrapped_are_looked_behind(run_python):
    """Ours are made of asyncio's own, and behave as that does, whatever a tracer has put around it before."""
    done = run_python(
        """
import asyncio, functools, inspect, types

def wrapped(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)
    return wrapper

places = [
    asyncio.streams, asyncio.StreamReader, asyncio.StreamReaderProtocol, asyncio.tasks, asyncio.TaskGroup,
    asyncio.subprocess, asyncio.subprocess.SubprocessStreamProtocol, asyncio.BaseEventLoop, asyncio.Runner,
    asyncio.unix_events._UnixSelectorEventLoop, asyncio.Semaphore, asyncio.sslproto.SSLProtocol,
]
own = [(place, name, value) for place in places for name, value in vars(place).items()
       if isinstance(value, types.FunctionType)]
for place, name, value in own:
    setattr(place, name, wrapped(value))
import velodrome
for place, name, value in own:
    setattr(place, name, value)
print(velodrome.open_connection.__code__ is asyncio.open_connection.__code__)
print(inspect.signature(velodrome.create_task) == inspect.signature(asyncio.create_task))

async def main():
    async def echo(reader, writer):
        writer.write(await reader.read())
        writer.close()

    server = await velodrome.start_server(echo, "127.0.0.1", 0)
    reader, writer = await velodrome.open_connection(*server.sockets[0].getsockname())
    writer.write(b"over a socket")
    writer.write_eof()
    print(await reader.read(), type(reader) is velodrome.StreamReader)
    writer.close()
    server.close()
    process = await velodrome.create_subprocess_exec("echo", "-n", "over a pipe", stdout=-1)
    print((await process.communicate())[0])

velodrome.run(main())
"""
    )
    assert done.stdout.splitlines() == ["True", "True", "b'over a socket' True", "b'over a pipe'"]


def test_functions_that_somebody_has_replaced_are_used_as_they_are(run_python):
    done = run_python(
        """
import asyncio

def stand_in(place, name):
    original = getattr(place, name)
    setattr(place, name, lambda *args, **kwargs: original(*args, **kwargs))
    return getattr(place, name)

ours = stand_in(asyncio.streams, "open_connection")
stand_in(asyncio.StreamReaderProtocol, "connection_made")
stand_in(asyncio.BaseEventLoop, "start_tls")
stand_in(asyncio.unix_events._UnixSelectorEventLoop, "_stop_serving")
import velodrome
print(velodrome.open_connection is ours)
"""
    )
    assert done.stdout == "True\n"


# -- asyncio stays as it is --------------------------------------------------------------------------------

SNAPSHOT = """
import asyncio, contextvars, faulthandler, importlib, pkgutil, signal, sys, threading, warnings
import concurrent.futures, inspect, types
for module in pkgutil.iter_modules(asyncio.__path__):
    if not module.name.startswith(("windows", "__main__", "tools")):
        importlib.import_module(f"asyncio.{module.name}")
import _asyncio

def snapshot():
    found = {}
    modules = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "asyncio"}
    modules["_asyncio"] = _asyncio
    for module_name, module in modules.items():
        for name, value in vars(module).items():
            if name in ("__builtins__", "__warningregistry__"):
                continue
            found[module_name, name] = id(value)
            if isinstance(value, type) and value.__module__.partition(".")[0] in ("asyncio", "_asyncio"):
                for member, attribute in vars(value).items():
                    # Caches of abstract classes, and what is made when it is first asked for.
                    if not member.startswith(("_abc_", "__annot", "__static")):
                        found[module_name, name, member] = id(attribute)
    for number in signal.valid_signals():
        found["signal", number] = signal.getsignal(number)
    for hook in ("excepthook", "unraisablehook", "displayhook"):
        found[hook] = getattr(sys, hook)
    found["thread hook"] = threading.excepthook
    found["generators"] = sys.get_asyncgen_hooks()
    found["origins"] = sys.get_coroutine_origin_tracking_depth()
    found["filters"] = list(warnings.filters)
    found["threads"] = threading.active_count()
    found["loop"] = asyncio._get_running_loop()
    found["policy"] = asyncio.events._event_loop_policy
    found["trace"] = sys.gettrace(), sys.getprofile()
    return found

async def main():
    await velodrome.sleep(0)
    async with asyncio.timeout(10):
        await asyncio.gather(velodrome.create_task(asyncio.sleep(0)), asyncio.sleep(0.001))

before = snapshot()
"""


def test_importing_patches_nothing(run_python):
    done = run_python(
        SNAPSHOT
        + """
import velodrome
after = snapshot()
print([key for key in before | after if before.get(key) != after.get(key)])
"""
    )
    assert done.stdout.strip() == "[]"


def test_running_patches_nothing(run_python):
    done = run_python(
        SNAPSHOT
        + """
import velodrome
velodrome.run(main())
after = snapshot()
print([key for key in before | after if before.get(key) != after.get(key)])
"""
    )
    assert done.stdout.strip() == "[]"


def test_asyncio_goes_on_with_its_own_loop():
    async def main():
        return type(asyncio.get_running_loop()), type(asyncio.current_task())

    with asyncio.Runner() as runner:
        assert runner.run(main()) == (asyncio.SelectorEventLoop, asyncio.Task)


def test_nothing_of_asyncio_is_patched(run_python):
    code = """
import asyncio, asyncio.tasks, asyncio.futures, asyncio.events, asyncio.base_events, _asyncio
modules = [asyncio, asyncio.tasks, asyncio.futures, asyncio.events, asyncio.base_events, asyncio.runners]
modules += [_asyncio]
before = [dict(vars(module)) for module in modules]
classes = [asyncio.BaseEventLoop, asyncio.AbstractEventLoop, asyncio.Handle, asyncio.SelectorEventLoop]
of_classes = [dict(vars(each)) for each in classes]
import velodrome
async def main():
    await velodrome.sleep(0)
    await asyncio.create_task(asyncio.sleep(0))
velodrome.run(main())
for module, names in zip(modules, before):
    for name, value in names.items():
        assert vars(module)[name] is value, (module, name)
for each, names in zip(classes, of_classes):
    for name, value in names.items():
        assert name.startswith("_abc") or vars(each)[name] is value, (each, name)
print("untouched")
"""
    assert run_python(code).stdout == "untouched\n"
