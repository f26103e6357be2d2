"""What a scenario leaves, measured in a process of its own.

Counted are the blocks of Python's memory, the C heap, where the engine has its queues, the resident set,
descriptors, and, where the interpreter is a debug build, all references.
"""

import ctypes
import gc
import itertools
import json
import os
import sys
import threading
import warnings

import velodrome

from .scenarios import SCENARIOS


class Mallinfo(ctypes.Structure):
    """What mallinfo2() returns; `in_use` are bytes from the heap, `mapped` those in mappings of their own."""

    names = "arena ordblks smblks hblks mapped usmblks fsmblks in_use fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]


def heap():
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return 0
    mallinfo.restype = Mallinfo
    info = mallinfo()
    return info.in_use + info.mapped


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def measure():
    for _ in range(3):
        gc.collect()
    return {
        "references": sys.gettotalrefcount() if hasattr(sys, "gettotalrefcount") else 0,
        "blocks": sys.getallocatedblocks(),
        "heap": heap(),
        "resident": resident(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "tasks": len(gc.get_referrers(velodrome.Task)),
    }


def main(name, count):
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda unraisable: None
    gc.freeze()  # what is imported need not be looked through every time
    # What is cached for ever is cached once, and what grows now and then, such as tables, has its full size.
    SCENARIOS[name](count)
    measures = [measure()]
    for _ in range(5):
        SCENARIOS[name](count)
        measures.append(measure())
    # A leak shows every time; a cache that happens to be fuller than before shows less and less.
    left = {key: min(b[key] - a[key] for a, b in itertools.pairwise(measures)) for key in measures[0]}
    print(json.dumps(left))
