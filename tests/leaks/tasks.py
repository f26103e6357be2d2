"""Tasks that end in every way, and whatever they wait for."""

import asyncio
import contextlib
import gc
import sys

import velodrome

from .scenarios import Cell, batches, failing, reap, result, scenario, scenario_in_loop, wait

eager = sys.version_info >= (3, 12)


@scenario_in_loop
async def tasks_that_return(loop, count):
    for batch in batches(count):
        await reap([loop.create_task(result()) for _ in batch])


@scenario_in_loop
async def tasks_that_nobody_awaits(loop, count):
    for batch in batches(count):
        for _ in batch:
            velodrome.create_task(result(), name="name")
        await velodrome.sleep(0)


@scenario_in_loop
async def tasks_that_raise(loop, count):
    # The traceback refers to the frame, and the frame to the exception.
    async def raising():
        try:
            raise ValueError
        except ValueError as error:
            kept = error
            raise KeyError from kept

    for batch in batches(count):
        await reap([loop.create_task(raising()) for _ in batch])


@scenario_in_loop
async def tasks_whose_exception_is_never_retrieved(loop, count):
    for batch in batches(count):
        for _ in batch:
            loop.create_task(failing())
        await asyncio.sleep(0)
        await asyncio.sleep(0)


@scenario_in_loop
async def tasks_that_refer_to_themselves(loop, count):
    # The task has the coroutine, whose frame has the task; and its own result is the task.
    async def itself(cell):
        await asyncio.sleep(0)
        return cell

    for batch in batches(count):
        tasks = []
        for _ in batch:
            cell = Cell()
            cell.content = loop.create_task(itself(cell))
            tasks.append(cell.content)
        await reap(tasks)
        tasks.clear()


@scenario_in_loop
async def tasks_of_a_subclass_that_refer_to_themselves(loop, count):
    class Task(velodrome.Task):
        pass

    for batch in batches(count):
        tasks = [Task(result(), loop=loop) for _ in batch]
        for task in tasks:
            task.itself = task
        await reap(tasks)
        del task, tasks


@scenario_in_loop
async def tasks_cancelled_before_they_begin(loop, count):
    for batch in batches(count):
        tasks = [loop.create_task(result()) for _ in batch]
        for task in tasks:
            task.cancel("message")
        await reap(tasks)


@scenario_in_loop
async def tasks_cancelled_while_they_wait(loop, count):
    for batch in batches(count):
        tasks = [loop.create_task(wait(loop.create_future())) for _ in batch]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await reap(tasks)


@scenario_in_loop
async def tasks_cancelled_while_they_sleep(loop, count):
    async def sleep():
        await velodrome.sleep(3600)

    for batch in batches(count):
        tasks = [loop.create_task(sleep()) for _ in batch]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await reap(tasks)


@scenario_in_loop
async def tasks_that_wait_for_each_other(loop, count):
    async def last(tasks):
        await asyncio.sleep(0)
        return tasks

    for _ in range(count // 10):
        tasks = []
        tasks.append(loop.create_task(last(tasks)))
        for _ in range(9):
            tasks.append(loop.create_task(wait(tasks[-1])))
        await tasks[-1]
        del tasks


@scenario_in_loop
async def tasks_that_several_wait_for(loop, count):
    for _ in range(count // 10):
        future = loop.create_future()
        tasks = [loop.create_task(wait(future)) for _ in range(9)]
        others = [loop.create_task(wait(asyncio.shield(future))) for _ in range(9)]
        await asyncio.sleep(0)
        for task in others:
            task.cancel()
        await asyncio.sleep(0)
        future.set_result(None)
        await reap(tasks)


@scenario_in_loop
async def tasks_destroyed_while_pending(loop, count):
    # The future has the task as its waiter, and the task what it waits for.
    for batch in batches(count):
        for _ in batch:
            loop.create_task(wait(loop.create_future()))
        await asyncio.sleep(0)
        gc.collect(0)
    gc.collect()


@scenario_in_loop
async def tasks_that_wait_for_somebody_elses_futures(loop, count):
    for batch in batches(count):
        futures = [asyncio.Future(loop=loop) for _ in batch]
        tasks = [loop.create_task(wait(future)) for future in futures]
        await asyncio.sleep(0)
        for future in futures[::2]:
            future.set_result(None)
        for task in tasks[1::2]:
            task.cancel()
        await reap(tasks)


@scenario_in_loop
async def somebody_elses_tasks_that_wait_for_our_futures(loop, count):
    for batch in batches(count):
        futures = [loop.create_future() for _ in batch]
        tasks = [asyncio.Task(wait(future), loop=loop) for future in futures]
        await asyncio.sleep(0)
        for future in futures[::2]:
            future.set_result(None)
        for task in tasks[1::2]:
            task.cancel()
        await reap(tasks)


@scenario
def our_tasks_on_somebody_elses_loop(count):
    async def main(loop):
        for batch in batches(count):
            await reap([velodrome.Task(result(), loop=loop) for _ in batch])
            tasks = [velodrome.Task(wait(velodrome.Future(loop=loop)), loop=loop) for _ in batch]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await reap(tasks)

    with contextlib.closing(asyncio.SelectorEventLoop()) as loop:
        loop.run_until_complete(main(loop))


@scenario_in_loop
async def eager_tasks(loop, count):
    if not eager:
        return
    loop.set_task_factory(asyncio.eager_task_factory)
    for batch in batches(count):
        await reap([velodrome.Task(result(), loop=loop, eager_start=True) for _ in batch])
        await reap([velodrome.Task(failing(), loop=loop, eager_start=True) for _ in batch])
        futures = [loop.create_future() for _ in batch]
        tasks = [velodrome.Task(wait(future), loop=loop, eager_start=True) for future in futures]
        for future in futures:
            future.set_result(None)
        await reap(tasks)


@scenario_in_loop
async def tasks_that_are_refused(loop, count):
    for _ in range(count):
        with contextlib.suppress(TypeError):
            loop.create_task(None)
        with contextlib.suppress(TypeError):
            velodrome.Task(None, loop=loop)
        coroutine = result()
        with contextlib.suppress(TypeError):
            loop.create_task(coroutine, nothing=1)
        coroutine.close()


@scenario_in_loop
async def tasks_that_yield_nonsense(loop, count):
    class Nonsense:
        def __await__(self):
            yield self.value

    async def nonsense(value):
        awaitable = Nonsense()
        awaitable.value = value
        await awaitable

    other = velodrome.new_event_loop()
    foreign = other.create_future()
    for batch in batches(count):
        await reap([loop.create_task(nonsense(object())) for _ in batch])
        await reap([loop.create_task(wait(foreign)) for _ in batch])
    other.close()


@scenario_in_loop
async def attributes_of_tasks(loop, count):
    task = loop.create_task(wait(loop.create_future()))
    await asyncio.sleep(0)
    for _ in range(count):
        for name in ("_callbacks", "_coro", "_fut_waiter", "_loop", "_state", "_source_traceback"):
            getattr(task, name)
        task.set_name(task.get_name() + "x" if len(task.get_name()) < 50 else "name")
        task.get_stack(), task.get_coro(), repr(task), task.get_loop(), task._make_cancelled_error()
        task._cancel_message = object()
        task.add_done_callback(id)
        task.remove_done_callback(id)
    task.cancel()
