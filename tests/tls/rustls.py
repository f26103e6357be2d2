"""A peer that is rustls: the program in tests/peers/rustls, built when it is asked for."""

import functools
import os
import shutil
import subprocess
from pathlib import Path

import compiled
import pytest

from .sides import HERE, LIMIT

AUTHORITY = str(HERE / "authority.pem")
CHAIN = str(HERE / "leaf.pem")
KEY = str(HERE / "leaf_key.pem")

SOURCE = compiled.ROOT / "tests" / "peers" / "rustls"
TARGET = compiled.folder("peers")


@functools.cache
def program():
    """Return the program's file; skip the test where it cannot be built."""
    if shutil.which("cargo") is None:
        pytest.skip("there is no cargo to build the peer with")
    environment = {**os.environ, "CARGO_TARGET_DIR": str(TARGET)}

    def cargo(*arguments):
        return subprocess.run(
            ["cargo", *arguments, "--locked", "--quiet"],
            cwd=SOURCE,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    if cargo("build", "--offline").returncode != 0:
        fetched = cargo("fetch")
        if fetched.returncode != 0:
            pytest.skip(f"cargo cannot fetch rustls: {fetched.stderr.strip().splitlines()[-1]}")
        built = cargo("build", "--offline")
        assert built.returncode == 0, built.stderr
    return TARGET / "debug" / Path("velodrome-rustls-peer")


class RustlsPeer:
    """The other side of a connected socket, which takes steps; see the program for which there are."""

    def __init__(
        self, sock, role, version, *steps, certificate=None, demand=False, authority=AUTHORITY, alpn=None
    ):
        options = []
        if certificate if certificate is not None else role == "server":
            options += [f"chain={CHAIN}", f"key={KEY}"]
        if demand or role == "client":
            options.append(f"authority={authority}")
        if alpn:
            options.append(f"alpn={alpn}")
        arguments = [program(), role, version, *options, *steps]
        with sock:
            self.process = subprocess.Popen(arguments, stdin=sock, stdout=subprocess.PIPE, text=True)

    def join(self):
        """Wait for its end; return what it has said."""
        try:
            said, _ = self.process.communicate(timeout=LIMIT)
        finally:
            self.process.kill()
        return said.splitlines()
