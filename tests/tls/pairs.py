"""Two ends of one TLS connection in one program, and the same program on both loops."""

import asyncio
import socket

import pytest

from .sides import LOOPS, VERSIONS, BufferedRecorder, Recorder, client_context, connected, run, server_context

versions = pytest.mark.parametrize("version", VERSIONS)
both_protocols = pytest.mark.parametrize("protocol", [Recorder, BufferedRecorder])


def same(main):
    """Run a coroutine on both loops; what it returns, and what the loops were told, is the same."""
    outcomes = {loop: run(loop, main) for loop in LOOPS}
    assert outcomes["velodrome"] == outcomes["asyncio"]
    return outcomes["velodrome"][0]


async def pair(version=None, protocol=Recorder, **options):
    """Return a client's and a server's transports with their protocols, connected with each other."""
    ours, theirs = socket.socketpair()
    server, client = protocol(), protocol()
    accepting = asyncio.ensure_future(connected(theirs, server_context(version), "server", server, **options))
    transport = await connected(ours, client_context(version), "client", client, **options)
    return transport, client, await accepting, server


async def ended(*recorders):
    for recorder in recorders:
        await recorder.lost
