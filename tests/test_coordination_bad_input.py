"""What gather, wait, groups and the rest refuse, they refuse as asyncio does: type and text."""

import asyncio
import gc
import warnings

import pytest
import velodrome
from differential.compare import outcome


async def nothing():
    pass


def other_loops_future():
    """A future of a loop that nobody runs, and that loop."""
    loop = asyncio.new_event_loop()
    try:
        return loop.create_future()
    finally:
        loop.close()


async def group_twice(module):
    async with module.TaskGroup() as group:
        async with group:
            pass


async def group_not_entered(module):
    module.TaskGroup().create_task(coro := nothing())
    coro.close()


async def group_that_is_over(module):
    async with module.TaskGroup() as group:
        pass
    group.create_task(nothing())


async def group_of_no_coroutine(module):
    async with module.TaskGroup() as group:
        group.create_task(3)


async def group_without_coroutine(module):
    async with module.TaskGroup() as group:
        group.create_task()


async def lock_not_held(module):
    module.Lock().release()


async def condition_not_held(module):
    module.Condition().notify()


async def condition_wait_not_held(module):
    await module.Condition().wait()


async def semaphore_below_zero(module):
    module.Semaphore(-1)


async def bounded_above(module):
    module.BoundedSemaphore(1).release()


async def barrier_of_nobody(module):
    module.Barrier(0)


async def task_done_too_often(module):
    module.Queue().task_done()


async def full(module):
    queue = module.Queue(1)
    queue.put_nowait(1)
    queue.put_nowait(2)


async def empty(module):
    module.Queue().get_nowait()


async def incomparable(module):
    queue = module.PriorityQueue()
    queue.put_nowait(1)
    queue.put_nowait("one")


async def wait_of_nothing(module):
    await module.wait([])


async def wait_of_an_iterator_of_nothing(module):
    await module.wait(iter([]))


async def wait_of_coroutines(module):
    await module.wait([coro := nothing()])
    coro.close()


async def wait_of_a_future(module):
    await module.wait(asyncio.get_running_loop().create_future())


async def wait_for_whatever(module):
    await module.wait([asyncio.get_running_loop().create_future()], return_when="SOME_DAY")


async def wait_of_numbers(module):
    await module.wait([1, 2])


async def wait_for_a_number(module):
    await module.wait_for(3, 1)


async def wait_for_a_text_long(module):
    await module.wait_for(nothing(), "long")


async def gather_of_numbers(module):
    await module.gather(1, 2)


async def gather_of_another_loop(module):
    await module.gather(other_loops_future(), asyncio.get_running_loop().create_future())


async def wait_for_another_loop(module):
    await module.wait_for(other_loops_future(), 10)


async def shield_of_a_number(module):
    await module.shield(3)


async def ensure_future_of_another_loop(module):
    module.ensure_future(other_loops_future(), loop=asyncio.get_running_loop())


async def ensure_future_of_a_number(module):
    module.ensure_future(3)


async def completed_of_a_coroutine(module):
    for each in module.as_completed(coro := nothing()):
        await each
    coro.close()


async def completed_of_numbers(module):
    for each in module.as_completed([1]):
        await each


async def sleep_of_text(module):
    await module.sleep("a while")


async def sleep_of_nan(module):
    await module.sleep(float("nan"))


async def lock_of_two_loops(module):
    lock = module.Lock()
    await lock.acquire()
    waiting = asyncio.ensure_future(lock.acquire())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])

    async def acquire():
        await lock.acquire()

    loop = asyncio.new_event_loop()
    try:
        await asyncio.get_running_loop().run_in_executor(None, loop.run_until_complete, acquire())
    finally:
        loop.close()


PROGRAMS = [
    program
    for name, program in list(globals().items())
    if asyncio.iscoroutinefunction(program) and name != "nothing" and program.__module__ == __name__
]


def run(program, module):
    with warnings.catch_warnings():
        # Whether a coroutine that was refused is closed depends on the version, and is compared elsewhere.
        warnings.simplefilter("ignore")
        end = outcome(lambda: velodrome.run(program(module)))
        gc.collect()
    # The classes are in other modules.
    return end[0], str(end[1]).replace("asyncio.locks.", "")


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_bad_input_is_refused_as_by_asyncio(program):
    expected = run(program, asyncio)
    assert run(program, velodrome) == expected
