"""install() puts Velodrome in asyncio's place, and uninstall() takes it out again."""

import sys

PROGRAM = """
import asyncio, asyncio.locks, asyncio.queues, asyncio.tasks, asyncio.timeouts, sys
before = {{(m, n): v for m in sorted(sys.modules) if m.split(".")[0] == "asyncio"
          for n, v in vars(sys.modules[m]).items() if n != "_event_loop_policy"}}
old_lock, old_queue = asyncio.Lock(), asyncio.Queue()
import velodrome
velodrome.install()
velodrome.install()
{body}
velodrome.uninstall()
velodrome.uninstall()
after = {{(m, n): vars(sys.modules[m]).get(n) for m, n in before}}
print([key for key in before if before[key] is not after[key]])
"""


def test_every_name_is_ours_and_then_asyncios_again(run_python):
    body = """
names = [name for name in velodrome.__all__ if hasattr(asyncio, name)]
kept = {"new_event_loop"}
assert {name for name in names if getattr(asyncio, name) is not getattr(velodrome, name)} == kept
assert asyncio.locks.Lock is asyncio.queues.locks.Lock is velodrome.Lock
loop = asyncio.new_event_loop()
assert type(loop) is velodrome.Loop
loop.close()

async def main():
    assert type(asyncio.current_task()) is velodrome.Task
    async with old_lock:
        await asyncio.gather(old_queue.put(1), asyncio.sleep(0))
    async with asyncio.timeout(1), asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(0))
    return await asyncio.wait_for(old_queue.get(), 1)

assert asyncio.run(main()) == 1
"""
    assert run_python(PROGRAM.format(body=body)).stdout == "[]\n"


def test_none_of_asyncios_coordination_is_left_and_ours_is_no_python(run_python):
    body = """
names = ["sleep", "ensure_future", "gather", "wait", "wait_for", "as_completed", "shield", "timeout",
         "timeout_at", "Timeout", "TaskGroup", "Lock", "Event", "Condition", "Semaphore", "BoundedSemaphore",
         "Barrier", "Queue", "LifoQueue", "PriorityQueue", "Runner", "run", "to_thread",
         "run_coroutine_threadsafe", "wrap_future", "current_task", "all_tasks", "isfuture", "iscoroutine",
         "create_task", "create_eager_task_factory", "Future", "Task"]
for name in names:
    if name == "create_eager_task_factory" and sys.version_info < (3, 12):
        continue
    assert getattr(asyncio, name) is getattr(velodrome, name), name
    assert before[asyncio.__name__, name] is not getattr(asyncio, name), name
    assert not hasattr(getattr(asyncio, name), "__code__"), name
# What makes connections is asyncio's own code over our classes.
per_connection = {*asyncio.streams.__all__, *asyncio.subprocess.__all__}
for name in sorted(set(asyncio.__all__) & set(velodrome.__all__) - per_connection):
    ours = getattr(velodrome, name)
    # One is but a choice of the loop; the other is known by its code to programs.
    if ours is before.get(("asyncio", name)) or name in ("new_event_loop", "eager_task_factory"):
        continue
    for place in [ours, *vars(ours).values()] if isinstance(ours, type) else [ours]:
        if name not in ("EventLoop", "SelectorEventLoop", "EventLoopPolicy"):
            assert not hasattr(place, "__code__"), (name, place)
"""
    assert run_python(PROGRAM.format(body=body)).stdout == "[]\n"


def test_while_a_loop_runs(run_python):
    body = """
async def main():
    velodrome.uninstall()
    lock = asyncio.Lock()
    velodrome.install()
    async with lock, asyncio.Lock():
        await asyncio.gather(*[asyncio.sleep(0) for _ in range(3)])

asyncio.run(main())
"""
    assert run_python(PROGRAM.format(body=body)).stdout == "[]\n"


def test_what_somebody_put_there_since_stays(run_python):
    program = """
import asyncio, velodrome
velodrome.install()
asyncio.Lock = "mine"
velodrome.uninstall()
print(asyncio.Lock, asyncio.locks.Lock.__module__)
"""
    assert run_python(program).stdout == "mine asyncio.locks\n"


def test_what_a_tool_has_wrapped_stays(run_python):
    program = """
import asyncio, functools, velodrome

calls = []

@functools.wraps(asyncio.gather)
def gather(*args, **keywords):
    calls.append(len(args))
    return gather.__wrapped__(*args, **keywords)

class Lock(asyncio.Lock):
    pass

asyncio.gather = asyncio.tasks.gather = gather
asyncio.Lock = Lock
velodrome.install()

async def main():
    return await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2))

print(asyncio.run(main()), calls, asyncio.gather is gather, asyncio.Lock is Lock)
velodrome.uninstall()
print(asyncio.gather is gather)
"""
    assert run_python(program).stdout == "[1, 2] [2] True True\nTrue\n"


def test_old_names_and_new_mix(run_python):
    program = """
import asyncio
from asyncio import Condition, Lock, gather
import velodrome
velodrome.install()

async def main():
    lock, condition = asyncio.Lock(), Condition(asyncio.Lock())
    async with condition:
        condition.notify_all()
    await gather(lock.acquire(), asyncio.sleep(0))
    async with asyncio.Condition(Lock()) as nothing:
        return lock.locked()

print(asyncio.run(main()))
"""
    assert run_python(program).stdout == "True\n"
    assert sys.modules.get("asyncio").Lock.__module__ == "asyncio.locks"
