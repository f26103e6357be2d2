"""Exceptions come with the causes, the contexts and the notes that asyncio's come with."""

import asyncio
import re

import pytest
import velodrome
from differential.compare import LOOPS, plain
from differential.operations import OPERATIONS


def described(error):
    """An exception with all that is behind it, without numbers that differ from run to run."""
    if error is None:
        return None
    inside = [described(one) for one in error.exceptions] if isinstance(error, BaseExceptionGroup) else None
    return [
        type(error).__name__,
        re.sub(r"\d{4,}|fd=\d+|Task-\d+", "N", plain(str(error))),
        described(error.__cause__),
        described(error.__context__),
        error.__suppress_context__,
        inside,
        getattr(error, "__notes__", None),
    ]


def exceptions(operation, aio, new_event_loop):
    seen = []

    def mark(name, thing):
        if isinstance(thing, BaseException):
            seen.append(thing)
        return thing

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.get_loop().set_exception_handler(lambda loop, context: None)
        runner.run(operation(aio, mark))
    return sorted(map(described, seen), key=repr)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", OPERATIONS)
def test_exceptions_have_the_chains_of_asyncios(name):
    operation = OPERATIONS[name]
    assert exceptions(operation, velodrome, LOOPS[1]) == exceptions(operation, asyncio, LOOPS[0])
