"""Who awaits whom: call graphs, and what they are made of, are those that asyncio has of its own tasks."""

import asyncio
import io
import re
import sys

import pytest
import velodrome
from differential import tasks
from differential.tasks import wait

run = tasks.run

needs_graphs = pytest.mark.skipif(sys.version_info < (3, 14), reason="call graphs came with Python 3.14")


@needs_graphs
def test_awaited_by_names_those_who_await(loop, run):
    async def main():
        future = loop.create_future()
        assert future._asyncio_awaited_by is None
        one = loop.create_task(wait(future))
        await asyncio.sleep(0)
        assert future._asyncio_awaited_by == {one}
        two = loop.create_task(wait(future))
        three = asyncio.Task(wait(future), loop=loop)
        await asyncio.sleep(0)
        assert future._asyncio_awaited_by == {one, two, three}
        four = loop.create_task(wait(one))
        await asyncio.sleep(0)
        assert one._asyncio_awaited_by == {four}
        assert four._asyncio_awaited_by is None
        future.set_result(None)
        await asyncio.gather(one, two, three, four)
        for done in future, one, two, three, four:
            assert not done._asyncio_awaited_by

    run(main())


@needs_graphs
def test_awaited_by_forgets_who_was_cancelled(loop, run):
    async def main():
        inner = loop.create_future()
        waiting = loop.create_task(wait(inner))
        await asyncio.sleep(0)
        assert inner._asyncio_awaited_by == {waiting}
        waiting.cancel()
        await asyncio.wait([waiting])
        assert not inner._asyncio_awaited_by

    run(main())


@needs_graphs
def test_awaited_by_holds_between_ours_and_asyncios(loop, run):
    async def main():
        theirs = asyncio.Future(loop=loop)
        ours = loop.create_task(wait(theirs))
        await asyncio.sleep(0)
        assert theirs._asyncio_awaited_by == {ours}
        task = asyncio.Task(wait(ours), loop=loop)
        await asyncio.sleep(0)
        assert ours._asyncio_awaited_by == {task}
        asyncio.future_add_to_awaited_by(ours, theirs)
        assert ours._asyncio_awaited_by == {task, theirs}
        asyncio.future_discard_from_awaited_by(ours, theirs)
        assert ours._asyncio_awaited_by == {task}
        theirs.set_result(None)
        await task
        assert not theirs._asyncio_awaited_by and not ours._asyncio_awaited_by

    run(main())


def graphs_of(make_loop):
    """The call graphs of the same program on a loop, as text."""
    found = []

    async def leaf(future):
        await future

    async def group(future):
        async with asyncio.TaskGroup() as group:
            group.create_task(leaf(future), name="member one")
            group.create_task(leaf(future), name="member two")

    async def gathering(future):
        await asyncio.gather(leaf(future), leaf(future))

    async def main():
        loop = asyncio.get_running_loop()
        asyncio.current_task().set_name("main")
        future = loop.create_future()
        tasks = [
            loop.create_task(group(future), name="group"),
            loop.create_task(gathering(future), name="all"),
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for task in [*tasks, *sorted(asyncio.all_tasks(), key=lambda task: task.get_name())]:
            found.append(asyncio.format_call_graph(task))
        printed = io.StringIO()
        asyncio.print_call_graph(file=printed)
        found.append(printed.getvalue())
        found.append(shape(asyncio.capture_call_graph(future)))
        future.set_result(None)
        await asyncio.gather(*tasks)

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(main())
    return found


def shape(graph):
    """A graph as nested names, in no particular order."""
    stack = [entry.frame.f_code.co_name for entry in graph.call_stack]
    name = graph.future.get_name() if isinstance(graph.future, asyncio.Task) else "future"
    name = re.sub(r"Task-\d+", "Task-N", name)
    return [name, stack, sorted(shape(awaiting) for awaiting in graph.awaited_by)]


def normal(text):
    """A graph's text without what differs from run to run; its branches come from sets, so in any order."""
    if not isinstance(text, str):
        return text
    text = re.sub(r"0x[0-9a-f]+", "0x", text)
    return sorted(re.sub(r"Task-\d+", "Task-N", text).splitlines())


@needs_graphs
def test_call_graphs_are_the_same_as_of_asyncio():
    ours, theirs = graphs_of(velodrome.new_event_loop), graphs_of(asyncio.SelectorEventLoop)
    assert [normal(text) for text in ours] == [normal(text) for text in theirs]
    assert any("member one" in text for text in ours if isinstance(text, str))


@needs_graphs
def test_a_call_graph_goes_through_a_native_sleep(loop, run):
    async def sleeper():
        await velodrome.sleep(60)

    async def main():
        task = loop.create_task(sleeper(), name="sleeper")
        waiting = loop.create_task(wait(task), name="waiting")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert shape(asyncio.capture_call_graph(task)) == [
            "sleeper",
            ["sleep", "sleeper"],
            [["waiting", ["wait"], []]],
        ]
        task.cancel()
        await asyncio.wait([waiting])

    run(main())


def test_the_stack_of_a_task_is_its_coroutines(loop, run):
    async def inner(future):
        await future

    async def outer(future):
        await inner(future)

    async def main():
        future = loop.create_future()
        task = loop.create_task(outer(future))
        reference = asyncio.Task(outer(future), loop=loop)
        await asyncio.sleep(0)
        assert [frame.f_code.co_name for frame in task.get_stack()] == [
            frame.f_code.co_name for frame in reference.get_stack()
        ]
        printed = [io.StringIO(), io.StringIO()]
        for each, file in zip((task, reference), printed, strict=True):
            each.print_stack(file=file)
        assert normal(printed[0].getvalue()) == normal(printed[1].getvalue())
        future.set_result(None)
        await asyncio.gather(task, reference)

    run(main())
