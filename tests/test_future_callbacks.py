"""Callbacks of a future: their order and contexts, removing them, and what they may do to the list."""

import asyncio
import contextvars

import pytest
import velodrome
from differential import futures, worlds
from differential.compare import check_same, one_turn, outcome, turns
from differential.futures import future_of

either_loop = worlds.either_loop
future_class = futures.future_class


def test_callbacks_run_in_order_each_in_its_context(either_loop, future_class):
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []
    future = future_class(loop=either_loop)
    for number in range(5):
        context = contextvars.copy_context()
        context.run(variable.set, number)
        future.add_done_callback(
            lambda done, number=number: seen.append((number, variable.get(), done is future)), context=context
        )
    future.add_done_callback(lambda _: seen.append(variable.get()))
    future.set_result(None)
    assert seen == []
    one_turn(either_loop)
    assert seen == [(number, number, True) for number in range(5)] + ["unset"]


def test_a_callback_whose_context_is_none_sees_the_one_in_which_the_future_ends(either_loop, future_class):
    """That is what whoever hands on a `context=None` of its own callers gets."""
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []
    future = future_class(loop=either_loop)
    variable.set("added")
    future.add_done_callback(lambda _: seen.append(variable.get()), context=None)
    future.add_done_callback(lambda _: seen.append(variable.get()))
    assert [context is None for _, context in future._callbacks] == [True, False]
    variable.set("ended")
    future.set_result(None)
    variable.set("later")
    one_turn(either_loop)
    assert seen == ["ended", "added"]


def test_waiting_tasks_and_callbacks_are_told_in_the_order_in_which_they_came(either_loop, future_class):
    seen = []

    async def waiter(name, future):
        await future
        seen.append(name)

    async def main():
        future = future_class(loop=either_loop)
        expected, tasks = [], []
        for number in range(6):
            if number % 2:
                expected.append(("callback", number))
                future.add_done_callback(lambda _, number=number: seen.append(("callback", number)))
            else:
                expected.append(("task", number))
                tasks.append(asyncio.create_task(waiter(("task", number), future)))
                await asyncio.sleep(0)
        assert len(future._callbacks) == 6
        future.set_result(None)
        assert future._callbacks is None
        await asyncio.sleep(0)
        assert seen == expected

    either_loop.run_until_complete(main())


def test_removing_a_callback_removes_all_that_are_equal(either_loop, future_class):
    class Callback:
        def __init__(self, key):
            self.key = key

        def __eq__(self, other):
            return isinstance(other, Callback) and self.key == other.key

        def __call__(self, future):
            seen.append(self.key)

        __hash__ = None

    seen = []
    future = future_class(loop=either_loop)
    for key in (1, 2, 1, 3, 1):
        future.add_done_callback(Callback(key))
    assert future.remove_done_callback(Callback(1)) == 3
    assert future.remove_done_callback(Callback(1)) == 0
    future.set_result(None)
    one_turn(either_loop)
    assert seen == [2, 3]


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("what", ["remove", "add", "clear", "finish"])
def test_comparing_callbacks_may_change_the_list(either_loop, size, what):
    """A crash in older CPythons; whatever happens, the future lives."""

    class Evil:
        def __eq__(self, other):
            if what == "remove":
                future.remove_done_callback(plain_callback)
            elif what == "add":
                future.add_done_callback(plain_callback)
            elif what == "finish":
                if not future.done():
                    future.set_result(None)
            else:
                for callback, _ in future._callbacks or ():
                    if callback is plain_callback:
                        future.remove_done_callback(callback)
            return False

        __hash__ = None

    def plain_callback(_):
        called.append(1)

    called = []
    future = velodrome.Future(loop=either_loop)
    for _ in range(size):
        future.add_done_callback(plain_callback)
    future.remove_done_callback(Evil())
    if not future.done():
        future.set_result(None)
    turns(either_loop, 3)
    assert future._callbacks is None and len(called) <= 2 * size


def test_comparison_that_fails_is_passed_on(either_loop, future_class):
    class Evil:
        def __eq__(self, other):
            raise LookupError("no comparison")

        __hash__ = None

    future = future_class(loop=either_loop)
    for _ in range(3):
        future.add_done_callback(print)
    with pytest.raises(LookupError):
        future.remove_done_callback(Evil())
    assert len(future._callbacks) == 3


def test_waiting_task_can_be_removed_like_a_callback(either_loop):
    """_callbacks lists what wakes a waiting task; to remove_done_callback() it is one of them."""

    async def waiter():
        await future

    future = either_loop.create_future()
    task = either_loop.create_task(waiter())
    one_turn(either_loop)
    ((wakeup, context),) = future._callbacks
    assert wakeup.__self__ is task
    assert future.remove_done_callback(wakeup) == 1
    assert future._callbacks is None
    future.set_result(None)
    turns(either_loop, 2)
    assert not task.done()
    either_loop.call_soon(wakeup, future)
    one_turn(either_loop)
    assert task.done()


def test_callback_added_to_a_done_future_runs_soon(either_loop, future_class):
    seen = []
    future = future_class(loop=either_loop)
    future.set_result(1)
    future.add_done_callback(seen.append)
    assert seen == [] and future._callbacks is None
    one_turn(either_loop)
    assert seen == [future]


def test_future_of_a_closed_loop(future_class):
    def program(loop):
        future = future_of(loop)
        future.add_done_callback(print)
        future.add_done_callback(print)
        empty = future_of(loop)
        loop.close()
        outcomes = [outcome(future.set_result, 1), future._state, future._callbacks]
        outcomes.append(outcome(future.add_done_callback, print))
        outcomes += [outcome(empty.set_exception, ValueError()), empty._state, outcome(empty.exception)[0]]
        return outcomes

    kind, outcomes = check_same(program)
    assert kind == "returned" and outcomes[0] == ("RuntimeError", "Event loop is closed")
