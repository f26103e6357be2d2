"""The package: what it offers, what it says where it cannot run, and that it leaves asyncio alone."""

import ast
import asyncio
import contextlib
import contextvars
import importlib
import inspect
import json
import os
import re
import signal
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


# ---------------------------------------------------------------------------------------------------------
# What there is


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


# ---------------------------------------------------------------------------------------------------------
# Types


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


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.pyi")), ids=lambda path: path.name)
def test_each_stub_is_of_a_module_that_exists(path):
    name = "velodrome" if path.stem == "__init__" else f"velodrome.{path.stem}"
    assert importlib.import_module(name)


# ---------------------------------------------------------------------------------------------------------
# Where it cannot run

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


# ---------------------------------------------------------------------------------------------------------
# Objects that were not made as they should be


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


# ---------------------------------------------------------------------------------------------------------
# asyncio stays as it is

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


# ---------------------------------------------------------------------------------------------------------
# run and Runner: as asyncio's with a loop_factory


def theirs(**options):
    return asyncio.Runner(loop_factory=asyncio.SelectorEventLoop, **options)


@pytest.fixture(params=[theirs, velodrome.Runner], ids=["asyncio", "velodrome"])
def runner_class(request):
    return request.param


def test_run_returns_the_result_on_a_loop_of_velodromes():
    async def main():
        return type(asyncio.get_running_loop())

    assert velodrome.run(main()) is velodrome.Loop


def test_run_raises_the_exception():
    async def fail():
        raise KeyError("key")

    with pytest.raises(KeyError, match="key"):
        velodrome.run(fail())


@pytest.mark.parametrize("run", [asyncio.run, velodrome.run], ids=["asyncio", "velodrome"])
def test_run_is_refused_while_a_loop_runs(run):
    async def main():
        coroutine = nothing()
        try:
            with pytest.raises(RuntimeError, match=r"run\(\) cannot be called from a running event loop"):
                run(coroutine)
        finally:
            coroutine.close()
        return "went on"

    assert velodrome.run(main()) == "went on"
    assert asyncio.run(main()) == "went on"


@pytest.mark.parametrize("debug", [True, False, None])
def test_run_passes_debug_on(debug):
    async def main():
        return asyncio.get_running_loop().get_debug()

    assert velodrome.run(main(), debug=debug) is bool(debug)


def test_run_takes_another_loop_factory():
    async def main():
        return type(asyncio.get_running_loop())

    assert velodrome.run(main(), loop_factory=asyncio.SelectorEventLoop) is asyncio.SelectorEventLoop
    with velodrome.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        assert runner.run(main()) is asyncio.SelectorEventLoop


def test_run_leaves_no_loop_behind():
    loops = []

    async def main():
        loops.append(asyncio.get_running_loop())

    velodrome.run(main())
    assert loops[0].is_closed()
    assert asyncio._get_running_loop() is None


@pytest.mark.parametrize("wrong", [None, 1, nothing, "text"])
def test_run_refuses_what_is_no_coroutine(wrong):
    raised = []
    for run in asyncio.run, velodrome.run:
        with pytest.raises((TypeError, ValueError)) as caught:
            run(wrong)
        raised.append((caught.type, str(caught.value)))
    assert raised[0] == raised[1]


@pytest.mark.skipif(sys.version_info < (3, 14), reason="any awaitable is taken from Python 3.14 on")
def test_run_takes_any_awaitable():
    class Awaitable:
        def __await__(self):
            return velodrome.sleep(0, "result").__await__()

    assert velodrome.run(Awaitable()) == "result"


def test_run_takes_a_native_sleep():
    assert velodrome.run(velodrome.sleep(0, "result")) == "result"


def test_a_runner_runs_several_in_one_context(runner_class):
    variable = contextvars.ContextVar("variable", default=0)

    async def add():
        variable.set(variable.get() + 1)
        return variable.get()

    with runner_class() as runner:
        loop = runner.get_loop()
        assert [runner.run(add()), runner.run(add())] == [1, 2]
        context = contextvars.copy_context()
        assert runner.run(add(), context=context) == 1
        assert context[variable] == 1
        assert runner.get_loop() is loop
    assert variable.get() == 0
    assert loop.is_closed()


def test_a_closed_runner_is_refused(runner_class):
    runner = runner_class()
    assert runner.run(nothing()) == "nothing"
    runner.close()
    runner.close()
    for use in runner.get_loop, runner.__enter__:
        with pytest.raises(RuntimeError, match="Runner is closed"):
            use()


def test_a_runner_that_was_never_used_makes_no_loop(runner_class):
    runner = runner_class()
    runner.close()
    with pytest.raises(ValueError):
        with runner_class():
            raise ValueError


def test_a_runner_cancels_what_is_left(runner_class):
    said = []

    async def left():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            said.append("cancelled")
            raise

    async def generate():
        try:
            yield
        finally:
            said.append("generator closed")

    async def main():
        asyncio.create_task(left())
        generator = generate()
        await anext(generator)
        said.append(await asyncio.get_running_loop().run_in_executor(None, str, "executor"))
        kept.append(generator)

    kept = []
    with runner_class() as runner:
        runner.run(main())
        assert said == ["executor"]
    assert said == ["executor", "cancelled", "generator closed"]


def test_a_runner_turns_ctrl_c_into_a_cancellation(runner_class):
    said = []

    async def main():
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            said.append("cancelled")
            raise

    before = signal.getsignal(signal.SIGINT)
    with runner_class() as runner:
        with pytest.raises(KeyboardInterrupt):
            runner.run(main())
        assert said == ["cancelled"]
        assert signal.getsignal(signal.SIGINT) is before
        assert runner.run(nothing()) == "nothing"


def test_a_second_ctrl_c_is_immediate(runner_class):
    async def main():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("still here")

    with runner_class() as runner, pytest.raises(KeyboardInterrupt):
        runner.run(main())


def test_a_programs_own_handler_of_ctrl_c_stays(runner_class):
    said = []

    async def main():
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(0)
        return "went on"

    before = signal.signal(signal.SIGINT, lambda *_: said.append("own"))
    try:
        with runner_class() as runner:
            assert runner.run(main()) == "went on"
    finally:
        signal.signal(signal.SIGINT, before)
    assert said == ["own"]


def test_a_runner_refuses_to_run_within_itself(runner_class):
    async def main(runner):
        coroutine = nothing()
        with contextlib.closing(coroutine):
            with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
                runner.run(coroutine)

    with runner_class() as runner:
        runner.run(main(runner))


def test_velodromes_runner_makes_velodromes_loop():
    with velodrome.Runner() as runner:
        assert type(runner.get_loop()) is velodrome.Loop


def test_asyncios_runner_takes_velodromes_loop():
    with asyncio.Runner(loop_factory=velodrome.new_event_loop) as runner:
        assert type(runner.get_loop()) is velodrome.Loop
        assert runner.run(nothing()) == "nothing"
    with asyncio.Runner(loop_factory=velodrome.Loop) as runner:
        assert runner.run(nothing()) == "nothing"


# ---------------------------------------------------------------------------------------------------------
# Policies


@pytest.fixture
def policy():
    """velodrome's policy, in force."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.14 on
        asyncio.set_event_loop_policy(velodrome.EventLoopPolicy())
        try:
            yield asyncio.get_event_loop_policy()
        finally:
            asyncio.set_event_loop_policy(None)


def test_the_policy_is_one_of_asyncios():
    policies = [
        getattr(asyncio.events, name)
        for name in ("AbstractEventLoopPolicy", "_AbstractEventLoopPolicy")
        if name in vars(asyncio.events)
    ]
    assert policies and all(issubclass(velodrome.EventLoopPolicy, policy) for policy in policies)


def test_the_policy_makes_velodromes_loops(policy):
    loop = asyncio.new_event_loop()
    assert type(loop) is velodrome.Loop
    loop.close()
    assert type(policy.new_event_loop()) is velodrome.Loop


def test_run_and_runner_of_asyncio_follow_the_policy(policy):
    async def main():
        return type(asyncio.get_running_loop())

    assert asyncio.run(main()) is velodrome.Loop
    with asyncio.Runner() as runner:
        assert runner.run(main()) is velodrome.Loop


def test_the_policy_keeps_the_current_loop(policy):
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    assert asyncio.get_event_loop() is loop
    asyncio.set_event_loop(None)
    with pytest.raises(RuntimeError):
        asyncio.get_event_loop()
    loop.close()


def test_making_a_policy_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        velodrome.EventLoopPolicy()
