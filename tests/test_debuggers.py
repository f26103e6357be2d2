"""Debuggers and profilers that read a process's memory see velodrome's tasks as they see asyncio's.

(`python -m asyncio ps PID`, py-spy.) What they find is compared with what they find of asyncio's own.
"""

import asyncio
import ctypes
import re
import subprocess
import sys
import textwrap

import pytest
import velodrome
from differential.tasks import nothing
from velodrome import _velodrome

needs_graphs = pytest.mark.skipif(sys.version_info < (3, 14), reason="call graphs came with Python 3.14")

WORD = ctypes.sizeof(ctypes.c_void_p)

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
    assert layout["task_fields"] and layout["contexts"]
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
