"""Queues: what asyncio's answer, ours answer. (Who runs when is in test_differential.)"""

import asyncio
import collections
import copy
import sys

import pytest
import velodrome
from differential.compare import outcome
from hypothesis import given, settings
from hypothesis import strategies as st

CLASSES = ["Queue", "LifoQueue", "PriorityQueue"]
calls = st.one_of(
    st.tuples(st.just("put_nowait"), st.integers(0, 5)),
    st.tuples(st.just("put_nowait"), st.sampled_from(["text", None])),
    st.sampled_from(
        [
            ("get_nowait",),
            ("task_done",),
            ("qsize",),
            ("empty",),
            ("full",),
            ("_format",),
            ("look",),
            ("empty out",),
        ]
    ),
    st.tuples(st.just("shutdown"), st.booleans()),
)


@pytest.mark.parametrize("name", CLASSES)
def test_the_same_history_gives_the_same_answers(name):
    @settings(max_examples=200, derandomize=True, database=None, deadline=None)
    @given(st.integers(-1, 3), st.lists(calls, max_size=12))
    def check(size, history):
        traces = []
        for module in (asyncio, velodrome):
            queue, trace = getattr(module, name)(size), []
            for method, *arguments in history:
                if method == "look":
                    trace.append((type(queue._queue).__name__, list(queue._queue), queue._finished.is_set()))
                elif method == "empty out":
                    queue._queue.clear()
                elif hasattr(asyncio.Queue, method):
                    trace.append(outcome(getattr(queue, method), *arguments))
            trace.append((str(queue), queue.maxsize, queue._unfinished_tasks))
            traces.append(trace)
        assert traces[1] == traces[0]

    check()


@pytest.mark.parametrize(
    "items", [[], collections.deque(maxlen=2), collections.UserList(), 3], ids=lambda it: type(it).__name__
)
def test_what_a_queue_keeps_its_items_in_is_asked_by_its_methods(items):
    def program(module):
        class Queue(module.LifoQueue):
            def _init(self, maxsize):
                self._queue = copy.copy(items)

        queue = Queue()
        calls = [outcome(queue.put_nowait, number) for number in range(3)]
        return [*calls, outcome(queue.get_nowait), outcome(str, queue)]

    assert program(velodrome) == program(asyncio)


@pytest.mark.parametrize("module", [asyncio, velodrome], ids=["asyncio", "velodrome"])
def test_a_derived_queue_decides_what_comes_first(module):
    class Middle(module.Queue):
        def _init(self, maxsize):
            self.items = []

        def _put(self, item):
            self.items.append(item)

        def _get(self):
            return self.items.pop(len(self.items) // 2)

        def qsize(self):
            return len(self.items)

        def empty(self):
            return not self.items

        def _format(self):
            return f"middle of {len(self.items)}"

    async def main():
        queue = Middle(3)
        for item in range(3):
            await queue.put(item)
        assert queue.full() and str(queue) == "<Middle middle of 3>"
        more = asyncio.create_task(queue.put(3))
        await asyncio.sleep(0)
        assert not more.done()
        return [await queue.get() for _ in range(4)]

    assert velodrome.run(main()) == [1, 2, 0, 3]


@pytest.mark.parametrize("module", [asyncio, velodrome], ids=["asyncio", "velodrome"])
def test_a_derived_queue_may_keep_the_inherited_order(module):
    class Named(module.PriorityQueue):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def put_nowait(self, item):
            super().put_nowait((item, self.name))

    async def main():
        queue = Named("queue")
        for item in (3, 1, 2):
            await queue.put(item)
        return [await queue.get() for _ in range(3)]

    assert velodrome.run(main()) == [(1, "queue"), (2, "queue"), (3, "queue")]


def test_join_waits_for_all_work():
    async def program(module):
        queue, seen = module.Queue(), []

        async def worker():
            while True:
                seen.append(await queue.get())
                await asyncio.sleep(0)
                queue.task_done()

        workers = [asyncio.create_task(worker()) for _ in range(3)]
        for item in range(10):
            queue.put_nowait(item)
        await queue.join()
        seen.append("joined")
        for task in workers:
            task.cancel()
        return seen

    assert velodrome.run(program(velodrome)) == velodrome.run(program(asyncio))


@pytest.mark.skipif(sys.version_info < (3, 13), reason="shutdown() came with 3.13")
@pytest.mark.parametrize("immediate", [False, True])
def test_shutdown_wakes_everybody(immediate):
    async def program(module):
        queue = module.Queue(1)
        getters = [asyncio.create_task(queue.get()) for _ in range(2)]
        await asyncio.sleep(0)
        queue.put_nowait(1)
        putters = [asyncio.create_task(queue.put(item)) for item in (2, 3, 4)]
        await asyncio.sleep(0)
        queue.shutdown(immediate)
        done = await asyncio.gather(*getters, *putters, return_exceptions=True)
        return [repr(each) for each in done], str(queue)

    assert velodrome.run(program(velodrome)) == velodrome.run(program(asyncio))


def test_items_are_given_up_when_they_are_got():
    class Item:
        pass

    async def main():
        queue, alive = velodrome.Queue(), []
        import weakref

        item = Item()
        alive.append(weakref.ref(item))
        await queue.put(item)
        del item
        item = await queue.get()
        del item
        return [reference() for reference in alive]

    assert velodrome.run(main()) == [None]


def test_subscripts_are_for_types():
    assert str(velodrome.Queue[int]) == "velodrome.Queue[int]"
    assert velodrome.PriorityQueue[int].__origin__ is velodrome.PriorityQueue


@pytest.mark.parametrize("name", CLASSES)
def test_bad_arguments(name):
    for call in (
        lambda module: getattr(module, name)(loop=None),
        lambda module: getattr(module, name)(1, 2),
        lambda module: getattr(module, name)().put(),
        lambda module: getattr(module, name)().put_nowait(),
    ):
        assert outcome(call, velodrome)[0] == outcome(call, asyncio)[0] == "TypeError"


MILLION = """
import gc, importlib, sys
queue = importlib.import_module(sys.argv[1]).PriorityQueue()
items = list(range(1_000_000))
gc.disable()

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4

before = resident()
for item in items:
    queue.put_nowait(item)
print(resident() - before)
"""


@pytest.mark.skipif(hasattr(sys, "gettotalrefcount"), reason="a debug build's allocator adds its own")
def test_a_million_items_cost_what_they_cost_in_asyncios_priority_queue(run_python):
    plain, ours = (int(run_python(MILLION, module).stdout) for module in ("asyncio", "velodrome"))
    assert ours <= plain * 1.1
