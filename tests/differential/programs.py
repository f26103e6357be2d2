"""Random programs for the interpreter, as hypothesis strategies."""

import functools
import operator
import sys

from hypothesis import strategies as st

slots = st.integers(0, 2)
messages = st.sampled_from([None, "message", "another"])
delays = st.sampled_from([-1, 0, 1, 2, 3, 5])
later = st.sampled_from([1, 2, 3, 5, 8])
values = st.sampled_from([0, 1, "two", None])
targets = st.tuples(st.sampled_from(["future", "task"]), slots)
kinds = st.sampled_from(["value", "class", "cancelled", "stop", "halt", "timeout", "nothing"])
raised = st.sampled_from(["value", "value", "cancelled", "halt", "timeout", "stop", "exit", "interrupt"])


def operation(name, *arguments):
    return st.tuples(st.just(name), *arguments)


plain = [
    operation("mark", st.integers(0, 9)),
    operation("current"),
    operation("all"),
    operation("new_future", slots),
    operation("set_result", slots, values),
    operation("set_exception", slots, kinds),
    operation("cancel", targets, messages),
    operation("cancel", targets, messages),
    operation("uncancel", slots),
    operation("cancel_me", messages),
    operation("query", targets),
    operation("query", targets),
    operation("remove_callback", targets, st.integers(0, 3)),
    operation("cancel_handle", slots),
    operation("set_variable", values),
    operation("get_variable"),
    operation("event_set"),
    operation("event_clear"),
    operation("put_nowait", values),
    operation("get_nowait"),
    operation("release"),
    operation("release_bounded"),
    operation("task_done"),
    operation("shut_down", st.booleans()),
    operation("reschedule", st.none() | later),
    operation("show"),
    operation("stop"),
    operation("raise", raised),
    operation("new_concurrent", slots),
    operation("run_concurrent", slots),
    operation("finish_concurrent", slots, values),
    operation(
        "fail_concurrent", slots, st.sampled_from(["value", "cancelled", "timeout", "invalid", "halt"])
    ),
    operation("cancel_concurrent", slots),
    operation("query_concurrent", slots),
    operation("wrap", slots, slots),
    operation("wrap", slots, slots),
]

# In 3.13.0 asyncio's loop loses its bearings when it is run within itself.
if sys.version_info[:3] != (3, 13, 0):
    plain.append(operation("nested_run"))

awaits = [
    operation("sleep", delays, values),
    operation("sleep", st.just(0), values),
    operation("yield"),
    operation("yield"),
    operation("target", targets),
    operation("target", targets),
    operation("myself"),
    operation("stray", st.sampled_from(["future", "foreign", "generator", "none", "text", 7])),
    operation("event"),
    operation("put", values),
    operation("get"),
    operation("notify", st.integers(1, 2)),
    operation("barrier"),
    operation("break_barrier", st.booleans()),
    operation("join"),
    operation("put_among", values),
    operation("get_among"),
    operation("generator", st.integers(0, 3), st.integers(0, 3)),
    operation("thread", values, st.none() | raised),
]

options = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["anna", "boris"]),
        "context": st.just(True),
        "function": st.just(True),
    },
).map(lambda options: tuple(sorted(options.items())))


@functools.cache
def nested(depth):
    """Operations that contain bodies."""
    inner = bodies(depth - 1)
    short = bodies(depth - 1, 2)
    what = st.one_of(targets, targets, st.tuples(st.just("coroutine"), inner))
    several = st.lists(what, max_size=3).map(tuple)
    some = st.lists(what, min_size=1, max_size=3).map(tuple)
    when = st.sampled_from(["FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED"])
    maybe = st.none() | later
    return [
        operation("spawn", slots, inner, options),
        operation("spawn", slots, inner, options),
        operation("spawn", slots, inner, options),
        operation("submit", slots, inner),
        operation("add_callback", targets, short, st.booleans()),
        operation("call_soon", short, slots, st.booleans()),
        operation("call_later", delays, short, slots),
        operation("call_at", delays, short, slots),
        operation("target", st.tuples(st.just("coroutine"), inner)),
        operation("gather", several, st.booleans()),
        operation("wait", some, when, maybe),
        operation("as_completed", some),
        operation("each_completed", some, maybe),
        operation("wait_for", what, maybe),
        operation("shield", what),
        operation("timeout", later, inner),
        operation("group", st.lists(inner, max_size=3).map(tuple), short),
        operation("attempt", inner, st.sampled_from(["exception", "cancelled", "all"]), short),
        operation("attempt", inner, st.just("all"), short),
        operation("repeat", st.integers(1, 3), inner),
        operation("locked", inner),
        operation("semaphore", inner),
        operation("condition", short),
        operation("wait_condition", short, st.integers(0, 2)),
        operation("bounded", inner),
    ]


@functools.cache
def bodies(depth, size=4):
    choices = [*plain, *awaits, *awaits]
    if depth:
        choices += nested(depth) * 2
    begins = st.sampled_from([(), (("tough",),)])
    several = st.lists(st.one_of(*choices), max_size=size).map(tuple)
    return st.builds(operator.add, begins, several)


programs = st.builds(operator.add, st.just((("tough",),)), bodies(3, 10))
