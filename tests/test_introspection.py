"""current_task, all_tasks, isfuture and iscoroutine see what asyncio's see, whosever tasks they are."""

import asyncio
import collections.abc
import sys
import threading
import types
from unittest import mock

import pytest
import velodrome
from differential import worlds
from differential.compare import outcome

either_loop = worlds.either_loop


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
