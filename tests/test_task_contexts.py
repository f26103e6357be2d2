"""Contexts of tasks: each has its own, as far as anybody can tell, however many are made alike."""

import asyncio
import contextvars
import gc
import os
import sys
import weakref

import pytest
import velodrome
from differential import worlds
from differential.compare import check_same, one_turn, turns
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SEARCH = int(os.environ.get("VELODROME_SEARCH", "0"))

either_loop = worlds.either_loop

FIRST = contextvars.ContextVar("first")
SECOND = contextvars.ContextVar("second")
VARIABLES = (FIRST, SECOND)

can_get_context = pytest.mark.skipif(sys.version_info < (3, 12), reason="Task.get_context() is of 3.12")
shares = pytest.mark.skipif(
    not velodrome.build_info()["layout"]["contexts"], reason="what a context is made of is not known here"
)


class Value:
    """Something that can be referred to weakly."""


which = st.integers(0, 1)
values = st.integers(0, 3)
action = st.one_of(
    st.tuples(st.just("pause")),
    st.tuples(st.just("pause")),
    st.tuples(st.just("set"), which, values),
    st.tuples(st.just("set and hold"), which, values),
    st.tuples(st.just("reset"), which),
    st.tuples(st.just("reset another's"), which),
    st.tuples(st.just("soon")),
    st.tuples(st.just("copy and set"), which, values),
    st.tuples(st.just("own context")),
    st.tuples(st.just("child's context"), st.integers(0, 3)),
    st.tuples(st.just("set in child's"), st.integers(0, 3), which, values),
    st.tuples(st.just("collect")),
    st.tuples(st.just("cancel child"), st.integers(0, 3)),
    st.tuples(st.just("debug"), st.booleans()),
)


def script_of(children):
    """Actions, some of which make tasks that have scripts of their own."""
    made = st.tuples(
        st.sampled_from(["children", "children", "children elsewhere", "eager children"]),
        st.integers(1, 4),
        children,
    )
    return st.lists(st.one_of(action, made), max_size=6)


scripts = st.recursive(st.lists(action, max_size=4), script_of, max_leaves=12)


class Play:
    """Runs a script, and notes what every task sees of its variables."""

    def __init__(self, loop):
        self.loop = loop
        self.seen = []
        self.tokens = []
        self.tasks = []

    def note(self, path, *what):
        self.seen.append((path, *what, *(variable.get(None) for variable in VARIABLES)))

    async def run(self, path, script):
        tokens, children = {}, []
        self.note(path, "begun")
        try:
            for place, (name, *arguments) in enumerate(script):
                answer = getattr(self, name.replace(" ", "_").replace("'", ""))(
                    path, place, tokens, children, *arguments
                )
                if name == "pause":
                    await asyncio.sleep(0)
                self.note(path, name, answer)
        finally:
            self.note(path, "ended")

    def pause(self, *_):
        pass

    def set(self, path, place, tokens, children, which, value):
        VARIABLES[which].set((path, place, value))

    def set_and_hold(self, path, place, tokens, children, which, value):
        tokens[which] = VARIABLES[which].set((path, place, value))
        self.tokens.append(tokens[which])

    def reset(self, path, place, tokens, children, which):
        if which in tokens:
            return self.try_reset(tokens.pop(which))

    def reset_anothers(self, path, place, tokens, children, which):
        for token in reversed(self.tokens):
            if token.var is VARIABLES[which]:
                return self.try_reset(token)

    def try_reset(self, token):
        try:
            token.var.reset(token)
        except (ValueError, RuntimeError) as error:
            return type(error).__name__

    def soon(self, path, *_):
        self.loop.call_soon(self.note, path, "callback")

    def copy_and_set(self, path, place, tokens, children, which, value):
        copy = contextvars.copy_context()
        copy.run(VARIABLES[which].set, (path, place, value))
        return [copy.get(variable) for variable in VARIABLES]

    def looked_at(self, task):
        context = task.get_context()
        return (
            [context.get(variable) for variable in VARIABLES],
            context is task.get_context(),
            [context is other.get_context() for other in self.tasks if other is not task],
        )

    def own_context(self, *_):
        if sys.version_info >= (3, 12):
            return self.looked_at(asyncio.current_task())

    def childs_context(self, path, place, tokens, children, number):
        if sys.version_info >= (3, 12) and children:
            return self.looked_at(children[number % len(children)])

    def set_in_childs(self, path, place, tokens, children, number, which, value):
        if sys.version_info >= (3, 12) and children:
            context = children[number % len(children)].get_context()
            context.run(VARIABLES[which].set, (path, place, value))

    def collect(self, *_):
        gc.collect()

    def cancel_child(self, path, place, tokens, children, number):
        if children:
            return children[number % len(children)].cancel()

    def debug(self, path, place, tokens, children, enabled):
        self.loop.set_debug(enabled)

    def children(self, path, place, tokens, children, number, script):
        for child in range(number):
            children.append(self.loop.create_task(self.run((*path, place, child), script)))
        self.tasks += children[-number:]

    def children_elsewhere(self, path, place, *rest):
        context = contextvars.copy_context()
        context.run(FIRST.set, (path, place, "elsewhere"))
        context.run(self.children, path, place, *rest)

    def eager_children(self, path, place, tokens, children, number, script):
        if sys.version_info >= (3, 12):
            for child in range(number):
                coroutine = self.run((*path, place, child), script)
                children.append(asyncio.Task(coroutine, loop=self.loop, eager_start=True))
            self.tasks += children[-number:]


def play(loop, script):
    """What there is to be seen of a script."""
    playing = Play(loop)
    context = contextvars.copy_context()
    task = context.run(loop.create_task, playing.run((), script))
    for _ in range(60):
        one_turn(loop)
    assert task.done() and all(child.done() for child in playing.tasks)
    return playing.seen


@settings(max_examples=SEARCH or 60, deadline=None, suppress_health_check=list(HealthCheck))
@given(script=scripts)
def test_every_task_sees_its_own_variables(script):
    check_same(play, script)


def waiting(loop, number, then=None):
    """Tasks of this number, made at once and waiting, and what they wait for."""
    future = loop.create_future()

    async def wait():
        await future
        if then is not None:
            return then()

    tasks = [loop.create_task(wait()) for _ in range(number)]
    turns(loop, 2)
    return tasks, future


def contexts():
    gc.collect()
    return sum(type(thing) is contextvars.Context for thing in gc.get_objects())


@shares
def test_tasks_that_set_nothing_share_one(loop):
    before = contexts()
    tasks, future = waiting(loop, 50)
    assert contexts() - before <= 4
    future.set_result(None)
    turns(loop, 2)
    assert all(task.done() for task in tasks)


@shares
@can_get_context
def test_a_context_that_is_asked_for_is_the_tasks_own(loop):
    tasks, future = waiting(loop, 3, then=lambda: FIRST.set("set") and FIRST.get())
    context = tasks[1].get_context()
    assert context is tasks[1].get_context() and context is not tasks[0].get_context()
    future.set_result(None)
    turns(loop, 2)
    assert context[FIRST] == "set" and [task.result() for task in tasks] == ["set"] * 3
    assert [task.get_context()[FIRST] for task in tasks] == ["set"] * 3


def test_variables_go_with_the_last_task_that_has_them(either_loop):
    value = Value()
    there = weakref.ref(value)
    context = contextvars.copy_context()
    context.run(FIRST.set, value)
    tasks, future = context.run(waiting, either_loop, 5)
    del value, context
    future.set_result(None)
    turns(either_loop, 2)
    while tasks:
        gc.collect()
        assert there() is not None
        tasks.pop()
    del future
    gc.collect()
    assert there() is None


def test_variables_go_when_the_last_task_has_set_another(either_loop):
    value = Value()
    there = weakref.ref(value)
    context = contextvars.copy_context()
    context.run(FIRST.set, value)
    tasks, future = context.run(waiting, either_loop, 5, lambda: FIRST.set("other") and None)
    del value, context
    gc.collect()
    assert there() is not None
    future.set_result(None)
    turns(either_loop, 2)
    gc.collect()
    assert there() is None and all(task.done() for task in tasks)


def test_what_a_value_does_as_it_goes_finds_contexts_whole(either_loop):
    """Its destructor makes tasks, in the middle of another's end."""
    made = []

    async def nothing():
        made.append(FIRST.get(None))

    class Last:
        def __del__(self):
            made.extend(either_loop.create_task(nothing()) for _ in range(3))

    context = contextvars.copy_context()
    context.run(FIRST.set, Last())
    tasks, future = context.run(waiting, either_loop, 3)
    del context
    future.set_result(None)
    turns(either_loop, 2)
    tasks.clear()
    del future
    gc.collect()
    turns(either_loop, 2)
    assert len(made) == 6 and made[3:] == [None] * 3


def entered():
    """The context of the step that runs, found as no program would."""
    for thing in gc.get_objects():
        if type(thing) is contextvars.Context and thing.get(SECOND) == "made with":
            try:
                thing.run(int)
            except RuntimeError:
                return thing


def test_whoever_holds_on_to_the_context_of_a_step_sees_no_other_tasks_variables(either_loop):
    """As greenlets do, which come back to it in a later step of the same task."""

    async def hold():
        context = entered()
        await asyncio.sleep(0)
        FIRST.set("mine")
        await asyncio.sleep(0)
        return context[FIRST], context is entered()

    async def other():
        for _ in range(3):
            FIRST.set("another's")
            await asyncio.sleep(0)

    async def main():
        SECOND.set("made with")
        tasks = [either_loop.create_task(each()) for each in (other, hold, other, hold, other)]
        return [await tasks[1], await tasks[3]]

    assert either_loop.run_until_complete(main()) == [("mine", True)] * 2


@can_get_context
@pytest.mark.parametrize("makes_others", [False, True])
def test_a_context_that_is_asked_for_is_the_one_that_the_step_runs_in(either_loop, makes_others):
    async def nothing():
        return FIRST.get("unset")

    def elsewhere():
        FIRST.set("elsewhere")
        return [either_loop.create_task(nothing()) for _ in range(3)]

    async def ask():
        others = contextvars.copy_context().run(elsewhere) if makes_others else []
        FIRST.set("before")
        context = asyncio.current_task().get_context()
        found = context.get(FIRST)
        FIRST.set("after")
        assert (found, context[FIRST]) == ("before", "after")
        await asyncio.sleep(0)
        assert FIRST.get() == "after" and context is asyncio.current_task().get_context()
        return [await other for other in others]

    async def main():
        return await asyncio.gather(nothing(), ask(), nothing(), ask())

    others = ["elsewhere"] * 3 if makes_others else []
    assert either_loop.run_until_complete(main()) == ["unset", others, "unset", others]


def test_a_step_within_a_step_runs_in_a_context_of_its_own(either_loop):
    """As with loops that are made to run within themselves."""

    async def inner():
        FIRST.set("inner's")
        await asyncio.sleep(0)
        return FIRST.get()

    async def outer():
        task = asyncio.current_task()
        asyncio.tasks._leave_task(either_loop, task)
        try:
            either_loop._run_once()
        finally:
            asyncio.tasks._enter_task(either_loop, task)
        return FIRST.get("unset")

    async def main():
        return await asyncio.gather(outer(), inner(), outer(), inner())

    assert either_loop.run_until_complete(main()) == ["unset", "inner's"] * 2


def test_a_token_is_of_the_task_that_made_it(either_loop):
    tokens = []

    async def main(place):
        tokens.append(FIRST.set(place))
        await asyncio.sleep(0)
        with pytest.raises(ValueError, match="was created in a different Context"):
            FIRST.reset(tokens[(place + 1) % 3])
        await asyncio.sleep(0)
        FIRST.reset(tokens[place])
        return FIRST.get("unset")

    async def all_of_them():
        return await asyncio.gather(*(main(place) for place in range(3)))

    assert either_loop.run_until_complete(all_of_them()) == ["unset"] * 3


def test_a_task_that_begins_anew_in_its_own_step(loop):
    """(asyncio's own crashes the interpreter.)"""

    async def other():
        await asyncio.sleep(0)
        return FIRST.get("unset")

    async def again():
        FIRST.set("set")
        asyncio.current_task().__init__(anew, loop=loop)
        FIRST.set("later")

    anew = other()

    async def main():
        tasks = [loop.create_task(each) for each in (other(), again(), other(), other())]
        return [await tasks[place] for place in (0, 2, 3)]

    assert loop.run_until_complete(main()) == ["unset"] * 3
    anew.close()
