"""The loops that are compared, and how each comes into this interpreter."""

import importlib.metadata
import subprocess
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Contender:
    """A column of the table: a loop, and whose pieces run on it."""

    name: str
    module: str
    own: bool = False  # velodrome's own sleep, create_task, ... in place of asyncio's, as far as it has them


CONTENDERS = [
    Contender("asyncio", "asyncio"),
    Contender("uvloop", "uvloop"),
    Contender("rloop", "rloop"),
    Contender("rsloop", "rsloop"),
    Contender("zuvloop", "zuvloop"),
    Contender("velodrome", "velodrome"),
    Contender("velodrome's own", "velodrome", own=True),
]

LOOPS = list(dict.fromkeys(contender.module for contender in CONTENDERS))

# Nothing of a loop is imported here: some change asyncio when they are. Every loop has processes of its
# own.
_PROBE = "import {0}; {0}.new_event_loop().close()"


def version(module):
    """Return a loop's version, for the table's heading."""
    if module == "asyncio":
        return ".".join(map(str, sys.version_info[:3]))
    try:
        return importlib.metadata.version(module)
    except importlib.metadata.PackageNotFoundError:
        return "?"


def problem(module):
    """Return why a loop does not work in this interpreter, or None."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE.format(module)], capture_output=True, text=True, timeout=60
        )
    except subprocess.TimeoutExpired:
        return "making a loop hangs"
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"status {done.returncode}"


def install(module):
    """Install a loop from the package index; return why that failed, or None."""
    if sys.prefix == sys.base_prefix:
        return "not installed, and this is no virtual environment to install it into"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", module]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    except subprocess.TimeoutExpired:
        return "pip install takes more than 15 minutes"
    if done.returncode == 0:
        return None
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
    return f"pip install: {errors[-1] if errors else f'status {done.returncode}'}"


def available(wanted, may_install, say):
    """Return which of the wanted loops work here, once what was missing is installed; say which do not."""
    working = []
    for module in wanted:
        reason = problem(module)
        if reason and may_install and module not in ("asyncio", "velodrome"):
            say(f"installing {module}")
            reason = install(module) or problem(module)
        if reason:
            say(f"without {module}: {reason}")
        else:
            working.append(module)
    return working
