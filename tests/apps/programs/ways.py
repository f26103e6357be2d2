"""How the programs in this folder run their main coroutine, and what all of them look at."""

import asyncio
import os

import velodrome


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
