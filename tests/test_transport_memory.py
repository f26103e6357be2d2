"""Memory of what is received: the pages of a heap that has been used are used again."""

import os
import platform

import pytest

PROGRAM = """
import asyncio, resource, socket, velodrome

CONNECTIONS, SIZE = 16, 100 * 1024

class Keeping(asyncio.Protocol):
    def data_received(self, data):
        kept.append(data)

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

async def main():
    loop = asyncio.get_running_loop()
    peers = []
    for _ in range(CONNECTIONS):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * SIZE)
        await loop.connect_accepted_socket(Keeping, ours)
        peers.append(theirs)
    for _ in range(20):
        for peer in peers:
            peer.sendall(bytes(SIZE))
        while sum(map(len, kept)) < CONNECTIONS * SIZE:
            await asyncio.sleep(0)
        kept.clear()
        found.append(faults())

kept, found = [], [faults()]
velodrome.run(main())
print(*(after - before for before, after in zip(found, found[1:])))
"""

TUNED = [name for name in os.environ if name.startswith("MALLOC_") or name == "GLIBC_TUNABLES"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what is kept is up to the C library")
@pytest.mark.skipif(bool(TUNED), reason="whoever has told malloc what to keep is obeyed")
def test_messages_on_many_connections_take_no_fresh_pages(run_python):
    first, *later = map(int, run_python(PROGRAM).stdout.split())
    assert first > 100  # what the messages lie in is seen in this number
    assert sum(later) < first
