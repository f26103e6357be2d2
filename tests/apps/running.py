"""Starts programs, and says which of them cannot be had."""

import contextlib
import importlib.util
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).with_name("programs")


def is_installed(module):
    """Say whether a module can be had. The packages around it are imported to find it, if they are there."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def need(*modules):
    """Skip a test, or a file of tests, where a program is not installed."""
    missing = [module for module in modules if not is_installed(module)]
    if missing:
        # Their wheels come later than an interpreter does, and not for its debug build.
        pytest.skip(f"not installed for this Python: {', '.join(missing)}", allow_module_level=True)


class Program:
    """A running program, and all that it has written so far, stdout and stderr together."""

    def __init__(self, arguments, environment):
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=PROGRAMS,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output = ""
        self.lines = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def expect(self, pattern, timeout=30):
        """Wait until the program writes a line with this in it."""
        while (line := self.lines.get(timeout=timeout)) is not None:
            self.output += line
            if found := re.search(pattern, line):
                return found
        pytest.fail(f"it ended with status {self.process.wait()}:\n{self.output}", pytrace=False)

    def finish(self):
        """Wait for the program's end; return its status."""
        status = self.process.wait(timeout=30)
        self.thread.join()
        while (line := self.lines.get()) is not None:
            self.output += line
        return status


def ways_of(program):
    """Ways to run a program that uses `programs/ways.py`."""
    return {
        "run": [program, "run"],
        "loop_factory": [program, "runner"],
        "-m velodrome": ["-m", "velodrome", program, "unaware"],
    }


def run_to_its_end(*arguments, **environment):
    """Run a program that says "all is well" at its end, and nothing else that would worry anybody."""
    program = Program(arguments, environment)
    try:
        program.expect("^all is well$", timeout=60)
        assert program.finish() == 0, program.output
        check_no_trouble(program)
    finally:
        end(program)


def check_no_trouble(program):
    for trouble in "Traceback", "Error", "never retrieved", "was destroyed", "assert":
        assert trouble not in program.output, program.output


def end(program):
    program.process.kill()
    program.process.wait()
    program.thread.join()
    program.process.stdout.close()


@contextlib.contextmanager
def server(*arguments, **environment):
    """Run a server and give its address; at the end Ctrl-C must stop it, and it must have had no errors."""
    program = Program(arguments, environment)
    try:
        port = int(program.expect(r"running on https?://127\.0\.0\.1:(\d+)")[1])
        yield "127.0.0.1", port
        assert program.process.poll() is None, program.output
        program.process.send_signal(signal.SIGINT)
        assert program.finish() == 0, program.output
        check_no_trouble(program)
    finally:
        end(program)
