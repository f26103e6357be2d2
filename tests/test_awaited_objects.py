"""What one of our coroutines awaits is thrown into, and closed, as what a coroutine of Python's awaits is."""

import asyncio
import sys

import pytest
import velodrome
from differential.compare import outcome


class Awaited:
    """Waits for ever, and writes down what is asked of it."""

    def __init__(self, log):
        self.log = log

    def __await__(self):
        return self

    def __next__(self):
        return None

    def throw(self, exception):
        self.log.append(("throw", type(exception)))
        raise StopIteration("caught")

    def close(self):
        self.log.append("close")


class ClosedBadly(Awaited):
    def close(self):
        raise ValueError("close")


class NotToBeAsked(Awaited):
    @property
    def throw(self):
        raise ValueError("throw")

    @property
    def close(self):
        raise ValueError("close")


def traces(program):
    """What program(coroutine) does with a coroutine of each module, and what is asked of what that awaits."""
    for module in (asyncio, velodrome):
        for kind in (Awaited, ClosedBadly, NotToBeAsked):
            log = []

            async def main(module=module, kind=kind, log=log):
                coroutine = module.wait_for(kind(log), None)
                coroutine.send(None)
                try:
                    return program(coroutine)
                finally:
                    outcome(coroutine.close)

            yield module, outcome(asyncio.run, main()), log


def check_same(program):
    found = list(traces(program))
    half = len(found) // 2
    assert [trace[1:] for trace in found[half:]] == [trace[1:] for trace in found[:half]]


@pytest.fixture
def unraisable(monkeypatch):
    reports = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: reports.append(report.exc_type))
    return reports


@pytest.mark.parametrize("exception", [KeyError, asyncio.CancelledError, GeneratorExit, StopIteration])
def test_throw(exception, unraisable):
    """What ends a generator closes what is awaited; anything else is thrown into that."""
    check_same(lambda coroutine: coroutine.throw(exception("thrown")))


def test_throw_again(unraisable):
    """What cannot be asked for its throw goes on waiting."""

    def program(coroutine):
        return [
            outcome(coroutine.throw, KeyError("thrown")),
            coroutine.cr_running,
            outcome(coroutine.send, None),
        ]

    check_same(program)


def test_close(unraisable):
    check_same(lambda coroutine: [outcome(coroutine.close), outcome(coroutine.send, None)])
    assert set(unraisable) <= {ValueError}
