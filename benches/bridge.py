"""Rust futures awaited from Python: velodrome-bridge beside pyo3-async-runtimes with tokio, interleaved.

`make bench-bridge` builds benches/bridge and runs this; the output is a page in Markdown.
"""

import argparse
import asyncio
import gc
import os
import pathlib
import sys
import time

import bridge_bench
import velodrome

ROUNDS = 12


async def one_after_another(function, count=3_000):
    begun = time.perf_counter_ns()
    for _ in range(count):
        await function()
    return (time.perf_counter_ns() - begun) / count


async def gathered(function, count=100, times=30):
    begun = time.perf_counter_ns()
    for _ in range(times):
        await asyncio.gather(*(function() for _ in range(count)))
    return (time.perf_counter_ns() - begun) / count / times


class Native:
    """What a native awaitable costs: an uncontended lock of velodrome's."""

    def __init__(self):
        self.semaphore = velodrome.Semaphore(10**9)

    def __call__(self):
        return self.semaphore.acquire()


def rows():
    native = Native()
    yield "await, native", one_after_another, native
    yield "await, ours", one_after_another, bridge_bench.ours_ready
    yield "await, theirs", one_after_another, bridge_bench.theirs_ready
    yield "gather of 100, ours", gathered, bridge_bench.ours_ready
    yield "gather of 100, theirs", gathered, bridge_bench.theirs_ready
    yield "wake from another thread, ours", one_after_another, bridge_bench.ours_answered
    yield "wake from another thread, theirs", one_after_another, bridge_bench.theirs_answered


async def measure(rounds):
    best = {}
    for _ in range(rounds):
        for name, how, function in rows():
            gc.collect()
            taken = await how(function)
            best[name] = min(taken, best.get(name, taken))
    return best


def table(best, rounds):
    def ns(name):
        return f"{best[name]:,.0f}"

    def ratio(name):
        return f"{best[f'{name}, theirs'] / best[f'{name}, ours']:.1f}"

    version = ".".join(map(str, sys.version_info[:3]))
    yield "# Rust futures awaited from Python"
    yield ""
    yield "`velodrome-bridge`, on velodrome's loop, beside `pyo3-async-runtimes` with tokio on the same loop:"
    yield f"the same futures, interleaved in one process, minima of {rounds} rounds."
    yield f"CPython {version}, {os.cpu_count()} processors."
    yield "`make bench-bridge` makes this page."
    yield ""
    yield "| nanoseconds | velodrome-bridge | pyo3-async-runtimes, tokio | times as fast |"
    yield "| --- | ---: | ---: | ---: |"
    names = {
        "await": "`await` of a ready future",
        "gather of 100": "`gather` of 100 ready futures, each",
        "wake from another thread": "`await` of what another thread answers",
    }
    for name, text in names.items():
        yield f"| {text} | {ns(f'{name}, ours')} | {ns(f'{name}, theirs')} | {ratio(name)} |"
    more = best["await, ours"] - best["await, native"]
    yield ""
    yield (
        f"Awaiting a ready Rust future costs {more:,.0f} ns more than a native awaitable "
        f"(`Semaphore.acquire()`: {ns('await, native')} ns)."
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--output", type=pathlib.Path, help="a file for the table, in place of the screen")
    arguments = parser.parse_args()
    velodrome.install()
    best = velodrome.run(measure(arguments.rounds))
    text = "\n".join(table(best, arguments.rounds)) + "\n"
    if arguments.output:
        arguments.output.write_text(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
