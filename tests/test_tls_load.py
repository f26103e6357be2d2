"""Very many TLS connections, made and dropped in every way, one after the other, leave nothing behind.

The figures are printed (`pytest -s`). With VELODROME_LOAD_SECONDS of a minute or more there are 40,000.
"""

import asyncio
import gc
import os
import socket

import pytest
from tls.sides import Recorder, client_context, connected, run, server_context

COUNT = 40_000 if float(os.environ.get("VELODROME_LOAD_SECONDS", "2")) >= 60 else 3_000
AT_ONCE = 12
ROUNDS = 4


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


async def one(server, client, number):
    """Connect with ourselves, exchange a message, and end it: closed by either side, aborted, or cut off."""
    theirs, ours = socket.socketpair()
    peer, recorder = Recorder(), Recorder()
    accepted = asyncio.ensure_future(connected(theirs, server, "server", peer))
    transport = await connected(ours, client, "client", recorder)
    other_end = await accepted
    transport.write(b"data")
    await peer.receive(4)
    match number % 4:
        case 0:
            transport.close()
        case 1:
            transport.abort()
        case 2:
            other_end.close()
        case 3:
            transport.write(b"x" * 300_000)
            other_end.abort()
    await recorder.lost
    await peer.lost
    other_end.close()


@pytest.mark.slow
@pytest.mark.timeout(600 if COUNT > 3_000 else 120)
def test_many_connections_leave_nothing_behind():
    """Memory is counted from when the first ones have been."""

    async def main():
        server, client = server_context(), client_context()
        figures = []
        for _ in range(ROUNDS):
            for first in range(0, COUNT // ROUNDS, AT_ONCE):
                await asyncio.gather(*(one(server, client, first + i) for i in range(AT_ONCE)))
            gc.collect()
            figures.append((resident(), len(os.listdir("/proc/self/fd"))))
        return figures

    figures, told = run("velodrome", main, limit=590)
    print(
        f"\n{COUNT} connections: resident after each {COUNT // ROUNDS}: "
        + ", ".join(f"{memory / 2**20:.2f} MiB" for memory, _ in figures)
    )
    assert told == []
    (memory, files), *_, (last_memory, last_files) = figures
    assert last_files == files
    assert last_memory - memory < 1 << 20
