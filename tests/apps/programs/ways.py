"""How the programs in this folder run their main coroutine, and what all of them look at."""

import asyncio
import os
import ssl
from pathlib import Path

import velodrome

TLS = Path(__file__).parents[2] / "tls"


def trust():
    """Make a client's context that trusts the certificate in tests/tls."""
    return ssl.create_default_context(cafile=TLS / "certificate.pem")


def identity():
    """Make a server's context with that certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS / "certificate.pem", TLS / "key.pem")
    return context


def run(main, how):
    """Run a coroutine on velodrome, in a program that asks for it or one that is unaware of it."""

    async def checked():
        assert isinstance(asyncio.get_running_loop(), velodrome.Loop)
        before = sockets()
        await main
        for _ in range(1000):
            if sockets() == before:
                break
            await asyncio.sleep(0.01)
        assert sockets() == before, (before, sockets())

    if how == "run":
        velodrome.run(checked())
    elif how == "runner":
        with asyncio.Runner(loop_factory=velodrome.new_event_loop) as runner:
            runner.run(checked())
    elif how == "unaware":  # of velodrome, which `python -m velodrome` brings in
        asyncio.run(checked())
    print("all is well")


def sockets():
    """Return how many sockets are open."""
    names = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    return sum(os.readlink(name).startswith("socket:") for name in names if os.path.islink(name))
