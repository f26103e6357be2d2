"""Where what the tests compile is kept."""

import platform
from pathlib import Path

ROOT = Path(__file__).parent.parent


def folder(name):
    """Name a folder for cargo's outputs, one for each C library.

    Interpreters that share a checkout need not share a system, and what is linked to a newer library may not
    run on an older one.
    """
    return ROOT / "target" / "-".join([name, *filter(None, platform.libc_ver())])
