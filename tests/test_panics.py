"""A panic in any function that C calls becomes a Python exception, and the loop goes on.

This needs a build in which every such function panics when told to: `make test-panics`. Each is told so in a
process of its own, which then uses everything there is.
"""

import json
import os
import subprocess
import sys

import pytest
from panics import ENTRIES, cannot_raise, cannot_tell
from panics.server import serve


@pytest.fixture(scope="module")
def server():
    command = [sys.executable, __file__]
    # To look up the names of a backtrace takes each child longer than all the rest.
    environ = {**os.environ, "RUST_BACKTRACE": "0"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environ, text=True, **pipes) as server:
        yield server
        server.stdin.close()


@pytest.fixture
def call(server):
    """A function that calls one of `panics.strikes`, by name, in a process of its own."""

    def call(name, *arguments):
        print(json.dumps([name, *arguments]), file=server.stdin, flush=True)
        report = json.loads(server.stdout.readline())
        assert "ended" not in report, report["ended"]
        return report["answer"]

    return call


def test_entries_are_listed_once():
    assert len(ENTRIES) > 150
    assert len(set(ENTRIES)) == len(ENTRIES)


def test_without_a_panic_everything_works(call):
    assert call("use_all") == []
    report = call("strike", "nothing")
    assert report == {"struck": False, "heard": [], "program": True, "again": True}


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_panic_is_an_exception_and_the_loop_goes_on(call, entry):
    report = call("strike", entry)
    assert report["struck"], "no use of it struck"
    heard = [message for _, message in report["heard"]]
    assert heard == ([] if cannot_tell(entry) else [f"velodrome panicked in {entry}: armed"])
    if cannot_raise(entry):
        assert [where for where, _ in report["heard"]] == ["unraisable"]
    assert report["program"], "the loop did not go on"
    assert report["again"], "a new loop did not work"


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_panic_in_the_middle_of_a_program_is_heard_and_harms_no_other(call, entry):
    report = call("strike_anywhere", entry)
    if report["struck"] and not cannot_tell(entry):
        assert f"velodrome panicked in {entry}: armed" in [message for _, message in report["heard"]]
    assert not report["running"], "a loop is still said to run"
    assert report["again"], "a new loop did not work"


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if cannot_raise(entry)])
def test_an_exception_on_its_way_outlives_a_panic_beside_it(call, entry):
    """Freeing a task that was refused must not lose the reason of the refusal."""
    report = call("refuse", entry)
    raised = [where for where, _ in report["heard"] if where.startswith("raised")]
    assert raised == ["raised"]
    if report["struck"]:
        assert ["unraisable", f"velodrome panicked in {entry}: armed"] in report["heard"]


if __name__ == "__main__":
    serve()
