"""Random histories of a future: whatever is done to it, and in which order, it does what asyncio's does."""

import asyncio
import contextvars
import gc

import pytest
import velodrome
from differential.compare import garbage_stays_young, one_turn, outcome, plain
from differential.futures import ATTRIBUTES, Extended
from differential.interpreter import make_exception, show
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

numbers = st.integers(0, 2)
steps = st.one_of(
    st.tuples(st.just("set_result"), st.sampled_from([None, 1, "result"])),
    st.tuples(
        st.just("set_exception"),
        st.sampled_from(["value", "class", "cancelled", "halt", "exit", "nothing"]),
    ),
    st.tuples(st.just("cancel"), st.sampled_from([None, "message", 5])),
    st.tuples(st.just("result")),
    st.tuples(st.just("exception")),
    st.tuples(st.just("add"), numbers, st.booleans()),
    st.tuples(st.just("remove"), numbers),
    st.tuples(st.just("turn")),
    st.tuples(st.just("next")),
    st.tuples(st.just("send"), st.sampled_from([None, 3])),
    st.tuples(st.just("throw"), st.sampled_from(["value", "class", "stop", "halt"])),
    st.tuples(st.just("close")),
    st.tuples(st.just("new iterator")),
    st.tuples(st.just("blocking"), st.booleans()),
    st.tuples(st.just("log"), st.booleans()),
    st.tuples(st.just("message"), st.sampled_from(["message", None, 5])),
    st.tuples(st.just("error")),
)


@garbage_stays_young()
def live(loop, make, history):
    """Put a future through a history; return all that could be seen."""
    seen = []
    reports = []
    loop.set_exception_handler(lambda loop, context: reports.append((context["message"], sorted(context))))
    future = make(loop=loop)
    iterator = iter(future)

    def callback(number):
        return lambda done: seen.append(("callback", number, done is future))

    callbacks = [callback(number) for number in range(3)]
    for step, *arguments in history:
        match step:
            case "set_result":
                did = outcome(future.set_result, *arguments)
            case "set_exception":
                did = outcome(future.set_exception, make_exception(arguments[0], "text"))
            case "cancel":
                did = outcome(future.cancel, *arguments)
            case "result" | "exception":
                did = outcome(lambda step=step: show(getattr(future, step)(), tracebacks=False))
            case "add":
                number, context = arguments
                options = {"context": contextvars.Context()} if context else {}
                did = outcome(future.add_done_callback, callbacks[number], **options)
            case "remove":
                did = outcome(future.remove_done_callback, callbacks[arguments[0]])
            case "turn":
                did = outcome(one_turn, loop)
            case "next":
                did = outcome(lambda: next(iterator) is future)
            case "send":
                did = outcome(lambda: iterator.send(arguments[0]) is future)
            case "throw":
                did = outcome(iterator.throw, make_exception(arguments[0], "thrown"))
            case "close":
                did = outcome(iterator.close)
            case "new iterator":
                iterator = future.__await__()
                did = None
            case "blocking":
                did = outcome(setattr, future, "_asyncio_future_blocking", *arguments)
            case "log":
                did = outcome(setattr, future, "_log_traceback", *arguments)
            case "message":
                did = outcome(setattr, future, "_cancel_message", *arguments)
            case "error":
                error = future._make_cancelled_error()
                did = type(error).__name__, error.args
        if isinstance(did, tuple) and did[0] == "SystemError":
            did = "StopIteration", ""  # asyncio's iterator, used after its end, forgets to say so before 3.14
        if step == "next" and did == ("StopIteration", "None"):
            did = "StopIteration", ""  # from 3.14 on asyncio's says None outright
        seen.append((step, did))
        seen.append([show(getattr(future, name), tracebacks=False) for name in ATTRIBUTES])
        seen.append([future.done(), future.cancelled(), plain(repr(future))])
        listed = future._callbacks
        seen.append(listed and [callbacks.index(callback) for callback, context in listed])
    outcome(one_turn, loop)
    future = iterator = None
    gc.collect(0)
    return seen, reports


@pytest.mark.parametrize("make", [velodrome.Future, Extended])
@settings(
    max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
@given(history=st.lists(steps, max_size=8))
def test_future_lives_as_asyncios_does(make, history):
    loop = asyncio.SelectorEventLoop()
    try:
        expected = live(loop, asyncio.Future, history)
        found = live(loop, make, history)
    finally:
        loop.close()
    assert found == expected
    loop = velodrome.new_event_loop()
    try:
        assert live(loop, make, history) == expected
    finally:
        loop.close()
