"""Fixtures for all tests."""

import os
import subprocess
import sys
import warnings

import pytest

# Its subject is another build of the native module: `make test-panics`.
collect_ignore = [] if os.environ.get("VELODROME_PANIC_TEST") else ["test_panics.py"]

# These compare every answer with asyncio's, down to messages, and were written against 3.11. On later
# versions some of those answers differ in asyncio itself, and the tests do not all say so yet; what they
# cover runs there in CPython's own suite (tests/conformance).
if sys.version_info >= (3, 12):
    collect_ignore += [
        *(
            "test_bad_input.py",
            "test_executor.py",
            "test_foreign_loops.py",
            "test_future.py",
            "test_handle.py",
        ),
        *("test_leaks.py", "test_package.py", "test_readers.py", "test_run.py", "test_scheduling.py"),
        *("test_signals.py", "test_sleep.py", "test_task.py"),
    ]


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
def _no_current_loop():
    """Leave no loop behind as the thread's current one."""
    yield
    import asyncio

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asyncio.set_event_loop(None)
