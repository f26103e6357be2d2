"""The processes that multiprocessing starts afresh: under `python -m velodrome` they run on velodrome, too.

It starts them, and the server that forks them on its behalf (`forkserver`), as `python OPTIONS -c CODE`, with
the options that this interpreter was started with. `-m velodrome` becomes one of these, so that a child is
what its parent is, from its first import on, and so are its own children. Programs that show or count
sys.orig_argv see it there.
"""

from collections.abc import Callable
from types import ModuleType

from velodrome._after_import import after_import


def start_children_with(*options: str) -> None:
    """From now on, multiprocessing starts each process by `python -m velodrome OPTIONS -c CODE`."""

    def change(util: ModuleType) -> None:
        theirs: Callable[[], list[str]] = util._args_from_interpreter_flags
        util._args_from_interpreter_flags = lambda: [*theirs(), "-m", "velodrome", *options]  # type: ignore[attr-defined]

    after_import("multiprocessing.util", change)
