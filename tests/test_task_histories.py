"""Random histories of a task: whatever is done to it, and in whichever order, it does what asyncio's does."""

import asyncio
import gc

import pytest
import velodrome
from differential.compare import garbage_stays_young, one_turn, outcome, plain, turns
from differential.interpreter import show
from differential.tasks import ATTRIBUTES, Extended
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

messages = st.sampled_from([None, "message", 5])
steps = st.one_of(
    st.tuples(st.just("turn")),
    st.tuples(st.just("turn")),
    st.tuples(st.just("cancel"), messages),
    st.tuples(st.just("cancel"), messages),
    st.tuples(st.just("uncancel")),
    st.tuples(st.just("finish"), st.sampled_from(["result", "error", "cancel"])),
    st.tuples(st.just("ask"), st.sampled_from(["result", "exception", "cancelled", "done", "cancelling"])),
    st.tuples(st.just("name"), st.sampled_from(["anna", 5, None])),
    st.tuples(st.just("stack")),
    st.tuples(st.just("set"), st.sampled_from(["set_result", "set_exception"])),
    st.tuples(st.just("log"), st.booleans()),
)
#: What the coroutine does when it is cancelled or gets an error, one after the other.
answers = st.lists(st.sampled_from(["again", "return", "raise", "other", "nap"]), max_size=4)


@garbage_stays_young()
def live(loop, make, answers, history):
    """Put a task through a history; return all that could be seen."""
    seen = []
    reports = []
    loop.set_exception_handler(lambda loop, context: reports.append((context["message"], sorted(context))))
    futures = []

    async def coroutine():
        for answer in [*answers, "end"]:
            future = loop.create_future()
            futures.append(future)
            try:
                seen.append(("got", await future))
                return "result"
            except BaseException as error:
                seen.append(("caught", show(error, tracebacks=False)))
                if answer == "again":
                    continue
                if answer == "return":
                    return "returned"
                if answer == "other":
                    raise LookupError("other") from None
                if answer == "nap":
                    try:
                        await asyncio.sleep(0)
                    except BaseException as second:
                        seen.append(("in the nap", show(second, tracebacks=False)))
                    continue
                raise

    task = make(coroutine(), loop=loop, name="the task")
    task.add_done_callback(lambda done: seen.append(("done", done is task)))
    for step, *arguments in history:
        match step:
            case "turn":
                did = outcome(one_turn, loop)
            case "cancel":
                did = outcome(task.cancel, *arguments)
            case "uncancel":
                did = outcome(task.uncancel)
            case "finish":
                if futures and not futures[-1].done():
                    if arguments[0] == "result":
                        futures[-1].set_result("value")
                    elif arguments[0] == "error":
                        futures[-1].set_exception(KeyError("error"))
                    else:
                        futures[-1].cancel("by the future")
                did = len(futures)
            case "ask":
                did = outcome(lambda name=arguments[0]: show(getattr(task, name)(), tracebacks=False))
            case "name":
                did = outcome(task.set_name, *arguments), task.get_name()
            case "stack":
                did = [frame.f_code.co_name for frame in task.get_stack()]
            case "set":
                did = outcome(getattr(task, arguments[0]), ValueError())
            case "log":
                did = outcome(setattr, task, "_log_destroy_pending", *arguments)
        seen.append((step, did))
        seen.append([show(getattr(task, name), tracebacks=False) for name in ATTRIBUTES])
        seen.append(
            (task.cancelling(), plain(repr(task)), task._fut_waiter is None, task in asyncio.all_tasks(loop))
        )
    outcome(turns, loop, 2)
    finished = task.done()
    task = None
    futures.clear()
    gc.collect(0)
    loop.set_exception_handler(None)
    return seen, reports, finished


@pytest.mark.parametrize("make", [velodrome.Task, Extended])
@settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
@given(answers=answers, history=st.lists(steps, max_size=10))
def test_task_lives_as_asyncios_does(make, answers, history):
    with_asyncio = asyncio.SelectorEventLoop()
    with_velodrome = velodrome.new_event_loop()
    try:
        expected = live(with_asyncio, asyncio.Task, answers, history)
        assert live(with_asyncio, make, answers, history) == expected
        assert live(with_velodrome, make, answers, history) == expected
        assert live(with_velodrome, asyncio.Task, answers, history) == expected
    finally:
        with_asyncio.close()
        with_velodrome.close()
