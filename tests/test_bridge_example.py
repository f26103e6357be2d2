"""The example of an extension with Rust futures: it runs, installs, and shares a loop with another one."""

import asyncio
import contextlib
import importlib.util
import os
import subprocess
import sys

import bridging
import pytest
from bridging import turns
from compiled import ROOT
from extension import ENVIRON, build

pytestmark = bridging.limit
probe = bridging.probe
run = bridging.run


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    return build(ROOT / "examples" / "mixed", "mixed", tmp_path_factory.mktemp("mixed"))


def check_the_example(folder, arguments):
    """Run the example with the module that lies in a folder."""
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    program = [sys.executable, str(ROOT / "examples" / "mixed" / "main.py"), *arguments]
    done = subprocess.run(program, env=environ, capture_output=True, text=True, timeout=50)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "set: OK",
        "gathered: b'velodrome' None slept",
        "fetched: ['bend fetched', 'sprint fetched']",
        "too slow: the time is over",
        "too slow for Python, too",
        "tokio: b'hello from a page'",
        "deleted: 1",
    ]


@pytest.mark.parametrize("arguments", [[], ["asyncio"]], ids=["velodrome", "asyncio"])
def test_the_example_runs(mixed, arguments):
    check_the_example(os.path.dirname(mixed.__file__), arguments)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_example_can_be_installed(mixed, tmp_path):
    """As `pip install ./examples/mixed` does it, with the maturin that is here and what cargo has built."""
    if any(importlib.util.find_spec(module) is None for module in ("maturin", "pip")):
        pytest.skip("installing from source needs pip and maturin")
    paths = [os.path.dirname(sys.executable), os.environ["PATH"], os.path.expanduser("~/.cargo/bin")]
    environ = os.environ | {"PATH": os.pathsep.join(paths), **ENVIRON}
    pip = [sys.executable, "-m", "pip", "install", "--no-index", "--no-build-isolation", "--no-deps"]
    done = subprocess.run(
        [*pip, "--target", str(tmp_path), str(ROOT / "examples" / "mixed")],
        env=environ,
        capture_output=True,
        text=True,
        timeout=290,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(tmp_path.glob("mixed-*.dist-info"))
    check_the_example(tmp_path, [])


def test_futures_of_two_libraries_share_a_loop(probe, mixed, run):
    """Each library has its own copy of the crate: they meet in the loop's table only."""

    async def main():
        async def call(name):
            return await probe.awaits(mixed.fetch_all(probe.yields, [], 5)) or name

        results = await asyncio.gather(
            mixed.fetch_all(lambda key: probe.nap(0.001), ["a", "b"], 5), probe.tasks(20), call("inner")
        )
        assert results == [["rested", "rested"], 190, "inner"]

    run(main())


def test_a_cancelled_command_breaks_its_connection_and_no_other(mixed, run):
    async def main():
        silent = asyncio.Event()

        async def serve(reader, writer):
            with contextlib.suppress(asyncio.CancelledError):
                await silent.wait()
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            client = await mixed.KeyValue.connect("127.0.0.1", server.sockets[0].getsockname()[1])
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.get(b"key"), 0.01)
            with pytest.raises(RuntimeError, match="connect anew"):
                await client.get(b"key")
            silent.set()
            await turns(10)

    run(main())
