"""Worker half of the asyncio conformance harness (see conform.py).

conform.py passes the text of this file to the interpreter under test with
``python -c``, so the interpreter may live in a chroot or a container that
cannot see the harness.  It runs the tests of ONE module of CPython's own test
suite, unmodified, with another event loop (and, in full-replacement mode,
other Task/Future/... types) swapped in underneath, and writes one JSON line
per event to the file descriptor named in its configuration.
"""

import atexit
import faulthandler
import importlib
import inspect
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import unittest
import warnings

with os.fdopen(int(os.environ.pop("CONFORM_CFG"))) as _config:
    CFG = json.load(_config)
_OUT = CFG["fd"]
os.set_inheritable(_OUT, False)
_PID = os.getpid()


def emit(**event):
    if os.getpid() != _PID:  # a forked child of a test: stay silent
        return
    data = (json.dumps(event) + "\n").encode()
    while data:
        data = data[os.write(_OUT, data) :]


def resolve(spec):
    """'package.module:attr.attr' -> object."""
    modname, _, attrs = spec.partition(":")
    obj = importlib.import_module(modname)
    for attr in filter(None, attrs.split(".")):
        obj = getattr(obj, attr)
    return obj


# --------------------------------------------------------------------------
# Swapping the loop in.


class Counter:
    loops = 0  # loops under test made since the test began


def make_loop_shims(factory, is_stdlib):
    """Return (make_loop, Shim); both build the loop under test."""

    def make_loop():
        Counter.loops += 1
        return factory()

    class LoopClassShim:
        """Stands where asyncio.SelectorEventLoop / asyncio.EventLoop stood.

        Calling it makes the loop under test.  Subclassing it subclasses the
        original class (__mro_entries__), and isinstance() accepts both.
        """

        def __init__(self, original):
            self.__original = original
            self.__name__ = original.__name__
            self.__doc__ = original.__doc__

        def __call__(self, selector=None, *args, **kwargs):
            Counter.loops += 1
            if is_stdlib:
                return self.__original(selector, *args, **kwargs)
            if selector is not None and hasattr(selector, "close"):
                selector.close()
            return factory()

        def __mro_entries__(self, bases):
            return (self.__original,)

        def __instancecheck__(self, obj):
            return isinstance(obj, (self.__original, type(self)._loop_type()))

        def __subclasscheck__(self, cls):
            return issubclass(cls, self.__original)

        _type = None

        @classmethod
        def _loop_type(cls):
            if cls._type is None:
                loop = factory()
                cls._type = type(loop)
                loop.close()
            return cls._type

        def __getattr__(self, name):
            return getattr(self.__original, name)

    return make_loop, LoopClassShim


def install_loop(factory, is_stdlib):
    """Make every way in which the suite obtains a loop give ours."""
    import asyncio
    from asyncio import events

    make_loop, Shim = make_loop_shims(factory, is_stdlib)
    done = []
    # The default policy: asyncio.new_event_loop(), asyncio.run(), Runner(),
    # IsolatedAsyncioTestCase, get_event_loop() on 3.10-3.13.  Patching the
    # factory of the policy class (not installing a policy) survives the
    # set_event_loop_policy(None) which most test modules call.
    for name in ("DefaultEventLoopPolicy", "_DefaultEventLoopPolicy", "_UnixDefaultEventLoopPolicy"):
        from asyncio import unix_events

        for ns in (asyncio, unix_events):
            cls = getattr(ns, name, None)
            if isinstance(cls, type) and hasattr(cls, "_loop_factory"):
                cls._loop_factory = staticmethod(make_loop)
                done.append(f"{cls.__module__}.{cls.__name__}._loop_factory")
    if not done:  # Pythons without policies
        asyncio.new_event_loop = events.new_event_loop = make_loop
        done.append("asyncio.new_event_loop")
    # Classes named outright: create_event_loop() of the mixins,
    # loop_factory=asyncio.EventLoop.
    for name in ("SelectorEventLoop", "EventLoop"):
        cls = getattr(asyncio, name, None)
        if isinstance(cls, type):
            setattr(asyncio, name, Shim(cls))
            done.append(f"asyncio.{name}")
    done += adapt_fixtures()
    if CFG.get("real_test_loop"):
        from test.test_asyncio import utils

        original = utils.TestCase.new_test_loop

        def new_test_loop(self, gen=None):
            if gen is not None:  # scripted virtual time: cannot be swapped
                return original(self, gen)
            loop = make_loop()
            self.addCleanup(lambda: loop.is_closed() or loop.close())
            events.set_event_loop(None)
            return loop

        utils.TestCase.new_test_loop = new_test_loop
        done.append("test_utils.TestCase.new_test_loop")
    return done


def adapt_fixtures():
    """test_utils.TestCase.close_loop() reads loop._default_executor, which is
    private to BaseEventLoop, in the clean-up of most tests.  Where the loop
    has no such attribute, do the same by the public interface."""
    if CFG.get("strict_fixtures"):
        return []
    import threading

    from test.test_asyncio import utils

    original = utils.TestCase.close_loop

    def close_loop(loop):
        if hasattr(loop, "_default_executor"):
            return original(loop)
        pool = [t for t in threading.enumerate() if t.name.startswith(("asyncio_", "ThreadPoolExecutor"))]
        if pool and not loop.is_closed():
            loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    utils.TestCase.close_loop = staticmethod(close_loop)
    # 3.10-3.13: the fixture of test_events attaches a SafeChildWatcher, which
    # takes SIGCHLD from the loop; only the stdlib loop uses child watchers.
    from asyncio import base_events, unix_events

    base_watcher = getattr(unix_events, "BaseChildWatcher", None)
    if base_watcher is not None and hasattr(base_watcher, "attach_loop"):
        attach = base_watcher.attach_loop

        def attach_loop(self, loop):
            if not isinstance(self._loop, base_events.BaseEventLoop):
                self._loop = None
            if isinstance(loop, base_events.BaseEventLoop):
                return attach(self, loop)
            attach(self, None)
            self._loop = loop  # test_child_watcher_replace_mainloop_existing looks at it

        base_watcher.attach_loop = attach_loop
    return ["test_utils.TestCase.close_loop (only if no loop._default_executor)"]


# --------------------------------------------------------------------------
# Full-replacement mode.

SUBMODULES = (
    "base_events base_futures base_subprocess coroutines events "
    "exceptions futures graph locks protocols queues runners sslproto "
    "staggered streams subprocess taskgroups tasks threads timeouts "
    "transports trsock unix_events selector_events"
).split()


class Plain:
    """A function that does not turn into a method as a class attribute.

    The suite writes ``all_tasks = tasks._c_all_tasks`` in class bodies, which
    is right for builtins only; a replacement may be a Python function.
    """

    def __init__(self, func):
        self.__wrapped__ = func

    def __call__(self, *args, **kwargs):
        return self.__wrapped__(*args, **kwargs)


C_TYPES = {"_CTask": ("tasks", "Task"), "_CFuture": ("futures", "Future")}


def snapshot():
    import asyncio

    snap = {"": {n: getattr(asyncio, n) for n in asyncio.__all__ if hasattr(asyncio, n)}}
    for sub in SUBMODULES:
        mod = sys.modules.get("asyncio." + sub)
        if mod is None:
            continue
        snap[sub] = {n: v for n, v in vars(mod).items() if not n.startswith("__") and (callable(v))}
    return snap


def replace_wholesale(install_spec, propagate):
    """Call the package's install(), then retarget the suite's C-type hooks.

    The parametrised classes of the suite (test_tasks.CTask_CFuture_Tests,
    test_futures.CFutureTests, test_events.TestCGetEventLoop, ...) take their
    types from ``asyncio.tasks._CTask``, ``asyncio.futures._CFuture`` and
    ``asyncio.{tasks,futures,events}._c_<function>`` when the test module is
    imported.  Those names exist for the tests only, so pointing them at the
    replacement turns every C* class into a test of the replacement, with
    nothing in the suite edited; the Py* classes keep testing pure Python.
    """
    import asyncio

    for sub in SUBMODULES:
        try:
            importlib.import_module("asyncio." + sub)
        except ImportError:
            pass
    before = snapshot()
    resolve(install_spec)()
    after = snapshot()

    def short(modname, name):
        return f"asyncio.{modname}.{name}" if modname else f"asyncio.{name}"

    changed = {
        m: {n: (before[m].get(n), v) for n, v in names.items() if before.get(m, {}).get(n) is not v}
        for m, names in after.items()
    }
    replaced_public = sorted(changed.get("", {}))
    # objects of the original asyncio still reachable in a submodule
    leaks = []
    for name, (old, new) in changed.get("", {}).items():
        for sub in SUBMODULES:
            mod = sys.modules.get("asyncio." + sub)
            if mod is not None and old is not None and vars(mod).get(name) is old:
                leaks.append(short(sub, name))
                if propagate:
                    setattr(mod, name, new)
    # retarget the hooks
    retargeted = []
    for hook, (sub, public) in C_TYPES.items():
        mod = sys.modules["asyncio." + sub]
        new = getattr(asyncio, public)
        if getattr(mod, hook, None) is not new:
            setattr(mod, hook, new)
            retargeted.append(short(sub, hook))
    for sub in ("tasks", "futures", "events"):
        mod = sys.modules["asyncio." + sub]
        for hook in [n for n in vars(mod) if n.startswith("_c_")]:
            public = hook[3:]
            new = getattr(mod, public, None)
            pkg = getattr(asyncio, public, None)
            old_pkg = before[""].get(public)
            if pkg is not None and pkg is not old_pkg:
                new = pkg  # the package-level name wins
            if new is not None and getattr(mod, hook) is not new:
                setattr(mod, hook, Plain(new) if hasattr(new, "__get__") else new)
                retargeted.append(short(sub, hook))
    not_replaced = sorted(
        n
        for n in before[""]
        if n not in changed.get("", {})
        and callable(before[""][n])
        and not (isinstance(before[""][n], type) and issubclass(before[""][n], BaseException))
    )
    return {
        "replaced": replaced_public,
        "not_replaced": not_replaced,
        "leaks": sorted(leaks),
        "propagated": bool(propagate),
        "retargeted": sorted(retargeted),
    }


# --------------------------------------------------------------------------
# Running.

# Traces of white-box testing in a test's source: names inside BaseEventLoop,
# BaseSelectorEventLoop and unix_events, or mocks planted in asyncio's modules.
HINTS = [
    re.compile(p)
    for p in (
        r"mock\.patch\(['\"]asyncio\.[\w.]+",
        r"mock\.patch\.object\([^)]*",
        r"@patch_socket|patch_socket\b",
        r"\b(?:self\.)?(?:loop|_loop)\._(?:run_once|ready|scheduled|selector|"
        r"process_events|write_to_self|read_from_self|csock|ssock|add_reader|"
        r"remove_reader|add_writer|remove_writer|add_callback\w*|"
        r"make_\w+_transport|start_serving|accept_connection\w*|signal_handlers|"
        r"handle_signal|internal_fds|ensure_fd_no_transport|transports|"
        r"timer_cancelled_count|timer_handle_cancelled|default_executor|"
        r"child_watcher\w*|watcher|stop_serving|check_\w+|coroutine_origin\w*|"
        r"run_forever_setup|unix_server_sockets|sock_\w+_native|sock_sendfile\w*|"
        r"sendfile\w*|thread_id|clock_resolution|task_factory|"
        r"ensure_resolved|create_connection_transport|getaddrinfo_\w+|closed|"
        r"asyncgens\w*|exception_handler)\b",
        r"self\.loop\.\w+ = (?:mock|m)\b.*",
        r"\b(?:transport|tr|self\.transport|proto\.transport|server|srv|cl|f\.transport|client\.transport)\._(?!extra)\w+",
        r"\b(?:base_events|selector_events|unix_events|proactor_events|sslproto|base_subprocess)\.\w+",
        r"BaseEventLoop\b|SelectorEventLoop\b|DefaultEventLoopPolicy\b",
        r"\bmock\.Mock\(|\bMagicMock\(",
    )
]


def hints_of(test):
    found = []
    try:
        src = inspect.getsource(getattr(test, test._testMethodName))
    except Exception:
        return found
    for pattern in HINTS:
        for m in pattern.finditer(src):
            text = m.group(0).strip()
            if text not in found:
                found.append(text)
    return found[:12]


def flatten(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from flatten(item)
        else:
            yield item


def short_tb(err, limit=14):
    lines = "".join(traceback.format_exception(*err)).rstrip().splitlines()
    return "\n".join(lines[-limit:])[-1800:]


class Result(unittest.TestResult):
    running = None

    def startTest(self, test):
        super().startTest(test)
        Counter.loops = 0
        self.running = test
        self.state = ("pass", "")
        self.t0 = time.monotonic()
        tid = test.id()
        emit(ev="start", id=tid)
        limit = CFG["timeouts"].get(tid, CFG["timeout"])
        faulthandler.dump_traceback_later(limit, exit=True, file=STDERR)

    def stopTest(self, test):
        if self.running is not test:  # skipped on 3.12.1: never started
            return
        self.running = None
        faulthandler.cancel_dump_traceback_later()
        status, detail = self.state
        event = dict(
            ev="end",
            id=test.id(),
            status=status,
            detail=detail,
            loops=Counter.loops,
            dur=round(time.monotonic() - self.t0, 3),
        )
        if status in ("fail", "error"):
            event["hints"] = hints_of(test)
        emit(**event)
        super().stopTest(test)

    def worse(self, status, detail):
        if self.state[0] in ("pass", "skip"):
            self.state = (status, detail)

    def addFailure(self, test, err):
        self.worse("fail", short_tb(err))

    def addError(self, test, err):
        if isinstance(test, unittest.suite._ErrorHolder):
            emit(ev="fixture", id=test.id(), detail=short_tb(err))
        else:
            self.worse("error", short_tb(err))

    def addSubTest(self, test, subtest, err):
        if err is not None:
            kind = "fail" if issubclass(err[0], test.failureException) else "error"
            self.worse(kind, f"{subtest}\n{short_tb(err)}")

    def addSkip(self, test, reason):
        if isinstance(test, unittest.suite._ErrorHolder):
            emit(ev="fixture", id=test.id(), detail="skip: " + str(reason))
        elif self.running is None:
            emit(ev="end", id=test.id(), status="skip", detail=str(reason), loops=0, dur=0)
        elif self.state[0] == "pass":
            self.state = ("skip", str(reason))

    def addExpectedFailure(self, test, err):
        self.state = ("xfail", "")

    def addUnexpectedSuccess(self, test):
        self.worse("fail", "unexpected success")


def remove_stale():
    """Remove the directories of workers that were killed."""
    root = tempfile.gettempdir()
    for name in os.listdir(root):
        m = re.fullmatch(r"conform-(\d+)-\w+", name)
        if m and not os.path.exists("/proc/" + m.group(1)):
            shutil.rmtree(os.path.join(root, name), ignore_errors=True)


def main():
    global STDERR
    STDERR = os.fdopen(os.dup(2), "w")
    faulthandler.enable(file=STDERR)
    sys.argv = ["conform-worker"]
    # A shell's background job ignores SIGINT, and would hang in the tests of Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    remove_stale()
    workdir = tempfile.mkdtemp(prefix=f"conform-{_PID}-")
    atexit.register(lambda: os.getpid() == _PID and shutil.rmtree(workdir, ignore_errors=True))
    sys.path[:0] = CFG.get("path", [])
    import asyncio

    is_stdlib = CFG["loop"] == "stdlib"
    if is_stdlib:
        factory = asyncio.SelectorEventLoop
    else:
        factory = resolve(CFG["loop"])
    meta = {"python": sys.version, "impl": sys.implementation.name}
    try:
        from importlib.metadata import version

        top = CFG["loop"].split(":")[0].split(".")[0]
        meta["package"] = f"{top} {version(top)}"
    except Exception:
        pass
    if CFG.get("install"):
        meta["replacement"] = replace_wholesale(CFG["install"], CFG.get("propagate"))
    meta["patched"] = install_loop(factory, is_stdlib)
    from test import support

    # every resource but the outside network
    support.use_resources = dict.fromkeys(("subprocess", "cpu", "walltime", "decimal", "largefile"))
    support.verbose = 0
    warnings.simplefilter("default")
    os.mkdir(os.path.join(workdir, "cwd"))
    os.chdir(os.path.join(workdir, "cwd"))
    if is_stdlib:
        meta["loop_class"] = "asyncio.SelectorEventLoop"
    else:
        probe = factory()
        meta["loop_class"] = f"{type(probe).__module__}.{type(probe).__qualname__}"
        probe.close()
    try:
        module = importlib.import_module(CFG["module"])
    except unittest.SkipTest as exc:
        emit(ev="meta", **meta)
        emit(ev="ids", ids=[], modskip=str(exc))
        return
    except ModuleNotFoundError as exc:
        if exc.name not in (CFG["module"], "unittest.test"):
            raise
        emit(ev="meta", **meta)
        emit(ev="ids", ids=[], modskip="not in this CPython")
        return
    drop = set(CFG.get("drop") or ())
    tests = [
        t
        for t in flatten(unittest.defaultTestLoader.loadTestsFromModule(module))
        if type(t).__name__ not in drop
    ]
    failed = [t for t in tests if type(t).__name__ == "_FailedTest"]
    if failed:
        raise RuntimeError(f"cannot load: {failed}")
    emit(ev="meta", **meta)
    if CFG.get("only") is not None:
        only = set(CFG["only"])
        tests = [t for t in tests if t.id() in only]
    if CFG.get("pattern"):
        tests = [t for t in tests if re.search(CFG["pattern"], t.id())]
    emit(ev="ids", ids=[t.id() for t in tests])
    result = Result()
    # keep the tests' chatter out of the way
    unittest.TestSuite(tests).run(result)
    emit(ev="done")


try:
    main()
except BaseException:
    emit(ev="worker-error", detail=traceback.format_exc()[-3000:])
    raise
