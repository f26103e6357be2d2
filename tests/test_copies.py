"""What asyncio's locks, events and queues let `copy` and `pickle` do, ours let them do."""

import asyncio
import copy
import dataclasses
import pickle

import pytest
import velodrome
from differential.compare import outcome

COPIERS = [copy.copy, copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))]
every_copier = pytest.mark.parametrize("copier", COPIERS, ids=["copy", "deepcopy", "pickle"])


class DerivedQueue(velodrome.Queue):
    pass


def same(program, *arguments):
    expected = outcome(program, asyncio, *arguments)
    assert outcome(program, velodrome, *arguments) == expected
    return expected


def locked(module):
    lock = module.Lock()
    lock._locked = True
    return lock


def event(module):
    event = module.Event()
    event.set()
    return event


def with_attributes(module):
    event = module.Event()
    event.name = "anything"
    return event


def filled(module, name, size):
    queue = getattr(module, name)(size)
    for item in (3, 1, 2):
        queue.put_nowait(item)
    return queue


MAKERS = {
    "Lock": locked,
    "Event": event,
    "Event with attributes": with_attributes,
    "Condition": lambda module: module.Condition(locked(module)),
    "Semaphore": lambda module: module.Semaphore(3),
    "BoundedSemaphore": lambda module: module.BoundedSemaphore(3),
    "Barrier": lambda module: module.Barrier(3),
    "Queue": lambda module: filled(module, "Queue", 0),
    "LifoQueue": lambda module: filled(module, "LifoQueue", 4),
    "PriorityQueue": lambda module: filled(module, "PriorityQueue", 3),
}


@every_copier
@pytest.mark.parametrize("name", MAKERS)
def test_copies_are_in_the_same_state(name, copier):
    def program(module):
        copied = copier(MAKERS[name](module))
        asked = ["locked", "is_set", "broken", "parties", "maxsize", "qsize", "full", "name", "_bound_value"]
        answers = [getattr(copied, each, None) for each in asked]
        return type(copied).__name__, [answer() if callable(answer) else answer for answer in answers]

    assert same(program)[0] == "returned"


@every_copier
@pytest.mark.parametrize("name", ["Queue", "LifoQueue", "PriorityQueue"])
def test_a_copied_queue_works(name, copier):
    async def program(module):
        queue = copier(filled(module, name, 3))
        with pytest.raises(asyncio.QueueFull):
            queue.put_nowait(4)
        putting = asyncio.create_task(queue.put(0))
        found = []
        for _ in range(4):
            found.append(await queue.get())
            queue.task_done()
        await putting
        await queue.join()
        return found, str(queue)

    assert same(lambda module: velodrome.run(program(module)))[0] == "returned"


@every_copier
def test_a_copied_condition_works(copier):
    async def program(module):
        condition = copier(module.Condition())
        async with condition:
            assert condition.locked() and condition._lock.locked()
            condition.notify_all()
        return condition.locked()

    assert same(lambda module: velodrome.run(program(module))) == ("returned", False)


def test_a_shallow_copy_shares_what_a_deep_one_copies():
    def program(module):
        queue = module.Queue()
        queue.put_nowait([1])
        shallow, deep = copy.copy(queue), copy.deepcopy(queue)
        queue._queue[0].append(2)
        queue.put_nowait(3)
        return shallow.qsize(), deep.qsize(), shallow.get_nowait(), deep.get_nowait()

    assert same(program) == ("returned", (2, 1, [1, 2], [1]))


def test_what_holds_them_can_be_copied():
    def program(module):
        @dataclasses.dataclass
        class Holder:
            lock: object = dataclasses.field(default_factory=module.Lock)
            event: object = dataclasses.field(default_factory=module.Event)

        copied = dataclasses.asdict(Holder())
        return sorted(copied), copied["lock"].locked(), copied["event"].is_set()

    assert same(program)[0] == "returned"


@every_copier
def test_a_derived_class_keeps_its_attributes(copier):
    queue = DerivedQueue(2)
    queue.label = ["label"]
    queue.put_nowait(1)
    copied = copier(queue)
    assert (type(copied), copied.label, copied.get_nowait()) == (DerivedQueue, ["label"], 1)


@pytest.mark.parametrize("copier", COPIERS[1:], ids=["deepcopy", "pickle"])
def test_one_that_somebody_waits_for_cannot_be_copied(copier):
    async def program(module):
        event = module.Event()
        waiting = asyncio.create_task(event.wait())
        await asyncio.sleep(0)
        try:
            return copier(event)
        finally:
            waiting.cancel()

    kinds = [outcome(lambda: velodrome.run(program(module)))[0] for module in (asyncio, velodrome)]
    assert kinds == ["TypeError", "TypeError"]
