"""What a call did, in a form that can be compared between two loops."""

import asyncio
import gc
import logging
import os
import re
from contextlib import contextmanager

import velodrome

from .interpreter import scrub
from .worlds import close

#: Makers of the loops to compare, asyncio's first.
LOOPS = (asyncio.SelectorEventLoop, velodrome.new_event_loop)


def outcome(call, *arguments, **keywords):
    """Call something; return what it returned, or the type and the text of what it raised."""
    try:
        return "returned", call(*arguments, **keywords)
    except BaseException as error:
        return type(error).__name__, plain(str(error))


@contextmanager
def garbage_stays_young():
    """Without a collection in between, `gc.collect(0)` at the end finds all that was made."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def plain(text):
    """Take out of a text what differs from loop to loop."""
    text = scrub(text)
    text = re.sub(r"<(_UnixSelectorEventLoop|Loop) ", "<loop ", text)
    text = re.sub(r"\b(_asyncio|velodrome)\.", "", text)
    return re.sub(r"\b\w*(EventLoop|LoopCore|Loop)\.", "", text)


def on_both(program, *arguments):
    """Call program(loop, ...) with a new loop of each kind; return both outcomes, asyncio's first."""
    outcomes = []
    for new_loop in LOOPS:
        loop = new_loop()
        loop.slow_callback_duration = 1000  # however busy the machine is
        try:
            outcomes.append(outcome(program, loop, *arguments))
        finally:
            close(loop)
    return outcomes


def check_same(program, *arguments):
    """Check that program(loop, ...) does the same on both loops; return what it does."""
    expected, found = on_both(program, *arguments)
    assert found == expected
    return expected


def logged(caplog, program, loop):
    """What a program logs on a loop, without what differs from run to run."""
    caplog.clear()
    caplog.set_level(logging.DEBUG, logger="asyncio")
    program(loop)
    return [
        (record.levelname, plain(record.getMessage()), bool(record.exc_info)) for record in caplog.records
    ]


def check_same_log(caplog, program):
    (_, expected), (_, found) = on_both(lambda loop: logged(caplog, program, loop))
    assert found == expected
    return expected


def one_turn(loop):
    """Run what is ready, once."""
    loop.call_soon(loop.stop)
    loop.run_forever()


def turns(loop, number):
    for _ in range(number):
        one_turn(loop)


def open_descriptors():
    return sorted(os.listdir("/proc/self/fd"))
