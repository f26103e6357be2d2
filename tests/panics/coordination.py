"""Uses of locks, queues, timeouts, groups: every attribute is read and set, every method called."""

import asyncio
import concurrent.futures
import contextlib
import copy
import functools
import gc
import signal
import sys

import velodrome
from velodrome import _velodrome

from .uses import USES, abandon, done_future, in_thread, look_at, made, nothing, send, task_of, use, uses


def seen(make):
    """A use that makes something, looks at it and drops it in a cycle."""

    async def used(loop):
        thing = make()
        look_at(thing)
        with contextlib.suppress(AttributeError):
            thing.itself = thing
        with contextlib.suppress(AttributeError, RuntimeError):
            thing._get_loop()
        del thing
        gc.collect()

    USES.append(used)


seen(lambda: velodrome.Lock())
seen(lambda: velodrome.Event())
seen(lambda: velodrome.Condition())
seen(lambda: velodrome.BoundedSemaphore())
seen(lambda: velodrome.Barrier(2))
seen(lambda: velodrome.Queue(1))
seen(lambda: velodrome.PriorityQueue(1))
seen(lambda: velodrome.Timeout(None))
seen(lambda: velodrome.TaskGroup())
seen(lambda: velodrome.Runner())
seen(lambda: velodrome.sleep(0))
uses(
    lambda loop: made(_velodrome.CoroutineFunction),
    lambda loop: abandon(_velodrome.CoroutineFunction.__new__(_velodrome.CoroutineFunction)),
    lambda loop: gc.get_referents(velodrome.sleep) and None,
    lambda loop: look_at(velodrome.sleep),
    lambda loop: (velodrome.sleep.__reduce__(), velodrome.sleep.__doc__),
    lambda loop: getattr(velodrome.sleep, "_is_coroutine", None),
    lambda loop: getattr(velodrome.sleep, "_is_coroutine_marker", None),
    lambda loop: (velodrome.sleep.__module__, velodrome.sleep.__text_signature__, velodrome.sleep.__name__),
    lambda loop: velodrome.sleep.__qualname__,
    lambda loop: velodrome.Lock().acquire.__self__,
    lambda loop: velodrome.Lock()._wake_up_first(),
    lambda loop: velodrome.Semaphore()._wake_up_next(),
    lambda loop: copy.copy(velodrome.Lock()) and None,
    lambda loop: copy.copy(velodrome.Event()) and None,
    lambda loop: copy.copy(velodrome.Condition()) and None,
    lambda loop: copy.copy(velodrome.Semaphore()) and None,
    lambda loop: copy.copy(velodrome.Barrier(2)) and None,
    lambda loop: copy.copy(velodrome.Queue()) and None,
    lambda loop: hasattr(velodrome.Condition, "_notify") and velodrome.Condition()._notify(1),
    lambda loop: gc.collect(),
    lambda loop: made(_velodrome.Operation),
    lambda loop: velodrome.gather(nothing(), nothing(), done_future(loop)),
    lambda loop: velodrome.gather(),
    lambda loop: velodrome.shield(velodrome.sleep(0)),
    lambda loop: velodrome.wait([velodrome.create_task(nothing())]),
    lambda loop: velodrome.wait_for(nothing(), 10),
    lambda loop: velodrome.ensure_future(nothing()),
    lambda loop: velodrome.Queue[int],
    lambda loop: velodrome.to_thread(int),
    lambda loop: (velodrome.current_task(), velodrome.all_tasks()),
    lambda loop: (velodrome.isfuture(1), velodrome.iscoroutine(1)),
    lambda loop: velodrome.run_coroutine_threadsafe(nothing(), loop),
)


def made_and_in_a_cycle(thing):
    """Make another of the same class, and let this one die after a cycle that is younger."""
    made(type(thing))
    cycle = [thing]
    cycle.append(cycle)


@use
async def chained(loop):
    theirs = concurrent.futures.Future()
    ours = velodrome.wrap_future(theirs, loop=asyncio.SelectorEventLoop())
    theirs.set_result(1)  # as from another thread
    ours.get_loop().close()
    theirs = concurrent.futures.Future()
    ours = velodrome.wrap_future(theirs, loop=loop)
    in_thread(functools.partial(theirs.set_result, 1))
    await asyncio.sleep(0)
    theirs = concurrent.futures.Future()
    ours = velodrome.wrap_future(theirs, loop=loop)
    ours.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    theirs = concurrent.futures.Future()
    ours = velodrome.wrap_future(theirs, loop=loop)
    made_and_in_a_cycle(ours._callbacks[0][0].__self__)
    del ours, theirs
    gc.collect()


@use
async def submitted(loop):
    velodrome.run_coroutine_threadsafe(velodrome.sleep(0), loop)
    for handle in loop._ready:
        submission = getattr(handle._callback, "__self__", None)
        if type(submission).__name__ == "run_coroutine_threadsafe":
            made_and_in_a_cycle(submission)
        del submission, handle
    await asyncio.sleep(0)
    gc.collect()


@use
async def late(loop):
    """On 3.11, what wait_for() waits with."""
    future = asyncio.Future(loop=loop)
    with task_of(loop, velodrome.wait_for(future, 10)):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for tell, _ in future._callbacks or ():
            made_and_in_a_cycle(getattr(tell, "__self__", None) or [])
            del tell
        future.set_result(1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    gc.collect()


if sys.version_info >= (3, 12):

    @use
    async def eager(loop):
        for factory in (velodrome.eager_task_factory, velodrome.create_eager_task_factory(asyncio.Task)):
            await factory(loop, nothing())
            _ = (factory.__code__, factory.__closure__, factory.__name__, factory.__signature__)
            _ = factory.__qualname__
            look_at(factory)
        made(type(factory))
        factory.itself = factory
        del factory
        gc.collect()


@use
async def runners(loop):
    async def interrupted():
        asyncio.get_running_loop().set_exception_handler(loop.get_exception_handler())
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(60)

    # As if nothing ran on this thread.
    task = asyncio.current_task()
    asyncio.tasks._leave_task(loop, task)
    asyncio._set_running_loop(None)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            velodrome.run(interrupted(), debug=False)
        with velodrome.Runner(loop_factory=velodrome.Loop) as runner:
            runner.run(nothing())
            runner.get_loop()
            runner._lazy_init()
            runner.itself = runner
            for name in ("_state", "_debug", "_loop_factory", "_loop", "_context", "_interrupt_count"):
                getattr(runner, name)
            _ = runner._set_event_loop
        runner.close()
        del runner
        gc.collect()
    finally:
        asyncio._set_running_loop(loop)
        asyncio.tasks._enter_task(loop, task)


@use
async def locks(loop):
    for lock in (velodrome.Lock(), velodrome.Semaphore(), velodrome.Condition()):
        async with lock:
            lock.locked()
        await lock.acquire()
        lock.release()
    with task_of(loop, velodrome.sleep(0)):
        event = velodrome.Event()
        event.set()
        event.is_set()
        await event.wait()
        event.clear()


@use
async def conditions(loop):
    condition = velodrome.Condition()

    async def wait():
        async with condition:
            await condition.wait()
            await condition.wait_for(lambda: True)

    with task_of(loop, wait()) as task:
        await asyncio.sleep(0)
        async with condition:
            condition.notify()
            condition.notify_all()
        await task


@use
async def barriers(loop):
    barrier = velodrome.Barrier(1)
    await barrier.wait()
    async with barrier:
        pass
    await barrier.reset()
    await barrier.abort()


@use
async def queues(loop):
    class Derived(velodrome.Queue):
        pass

    for queue in (velodrome.Queue(2), velodrome.LifoQueue(2), Derived(2)):
        await queue.put(1)
        queue.put_nowait(2)
        queue.qsize(), queue.empty(), queue.full(), str(queue)
        await queue.get()
        queue.get_nowait()
        queue.task_done()
        queue.task_done()
        await queue.join()
        queue._wakeup_next(queue._getters)
        if hasattr(queue, "shutdown"):
            queue.shutdown()


@use
async def timeouts(loop):
    async with velodrome.timeout(10) as timeout:
        timeout.reschedule(loop.time() + 5)
        timeout.when(), timeout.expired()
    velodrome.timeout_at(None)
    with contextlib.suppress(asyncio.TimeoutError):
        async with velodrome.timeout(0):
            await asyncio.sleep(1)
    with contextlib.suppress(AssertionError):
        timeout._on_timeout()


@use
async def groups(loop):
    struck = None
    async with velodrome.TaskGroup() as group:
        coroutine = nothing()
        try:
            group.create_task(coroutine)
        except SystemError as error:
            coroutine.close()
            struck = error
    if struck is not None:
        raise struck
    group._is_base_error(ValueError())
    group._abort()
    with task_of(loop, nothing()) as task:
        await task
        group._on_task_done(task)
    if hasattr(group, "cancel"):
        group.cancel()


async def listeners(loop):
    """What futures that are not ours call, one of each kind, with the future."""
    for make in (velodrome.gather, velodrome.shield):
        future = asyncio.Future(loop=loop)
        outer = make(future)
        yield future, future._callbacks[0][0], outer
    future = asyncio.Future(loop=loop)
    with task_of(loop, velodrome.wait([future])) as waiting:
        await asyncio.sleep(0)
        yield future, future._callbacks[0][0], waiting


@use
async def completed(loop):
    for each in velodrome.as_completed([nothing()]):
        await each
    completing = velodrome.as_completed([velodrome.Future(loop=loop)])
    made(type(completing))
    if not hasattr(completing, "throw"):  # a generator up to 3.12
        async for each in velodrome.as_completed([nothing()]):
            await each
        return
    look_at(completing)
    for name in ("__name__", "__qualname__", "gi_running", "gi_frame", "gi_yieldfrom"):
        getattr(completing, name)
    completing.send(None).close()
    send(completing)
    iter(completing)
    abandon(completing)
    del completing
    gc.collect()
    with contextlib.suppress(ValueError):
        velodrome.as_completed([]).throw(ValueError)
    velodrome.as_completed([]).close()


@use
async def insides_of_completed(loop):
    futures = [velodrome.Future(loop=loop) for _ in range(4)]
    completing = velodrome.as_completed(futures)
    if hasattr(completing, "throw"):
        next(completing).close()
        completing = futures[0]._callbacks[0][0].__self__
    made(type(completing))
    iter(completing), aiter(completing)
    futures[0].set_result(1)
    await asyncio.sleep(0)
    next(completing).close()
    send(completing)
    send(anext(completing))
    completing._handle_completion(futures[1])
    completing._handle_timeout()
    abandon(completing)
    del completing, futures
    gc.collect()


@use
async def listeners_as_callables(loop):
    async for future, listener, _ in listeners(loop):
        made(type(listener.__self__))
        future.set_result(None)
        await asyncio.sleep(0)


@use
async def listeners_in_cycles(loop):
    kept = []
    async for future, listener, _ in listeners(loop):
        kept.append(listener)
        future.set_result(None)
    del future, listener, _
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    # Younger than what they hold, so that the collector comes to the listeners first.
    for listener in kept:
        cycle = [listener]
        cycle.append(cycle)
    del listener, cycle, kept
    gc.collect()
