"""Velodrome in the place of asyncio: its public names then mean ours, until they are put back."""

import asyncio
import sys
from asyncio import unix_events
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, ModuleType

import velodrome
from velodrome._loop import Loop

_LOOPS = ("SelectorEventLoop", "EventLoop")

# What was there before: the module or class, the name, and the value.
_replaced: list[tuple[object, str, object]] = []
# What we put there, in the same order.
_ours: list[object] = []
# Which of `install` and `swap_loop` did so: either may come first, and does nothing the second time.
_done: set[Callable[[], None]] = set()


def install() -> None:
    """Replace asyncio's public names, in asyncio and its submodules, by Velodrome's, and its loop by ours.

    Objects that exist already go on working, mixed with new ones, and so do loops that run. A name that is no
    longer asyncio's own, because a tool has wrapped it, stays as it is. Calling it again does nothing.
    `uninstall()` puts everything back.
    """
    if install in _done:
        return
    _done.add(install)
    names = _names()
    for module in _asyncio_modules():
        for name, (original, ours) in names.items():
            if module.__dict__.get(name) is original:
                _replace(module, name, ours)
    swap_loop()


def swap_loop() -> None:
    """Make Velodrome's loop the one that asyncio uses by itself and the one that its names mean.

    What a program chooses deliberately stays its choice: a policy of its own, a loop factory, a class of
    another loop. So `new_event_loop` is not replaced. It asks the policy, as `run`, `Runner`,
    `get_event_loop` where it makes loops, and `set_event_loop_policy(None)` do; and asyncio's own policy
    asks its class for `_loop_factory`, on every version that has policies.
    """
    if swap_loop in _done:
        return
    _done.add(swap_loop)
    _replace(unix_events._UnixDefaultEventLoopPolicy, "_loop_factory", Loop)
    # The names of loops exist twice; EventLoop came with 3.13. asyncio's own class remains what it was under
    # its own name, unix_events._UnixSelectorEventLoop.
    for module in (asyncio, unix_events):
        for name in _LOOPS:
            if hasattr(module, name):
                _replace(module, name, Loop)


def uninstall() -> None:
    """Put back what `install()` replaced, except where somebody has put something else since."""
    _done.clear()
    while _replaced:
        place, name, value = _replaced.pop()
        if getattr(place, name) is _ours.pop():
            setattr(place, name, value)


def _replace(place: object, name: str, value: object) -> None:
    _replaced.append((place, name, getattr(place, name)))
    _ours.append(value)
    setattr(place, name, value)


def _names() -> dict[str, tuple[object, object]]:
    """Return the public names of asyncio that we have an implementation of, with asyncio's value and ours."""
    return {
        name: (getattr(asyncio, name), getattr(velodrome, name))
        for name in velodrome.__all__
        if name not in _LEFT_ALONE and _is_asyncios_own(getattr(asyncio, name, None))
    }


def _is_asyncios_own(value: object) -> bool:
    """Whether asyncio defined this, rather than a tool that wraps asyncio's (OpenTelemetry, for instance).

    What a tool put there goes on working, over asyncio's own.
    """
    if isinstance(value, FunctionType):
        module = value.__globals__.get("__name__", "")
    elif isinstance(value, (type, BuiltinFunctionType)):
        module = value.__module__ or ""
    else:
        return False
    return module.partition(".")[0] in ("asyncio", "_asyncio")


# It stays asyncio's own, since ours only chooses the loop, which the policy does then.
_LEFT_ALONE = frozenset({"new_event_loop"})


def _asyncio_modules() -> list[ModuleType]:
    return [
        module
        for name, module in list(sys.modules.items())
        if isinstance(module, ModuleType) and (name == "asyncio" or name.startswith("asyncio."))
    ]
