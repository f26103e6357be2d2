"""Fixtures for all tests."""

import faulthandler
import gc
import os
import subprocess
import sys
import warnings

import pytest

# Its subject is another build of the native module: `make test-panics`.
collect_ignore = [] if os.environ.get("VELODROME_PANIC_TEST") else ["test_panics.py"]


def pytest_configure(config):
    """Where slow tests are left out, tests that try the same thing again and again do so less often."""
    if config.option.markexpr == "not slow":
        os.environ.setdefault("VELODROME_REPEAT", "4")
        os.environ.setdefault("VELODROME_LOAD_SECONDS", "0.5")


@pytest.fixture(scope="module", autouse=True)
def _quick_collections():
    """Spare the collector, which many tests call, the objects of pytest and of the modules before."""
    gc.collect()
    gc.freeze()


def pytest_runtest_call(item):
    """Let a test that says how long it may take have that time: only its alarm ends it then."""
    limit = item.get_closest_marker("timeout")
    if limit is not None and limit.args[0] > float(item.config.getini("timeout")):
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def loop():
    """A Velodrome loop that is not set as the current one, closed at the end."""
    import velodrome

    loop = velodrome.new_event_loop()
    yield loop
    if not loop.is_closed():
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@pytest.fixture
def run_python():
    """A function that runs a program in a fresh interpreter and gives its CompletedProcess."""
    return _run_python


def _run_python(code, *args, timeout=30, env=None, check=True, options=()):
    """Run `code` with `args` as its sys.argv[1:]; text in, text out.

    `env` is added to this process's own; `options` are the interpreter's, such as ("-X", "dev").
    With `check` a status other than 0 fails the test and shows what the program wrote.
    """
    done = subprocess.run(
        [sys.executable, *options, "-c", code, *map(str, args)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=timeout,
        env={**os.environ, **(env or {})},
    )
    if check and done.returncode != 0:
        pytest.fail(
            f"exit {done.returncode}\n--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}", pytrace=False
        )
    return done


@pytest.fixture(autouse=True)
def _thread_as_it_was():
    """Leave no loop behind as the thread's current one, and no tracking of coroutines.

    asyncio 3.13.0 turns the tracking on in a thread in which its running loop is refused a second run.
    """
    yield
    import asyncio

    sys.set_coroutine_origin_tracking_depth(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asyncio.set_event_loop(None)
