"""Subprocesses by the thousand: none is lost, nothing is left. The figures are printed (`pytest -s`)."""

import asyncio
import gc
import os
import resource
import subprocess
import sys
import threading
import time

import pytest
from differential import worlds
from differential.cancellation import descriptors
from differential.children import children

either_loop = worlds.either_loop

#: How many there are, and how many of them at a time.
COUNT, AT_A_TIME = int(os.environ.get("VELODROME_LOAD_PROCESSES", "2000")), 200


async def start_and_await(count):
    """Return what each said and how it ended."""
    limit = asyncio.Semaphore(AT_A_TIME)
    pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)

    async def one(number):
        command = "sh", "-c", f"exit {number % 256}"
        async with limit:
            if number % 4:
                process = await asyncio.create_subprocess_exec(*command)
                return None, await process.wait()
            process = await asyncio.create_subprocess_exec("sh", "-c", f"cat; exit {number % 256}", **pipes)
            said, _ = await process.communicate(b"%d" % number)
            return said, process.returncode

    return await asyncio.gather(*map(one, range(count)))


def threads():
    """Count them once those that waited for a child have ended, which they do after telling the loop."""
    for thread in threading.enumerate():
        if "waitpid" in thread.name:
            thread.join(10)
    return threading.active_count()


def processor_time():
    return sum(resource.getrusage(resource.RUSAGE_SELF)[:2])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_thousands_of_subprocesses(either_loop):
    loop = either_loop
    loop.run_until_complete(start_and_await(AT_A_TIME))  # whatever is made once is made now
    gc.collect()
    before = descriptors(), children(), threads()
    blocks, began, cpu = sys.getallocatedblocks(), time.monotonic(), processor_time()
    ends = loop.run_until_complete(start_and_await(COUNT))
    took, cpu = time.monotonic() - began, processor_time() - cpu
    expected = [(None if number % 4 else b"%d" % number, number % 256) for number in range(COUNT)]
    assert ends == expected
    del ends, expected
    gc.collect()
    assert (descriptors(), children(), threads()) == before
    grown = sys.getallocatedblocks() - blocks
    assert grown < 2000
    print(
        f"\n{type(loop).__name__}: {COUNT} subprocesses, {AT_A_TIME} at a time, in {took:.1f} s; "
        f"{cpu / COUNT * 1e6:.0f} µs of processor time each; {grown} blocks of memory more"
    )
