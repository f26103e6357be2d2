"""How long single objects live: weak references say whether one has gone."""

import asyncio
import contextlib
import functools
import gc
import os
import socket
import warnings
import weakref

import pytest
import velodrome
from leaks.loops import pending
from leaks.scenarios import Cell, result, wait


@pytest.fixture
def dies():
    """A function that says whether the collector takes what weak references refer to."""

    def dies(*references):
        gc.collect()
        return [reference() for reference in references] == [None] * len(references)

    return dies


def test_what_nothing_refers_to_dies_at_once(loop):
    gc.disable()
    try:
        future = loop.create_future()
        task = loop.create_task(result())
        loop.run_until_complete(task)
        handle = loop.call_soon(id, 1)
        timer = loop.call_later(60, id, 1)
        timer.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        references = [weakref.ref(thing) for thing in (future, task, handle, timer)]
        del future, task, handle, timer
        assert [reference() for reference in references] == [None] * 4
    finally:
        gc.enable()


def test_a_callback_dies_with_its_cancelled_handle(loop, dies):
    cell = Cell()
    handles = [loop.call_soon(id, cell), loop.call_later(60, id, cell)]
    reference = weakref.ref(cell)
    del cell
    for handle in handles:
        handle.cancel()
    assert dies(reference)


def test_arguments_die_when_a_callback_has_run(loop, dies):
    cell = Cell()
    loop.call_soon(id, cell)
    loop.call_later(0, id, cell)
    reference = weakref.ref(cell)
    del cell
    loop.run_until_complete(velodrome.sleep(0.01))
    assert dies(reference)


def test_a_cycle_of_future_and_callback_dies(loop, dies):
    future = loop.create_future()
    future.add_done_callback(functools.partial(id, future))
    future.add_done_callback(functools.partial(id, future))
    reference = weakref.ref(future)
    del future
    assert dies(reference)


def test_a_future_that_is_its_own_result_dies(loop, dies):
    future = loop.create_future()
    future.set_result(future)
    reference = weakref.ref(future)
    del future
    assert dies(reference)


def test_a_task_that_waits_for_a_lost_future_dies_and_says_so(loop, dies):
    said = []
    loop.set_exception_handler(lambda loop, context: said.append(context["message"]))
    task = loop.create_task(wait(loop.create_future()))
    loop.run_until_complete(asyncio.sleep(0))
    reference = weakref.ref(task)
    del task
    assert dies(reference)
    assert said == ["Task was destroyed but it is pending!"]


def test_a_cycle_of_task_and_coroutine_dies(loop, dies):
    async def itself(cell):
        return cell

    cell = Cell()
    cell.content = task = loop.create_task(itself(cell))
    loop.run_until_complete(task)
    references = weakref.ref(cell), weakref.ref(task)
    del cell, task
    assert dies(*references)


def test_a_tasks_exception_dies_with_it(loop, dies):
    class Failure(Exception):
        pass

    async def fail():
        raise Failure

    task = loop.create_task(fail())
    with contextlib.suppress(Failure):
        loop.run_until_complete(task)
    references = weakref.ref(task), weakref.ref(task.exception())
    del task
    assert dies(*references)


def test_a_task_dies_when_it_is_done_although_it_was_registered(loop, dies):
    task = loop.create_task(result())
    loop.run_until_complete(task)
    reference = weakref.ref(task)
    del task
    assert dies(reference)
    assert asyncio.all_tasks(loop) == set()


def test_a_task_that_sleeps_stays_alive_without_us(loop):
    async def sleep():
        await velodrome.sleep(0.01)
        done.append(True)

    done = []
    reference = weakref.ref(loop.create_task(sleep()))
    loop.run_until_complete(asyncio.sleep(0))
    gc.collect()
    assert reference() is not None
    loop.run_until_complete(asyncio.sleep(0.02))
    assert done


@pytest.mark.parametrize("base", ["Task", "Future", "Handle", "TimerHandle", "Loop"])
def test_a_class_and_its_instance_die_together(loop, dies, base):
    """The instance refers to its class, and the class here to the instance."""

    class Derived(getattr(velodrome, base)):
        pass

    if base == "Task":
        instance = Derived(result(), loop=loop)
        loop.run_until_complete(instance)
    elif base == "Future":
        instance = Derived(loop=loop)
    elif base == "Loop":
        instance = Derived()
        instance.close()
    elif base == "Handle":
        instance = Derived(id, (1,), loop)
    else:
        instance = Derived(1.0, id, (1,), loop)
    Derived.instance = instance
    reference = weakref.ref(Derived)
    del Derived, instance
    assert dies(reference)


def test_a_closed_loop_dies_with_all_that_was_queued(dies):
    loop = velodrome.new_event_loop()
    pending(loop)
    cell = Cell()
    loop.call_soon(id, cell)
    loop.call_later(60, id, cell)
    references = weakref.ref(loop), weakref.ref(cell)
    loop.close()
    del loop, cell
    assert dies(*references)


def test_closing_drops_what_is_queued_while_the_loop_lives_on(dies):
    loop = velodrome.new_event_loop()
    cell = Cell()
    one, two = socket.socketpair()
    loop.call_soon(id, cell)
    loop.call_later(60, id, cell)
    loop.call_soon_threadsafe(id, cell)
    loop.add_reader(one, id, cell)
    reference = weakref.ref(cell)
    del cell
    loop.close()
    one.close(), two.close()
    assert dies(reference)


def test_a_loop_that_is_dropped_with_things_pending_dies(dies):
    loop = velodrome.new_event_loop()
    pending(loop)
    reference = weakref.ref(loop)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del loop
        assert dies(reference)


def test_a_dropped_loop_warns_and_gives_its_descriptors_back():
    before = os.listdir("/proc/self/fd")
    loop = velodrome.new_event_loop()
    assert len(os.listdir("/proc/self/fd")) > len(before)
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        del loop
        gc.collect()
    assert os.listdir("/proc/self/fd") == before


def test_a_loop_that_cannot_be_made_leaves_nothing_behind(run_python):
    done = run_python(
        """
import gc, os, resource
import velodrome
velodrome.new_event_loop().close()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
while True:
    try:
        taken.append(os.dup(0))
    except OSError:
        break
for spare in range(4):
    before = len(gc.get_objects())
    try:
        velodrome.new_event_loop().close()
    except OSError as error:
        print("refused", error.errno)
    gc.collect()
    os.close(taken.pop())
"""
    )
    assert set(done.stdout.splitlines()) == {"refused 24"}
    assert done.stderr == ""


@pytest.mark.parametrize("kind", ["Future", "Task"])
def test_what_its_last_words_bring_back_to_life_lives_and_dies_once_more(loop, dies, kind):
    """The exception handler is told of a future that goes, and may keep it."""
    kept = []
    loop.set_exception_handler(lambda loop, context: kept.append(context.get("future") or context["task"]))
    for _ in range(3):
        if kind == "Future":
            loop.create_future().set_exception(ValueError("brought back"))
        else:
            task = loop.create_task(wait(loop.create_future()))
            loop.run_until_complete(asyncio.sleep(0))
            del task
            gc.collect()
        [back] = kept
        assert back.done() is (kind == "Future")
        assert back.get_loop() is loop
        reference = weakref.ref(back)
        kept.clear()
        del back
        assert dies(reference)
        assert kept == []
    assert asyncio.all_tasks(loop) == set()


@pytest.mark.parametrize("base", ["Future", "Task", "Handle", "TimerHandle", "Loop"])
def test_a_subclass_may_bring_itself_back_to_life(loop, dies, base):
    class Derived(getattr(velodrome, base)):
        def __del__(self):
            kept.append(self)

    kept, arguments = (
        [],
        {
            "Future": lambda: ((), {"loop": loop}),
            "Task": lambda: ((result(),), {"loop": loop}),
            "Handle": lambda: ((id, (1,), loop), {}),
            "TimerHandle": lambda: ((1.0, id, (1,), loop), {}),
            "Loop": lambda: ((), {}),
        }[base],
    )
    positional, named = arguments()
    instance = Derived(*positional, **named)
    if base == "Task":
        loop.run_until_complete(instance)
    elif base == "Loop":
        instance.close()
    del instance
    gc.collect()
    [instance] = kept
    kept.clear()
    assert repr(instance)
    reference = weakref.ref(instance)
    del instance
    assert dies(reference)
    assert kept == []


@pytest.mark.parametrize("kind", ["future", "handle", "sleep", "task"])
def test_a_long_chain_goes_without_overflowing_the_stack(run_python, kind):
    """As long as asyncio's own futures manage on every version."""
    run_python(
        """
import sys, warnings
import velodrome
warnings.simplefilter("ignore")
loop = velodrome.new_event_loop()
link = None
async def return_(link):
    return link
for _ in range(20_000):
    if sys.argv[1] == "future":
        future = loop.create_future()
        future.set_result(link)
        link = future
    elif sys.argv[1] == "handle":
        link = velodrome.Handle(id, (link,), loop)
    elif sys.argv[1] == "sleep":
        link = velodrome.sleep(0, link)
    else:
        link = loop.create_task(return_(link))
if sys.argv[1] == "task":
    loop.run_until_complete(link)
future = None
del link
loop.close()
""",
        kind,
        timeout=60,
    )
