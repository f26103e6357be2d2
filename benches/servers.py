"""The server rows: the processor time that a server's process takes for each message, and its latency.

The client is another process (wire.c), and never the bottleneck. All servers of a row wait side by side, each
with a client that is connected; a round is one client's turn to exchange some messages.
"""

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import loops
import serve as serving

HERE = Path(__file__).parent

#: The column of the server in C, which no Python can undercut.
LIMIT = "plain C"


@dataclass(frozen=True)
class ServerRow:
    """A kind of server, and what its clients do."""

    key: str
    name: str
    kind: str
    connections: int
    size: (
        str  # of a message, after "udp" of a datagram, after "file" of the answer to a byte; "http", "lines"
    )
    messages: int  # in a round: such that a fast loop takes about a tenth of a second


SERVER_ROWS = {
    row.key: row
    for row in (
        ServerRow("tcp_1k", "TCP, Protocol, 1 KiB, 64 connections", "protocol", 64, "1024", 10_000),
        ServerRow("tcp_100k", "TCP, Protocol, 100 KiB, 16 connections", "protocol", 16, "102400", 1_000),
        ServerRow("unix_1k", "Unix sockets, Protocol, 1 KiB, 64 connections", "unix", 64, "1024", 10_000),
        ServerRow(
            "sockets_1k",
            "TCP, sock_recv and sock_sendall, 1 KiB, 64 connections",
            "sockets",
            64,
            "1024",
            8_000,
        ),
        ServerRow("udp_1k", "UDP, DatagramProtocol, 1 KiB, 32 sockets", "datagrams", 32, "udp1024", 10_000),
        ServerRow("sendfile_100m", "TCP, sendfile, 100 MiB, 1 connection", "files", 1, "file104857600", 1),
        ServerRow("tls_1k", "TLS, Protocol, 1 KiB, 64 connections", "tls", 64, "1024", 4_000),
        ServerRow("tls_100k", "TLS, Protocol, 100 KiB, 16 connections", "tls", 16, "102400", 400),
        ServerRow("tls_streams_1k", "TLS, streams, 1 KiB, 64 connections", "tls_streams", 64, "1024", 4_000),
        ServerRow("streams_1k", "TCP, streams, 1 KiB, 64 connections", "streams", 64, "1024", 8_000),
        ServerRow("streams_100k", "TCP, streams, 100 KiB, 16 connections", "streams", 16, "102400", 1_000),
        ServerRow("lines_1k", "TCP, streams, lines of 1 KiB, 64 connections", "lines", 64, "1024", 8_000),
        ServerRow(
            "frames_1k", "TCP, streams, readexactly of 4 bytes and 1 KiB, 64", "frames", 64, "1028", 8_000
        ),
        ServerRow(
            "frames_100k",
            "TCP, streams, readexactly of 4 bytes and 100 KiB, 16",
            "frames",
            16,
            "102404",
            1_000,
        ),
        ServerRow(
            "short_lines",
            "TCP, streams, 1,000 lines of 16 bytes, 1 connection",
            "short_lines",
            1,
            "lines",
            200,
        ),
        ServerRow(
            "uvicorn", "uvicorn with httptools, plain text, 64 connections", "uvicorn", 64, "http", 3_000
        ),
    )
}


def compile_wire(say):
    """Compile the clients, and the servers that are the limit; return the program, or None."""
    compiler = shutil.which("cc")
    if compiler is None:
        say("without the server rows: no C compiler for the client")
        return None
    program = Path(tempfile.mkdtemp(prefix="wire")) / "wire"
    subprocess.run([compiler, "-O2", "-o", program, HERE / "wire.c"], check=True)
    over_tls = [compiler, "-O2", "-o", tls_program(program), HERE / "wire_tls.c", "-lssl", "-lcrypto"]
    if subprocess.run(over_tls, capture_output=True).returncode != 0:
        say("without the rows of TLS: no OpenSSL to compile the client with")
    return program


#: The column of velodrome in the place of asyncio, and what it is measured in.
OWN = "velodrome's own"
OWN_KINDS = {"streams", "lines", "frames", "short_lines", "tls_streams"}

#: What the client of TLS talks with.
TLS_KINDS = {"tls", "tls_streams"}


def tls_program(wire):
    """Return the program for the rows of TLS, which need not be there."""
    return wire.with_name("wire_tls")


#: What a kind of server needs besides a loop.
PACKAGES = {"uvicorn": ["uvicorn", "httptools"]}


def missing(row, wire, may_install, say):
    """Return what a row needs and cannot have here, once what was missing is installed; or None."""
    if row.kind in TLS_KINDS and not tls_program(wire).exists():
        return "no client"
    for package in PACKAGES.get(row.kind, []):
        if importlib.util.find_spec(package) is None:
            if may_install:
                say(f"installing {package}")
            reason = loops.install(package) if may_install else "not installed"
            if reason:
                return f"{package}: {reason}"
    return None


class Pair:
    """A server and its client."""

    def __init__(self, row, command, wire):
        self.row = row
        self.processes = []
        try:
            self.server = self._start(command)
            place = self.server.stdout.readline().strip()
            if not place:
                raise RuntimeError(self._why(self.server))
            client = tls_program(wire) if row.kind in TLS_KINDS else wire
            self.client = self._start([client, "load", place, str(row.connections), row.size])
            if self.client.stdout.readline() != "ready\n":
                raise RuntimeError(self._why(self.client))
        except BaseException:
            self.close()
            raise

    def _start(self, command):
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.processes.append(process)
        return process

    @staticmethod
    def _why(process):
        process.kill()
        lines = process.stderr.read().strip().splitlines()
        return lines[-1] if lines else "it ended"

    def processor_time(self):
        """Return the nanoseconds that the server's process has run, all its threads together."""
        # The clock of another process has a number made of its own: clock_getcpuclockid(3).
        return time.clock_gettime_ns((~self.server.pid << 3) | 2)

    def round(self):
        """Exchange a round's messages; return nanoseconds of processor time for each, and the latency."""
        before = self.processor_time()
        print(self.row.messages, file=self.client.stdin, flush=True)
        line = self.client.stdout.readline()
        if not line:
            raise RuntimeError(self._why(self.client))
        return (self.processor_time() - before) / self.row.messages, json.loads(line)["p99"]

    def close(self):
        """End both."""
        for process in self.processes:
            process.kill()
            process.communicate()


def commands(row, modules, wire):
    """Return each contender's server, by its name in the table."""
    serve = [sys.executable, str(HERE / "serve.py")]
    found = {module: [*serve, module, row.kind] for module in modules}
    if "velodrome" in modules and row.kind in OWN_KINDS:
        found[OWN] = [*found["velodrome"], "--own"]
    if row.kind in ("protocol", "sockets", "streams", "lines", "frames"):
        found[LIMIT] = [wire, "serve"]
    if row.kind == "unix":
        found[LIMIT] = [wire, "serve", wire.with_name("socket")]
    if row.kind in TLS_KINDS:
        found[LIMIT] = [tls_program(wire), "serve", *map(str, serving.CERTIFICATE)]
    return found


def measure(row, modules, rounds, wire, may_install, say):
    """Measure a row; return {contender: [(nanoseconds, latency), ...]} and {contender: what went wrong}."""
    pairs, samples, failures = {}, {}, {}
    if reason := missing(row, wire, may_install, say):
        say(f"without {row.name}: {reason}")
        return samples, failures
    try:
        for name, command in commands(row, modules, wire).items():
            try:
                pairs[name] = Pair(row, command, wire)
                pairs[name].round()  # lets CPython specialise the code
            except RuntimeError as error:
                failures[name] = str(error)
                if name in pairs:
                    pairs.pop(name).close()
        for number in range(rounds):
            names = list(pairs)
            first = number % max(1, len(names))
            for name in names[first:] + names[:first]:
                try:
                    found = pairs[name].round()
                    samples.setdefault(name, []).append(found)
                except RuntimeError as error:
                    failures[name] = str(error)
                    pairs.pop(name).close()
    finally:
        for pair in pairs.values():
            pair.close()
    for name, error in failures.items():
        say(f"{name}, {row.name}: {error}")
    return samples, failures
