"""anyio's own tests of its asyncio backend, unmodified, on velodrome.

They come with its source, which a wheel does not have. A test that fails is tried again, as some count the
threads that the one before has left, and then on asyncio: some want a network or IPv6, which this machine may
not have.
"""

import importlib.metadata
import subprocess
import sys
import tarfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from apps.running import need

need("anyio", "psutil", "pytest_mock", "trustme", "truststore")

#: Where the source is: `pip download --no-deps --no-binary :all: --dest THIS anyio==...`.
SOURCES = Path(sys.prefix) / "sources"

#: Files of tests, by what they are about; the first runs always.
GROUPS = {
    "tasks": ["test_taskgroups", "test_synchronization", "test_eventloop", "test_debugging", "test_lowlevel"],
    "threads": ["test_from_thread", "test_to_thread", "test_concurrency_utils", "test_functools"],
    "processes": ["test_subprocesses", "test_to_process", "test_signals"],
    "sockets": ["test_sockets"],
    "streams": ["streams"],
    "others": [
        *("test_contextmanagers", "test_fileio", "test_futures", "test_itertools", "test_tempfile"),
        *("test_typedattr", "test_to_interpreter"),
    ],
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    version = importlib.metadata.version("anyio")
    archive = SOURCES / f"anyio-{version}.tar.gz"
    if not archive.exists():
        pytest.skip(f"the source of anyio {version} is not in {SOURCES}")
    folder = tmp_path_factory.mktemp("anyio")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / f"anyio-{version}"


def run(source, report, tests, *, on):
    """Run some of the tests; return how they ended, by name."""
    loop = ["-m", "velodrome"] if on == "velodrome" else []
    command = [sys.executable, *loop, "-m", "pytest", "-q", *tests, "--junitxml", report, "--timeout", "60"]
    # As parameters they are called after their backend; a test without parameters is asyncio's or anybody's.
    choice = ["-k", "not trio and not uvloop and not eager", "-p", "no:cacheprovider", "-p", "no:ddtrace"]
    done = subprocess.run(
        [*command, *choice], cwd=source, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=500
    )
    assert done.returncode in (0, 1), done.stdout[-5000:] + done.stderr
    ends, said = {}, {}
    for case in ElementTree.parse(report).iter("testcase"):
        path = case.get("classname").removeprefix("tests.").split(".")
        folder = 2 if path[0] == "streams" else 1
        name = "::".join(["tests/" + "/".join(path[:folder]) + ".py", *path[folder:], case.get("name")])
        ends[name] = next(
            (child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed"
        )
        said[name] = "\n".join(child.text or "" for child in case)
    return ends, said


def failures(ends):
    return [name for name, end in ends.items() if end in ("failure", "error")]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "group", [pytest.param(group, marks=() if group == "tasks" else pytest.mark.slow) for group in GROUPS]
)
def test_suite(source, tmp_path, group):
    files = [f"tests/{name}" if name == "streams" else f"tests/{name}.py" for name in GROUPS[group]]
    ends, said = run(source, tmp_path / "ours.xml", files, on="velodrome")
    assert list(ends.values()).count("passed") > 20
    failed = failures(ends)
    for on in "velodrome", "asyncio":
        if failed:
            again, said_again = run(source, tmp_path / f"{on}.xml", failed, on=on)
            if on == "velodrome":
                failed, said = failures(again), said_again
            else:
                failed = [name for name in failed if again[name] == "passed"]
    assert not failed, "\n".join(said[name] for name in failed)
