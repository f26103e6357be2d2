"""Eager task factories: asyncio's answers, and what programs recognise them by."""

import asyncio
import contextvars
import sys

import pytest
import velodrome
from differential import worlds
from differential.compare import outcome

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
either_loop = worlds.either_loop

variable = contextvars.ContextVar("variable", default="unset")


def test_tasks_are_ours_and_begin_at_once(either_loop):
    said = []

    async def inner():
        said.append(variable.get())
        await asyncio.sleep(0)
        return "done"

    async def main():
        either_loop.set_task_factory(velodrome.eager_task_factory)
        context = contextvars.Context()
        context.run(variable.set, "given")
        tasks = [
            either_loop.create_task(inner()),
            either_loop.create_task(inner(), name="anna", context=context),
        ]
        said.append([type(task) for task in tasks])
        return [await task for task in tasks], tasks[1].get_name()

    try:
        assert either_loop.run_until_complete(main()) == (["done", "done"], "anna")
    finally:
        either_loop.set_task_factory(None)
    assert said == ["unset", "given", [velodrome.Task] * 2]


def calls(aio, loop):
    """How a factory passes on what it is given."""
    seen = []

    def constructor(*args, **kwargs):
        seen.append((args, {key: value for key, value in kwargs.items() if key != "loop"}, list(kwargs)))
        return kwargs["loop"] is loop

    factory = aio.create_eager_task_factory(constructor)
    for arguments, keywords in (
        ((loop, 1), {}),
        ((loop,), {"coro": 1}),
        ((), {"coro": 1, "loop": loop}),
        ((loop, 1), {"name": "anna"}),
        ((loop, 1), {"name": "anna", "context": None}),
        ((loop, 1), {"eager_start": False}),
        ((loop, 1), {"eager_start": None, "other": 1}),
        ((loop, 1), {"coro": 1}),
        ((loop, 1), {"loop": loop}),
        ((loop, 1, 2), {}),
        ((loop,), {}),
        ((), {}),
    ):
        kind, value = outcome(factory, *arguments, **keywords)
        seen.append((kind, value if kind == "returned" else None))
    return seen


def test_arguments_are_passed_on(either_loop):
    assert calls(velodrome, either_loop) == calls(asyncio, either_loop)


def test_what_the_constructor_raises_is_raised(either_loop):
    def constructor(coro, **_):
        raise ValueError(coro)

    factory = velodrome.create_eager_task_factory(constructor)
    with pytest.raises(ValueError, match="^1$"):
        factory(either_loop, 1)
    assert outcome(velodrome.create_eager_task_factory)[0] == "TypeError"
    assert outcome(velodrome.create_eager_task_factory(None), either_loop, 1)[0] == "TypeError"
    # As asyncio's: no task without a coroutine.
    answers = [outcome(aio.eager_task_factory, either_loop, 1) for aio in (asyncio, velodrome)]
    assert answers[0] == answers[1]


def test_programs_recognise_them_and_find_the_constructor():
    """anyio does, to make tasks that do not begin at once."""
    for factory, constructor in (
        (velodrome.eager_task_factory, velodrome.Task),
        (velodrome.create_eager_task_factory(print), print),
    ):
        assert factory.__code__ is asyncio.eager_task_factory.__code__
        assert factory.__closure__[0].cell_contents is constructor
        assert factory.__name__ == asyncio.eager_task_factory.__name__
        assert factory.__qualname__ == asyncio.eager_task_factory.__qualname__
        factory.attribute = 1
