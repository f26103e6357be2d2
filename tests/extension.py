"""Builds extension modules written in Rust, and imports them: one build is for all Pythons of a system."""

import faulthandler
import fcntl
import importlib.machinery
import importlib.util
import os
import shutil
import subprocess

import compiled
import pytest

TARGET = compiled.folder("extensions")

# None of it changes from one Python to the next, so nothing is built twice.
ENVIRON = {
    "CARGO_TARGET_DIR": str(TARGET),
    "PYO3_NO_PYTHON": "1",
    "PYO3_BUILD_EXTENSION_MODULE": "1",
}


def build(folder, library, destination):
    """Build the package in `folder` and import its library under its own name."""
    cargo = shutil.which("cargo") or shutil.which("cargo", path=os.path.expanduser("~/.cargo/bin"))
    if cargo is None:
        pytest.skip("building an extension module needs cargo")
    # The first build takes minutes on a busy machine; it has a limit of its own, below.
    faulthandler.cancel_dump_traceback_later()
    TARGET.mkdir(parents=True, exist_ok=True)
    command = [cargo, "build", "--release", "--locked", "--manifest-path", str(folder / "Cargo.toml")]
    environ = os.environ | ENVIRON
    environ.pop("PYO3_PYTHON", None)
    with open(TARGET / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        path = destination / f"{library}.abi3.so"
        shutil.copy(TARGET / "release" / f"lib{library}.so", path)
    loader = importlib.machinery.ExtensionFileLoader(library, str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(library, loader))
    loader.exec_module(module)
    return module
