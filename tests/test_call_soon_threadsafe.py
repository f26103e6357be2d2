"""Callbacks from other threads: they wake the loop, keep their order and their context.

And loops in several threads, and one that moves between threads.
"""

import asyncio
import collections
import contextvars
import threading

from differential import worlds
from differential.compare import one_turn

either_loop = worlds.either_loop


def test_what_was_queued_threadsafe_runs_before_what_is_queued_later(either_loop):
    seen = []
    for number in range(0, 100, 4):
        either_loop.call_soon_threadsafe(seen.append, number)
        either_loop.call_soon(seen.append, number + 1)
        thread = threading.Thread(target=either_loop.call_soon_threadsafe, args=(seen.append, number + 2))
        thread.start()
        thread.join()
        either_loop.call_soon(seen.append, number + 3)
    one_turn(either_loop)
    assert seen == list(range(100))


def test_what_was_queued_threadsafe_runs_before_tasks_made_later(either_loop):
    seen = []

    async def note(what):
        seen.append(what)

    async def main():
        either_loop.call_soon_threadsafe(seen.append, "first")
        task = either_loop.create_task(note("second"))
        either_loop.call_soon_threadsafe(seen.append, "third")
        await task
        await asyncio.sleep(0)

    either_loop.run_until_complete(main())
    assert seen == ["first", "second", "third"]


def test_call_from_another_thread_wakes_an_idle_loop(either_loop):
    ran_in = []

    def stop():
        ran_in.append(threading.get_ident())
        either_loop.stop()

    def from_outside():
        running.wait()
        either_loop.call_soon_threadsafe(stop)

    running = threading.Event()
    either_loop.call_soon(running.set)
    thread = threading.Thread(target=from_outside)
    thread.start()
    either_loop.run_forever()
    thread.join()
    assert ran_in == [threading.get_ident()]


def test_calls_from_many_threads_all_arrive_in_each_threads_order(either_loop):
    threads, calls = 4, 500
    seen = collections.defaultdict(list)
    left = threads * calls

    def arrived(thread, number):
        nonlocal left
        seen[thread].append(number)
        left -= 1
        if left == 0:
            either_loop.stop()

    def call(thread):
        for number in range(calls):
            either_loop.call_soon_threadsafe(arrived, thread, number)

    workers = [threading.Thread(target=call, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    either_loop.run_forever()
    for worker in workers:
        worker.join()
    assert seen == {number: list(range(calls)) for number in range(threads)}


def test_threadsafe_callback_has_the_callers_context(either_loop):
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []

    def from_outside():
        variable.set("outside")
        either_loop.call_soon_threadsafe(lambda: seen.append(variable.get()))
        context = contextvars.Context()
        either_loop.call_soon_threadsafe(lambda: seen.append(variable.get()), context=context)

    thread = threading.Thread(target=from_outside)
    thread.start()
    thread.join()
    one_turn(either_loop)
    assert seen == ["outside", "unset"]


def test_threadsafe_callback_can_be_cancelled(either_loop):
    seen = []
    handle = either_loop.call_soon_threadsafe(seen.append, "cancelled")
    kept = either_loop.call_soon_threadsafe(seen.append, "kept")
    assert isinstance(handle, asyncio.Handle)
    handle.cancel()
    assert handle.cancelled() and not kept.cancelled()
    one_turn(either_loop)
    assert seen == ["kept"]


def test_two_loops_in_two_threads(either_loop):
    """Each thread has its own running loop and current task."""
    results = {}

    async def main(name, mine, other):
        for _ in range(100):
            assert asyncio.get_running_loop() is mine
            assert asyncio.current_task().get_name() == name
            assert [task.get_name() for task in asyncio.all_tasks()] == [name]
            arrived = mine.create_future()
            other.call_soon_threadsafe(mine.call_soon_threadsafe, arrived.set_result, name)
            assert await arrived == name
        results[name] = True

    second = type(either_loop)()

    def run(name, mine, other):
        task = mine.create_task(main(name, mine, other), name=name)
        task.add_done_callback(lambda _: None)
        mine.run_until_complete(task)
        ready.wait()

    # Neither loop may stop before the other has its answers.
    ready = threading.Barrier(3)
    stop = threading.Event()

    def run_until_both(name, mine, other):
        task = mine.create_task(main(name, mine, other), name=name)
        done = threading.Event()
        task.add_done_callback(lambda _: done.set())
        dones.append(done)
        ready.wait()
        mine.run_forever()

    dones = []
    first_thread = threading.Thread(target=run_until_both, args=("first", either_loop, second))
    second_thread = threading.Thread(target=run_until_both, args=("second", second, either_loop))
    first_thread.start()
    second_thread.start()
    ready.wait()
    for done in dones:
        assert done.wait(30)
    stop.set()
    either_loop.call_soon_threadsafe(either_loop.stop)
    second.call_soon_threadsafe(second.stop)
    first_thread.join()
    second_thread.join()
    second.close()
    assert results == {"first": True, "second": True}


def test_loop_moves_between_threads(either_loop):
    """A loop that has stopped may be run by another thread."""
    loops = []

    async def main():
        loops.append(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return threading.get_ident()

    idents = []
    for _ in range(3):
        thread = threading.Thread(target=lambda: idents.append(either_loop.run_until_complete(main())))
        thread.start()
        thread.join()
    assert either_loop.run_until_complete(main()) == threading.get_ident()
    assert loops == [either_loop] * 4 and len(idents) == 3
