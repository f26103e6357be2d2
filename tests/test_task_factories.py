"""Task factories: what they are given, what they may return, and eager ones."""

import asyncio
import contextvars
import sys

import pytest
import velodrome
from differential import worlds
from differential.compare import check_same, on_both, plain

either_loop = worlds.either_loop


async def nothing():
    return "nothing"


class Extended(asyncio.Task):
    pass


class ExtendedOurs(velodrome.Task):
    pass


@pytest.mark.parametrize(
    "task_class", [asyncio.Task, velodrome.Task, Extended, ExtendedOurs, asyncio.tasks._PyTask]
)
@pytest.mark.parametrize("form", ["two arguments", "keywords"])
def test_task_factory_makes_the_tasks(either_loop, task_class, form):
    made = []

    if form == "keywords":

        def factory(loop, coro, **options):
            made.append(sorted(options))
            return task_class(coro, loop=loop, **options)

    else:

        def factory(loop, coro):
            made.append([])
            return task_class(coro, loop=loop)

    async def main():
        task = asyncio.create_task(nothing())
        assert type(task) is task_class
        named = velodrome.create_task(nothing())
        assert type(named) is task_class
        return await task, await named

    either_loop.set_task_factory(factory)
    assert either_loop.get_task_factory() is factory
    assert either_loop.run_until_complete(main()) == ("nothing", "nothing")
    either_loop.set_task_factory(None)
    assert either_loop.get_task_factory() is None
    assert len(made) == 3


def test_task_factory_gets_what_asyncios_gets():
    def program(loop):
        got = []

        def factory(loop, coro, **options):
            got.append({name: str(value) for name, value in options.items() if name != "context"})
            got.append("context" in options)
            return asyncio.Task(coro, loop=loop, **options)

        async def main():
            names = []
            for options in (
                {},
                {"name": "anna"},
                {"context": contextvars.copy_context()},
                {"name": "anna", "context": contextvars.copy_context()},
                {"context": None},
                {"name": None},
            ):
                task = loop.create_task(nothing(), **options)
                names.append(plain(task.get_name()))
                await task
            return names

        loop.set_task_factory(factory)
        return loop.run_until_complete(main()), got

    check_same(program)


def test_old_task_factory_and_a_context():
    """asyncio's answer to a factory that does not know `context` depends on the version."""

    def program(loop):
        async def main():
            coro = nothing()
            try:
                task = loop.create_task(coro, context=contextvars.copy_context())
            except TypeError:
                coro.close()
                raise
            return await task

        loop.set_task_factory(lambda loop, coro: asyncio.Task(coro, loop=loop))
        return loop.run_until_complete(main())

    (expected, _), (found, _) = on_both(program)
    assert found == expected


@pytest.mark.parametrize("factory", ["text", 1, object()])
def test_task_factory_must_be_callable(factory):
    def program(loop):
        loop.set_task_factory(factory)

    assert check_same(program)[0] == "TypeError"


def test_task_factory_may_return_any_future(either_loop):
    def factory(loop, coro, **options):
        coro.close()
        future = loop.create_future()
        future.set_result("a future")
        future.set_name = lambda name: None
        return future

    either_loop.set_task_factory(factory)
    task = either_loop.create_task(nothing())
    either_loop.set_task_factory(None)
    assert either_loop.run_until_complete(task) == "a future"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
@pytest.mark.parametrize("task_class", [asyncio.Task, velodrome.Task, ExtendedOurs])
def test_eager_task_factory(either_loop, task_class):
    seen = []

    async def child(number):
        seen.append((number, "begins"))
        if number:
            await asyncio.sleep(0)
        seen.append((number, "ends"))
        return number

    async def main():
        me = asyncio.current_task()
        done = asyncio.create_task(child(0), name="done at once")
        assert done.done() and done.result() == 0 and type(done) is task_class
        assert asyncio.current_task() is me
        waiting = asyncio.create_task(child(1), name="waits")
        assert not waiting.done() and waiting in asyncio.all_tasks()
        assert done not in asyncio.all_tasks()
        seen.append("main")
        return await waiting

    either_loop.set_task_factory(asyncio.create_eager_task_factory(task_class))
    assert either_loop.run_until_complete(main()) == 1
    assert seen == [
        (0, "begins"),
        (0, "ends"),
        (1, "begins"),
        "main",
        (1, "ends"),
    ]
