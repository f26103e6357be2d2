"""Debuggers and profilers see velodrome's tasks as they see asyncio's: who waits, where, and for what.

Some ask asyncio from inside (`all_tasks`, `capture_call_graph`), others read the process's memory from
outside (`python -m asyncio ps PID`, py-spy). What they find is compared with what they find of asyncio's own.
"""

import asyncio
import ctypes
import gc
import io
import re
import subprocess
import sys
import textwrap
import threading

import pytest
import velodrome
from velodrome import _velodrome

needs_graphs = pytest.mark.skipif(sys.version_info < (3, 14), reason="call graphs came with Python 3.14")
needs_eager = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")

WORD = ctypes.sizeof(ctypes.c_void_p)


async def nothing():
    pass


async def wait(awaitable):
    return await awaitable


# ---------------------------------------------------------------------------------------------------------
# From outside

PROGRAM = textwrap.dedent(
    """
    import asyncio, sys, time
    import velodrome

    async def leaf(future):
        await future

    async def middle(task):
        await task

    async def nap():
        await asyncio.sleep(3600)

    async def both(one, other):
        await asyncio.gather(one, other)

    async def busy():
        await asyncio.sleep(0.1)
        print("ready", flush=True)
        time.sleep(3600)

    async def main():
        future = asyncio.get_running_loop().create_future()
        async with asyncio.TaskGroup() as group:
            one = group.create_task(leaf(future), name="leaf one")
            group.create_task(leaf(future), name="leaf two")
            two = group.create_task(middle(one), name="middle")
            three = group.create_task(nap(), name="napping")
            group.create_task(middle(three), name="of two")
            group.create_task(middle(three), name="of three")
            group.create_task(both(asyncio.sleep(3600), two), name="gathering")
            group.create_task(nap())
            group.create_task(busy(), name=str("busy"))
            future.add_done_callback(print)

    make = velodrome.new_event_loop if sys.argv[1] == "velodrome" else asyncio.SelectorEventLoop
    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(main())
    """
)


def asked(command, loop, program=PROGRAM):
    """What `python -m asyncio COMMAND` says about a program."""
    target = subprocess.Popen(
        [sys.executable, "-c", program, loop], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        line = target.stdout.readline()
        assert line == "ready\n", line + target.stdout.read()
        done = subprocess.run(
            [sys.executable, "-m", "asyncio", command, str(target.pid)],
            capture_output=True,
            text=True,
            timeout=50,
        )
    finally:
        target.kill()
        target.wait()
        target.stdout.close()
    if "PermissionError" in done.stderr or "Operation not permitted" in done.stderr:
        pytest.skip("this user may not read another process's memory")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows(table):
    """Name, coroutine stack, awaiting stack and awaiter's name of each line of `ps`."""
    heading, _, *lines = table.splitlines()
    starts = [heading.index(name) for name in ("task name", "coroutine stack", "awaiter chain")]
    starts += [heading.index("awaiter name"), heading.index("awaiter id")]
    found = set()
    for line in lines:
        cells = [line[begin:end].strip() for begin, end in zip(starts, starts[1:], strict=False)]
        found.add(tuple(cells))
    return found


def tree_lines(tree):
    """The lines of `pstree`, without the line numbers of asyncio's and our own sources."""
    return [re.sub(r" \S+:\d+$", "", line) for line in tree.splitlines() if line.strip()]


@needs_graphs
@pytest.mark.timeout(120)
def test_ps_lists_the_tasks_by_name_with_who_awaits_them():
    found = rows(asked("ps", "velodrome"))
    members = "TaskGroup._aexit -> TaskGroup.__aexit__ -> main"
    assert ("Task-1", members, "", "") in found
    assert ("leaf one", "leaf", "middle", "middle") in found
    assert ("leaf one", "leaf", members, "Task-1") in found
    assert ("middle", "middle", "both", "gathering") in found
    assert ("napping", "sleep -> nap", "middle", "of two") in found
    assert ("napping", "sleep -> nap", "middle", "of three") in found
    assert ("busy", "busy", members, "Task-1") in found
    assert found == rows(asked("ps", "asyncio"))


@needs_graphs
@pytest.mark.timeout(120)
def test_pstree_draws_the_same_tree_as_of_asyncio():
    ours = tree_lines(asked("pstree", "velodrome"))
    assert any("(T) gathering" in line for line in ours)
    assert ours == tree_lines(asked("pstree", "asyncio"))


UNUSUAL = textwrap.dedent(
    """
    import asyncio, sys, threading, time
    import velodrome

    class Task(velodrome.Task):
        pass

    class Own(velodrome.Task):
        def __init__(self, coro, *, loop, name):
            super().__init__(coro, loop=loop)
            self.set_name(name)

    async def nap():
        await velodrome.sleep(3600)

    async def stop(name):
        asyncio.current_task().set_name(name)

    async def main():
        loop = asyncio.get_running_loop()
        kept.append(Task(nap(), loop=loop, name="of a subclass"))
        kept.append(Own(nap(), loop=loop, name="named later"))
        kept.append(velodrome.Task(nap(), loop=loop, name=12345))
        kept.append(asyncio.Task(nap(), loop=loop, name="of asyncio"))
        kept.append(velodrome.Task(velodrome.sleep(3600), loop=loop, name="not a coroutine"))
        kept.append(velodrome.Task(nap(), loop=loop, name="eager", eager_start=True))
        kept.append(velodrome.Task.__new__(velodrome.Task))
        for number in range(300):
            await velodrome.create_task(stop(f"done {number}"))
        velodrome.create_task(nap(), name="dropped").cancel()
        await asyncio.sleep(0.1)
        ready.set()
        time.sleep(3600)

    def in_thread():
        asyncio.Runner(loop_factory=velodrome.new_event_loop).run(named_nap())

    async def named_nap():
        asyncio.current_task().set_name("of another thread")
        asyncio.get_running_loop().call_soon(named.set)
        await nap()

    kept, named, ready = [], threading.Event(), threading.Event()
    threading.Thread(target=in_thread, daemon=True).start()
    named.wait()
    threading.Thread(target=lambda: (ready.wait(), print("ready", flush=True)), daemon=True).start()
    velodrome.run(main())
    """
)


@needs_graphs
@pytest.mark.timeout(120)
def test_no_task_is_so_unusual_that_it_breaks_the_list():
    names = {name for name, *_ in rows(asked("ps", "velodrome", UNUSUAL))}
    if sys.version_info < (3, 15):
        # There, asyncio's own tasks of other threads are not listed either.
        names.add("of another thread")
    assert names == {
        "Task-2",  # the other thread's was the first
        "of a subclass",
        "named later",
        "12345",
        "of asyncio",
        "not a coroutine",
        "eager",
        "of another thread",
    }


def test_what_outside_readers_look_for_was_recognised():
    layout = _velodrome._layout()
    assert layout["task_fields"]
    if sys.version_info >= (3, 14):
        assert all(layout.values()), layout
    assert velodrome.build_info()["layout"] == layout


def words(task):
    """The C structure of asyncio's task at the beginning of an object, by offset."""
    size = asyncio.Task.__basicsize__ // WORD
    return dict(enumerate((ctypes.c_void_p * size).from_address(id(task))))


def places(task, **sought):
    """Where in the structure the sought objects are."""
    found = words(task)
    return {name: [at for at, word in found.items() if word == id(thing)] for name, thing in sought.items()}


def test_the_structure_holds_what_asyncios_holds(loop):
    """py-spy and ddtrace read the name, the coroutine and the loop there."""
    shown = {}
    for kind in asyncio.Task, velodrome.Task:
        coroutine, name = nothing(), "a name for this only"
        task = kind(coroutine, loop=loop, name=name)
        shown[kind] = places(task, coroutine=coroutine, name=name, loop=loop)
        assert all(len(found) == 1 for found in shown[kind].values())
        loop.run_until_complete(task)
    assert shown[velodrome.Task] == shown[asyncio.Task]


def test_the_structure_holds_a_name_set_later(loop):
    coroutine, name = nothing(), "a name set later"
    task = loop.create_task(coroutine, name="first name")
    [before] = places(task, name=task.get_name())["name"]
    task.set_name(name)
    assert places(task, name=name)["name"] == [before]
    loop.run_until_complete(task)


def test_automatic_names_are_of_the_type_that_asyncio_has_there(loop):
    """A number from 3.12 on, which readers make a name of; text before, all that readers know there."""
    coroutines = nothing(), nothing(), nothing()
    named = asyncio.Task(coroutines[0], loop=loop, name="a name for this only")
    [at] = places(named, name=named.get_name())["name"]
    types = []
    for kind, coroutine in zip((asyncio.Task, velodrome.Task), coroutines[1:], strict=True):
        task = kind(coroutine, loop=loop)
        types.append(type(ctypes.cast(words(task)[at], ctypes.py_object).value))
        loop.run_until_complete(task)
    loop.run_until_complete(named)
    assert types[0] is types[1]


def test_the_structure_is_empty_when_nothing_was_initialised():
    # Never registered, so nobody reads it; but freeing it must not stumble.
    task = velodrome.Task.__new__(velodrome.Task)
    header = object.__basicsize__ // WORD
    assert [at for at, word in words(task).items() if at >= header and word] == []
    assert task not in asyncio.all_tasks(velodrome.Loop())


# ---------------------------------------------------------------------------------------------------------
# From inside


@pytest.fixture
def run(loop):
    return loop.run_until_complete


def test_all_tasks_are_asyncios_and_ours(loop, run):
    async def main():
        ours = loop.create_task(nothing())
        theirs = asyncio.Task(nothing(), loop=loop)
        assert asyncio.all_tasks() == {asyncio.current_task(), ours, theirs}
        await ours
        await theirs
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())
    assert asyncio.all_tasks(loop) == set()


def test_all_tasks_of_one_loop_only(loop, run):
    other = velodrome.new_event_loop()
    one, two = loop.create_task(nothing()), other.create_task(nothing())
    assert asyncio.all_tasks(loop) == {one}
    assert asyncio.all_tasks(other) == {two}
    run(one)
    other.run_until_complete(two)
    other.close()


def test_tasks_that_go_are_no_longer_listed(loop):
    loop.set_exception_handler(lambda loop, context: None)
    for _ in range(10):
        tasks = [loop.create_task(wait(loop.create_future())) for _ in range(100)]
        loop.run_until_complete(asyncio.sleep(0))
        assert asyncio.all_tasks(loop) == set(tasks)
        del tasks[::2]
        gc.collect()
        assert asyncio.all_tasks(loop) == set(tasks)
        del tasks
        gc.collect()
        assert asyncio.all_tasks(loop) == set()


def test_all_tasks_from_another_thread(loop):
    started, stop = threading.Event(), []

    async def main():
        asyncio.current_task().set_name("in the thread")
        stop.append((asyncio.get_running_loop(), asyncio.get_running_loop().create_future()))
        started.set()
        await stop[0][1]

    thread = threading.Thread(target=velodrome.run, args=(main(),))
    thread.start()
    assert started.wait(10)
    its_loop, future = stop[0]
    assert [task.get_name() for task in asyncio.all_tasks(its_loop)] == ["in the thread"]
    its_loop.call_soon_threadsafe(future.set_result, None)
    thread.join()
    assert asyncio.all_tasks(its_loop) == set()


def test_tasks_outlive_the_thread_that_made_them(loop, run):
    tasks = []
    thread = threading.Thread(target=lambda: tasks.extend(loop.create_task(nothing()) for _ in range(5)))
    thread.start()
    thread.join()
    assert asyncio.all_tasks(loop) == set(tasks)
    run(asyncio.gather(*tasks))
    assert asyncio.all_tasks(loop) == set()
    tasks.clear()
    gc.collect()
    assert asyncio.all_tasks(loop) == set()


def test_the_current_task_is_current_in_its_steps_only(loop, run):
    seen = []

    async def step(number):
        seen.append(asyncio.current_task() is tasks[number])
        await asyncio.sleep(0)
        seen.append(asyncio.current_task() is tasks[number])

    loop.call_soon(lambda: seen.append(asyncio.current_task() is None))
    tasks = [loop.create_task(step(number)) for number in range(2)]
    loop.call_soon(lambda: seen.append(asyncio.current_task() is None))
    run(asyncio.gather(*tasks))
    assert seen == [True] * 6
    assert asyncio.current_task(loop) is None


def test_the_current_task_of_a_loop_asked_for_by_name(loop, run):
    async def main():
        assert asyncio.current_task(loop) is asyncio.current_task()
        assert asyncio.current_task(other) is None

    other = velodrome.new_event_loop()
    run(main())
    other.close()


def test_a_task_of_asyncios_is_current_among_ours(loop, run):
    async def main():
        return asyncio.current_task()

    task = asyncio.Task(main(), loop=loop)
    assert run(task) is task
    task = velodrome.Task(main(), loop=loop)
    assert run(task) is task


def test_the_current_task_is_put_back_after_an_exception(loop):
    async def fail(error):
        raise error

    for error in ValueError, KeyboardInterrupt, SystemExit:
        with pytest.raises(error):
            loop.run_until_complete(fail(error))
        assert asyncio.current_task(loop) is None
        loop.run_until_complete(asyncio.sleep(0))


@needs_eager
def test_the_current_task_is_put_back_after_an_eager_step(loop, run):
    seen = []

    async def eager():
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())

    async def main():
        outer = asyncio.current_task()
        task = velodrome.Task(eager(), loop=loop, eager_start=True)
        assert asyncio.current_task() is outer
        assert asyncio.all_tasks() == {outer, task}
        await task
        assert seen == [task, task]

    run(main())


def test_every_task_has_a_name(loop, run):
    class Named(velodrome.Task):
        pass

    tasks = [
        loop.create_task(nothing()),
        loop.create_task(nothing(), name="name"),
        loop.create_task(nothing(), name=None),
        loop.create_task(nothing(), name=5),
        loop.create_task(nothing(), name=""),
        velodrome.Task(nothing(), loop=loop),
        Named(nothing(), loop=loop),
    ]
    names = [task.get_name() for task in asyncio.all_tasks(loop)]
    assert len(names) == len(tasks)
    assert all(type(name) is str for name in names)
    assert len([name for name in names if re.fullmatch(r"Task-\d+", name)]) == 4
    assert len(set(names)) == len(names)
    assert sorted(names)[0] == ""
    run(asyncio.gather(*tasks))


# ---------------------------------------------------------------------------------------------------------
# Who awaits whom


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
