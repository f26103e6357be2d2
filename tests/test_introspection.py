"""current_task, all_tasks, isfuture and iscoroutine see what asyncio's see, whosever tasks they are."""

import asyncio
import collections.abc
import gc
import re
import sys
import threading
import types
from unittest import mock

import pytest
import velodrome
from differential import tasks, worlds
from differential.compare import outcome
from differential.tasks import nothing, wait

either_loop = worlds.either_loop
run = tasks.run

needs_eager = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")


async def forever():
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("kind", [asyncio.Task, velodrome.Task], ids=["asyncio", "velodrome"])
def test_tasks_are_seen_from_everywhere(either_loop, kind):
    seen = []

    def see():
        for aio in (asyncio, velodrome):
            seen.append((aio.current_task(either_loop), aio.all_tasks(either_loop)))
            seen.append((outcome(aio.current_task)[1], outcome(aio.all_tasks)[1]))

    async def main():
        see()
        thread = threading.Thread(target=see)
        thread.start()
        thread.join()

    tasks = {kind(forever(), loop=either_loop) for _ in range(3)}
    task = kind(main(), loop=either_loop)
    either_loop.run_until_complete(task)
    everything = {*tasks, task}
    here, there = seen[:4], seen[4:]
    assert here == [(task, everything)] * 4
    # Another thread has no running loop; whether it sees the loop's current task is up to the version.
    assert there[:2] == there[2:]
    assert there[1] == ("no running event loop",) * 2
    seen.clear()
    see()
    assert seen[:2] == seen[2:]
    assert seen[0] == (None, tasks)
    for left in tasks:
        left.cancel()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_a_task_that_takes_its_eager_step_is_seen(either_loop):
    seen = []

    async def inner():
        seen.append((asyncio.current_task(), velodrome.current_task()))
        seen.append((asyncio.all_tasks(), velodrome.all_tasks()))

    async def main():
        either_loop.set_task_factory(velodrome.eager_task_factory)
        await either_loop.create_task(inner())
        either_loop.set_task_factory(None)

    either_loop.run_until_complete(main())
    assert all(asyncios == ours for asyncios, ours in seen)
    assert len(seen[1][0]) == 2


@pytest.mark.parametrize("wrong", [1, "text", [], {}], ids=repr)
def test_of_what_is_no_loop(wrong):
    for name in ("current_task", "all_tasks"):
        assert outcome(getattr(velodrome, name), wrong) == outcome(getattr(asyncio, name), wrong)
        assert outcome(getattr(velodrome, name), 1, 2)[0] == "TypeError"


class Duck:
    _asyncio_future_blocking = False


class NoDuck:
    _asyncio_future_blocking = None


class Late:
    def __init__(self):
        self._asyncio_future_blocking = False


class Broken:
    @property
    def _asyncio_future_blocking(self):
        raise AttributeError("broken")


class Coroutine(collections.abc.Coroutine):
    def send(self, value):
        raise StopIteration

    def throw(self, *_):
        raise StopIteration

    def __await__(self):
        yield


@types.coroutine
def generator():
    yield


def test_what_is_a_future_and_what_is_a_coroutine(either_loop):
    coroutine = forever()
    things = [None, 1, Duck, Duck(), NoDuck(), Late(), Broken(), Coroutine(), coroutine, generator(), forever]
    things += [asyncio.Future(loop=either_loop), velodrome.Future(loop=either_loop), asyncio.Future]
    things += [asyncio.sleep(0), velodrome.sleep(0), mock.Mock(), mock.Mock(asyncio.Future)]
    things += [mock.Mock(velodrome.Future), mock.Mock(velodrome.Task), velodrome.Lock(), iter([])]
    for thing in things:
        for name in ("isfuture", "iscoroutine"):
            ours, theirs = (outcome(getattr(aio, name), thing) for aio in (velodrome, asyncio))
            assert ours == theirs, (name, thing)
    for thing in things:
        if asyncio.iscoroutine(thing):
            thing.close()


# -- The tasks of a loop -----------------------------------------------------------------------------------


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
