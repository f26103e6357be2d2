"""Velodrome's loop in the place of asyncio's own, for programs that `python -m velodrome` runs."""

import asyncio
from asyncio import unix_events
from typing import Any

import velodrome
from velodrome._choice import choose_velodrome


def _swap_loop() -> None:
    """Make velodrome's loop the one that asyncio uses by itself and the one that its names mean.

    What a program chooses deliberately stays its choice: a policy of its own, a loop factory, a class of
    another loop. So neither `new_event_loop` nor `run` is replaced. They ask the policy, and asyncio's own
    policy asks its class for `_loop_factory`, on every version that has policies. In this way `run`,
    `Runner`, `new_event_loop`, `get_event_loop` where it makes loops, and `set_event_loop_policy(None)` all
    come to velodrome's loop.
    """
    choose_velodrome()
    loop_class: type[Any] = velodrome.Loop
    policy: Any = unix_events._UnixDefaultEventLoopPolicy
    policy._loop_factory = loop_class

    # asyncio took its names from unix_events when it was imported, so each of them exists twice. EventLoop
    # came with 3.13. asyncio's own class remains what it was under its own name,
    # unix_events._UnixSelectorEventLoop.
    for module in (asyncio, unix_events):
        for name in ("SelectorEventLoop", "EventLoop"):
            if hasattr(module, name):
                setattr(module, name, loop_class)
