"""Starts database servers on the loopback for a while, each with data of its own."""

import contextlib
import glob
import os
import pwd
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

TLS = Path(__file__).parents[1] / "tls"


def _found(name, *folders):
    """The path of a server's program; the test is passed over where there is none."""
    path = shutil.which(name) or next(
        (path for folder in folders for path in glob.glob(f"{folder}/{name}")), None
    )
    if path is None:
        pytest.skip(f"this machine has no {name}")
    return path


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@contextlib.contextmanager
def _running(command, port, log, **options):
    """Run a server until the end; it is there when it listens."""
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, **options)
    try:
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        else:
            pytest.fail(f"{command[0]} does not listen:\n{log.read_text()}", pytrace=False)
        yield
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def redis(folder, *, tls=False):
    """Run a Redis server; give its port."""
    port = _free_port()
    options = {"bind": "127.0.0.1", "port": 0 if tls else port, "save": "", "dir": folder, "appendonly": "no"}
    if tls:
        files = {"cert": "certificate.pem", "key": "key.pem", "ca-cert": "certificate.pem"}
        options |= {"tls-port": port, "tls-auth-clients": "no"}
        options |= {f"tls-{which}-file": TLS / name for which, name in files.items()}
    command = [
        _found("redis-server"),
        *(str(word) for name, value in options.items() for word in (f"--{name}", value)),
    ]
    with _running(command, port, folder / "log"):
        yield port


@contextlib.contextmanager
def postgres(folder, *, tls=False):
    """Run a PostgreSQL server, which trusts everybody; give its port."""
    programs = "/usr/lib/postgresql/*/bin"
    initdb, server = _found("initdb", programs), _found("postgres", programs)
    port, data = _free_port(), folder / "data"
    # It refuses to run as root.
    user = {}
    if os.geteuid() == 0:
        user = _an_ordinary_user()
        os.chown(folder, user["user"], user["group"])
        for parent in folder.parents:
            if parent.stat().st_mode & 0o001 == 0:
                parent.chmod(parent.stat().st_mode | 0o001)
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    environment.pop("LD_PRELOAD", None)
    options = {"env": environment, "cwd": folder, **user}
    done = subprocess.run(
        [initdb, "-D", data, "-U", "tester", "-A", "trust", "--no-sync", "-E", "UTF8"],
        **options,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    settings = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "fsync": "off",
        "max_connections": 60,
    }
    if tls:
        settings |= {"ssl": "on"}
        for which, name in (("cert", "certificate.pem"), ("key", "key.pem")):
            settings[f"ssl_{which}_file"] = file = shutil.copy(TLS / name, folder)
            # It refuses keys that others can read, or that are others'.
            os.chmod(file, 0o600)
            if user:
                os.chown(file, user["user"], user["group"])
    command = [
        server,
        "-D",
        data,
        "-p",
        str(port),
        *(f"--{name}={value}" for name, value in settings.items()),
    ]
    with _running(command, port, folder / "log", **options):
        yield port


def _an_ordinary_user():
    for name in "postgres", "nobody":
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    pytest.skip("there is nobody but root to run PostgreSQL as")
