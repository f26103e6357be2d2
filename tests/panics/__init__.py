"""The functions that C calls, in a build in which each panics when told to, and all that can call them.

`uses` has a list of everything there is to use; every module for a kind of thing adds to it. `strikes` lets
one function panic meanwhile, `server` does so in a process for each. To be imported before velodrome is.
"""

# Before the probe, which imports _asyncio: alone, that would find an asyncio that finds nothing in it.
import asyncio  # noqa: F401
import contextlib
import functools
import importlib.util
import os
import sys

# The native module calls one of its entries while it is imported; here it is caught, to be called again.
SAMPLED = []


def catch_the_probe():
    assert "velodrome" not in sys.modules, "run test_panics.py alone"
    [folder] = importlib.util.find_spec("velodrome").submodule_search_locations
    path = os.path.join(folder, "_layout_probe.py")
    spec = importlib.util.spec_from_file_location("velodrome._layout_probe", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    show = module.show

    def show_and_keep(look):
        show(look)
        SAMPLED.append(functools.partial(show, look))

    module.show = show_and_keep
    sys.modules[spec.name] = module


catch_the_probe()

import velodrome  # noqa: E402
from velodrome import _velodrome  # noqa: E402

arm = _velodrome._arm_panic
_velodrome._tls()  # which makes an entry for OpenSSL to call
with contextlib.closing(velodrome.new_event_loop()) as hosting:
    _ = hosting.__velodrome_host__  # as does the table for Rust futures
del hosting
ENTRIES = _velodrome._entries()


def cannot_raise(entry):
    return entry.endswith((".tp_clear", ".tp_dealloc", ".tp_finalize")) or entry == "host.capsule"


def cannot_tell(entry):
    # What Rust futures call through the table of a loop answers as if the loop were closed.
    return (
        entry.endswith((".tp_traverse", ".ex_new")) or entry.startswith("host.") and entry != "host.capsule"
    )
