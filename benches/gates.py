"""What velodrome promises of its speed and memory, and whether a measurement keeps it.

The promises are for CPython 3.14 and newer, with nothing installed into asyncio. On older versions they are
shown as well, for information.
"""

from dataclasses import dataclass

from rows import MEMORY_ROWS, ROWS
from servers import LIMIT, SERVER_ROWS

OURS = "velodrome"  # asyncio's own pieces on our loop
OWN = "velodrome's own"


@dataclass(frozen=True)
class Gate:
    """A promise, what was measured, and whether that keeps it; None if it was not measured."""

    promise: str
    measured: str
    met: bool | None


# Row, whether it is about our own pieces, and how many times as fast as uvloop under asyncio's pieces.
TIMES_UVLOOP = [
    ("sleep_zero", True, 6),
    ("create_task", True, 6),
    ("future_round_trip", False, 6),
    ("call_soon", False, 4),
    ("sleeps", True, 6),
    ("gather", True, 8),
    ("task_group", True, 8),
    ("lock_free", True, 2.3),
    ("lock_contended", True, 10),
    ("queue_one_task", True, 6),
    ("queue_two_tasks", True, 6),
    ("timeout", True, 8),
    ("wait_for", True, 10),
    ("semaphore", True, 6),
    ("event", True, 6),
    ("condition", True, 6),
    ("barrier", True, 4),
    ("as_completed", True, 5),
    ("wait_all", True, 5),
]

# Row, whether it is about our own pieces, another loop, and how much of the processor time that a message
# costs there it may cost here.
SERVERS = [
    ("tcp_1k", False, "uvloop", 0.75),
    ("tcp_1k", False, "zuvloop", 1),
    ("tcp_100k", False, "uvloop", 1),
    ("unix_1k", False, "uvloop", 0.75),
    ("sockets_1k", False, "uvloop", 0.5),
    ("udp_1k", False, "uvloop", 0.8),
    ("sendfile_100m", False, "asyncio", 1),  # uvloop has none
    ("tls_1k", False, "uvloop", 0.45),
    ("tls_1k", False, "zuvloop", 0.7),
    ("tls_100k", False, "uvloop", 0.45),
    ("tls_streams_1k", False, "uvloop", 0.5),
    ("tls_1k", False, LIMIT, 1.25),
    ("tls_100k", False, LIMIT, 1.2),
    ("streams_1k", False, "uvloop", 0.85),
    ("streams_1k", True, "uvloop", 0.62),
    ("lines_1k", True, "uvloop", 0.62),
    *((row, True, LIMIT, 1.35) for row in ("streams_1k", "lines_1k")),
    ("uvicorn", False, "uvloop", 0.75),
    ("uvicorn", False, "zuvloop", 1),
]

# Rows in which our own pieces are to be below every other loop.
BELOW_ALL = ["streams_1k", "lines_1k", "streams_100k", "frames_1k", "frames_100k", "short_lines"]

BYTES_PER_TASK = 600


def gates(operations, memory, servers, latency):
    """Judge what was measured, each as {row: {contender: value}}: nanoseconds, and bytes for memory."""
    return [
        *(
            _times_uvloop(operations[key], key, own, times)
            for key, own, times in TIMES_UVLOOP
            if key in operations
        ),
        *(_ahead(operations[key], row) for key, row in ROWS.items() if row.loop and key in operations),
        *(_server(servers[key], key, *rest) for key, *rest in SERVERS if key in servers),
        *(_below_all(servers[key], key) for key in BELOW_ALL if key in servers),
        *(_latency(latency[key], row) for key, row in SERVER_ROWS.items() if key in latency),
        *(_memory(memory[key], row) for key, row in MEMORY_ROWS.items() if key in memory),
    ]


def _times_uvloop(measured, key, own, times):
    """So many times as fast as uvloop."""
    pieces = f" (own: {', '.join(f'`{piece}`' for piece in ROWS[key].own)})" if own else ""
    promise = f"{ROWS[key].name}{pieces}: at least {times} times as fast as uvloop"
    theirs, ours = measured.get("uvloop"), measured.get(OWN if own else OURS)
    if theirs is None or ours is None:
        return Gate(promise, "", None)
    return Gate(promise, f"{theirs / ours:.2f} times as fast", theirs / ours >= times)


def _ahead(measured, row):
    """Ahead of every other loop, under asyncio's pieces."""
    promise = f"{row.name}: ahead of every other loop"
    others = {name: ns for name, ns in measured.items() if name not in (OURS, OWN)}
    ours = measured.get(OURS)
    if ours is None or not others:
        return Gate(promise, "", None)
    best = min(others, key=others.get)
    return Gate(promise, f"{others[best] / ours:.2f} times as fast as {best}", ours < others[best])


def _server(measured, key, own, other, share):
    """At most so much of the processor time that another loop needs for a message."""
    pieces = " (own streams)" if own else ""
    promise = f"{SERVER_ROWS[key].name}{pieces}: at most {share} of {other}'s processor time"
    theirs, ours = measured.get(other), measured.get(OWN if own else OURS)
    if theirs is None or ours is None:
        return Gate(promise, "", None)
    return Gate(promise, f"{ours / theirs:.2f}", ours / theirs <= share)


def _below_all(measured, key):
    """Less processor time with our own pieces than every other loop needs."""
    promise = f"{SERVER_ROWS[key].name} (own streams): less processor time than every other loop"
    others = {name: ns for name, ns in measured.items() if name not in (OURS, OWN, LIMIT)}
    ours = measured.get(OWN)
    if ours is None or not others:
        return Gate(promise, "", None)
    best = min(others, key=others.get)
    return Gate(promise, f"{ours / others[best]:.2f} of {best}'s", ours < others[best])


def _latency(measured, row):
    """No worse than uvloop."""
    promise = f"{row.name}: 99 of 100 messages answered no later than on uvloop"
    theirs, ours = measured.get("uvloop"), measured.get(OURS)
    if theirs is None or ours is None:
        return Gate(promise, "", None)
    return Gate(promise, f"{ours / theirs:.2f} of uvloop's time", ours <= theirs)


def _memory(measured, row):
    """At most so many bytes for a blocked task."""
    promise = f"a task, {row.name}: at most {BYTES_PER_TASK} bytes"
    ours = measured.get(OWN, measured.get(OURS))
    if ours is None:
        return Gate(promise, "", None)
    return Gate(promise, f"{ours:.0f} bytes", ours <= BYTES_PER_TASK)
