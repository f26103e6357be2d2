"""Locks: what asyncio's answer, ours answer. (Who runs when is in test_differential.)"""

import asyncio
import gc
import inspect
import math
import warnings
import weakref
from decimal import Decimal
from fractions import Fraction

import pytest
import velodrome
from differential import worlds
from differential.compare import outcome, turns

either_loop = worlds.either_loop

MODULES = [pytest.param(asyncio, id="asyncio"), pytest.param(velodrome, id="velodrome")]
MAKERS = [
    lambda module: module.Lock(),
    lambda module: module.Semaphore(),
    lambda module: module.BoundedSemaphore(2),
    lambda module: module.Condition(),
]
names = ["Lock", "Semaphore", "BoundedSemaphore", "Condition"]
every_lock = pytest.mark.parametrize("make", MAKERS, ids=names)


def same(program, *arguments):
    """Check that program(module, ...) does the same with asyncio's classes and with ours."""
    expected = outcome(program, asyncio, *arguments)
    assert outcome(program, velodrome, *arguments) == expected
    return expected


def run(program):
    """Make a function of a module that runs program(module) on velodrome's loop."""
    return lambda module: velodrome.run(program(module))


@pytest.mark.parametrize(
    "call",
    [
        lambda module: module.Lock(1),
        lambda module: module.Lock(loop=None),
        lambda module: module.Event(loop=None),
        lambda module: module.Condition(1),
        lambda module: module.Condition(loop=None),
        lambda module: module.Semaphore(-1),
        lambda module: module.Semaphore("1"),
        lambda module: module.BoundedSemaphore(-1),
        lambda module: module.Barrier(0),
        lambda module: module.Barrier("2"),
        lambda module: module.Lock().release(),
        lambda module: module.BoundedSemaphore().release(),
        lambda module: module.Condition().release(),
        lambda module: module.Condition().notify(),
        lambda module: module.Condition().notify_all(),
    ],
)
def test_bad_use_is_refused_as_by_asyncio(call):
    kind, text = outcome(call, asyncio)
    found, found_text = outcome(call, velodrome)
    assert found == kind != "returned"
    if "argument" not in text:  # wrong arguments are told of in C's words
        assert found_text == text


@every_lock
def test_acquire_is_a_coroutine_that_does_nothing_before_it_is_awaited(make):
    lock = make(velodrome)
    acquiring = lock.acquire()
    assert asyncio.iscoroutine(acquiring) and inspect.isawaitable(acquiring)
    assert not asyncio.isfuture(acquiring)
    assert acquiring.__name__ == "acquire"
    assert not lock.locked()
    with pytest.raises(StopIteration) as done:
        acquiring.send(None)
    assert done.value.value is True
    assert "value:1]" in repr(lock) or "[locked]" in repr(lock)
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        acquiring.send(None)


@every_lock
def test_a_coroutine_that_is_never_awaited_warns(make):
    lock = make(velodrome)
    gc.collect()  # what earlier tests left behind warns as well
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lock.__aenter__()
        gc.collect()
    assert [str(warning.message) for warning in caught] == [
        "coroutine '_ContextManagerMixin.__aenter__' was never awaited"
    ]
    assert not lock.locked() and "waiters" not in repr(lock)


@every_lock
def test_who_waits_is_woken_in_order_whoever_drives_it(either_loop, make):
    async def program(module):
        lock, order = make(module), []

        async def user(number):
            async with lock:
                order.append(number)
                await asyncio.sleep(0)

        tasks = [module.create_task(user(number)) for number in range(4)]
        await asyncio.sleep(0)
        tasks[2].cancel()
        await asyncio.wait(tasks)
        return order, [task.cancelled() for task in tasks], repr(lock).partition("[")[2]

    expected = either_loop.run_until_complete(program(asyncio))
    assert either_loop.run_until_complete(program(velodrome)) == expected


@every_lock
def test_the_coroutine_itself_can_be_a_task(either_loop, make):
    async def main():
        lock = make(velodrome)
        while not lock.locked():
            await lock.acquire()
        shown = lock._lock if isinstance(lock, velodrome.Condition) else lock
        waiting = asyncio.ensure_future(lock.acquire())
        later = asyncio.gather(lock.acquire(), return_exceptions=True)
        await asyncio.sleep(0)
        assert "waiters:2" in repr(shown)
        lock.release()
        assert await waiting is True
        lock.release()
        assert await later == [True]

    either_loop.run_until_complete(main())


@every_lock
def test_one_that_is_closed_while_it_waits_waits_no_longer(either_loop, make):
    async def main():
        lock = make(velodrome)
        while not lock.locked():
            await lock.acquire()
        shown = lock._lock if isinstance(lock, velodrome.Condition) else lock
        waiting = lock.acquire()
        future = waiting.send(None)
        assert asyncio.isfuture(future) and "waiters:1" in repr(shown)
        waiting.close()
        assert "waiters" not in repr(shown)
        dropped = lock.acquire()
        dropped.send(None)
        del dropped
        assert "waiters" not in repr(shown)

    either_loop.run_until_complete(main())


def test_waiters_are_a_deque_as_soon_as_somebody_looks(loop):
    async def main():
        lock = velodrome.Lock()
        assert lock._waiters is None
        await lock.acquire()
        tasks = [asyncio.create_task(lock.acquire()) for _ in range(2)]
        await asyncio.sleep(0)
        waiters = lock._waiters
        assert type(waiters).__name__ == "deque" and len(waiters) == 2 and lock._waiters is waiters
        lock.release()
        assert await tasks[0] is True
        assert len(waiters) == 1
        lock.release()
        assert await tasks[1] is True
        assert not waiters

    loop.run_until_complete(main())


@pytest.mark.parametrize("module", MODULES)
def test_a_derived_lock_is_used_by_its_own_methods(module):
    class Counting(module.Lock):
        acquired = released = 0

        async def acquire(self):
            self.acquired += 1
            return await super().acquire()

        def release(self):
            self.released += 1
            super().release()

    async def main():
        lock = Counting()
        async with lock:
            assert lock.locked()
        condition = module.Condition(lock)
        async with condition:
            condition.notify_all()
        return lock.acquired, lock.released

    assert velodrome.run(main()) == (2, 2)


@pytest.mark.parametrize("module", MODULES)
def test_a_method_replaced_on_the_instance_counts(module):
    async def main():
        lock, calls = module.Lock(), []

        async def acquire():
            calls.append("acquire")

        lock.acquire = acquire
        lock.release = lambda: calls.append("release")
        async with lock:
            pass
        return calls

    assert velodrome.run(main()) == ["acquire", "release"]


@pytest.mark.parametrize("module", MODULES)
def test_one_loop_only(module):
    lock = module.Lock()

    async def wait():
        await lock.acquire()
        return await asyncio.wait_for(lock.acquire(), 0.001)

    with pytest.raises(asyncio.TimeoutError):
        velodrome.run(wait())
    lock.release()
    with pytest.raises(RuntimeError, match="is bound to a different event loop"):
        velodrome.run(wait())


def test_a_barrier_broken_or_reset_while_tasks_wait():
    async def program(module):
        results = []
        for end in ("abort", "reset"):
            barrier = module.Barrier(3)
            tasks = [asyncio.ensure_future(barrier.wait()) for _ in range(2)]
            await asyncio.sleep(0)
            results.append(repr(barrier).partition("[")[2])
            await getattr(barrier, end)()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            results += [(type(error).__name__, str(error)) for error in done]
            results += [barrier.broken, barrier.n_waiting, barrier.parties, str(barrier._state)]
        return results

    same(run(program))


def test_barriers_let_everybody_in_turn_by_turn():
    async def program(module):
        barrier, seen = module.Barrier(3), []

        async def party(number):
            for _ in range(3):
                async with barrier as index:
                    seen.append((number, index))

        await asyncio.gather(*[party(number) for number in range(6)])
        return seen

    same(run(program))


def test_locks_in_cycles_are_freed():
    lock = velodrome.Lock()
    lock.itself = lock
    gone = weakref.ref(lock)
    del lock
    gc.collect()
    assert gone() is None


def test_a_free_lock_takes_no_turn_of_the_loop(loop):
    async def main():
        lock, queue = velodrome.Lock(), velodrome.Queue()
        for _ in range(100):
            async with lock:
                await queue.put(1)
                await queue.get()

    task = loop.create_task(main())
    turns(loop, 1)
    assert task.done()


async def rest(number):
    for _ in range(number):
        await asyncio.sleep(0)


def wake_by_hand(module):
    class Adjustable(module.Semaphore):
        def grow(self, count):
            for _ in range(count):
                self._value += 1
                self._wake_up_next()

    return Adjustable(0), lambda semaphore: semaphore.grow(2)


def wake_the_last(module):
    class Stack(module.Semaphore):
        def _wake_up_next(self):
            for future in reversed(self._waiters or ()):
                if not future.done():
                    self._value -= 1
                    future.set_result(True)
                    return True
            return False

    return Stack(0), lambda semaphore: (semaphore.release(), semaphore.release())


def wake_the_last_of_a_lock(module):
    class Stack(module.Lock):
        def _wake_up_first(self):
            if self._waiters and not self._waiters[-1].done():
                self._waiters[-1].set_result(True)

    lock = Stack()
    lock._locked = True
    return lock, lambda lock: lock.release()


def wake_after_a_release_by_hand(module):
    lock = module.Lock()
    lock._locked = True

    def release(lock):
        lock._locked = False
        lock._wake_up_first()

    return lock, release


@pytest.mark.parametrize(
    "make", [wake_by_hand, wake_the_last, wake_the_last_of_a_lock, wake_after_a_release_by_hand]
)
def test_a_derived_lock_decides_whom_it_wakes(make):
    async def program(module):
        lock, release = make(module)
        order = []

        async def wait(number):
            await lock.acquire()
            order.append(number)

        tasks = [asyncio.create_task(wait(number)) for number in range(4)]
        await rest(2)
        release(lock)
        await rest(3)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return order

    assert same(run(program))[0] == "returned"


def test_a_bound_can_be_moved():
    class Bounds:
        def __init__(self, value):
            self._bound_value = value
            super().__init__(value)

    def program(module):
        bounded = module.BoundedSemaphore(1)
        bounded._bound_value = 2
        bounded.release()
        # Only a bounded semaphore minds such an attribute.
        unbounded = type("Unbounded", (Bounds, module.Semaphore), {})(1)
        unbounded.release()
        answers = [bounded._value, bounded._bound_value, unbounded._value, unbounded._bound_value]
        return answers, hasattr(module.Semaphore(), "_bound_value"), outcome(bounded.release)

    assert same(program)[0] == "returned"


@pytest.mark.parametrize("count", [0, 1, 1.5, 2, True, -1, float("inf"), float("-inf"), 2**70])
@pytest.mark.parametrize("derived", [False, True])
def test_so_many_are_notified(count, derived):
    async def program(module):
        condition = type("Derived", (module.Condition,), {})() if derived else module.Condition()
        notified = []

        async def wait(number):
            async with condition:
                await condition.wait()
                notified.append(number)

        tasks = [asyncio.create_task(wait(number)) for number in range(3)]
        await rest(3)
        async with condition:
            condition.notify(count)
        await rest(5)
        found = list(notified)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return found

    assert same(run(program))[0] == "returned"


@pytest.mark.skipif(not hasattr(asyncio.Condition, "_notify"), reason="asyncio's has no such method")
def test_a_derived_condition_decides_whom_it_notifies():
    async def program(module):
        class All(module.Condition):
            def _notify(self, count):
                super()._notify(len(self._waiters))

        condition, notified = All(), []

        async def wait(number):
            async with condition:
                await condition.wait()
                notified.append(number)

        tasks = [asyncio.create_task(wait(number)) for number in range(3)]
        await rest(3)
        async with condition:
            condition.notify()
        await asyncio.wait(tasks)
        return notified

    assert same(run(program))[0] == "returned"


def test_parties_can_change_while_tasks_wait():
    async def program(module):
        barrier = module.Barrier(4)
        tasks = [asyncio.create_task(barrier.wait()) for _ in range(2)]
        await rest(3)
        barrier._parties -= 1
        found = [repr(barrier).partition("[")[2], barrier.parties, barrier._count]
        return found, await barrier.wait(), await asyncio.gather(*tasks)

    assert same(run(program))[0] == "returned"


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda module: module.Lock(), ["_locked", "_waiters", "_loop"]),
        (lambda module: module.Event(), ["_value", "_waiters", "_loop"]),
        (lambda module: module.Condition(), ["_lock", "_waiters", "_loop"]),
        (lambda module: module.BoundedSemaphore(2), ["_value", "_bound_value", "_waiters", "_loop"]),
        (lambda module: module.Barrier(2), ["_cond", "_parties", "_state", "_count", "_loop"]),
    ],
)
@pytest.mark.parametrize("module", MODULES)
def test_what_a_lock_keeps_can_be_set_to_what_it_was(module, make, names):
    lock = make(module)
    for name in names:
        before = getattr(lock, name)
        setattr(lock, name, before)
        assert getattr(lock, name) is before


# -- Numbers of other kinds --------------------------------------------------------------------------------


class Limit(int):
    """An integer that is not exactly one, as numpy's or an enumeration's."""


NUMBERS = [2.0, 1.5, True, Limit(2), Fraction(5, 2), Decimal(2), 10**30, math.inf, math.nan]


@pytest.mark.parametrize("number", NUMBERS, ids=repr)
@pytest.mark.parametrize("name", ["Semaphore", "BoundedSemaphore"])
def test_semaphores_count_with_whatever_number_they_are_given(name, number):
    """`Semaphore(math.inf)` is how programs say that there is no limit."""

    async def main(module):
        semaphore = getattr(module, name)(number)
        seen = [semaphore._value, repr(semaphore).partition("[")[2]]

        async def user():
            async with semaphore:
                seen.append(semaphore._value)
                await asyncio.sleep(0)

        users = [asyncio.create_task(user()) for _ in range(4)]
        await rest(20)
        seen += [task.done() for task in users]
        for task in users:
            task.cancel()
        await asyncio.gather(*users, return_exceptions=True)
        seen.append(outcome(semaphore.release))
        return repr(seen)

    assert same(run(main))[0] == "returned"


@pytest.mark.parametrize("number", NUMBERS, ids=repr)
def test_barriers_wait_for_whatever_number_they_are_given(number):
    async def main(module):
        barrier = module.Barrier(number)
        seen = [barrier.parties, repr(barrier).partition("[")[2]]
        tasks = [asyncio.create_task(barrier.wait()) for _ in range(2)]
        await rest(20)
        seen += [*(task.done() for task in tasks), barrier.n_waiting, repr(barrier).partition("[")[2]]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return repr(seen)

    assert same(run(main))[0] == "returned"
