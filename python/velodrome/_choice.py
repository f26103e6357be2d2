"""Programs that pick the fastest loop they find: under `python -m velodrome` they find velodrome's.

uvicorn takes uvloop by itself where that is installed. Whoever names a loop (`--loop uvloop`) still gets it.
"""

import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from types import ModuleType

import velodrome

_MODULE = "uvicorn.loops.auto"


class _Finder(MetaPathFinder):
    """Finds the module that picks, as it would be found anyway, and changes its choice once it is loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != _MODULE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        # The first from uvicorn 0.36 on; before, it set a policy, where asyncio's own now makes our loop.
        for name, choice in ("auto_loop_factory", _loop_factory), ("auto_loop_setup", _leave_it):
            if hasattr(module, name):
                setattr(module, name, choice)


def _loop_factory(use_subprocess: bool = False) -> Callable[[], velodrome.Loop]:
    return velodrome.new_event_loop


def _leave_it(use_subprocess: bool = False) -> None:
    pass


def choose_velodrome() -> None:
    """From now on, what picks a loop by itself picks velodrome's."""
    sys.meta_path.insert(0, _Finder())
