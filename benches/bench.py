"""Compares velodrome with asyncio and other loops, operation by operation.

    make bench PYTHON=python3.14        everything, into docs/performance.md
    python benches/bench.py --quick     everything, roughly, on the screen

Loops that are missing are installed with pip, if this is a virtual environment, and left out if that fails.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import chart
import gates
import loops
import servers
import tables
from rows import MEMORY_ROWS, ROWS
from servers import SERVER_ROWS

CHILD = Path(__file__).with_name("child.py")
EVERY_ROW = [*ROWS, *SERVER_ROWS, *MEMORY_ROWS]


def say(text):
    """Tell how it goes; the results alone go to stdout."""
    print(text, file=sys.stderr, flush=True)


def _names(text):
    """Split an option's value at its commas."""
    return [name.strip() for name in text.split(",")]


def parse():
    """Read the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="rows: " + ", ".join(EVERY_ROW),
    )
    parser.add_argument("--loops", type=_names, default=loops.LOOPS, help=f"some of {','.join(loops.LOOPS)}")
    parser.add_argument("--rows", type=_names, default=EVERY_ROW, help="some of the rows below")
    parser.add_argument("--rounds", type=int, default=60, help="rounds for each row and loop (%(default)s)")
    parser.add_argument(
        "--batch", type=int, default=5, help="rounds before the next loop's turn (%(default)s)"
    )
    parser.add_argument("--tasks", type=int, default=100_000, help="blocked tasks for memory (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="as with --rounds 4 --batch 2")
    parser.add_argument("--no-install", action="store_true", help="leave missing loops out")
    parser.add_argument(
        "--gates", action="store_true", help="also tell which of velodrome's promises are kept"
    )
    parser.add_argument(
        "--strict", action="store_true", help="status 1 unless every promise is measured and met"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results there")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="put them into this markdown file, with --gates, and draw the picture beside it",
    )
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.batch = 4, 2
    for wanted, known in (arguments.loops, loops.LOOPS), (arguments.rows, EVERY_ROW):
        if unknown := [name for name in wanted if name not in known]:
            parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    return arguments


def measure(contender, keys, batch, tasks, timeout):
    """Have a child measure some rows for a loop; return what it reports, and the rows that it died in."""
    command = [sys.executable, str(CHILD), "--loop", contender.module, "--rounds", str(batch)]
    command += ["--tasks", str(tasks), *(["--own"] if contender.own else []), *keys]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
        stdout, end = done.stdout, f"the process ended with status {done.returncode}"
        if done.returncode > 0:
            end += ": " + (done.stderr.strip().splitlines() or [""])[-1]
    except subprocess.TimeoutExpired as expired:
        stdout, end = (expired.stdout or b"").decode(), f"no result within {timeout} seconds"
    report = dict(json.loads(line) for line in stdout.splitlines())
    missing = [key for key in keys if key not in report]
    if missing:
        report[missing[0]] = end  # the row in which it ended; those after it can be tried again
    return report


def keys_for(contender, wanted):
    """Return the rows that make sense for a column: for our own pieces, where velodrome has them."""
    wanted = [key for key in wanted if key not in SERVER_ROWS]
    if not contender.own:
        return wanted
    rows = {**ROWS, **MEMORY_ROWS}
    pieces = {piece for key in wanted for piece in rows[key].own}
    code = f"import velodrome; print(*[name for name in {sorted(pieces)} if hasattr(velodrome, name)])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    had = set(done.stdout.split())
    return [key for key in wanted if rows[key].own and had.issuperset(rows[key].own)]


class Samples:
    """All measurements so far, and what could not be measured."""

    def __init__(self):
        self.values = {}  # row: {contender: [nanoseconds or bytes, ...]}
        self.failures = {}  # (contender, row): what went wrong; not tried again

    def collect(self, contender, keys, batch, tasks, timeout):
        """Measure some rows once more."""
        keys = [key for key in keys if (contender.name, key) not in self.failures]
        while keys:
            report = measure(contender, keys, batch, tasks, timeout)
            for key, result in report.items():
                if isinstance(result, str):
                    self.failures[contender.name, key] = result
                    say(f"{contender.name}, {key}: {result}")
                else:
                    self.values.setdefault(key, {}).setdefault(contender.name, []).extend(result)
            keys = [key for key in keys if key not in report]

    def each(self, rows, reduce):
        """Reduce the measurements of some rows to one number each."""
        return {
            key: {name: reduce(values) for name, values in self.values[key].items()}
            for key in rows
            if key in self.values
        }


def collect(arguments, contenders):
    """Measure everything: the loops take turns, and each turn another one begins."""
    samples = Samples()
    keys = {contender: keys_for(contender, arguments.rows) for contender in contenders}
    turns = max(1, arguments.rounds // arguments.batch)
    for number in range(turns):
        say(f"turn {number + 1} of {turns}")
        first = number % len(contenders)
        for contender in contenders[first:] + contenders[:first]:
            timed = [key for key in keys[contender] if key in ROWS]
            samples.collect(contender, timed, arguments.batch, arguments.tasks, timeout=120)
    # Memory does not depend on the machine's mood; each row needs a process that has done nothing else.
    for contender in contenders:
        for key in keys[contender]:
            if key in MEMORY_ROWS:
                samples.collect(contender, [key], 1, arguments.tasks, timeout=120)
    return samples


def collect_servers(arguments, working):
    """Measure the server rows; return processor times, latencies, and what could not be measured."""
    keys = [key for key in arguments.rows if key in SERVER_ROWS]
    times, latencies, failures = {}, {}, {}
    wire = servers.compile_wire(say) if keys else None
    for key in keys if wire else []:
        say(f"servers: {SERVER_ROWS[key].name}")
        samples, failed = servers.measure(
            SERVER_ROWS[key], working, arguments.rounds, wire, not arguments.no_install, say
        )
        if samples:
            times[key] = {name: [time for time, _ in found] for name, found in samples.items()}
            latencies[key] = {name: [latency for _, latency in found] for name, found in samples.items()}
        failures.update({f"{name}, {key}": what for name, what in failed.items()})
    return times, latencies, failures


def reduced(samples, reduce):
    """Reduce the measurements of every row to one number each."""
    return {
        key: {name: reduce(values) for name, values in measured.items()} for key, measured in samples.items()
    }


def main():
    """Measure, print the tables, and keep the results where they are wanted."""
    arguments = parse()
    working = loops.available(arguments.loops, not arguments.no_install, say)
    contenders = [contender for contender in loops.CONTENDERS if contender.module in working]
    if not contenders:
        sys.exit("no loop works here")
    samples = collect(arguments, contenders)

    times, latencies, failures = collect_servers(arguments, working)

    alone = {key: row for key, row in ROWS.items() if not row.others}
    together = {key: row for key, row in ROWS.items() if row.others}
    operations = samples.each(alone, min) | samples.each(together, statistics.median)
    memory = samples.each(MEMORY_ROWS, min)
    served, latency = reduced(times, min), reduced(latencies, statistics.median)
    judge = arguments.gates or arguments.strict or arguments.output
    judged = gates.gates(operations, memory, served, latency) if judge and "velodrome" in working else []
    results = {
        "python": tables.python_version(),
        "machine": tables.machine(),
        "versions": ", ".join(f"{name} {loops.version(name)}" for name in working if name != "asyncio") + ".",
        "tasks": arguments.tasks,
        "operations": operations,
        "memory": memory,
        "servers": served,
        "latency": latency,
        "failures": {f"{name}, {key}": what for (name, key), what in samples.failures.items()} | failures,
        "gates": judged,
    }
    section = tables.report(results)
    print(section)
    if arguments.output:
        tables.write_section(arguments.output, section)
        if picture := chart.draw(arguments.output.read_text()):
            arguments.output.with_suffix(".svg").write_text(picture)
    if arguments.json:
        results["minima"] = samples.each(ROWS, min)
        results["medians"] = samples.each(ROWS, statistics.median)
        results["rounds"] = samples.values | times
        results["gates"] = [vars(gate) for gate in judged]
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    if arguments.strict and not (judged and all(gate.met for gate in judged)):
        sys.exit(1)


if __name__ == "__main__":
    main()
