"""The package: what it offers, with which parameters, types and documentation, and what it says of itself."""

import ast
import asyncio
import importlib
import inspect
import json
import os
import re
import sys
import warnings
from pathlib import Path

import pytest
import velodrome
from velodrome import _velodrome

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(velodrome.__file__).parent

PUBLIC = sorted(
    [
        *("Barrier", "BoundedSemaphore", "Condition", "Event", "EventLoopPolicy", "Future", "Handle"),
        *("LifoQueue", "Lock", "Loop", "PriorityQueue", "Queue", "Runner", "Semaphore", "Task", "TaskGroup"),
        *("Timeout", "TimerHandle", "all_tasks", "as_completed", "build_info", "create_task"),
        *("current_task", "ensure_future", "gather", "install", "iscoroutine", "isfuture"),
        *("new_event_loop", "run", "run_coroutine_threadsafe", "shield", "sleep", "timeout", "timeout_at"),
        *("to_thread", "uninstall", "wait", "wait_for", "wrap_future"),
        *(("create_eager_task_factory", "eager_task_factory") if sys.version_info >= (3, 12) else ()),
        *("StreamReader", "StreamReaderProtocol", "StreamWriter", "create_subprocess_exec"),
        *("create_subprocess_shell", "open_connection", "open_unix_connection", "start_server"),
        *("start_unix_server",),
    ]
)


async def nothing():
    return "nothing"


# -- What there is -----------------------------------------------------------------------------------------


def test_all_is_what_there_is():
    assert set(velodrome.__all__) == {*PUBLIC, *asyncio.__all__}
    assert len(velodrome.__all__) == len(set(velodrome.__all__))
    loops = {"SelectorEventLoop", "EventLoop"} & set(asyncio.__all__)
    own = {name for name in vars(velodrome) if not name.startswith("_")}
    assert own - {path.stem for path in PACKAGE.glob("*.py")} == {*PUBLIC, *loops}


def test_a_star_import_takes_all():
    names = {}
    exec("from velodrome import *", names)
    assert names.keys() - {"__builtins__"} == set(velodrome.__all__)


def test_what_is_not_ours_is_asyncios():
    for name in set(asyncio.__all__) - set(vars(velodrome)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some are deprecated
            assert getattr(velodrome, name) is getattr(asyncio, name)
    assert velodrome.exceptions is asyncio.exceptions
    assert velodrome.SelectorEventLoop is velodrome.Loop
    assert set(asyncio.__all__) <= set(dir(velodrome))
    with pytest.raises(AttributeError, match="module 'velodrome' has no attribute 'no_such_name'"):
        _ = velodrome.no_such_name


def test_a_program_that_says_velodrome_for_asyncio_runs(run_python):
    done = run_python("""
import velodrome as asyncio

async def worker(queue, seen):
    while True:
        seen.append(await queue.get())
        queue.task_done()

async def main():
    queue, seen, lock = asyncio.Queue(), [], asyncio.Lock()
    tasks = [asyncio.create_task(worker(queue, seen)) for _ in range(3)]
    async with lock, asyncio.timeout(20):
        for number in range(10):
            queue.put_nowait(number)
        await queue.join()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    assert await reader.read() == b""
    writer.close()
    server.close()
    try:
        await asyncio.wait_for(asyncio.Event().wait(), 0.01)
    except asyncio.TimeoutError:
        print(sorted(seen), type(asyncio.get_running_loop()).__name__)

asyncio.run(main())
""")
    assert done.stdout == "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9] Loop\n"


def test_everything_public_has_a_docstring():
    assert velodrome.__doc__ and _velodrome.__doc__
    bare = [name for name in PUBLIC if not inspect.getdoc(getattr(velodrome, name))]
    for name in PUBLIC:
        thing = getattr(velodrome, name)
        for member, value in vars(thing).items() if isinstance(thing, type) else ():
            # What is asyncio's own has asyncio's documentation, or none.
            if member.startswith("_") or getattr(value, "__module__", None) not in (None, thing.__module__):
                continue
            if callable(value) and not inspect.getdoc(value):
                bare.append(f"{name}.{member}")
    assert bare == []


def test_native_functions_show_their_signatures():
    hidden = []
    for thing in (velodrome, velodrome.Loop, velodrome.Future, velodrome.Task, _velodrome.LoopCore):
        for name, value in vars(thing).items():
            if callable(value) and not name.startswith("_"):
                # `context=<unrepresentable>` is in asyncio's, too: a default that cannot be written.
                try:
                    inspect.signature(value)
                except ValueError:
                    if "<unrepresentable>" not in (getattr(value, "__text_signature__", None) or ""):
                        hidden.append(f"{thing.__name__}.{name}")
    assert hidden == []


@pytest.mark.parametrize("kind", ["Future", "Task", "Handle", "TimerHandle"])
def test_classes_have_every_method_of_asyncios(kind):
    """Overridden, where the base's own would look into a C structure that velodrome leaves empty."""
    ours, theirs = getattr(velodrome, kind), getattr(asyncio, kind)
    assert issubclass(ours, theirs)
    native = kind in ("Future", "Task")
    missing = [
        name
        for base in theirs.__mro__[:-1]
        for name, value in vars(base).items()
        if native and callable(value) and name not in vars(ours) and name not in ("__new__", "__init__")
    ]
    assert [name for name in missing if name not in ("__doc__", "__getattribute__")] == []


@pytest.mark.parametrize(
    "name", ["call_soon", "call_soon_threadsafe", "call_later", "call_at", "create_task"]
)
def test_loop_methods_take_their_parameters_by_name_as_asyncios_do(loop, name):
    arguments = dict(callback=id, delay=1, when=1.0, coro=None)
    wanted = inspect.signature(getattr(asyncio.BaseEventLoop, name)).parameters
    given = {key: value for key, value in arguments.items() if key in wanted}
    if name == "create_task":
        given["coro"] = nothing()
        loop.run_until_complete(loop.create_task(**given))
    else:
        # A callback without arguments, so that nothing need be given by position.
        given["callback"] = lambda: None
        getattr(loop, name)(**given).cancel()


@pytest.mark.parametrize("name", ["add_reader", "add_writer", "remove_reader", "remove_writer"])
def test_descriptors_are_taken_by_name_as_by_asyncios(loop, name):
    one, two = os.pipe()
    fd = one if "reader" in name else two
    try:
        given = dict(fd=fd, callback=lambda: None) if name.startswith("add") else dict(fd=fd)
        getattr(loop, name)(**given)
    finally:
        loop.remove_reader(one)
        loop.remove_writer(two)
        os.close(one)
        os.close(two)


def test_task_has_the_parameters_of_asyncios_task():
    assert set(inspect.signature(velodrome.Task).parameters) == set(
        inspect.signature(asyncio.Task).parameters
    )


def test_build_info_says_what_this_is():
    info = velodrome.build_info()
    assert info["version"] == velodrome.__version__
    assert info["python"] == ".".join(map(str, sys.version_info[:3]))
    assert set(info["layout"]) >= {"task_fields", "awaited_by", "thread_state"}
    assert all(type(found) is bool for found in info["layout"].values())
    json.dumps(info)


def test_the_version_is_the_workspaces():
    manifest = ROOT / "Cargo.toml"
    [version] = re.findall(r'^version = "(.*)"', manifest.read_text(), re.M)
    assert velodrome.__version__ == version


# -- Types -------------------------------------------------------------------------------------------------


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").exists()


def test_the_stub_has_the_same_names():
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text())
    names = []
    for node in ast.walk(stub):
        if isinstance(node, ast.Assign | ast.AugAssign) and isinstance(node.value, ast.List):
            names += ast.literal_eval(node.value)
    newer = set() if sys.version_info >= (3, 12) else {"create_eager_task_factory", "eager_task_factory"}
    assert sorted(set(names) - newer) == PUBLIC


def declared(statements):
    """The names that a stub declares for this Python."""
    for node in statements:
        if isinstance(node, ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets)
        elif isinstance(node, ast.If):
            newer = eval(ast.unparse(node.test), {"sys": sys})
            yield from declared(node.body if newer else node.orelse)
        elif isinstance(node, ast.FunctionDef):
            yield node.name


def test_the_stub_has_every_name_that_asyncio_has():
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text())
    assert set(velodrome.__all__) - set(declared(stub.body)) == set()


def test_the_program_that_shows_the_types_runs(run_python):
    """`make lint` has mypy look at it."""
    assert run_python((ROOT / "tests/typed_program.py").read_text()).stdout == "1\n"


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.pyi")), ids=lambda path: path.name)
def test_each_stub_is_of_a_module_that_exists(path):
    name = "velodrome" if path.stem == "__init__" else f"velodrome.{path.stem}"
    assert importlib.import_module(name)


# -- Objects that were not made as they should be ----------------------------------------------------------


@pytest.mark.parametrize("name", ["Future", "Task", "Handle", "TimerHandle", "Loop", "LoopCore", "Derived"])
def test_what_was_never_initialised_raises_and_does_not_crash(run_python, name):
    done = run_python(
        """
import gc, sys, warnings
import velodrome
from velodrome import _velodrome

warnings.simplefilter("ignore")

class Derived(velodrome.Task):
    def __init__(self):
        pass

kinds = {**vars(_velodrome), **vars(velodrome), "Derived": Derived}
kind, loop = kinds[sys.argv[1]], velodrome.new_event_loop()
arguments = [(), (None,), (1,), (print,), (loop,), (ValueError(),), (1, print), ("name", None)]
left_out = {"__class__", "__init_subclass__", "__subclasshook__", "__reduce__", "__reduce_ex__", "__new__"}
made = tried = 0
for attribute in dir(kind):
    if attribute in left_out:
        continue
    for given in arguments:
        instance = kind.__new__(kind)
        made += 1
        try:
            value = getattr(instance, attribute)
            if callable(value):
                tried += 1
                value(*given)
        except (Exception, SystemExit):
            pass
        try:
            setattr(instance, attribute, *given[:1])
        except Exception:
            pass
        try:
            repr(instance)
        except Exception:
            pass
        del instance
        value = None
gc.collect()
print(made > 100, tried > 50)
loop.close()
""",
        name,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split()[-2:] == ["True", "True"]
