"""Measures one loop in a process of its own, a few rounds of each row; bench.py starts it again and again.

It prints a line of JSON for each row as soon as it is done: [key, [nanoseconds per operation, ...]], or
[key, "what went wrong"].
"""

import argparse
import asyncio
import gc
import importlib
import json
import os
import time

from rows import MEMORY_ROWS, ROWS, Names, turn

# Blocked tasks and their loop, for as long as the process lives: 100,000 of them would complain when
# destroyed.
ALIVE = []


def main():
    """Read the arguments, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loop", required=True, help="the module that has new_event_loop")
    parser.add_argument("--own", action="store_true", help="the module's own sleep, create_task, ... as well")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--tasks", type=int, default=100_000, help="for the rows about memory")
    parser.add_argument("rows", nargs="*")
    arguments = parser.parse_args()

    module = importlib.import_module(arguments.loop)
    aio = Names(module, asyncio) if arguments.own else asyncio
    for key in arguments.rows:
        try:
            if key in MEMORY_ROWS:
                result = [memory(MEMORY_ROWS[key], aio, module, arguments.tasks)]
            else:
                result = rounds(ROWS[key], aio, module, arguments.rounds)
        except Exception as error:  # a loop that cannot do this; the others can
            result = f"{type(error).__name__}: {error}"
        print(json.dumps([key, result]), flush=True)
    os._exit(0)  # and nothing is destroyed


def rounds(row, aio, module, count):
    """Measure some rounds of a row; return the nanoseconds per operation of each."""
    clock = time.process_time_ns if row.cpu else time.perf_counter_ns

    async def measure():
        await row.measure(aio, min(row.n, max(row.n // 5, 1000)))  # lets CPython specialise the code
        results = []
        for _ in range(count):
            gc.collect()  # every round begins alike; within it the collector runs as in any program
            before = clock()
            await row.measure(aio, row.n)
            results.append((clock() - before) / row.n)
        return results

    with asyncio.Runner(loop_factory=module.new_event_loop) as runner:
        return runner.run(measure())


def memory(row, aio, module, count):
    """Return by how many bytes for each of many blocked tasks this process has grown."""

    async def measure():
        tasks = [None] * count
        gc.collect()
        before = resident_bytes()
        row.start(aio, tasks)
        for _ in range(3):
            await turn(asyncio.get_running_loop())  # until every task is blocked
        after = resident_bytes()
        assert not any(task.done() for task in tasks)
        ALIVE.append(tasks)
        return (after - before) / count

    # Not through a Runner, which would cancel them all, and not closed: the process is about to end.
    ALIVE.append(loop := module.new_event_loop())
    return loop.run_until_complete(measure())


def resident_bytes():
    """Return how much memory this process occupies."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
