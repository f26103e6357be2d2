"""The results as markdown, and docs/performance.md, which has a section for each version of CPython."""

import os
import platform
import re
import sys
from pathlib import Path

from loops import CONTENDERS
from rows import MEMORY_ROWS, ROWS
from servers import LIMIT, SERVER_ROWS

PREAMBLE = """\
# Performance

This file is written by `make bench PYTHON=python3.14` (`benches/bench.py --output docs/performance.md`): a
section for each version of CPython that it was run with. The operations are in `benches/rows.py`.
[Rust programs](performance-rust.md) and [Rust futures awaited from Python](performance-bridge.md) have pages
of their own.

How to read the tables:

- Nanoseconds per operation, the least of many rounds. Every loop has processes of its own; each measures
  a few rounds of every row, and the loops take turns, so that a slow spell of the machine meets all of
  them. Even so, least values repeat only to within some per cent.
- A row marked ¹ is the median of the rounds instead: another thread or process takes part, and how long the
  shortest round takes depends on where the kernel happened to put both. Its least values differ by half from
  one measurement to the next, its medians by some per cent.
- All columns but the last run the same code on the standard library's own `sleep`, `gather`, `Lock`, ...:
  nothing is installed into asyncio. In the last column velodrome's own (`velodrome.sleep`, ...) are in
  their place, in the rows that are about something of which velodrome has its own.
- A row marked ° never reaches the loop: it compares the pieces above it, and loops differ by chance.
- Servers: the processor time of the server's process for each message, the least of many rounds; and the
  time within which 99 of 100 messages are answered, the median of the rounds, all connections being busy all
  the time. The client is a program in C, and so is the server in the column "plain C", which does nothing
  but echo: nobody can be faster.
- These are micro-benchmarks. They show what the machinery costs, not how fast a program is that does other
  things as well.
"""


def number(value):
    """Format nanoseconds or bytes."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def table(head, body):
    """Format a table: its first column to the left, numbers to the right, aligned in the source as well."""
    widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]

    def line(cells):
        first, *rest = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "| " + " | ".join([first, *rest]) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(head), line(rule), *map(line, body)])


def measurements(rows, measured, columns, ratios):
    """Format a table of measurements, the least of each row in bold, and some ratios of columns."""
    body = []
    for key, row in rows.items():
        values = measured.get(key)
        if not values:
            continue
        least = min(values.values())
        name = (
            row.name
            + ("" if getattr(row, "loop", True) else " °")
            + (" ¹" if getattr(row, "others", False) else "")
        )
        cells = [name]
        for column in columns:
            text = number(values[column]) if column in values else ""
            cells.append(f"**{text}**" if values.get(column) == least else text)
        for over, under in ratios:
            known = over in values and under in values
            cells.append(f"{values[over] / values[under]:.1f}" if known else "")
        body.append(cells)
    return table(["", *columns, *(f"{over} ÷ {under}" for over, under in ratios)], body)


def report(results):
    """Format a whole measurement, as a section of docs/performance.md."""
    everything = {**results["operations"], **results["memory"]}
    columns = [c.name for c in CONTENDERS if any(c.name in values for values in everything.values())]
    pairs = [("uvloop", "velodrome"), ("uvloop", "velodrome's own")]
    ratios = [pair for pair in pairs if set(pair) <= set(columns)]
    parts = [f"## CPython {results['python']}", f"{results['machine']}\n{results['versions']}"]
    if results["operations"]:
        parts += ["### Nanoseconds per operation", measurements(ROWS, results["operations"], columns, ratios)]
    if results["servers"]:
        served = [c.name for c in CONTENDERS if any(c.name in v for v in results["servers"].values())]
        served += [LIMIT] if any(LIMIT in values for values in results["servers"].values()) else []
        ratio = [pair for pair in pairs[:1] if set(pair) <= set(served)]
        parts += [
            "### Servers: nanoseconds of processor time per message",
            measurements(SERVER_ROWS, results["servers"], served, ratio),
            "### Servers: nanoseconds until 99 of 100 messages are answered",
            measurements(SERVER_ROWS, results["latency"], served, ratio),
        ]
    if results["memory"]:
        parts += [
            f"### Bytes per blocked task, of {results['tasks']:,}",
            measurements(MEMORY_ROWS, results["memory"], columns, []),
        ]
    if results["failures"]:
        lines = [f"- {name}: {what}" for name, what in results["failures"].items()]
        parts += ["### Not measured", "\n".join(lines)]
    if results["gates"]:
        body = [[gate.promise, gate.measured, verdict(gate)] for gate in results["gates"]]
        parts += [
            "### What velodrome promises, for CPython 3.14 and newer",
            table(["", "measured", "met"], body),
        ]
    return "\n\n".join(parts) + "\n"


def verdict(gate):
    """Say in a word whether a promise is kept."""
    return {True: "yes", False: "no", None: "not measured"}[gate.met]


def machine():
    """Describe the machine in a line."""
    model = platform.processor() or platform.machine()
    try:
        found = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        model = found[1] if found else model
    except OSError:
        pass
    return f"{model}, {os.cpu_count()} processors, {platform.system()} {platform.release().split('-')[0]}."


def python_version():
    """Return this interpreter's version, with what makes it another build than the usual one."""
    return ".".join(map(str, sys.version_info[:3])) + (
        " (debug build)" if hasattr(sys, "gettotalrefcount") else ""
    )


def write_section(path, section):
    """Put a section into a file, in place of one for the same minor version, the newest version first."""
    text = path.read_text() if path.exists() else ""
    _, *older = re.split(r"^(?=## CPython )", text, flags=re.MULTILINE)
    sections = {}
    for part in [*older, section]:
        version = re.match(r"## CPython (\d+)\.(\d+)", part)
        sections[int(version[1]), int(version[2])] = part.rstrip() + "\n"
    path.write_text("\n".join([PREAMBLE, *(sections[key] for key in sorted(sections, reverse=True))]))
