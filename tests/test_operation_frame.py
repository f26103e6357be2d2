"""An operation shows itself to those who walk coroutines as asyncio's own coroutine does."""

import asyncio
import inspect
import io
import re
import socket
import sys

import pytest
import velodrome
from differential import worlds
from differential.compare import one_turn

either_loop = worlds.either_loop

FRAME = [name for name in dir(sys._getframe()) if not name.startswith("_") and name != "clear"]


async def held(lock):
    await lock.acquire()
    return lock


async def waiting_barrier(a):
    barrier = a.Barrier(2)
    return barrier.wait()


async def waiting_group(a):
    async def child():
        await asyncio.Future()

    group = a.TaskGroup()
    await group.__aenter__()
    group.create_task(child())
    return group.__aexit__(None, None, None)


async def waiting_condition(a):
    condition = a.Condition()
    await condition.acquire()
    return condition.wait()


async def given(value):
    return value


async def cancelled_late(a):
    async def stubborn():
        try:
            await asyncio.Future()
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)

    task = asyncio.ensure_future(stubborn())
    await asyncio.sleep(0)
    return a.wait_for(task, 0)


# Each makes a coroutine that waits.
WAITING = {
    "Lock.acquire": lambda a: acquire_held(a.Lock()),
    "Lock.__aenter__": lambda a: enter_held(a.Lock()),
    "Semaphore.acquire": lambda a: given(a.Semaphore(0).acquire()),
    "Semaphore.__aenter__": lambda a: given(a.Semaphore(0).__aenter__()),
    "BoundedSemaphore.__aenter__": lambda a: given(a.BoundedSemaphore(0).__aenter__()),
    "Condition.__aenter__": lambda a: enter_held(a.Condition()),
    "Event.wait": lambda a: given(a.Event().wait()),
    "Condition.wait": waiting_condition,
    "Queue.get": lambda a: given(a.Queue().get()),
    "Barrier.wait": waiting_barrier,
    "wait": lambda a: given(a.wait([asyncio.get_running_loop().create_future()])),
    "TaskGroup.__aexit__": waiting_group,
}
if sys.version_info >= (3, 12):
    WAITING["wait_for"] = lambda a: given(a.wait_for(asyncio.get_running_loop().create_future(), 10))
    WAITING["wait_for without time"] = cancelled_late


async def acquire_held(lock):
    return (await held(lock)).acquire()


async def enter_held(lock):
    return (await held(lock)).__aenter__()


def comparable(text):
    """Without addresses, and without the line that is awaited, of which operations know the function only."""
    text = re.sub(r"0x[0-9a-f]+", "0x", text)
    text = re.sub(r"(\.py:|line )\d+", r"\1N", text)
    return "\n".join(line for line in text.splitlines() if not line.startswith("    "))


def shown(module, name, on_velodrome):
    """What is seen of a task that runs such a coroutine, from making it to its end."""
    seen = []

    async def main():
        coro = await WAITING[name](module)
        seen.append([inspect.getcoroutinestate(coro), coro.__name__, coro.__qualname__])
        task = asyncio.ensure_future(coro)
        task.set_name("it")
        seen.append(comparable(repr(task)))
        for _ in range(3):
            await asyncio.sleep(0)
        seen.append([inspect.getcoroutinestate(coro), [frame.f_code.co_name for frame in task.get_stack()]])
        printed = io.StringIO()
        task.print_stack(file=printed)
        seen.append([comparable(repr(task)), comparable(printed.getvalue())])
        levels = []
        level = coro
        while hasattr(level, "cr_await"):
            frame = level.cr_frame
            levels.append([level.__qualname__, frame.f_code is level.cr_code, frame.f_code.co_filename])
            if sys.version_info >= (3, 14):
                assert frame.f_generator is level or frame.f_generator.cr_code is level.cr_code
            level = level.cr_await
        seen.append(levels)
        if sys.version_info >= (3, 14):
            seen.append(comparable(asyncio.format_call_graph(task)))
        task.cancel()
        await asyncio.wait([task])
        seen.append([inspect.getcoroutinestate(coro), coro.cr_frame, coro.cr_await])
        for other in asyncio.all_tasks() - {asyncio.current_task()}:
            other.cancel()

    (velodrome if on_velodrome else asyncio).run(main())
    return seen


@pytest.mark.parametrize("name", WAITING)
def test_shows_what_asyncios_coroutine_shows(name):
    assert shown(velodrome, name, True) == shown(asyncio, name, False)


CALLS = {
    "sock_recv": (10,),
    "sock_recv_into": (bytearray(10),),
    "sock_recvfrom": (10,),
    "sock_recvfrom_into": (bytearray(10),),
    "sock_sendall": (b"data",),
    "sock_sendto": (b"data", ("127.0.0.1", 9)),
    "sock_accept": (),
    "sock_connect": (("127.0.0.1", 9),),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_on_sockets_show_the_code_of_asyncios(either_loop, name):
    function = getattr(asyncio.SelectorEventLoop, name)
    with socket.socket() as sock:
        coro = getattr(either_loop, name)(sock, *CALLS[name])
        assert coro.cr_code is function.__code__
        assert coro.cr_frame.f_globals is function.__globals__
        coro.close()


def test_a_task_that_waits_for_a_socket_stands_in_asyncios_code(either_loop):
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        task = either_loop.create_task(either_loop.sock_recv(one, 10))
        one_turn(either_loop)
        (frame,) = task.get_stack()
        assert frame.f_code.co_name == "sock_recv"
        assert asyncio.selector_events.__file__ in repr(task)
        other.send(b"data")
        assert either_loop.run_until_complete(task) == b"data"


def test_frame_has_what_frames_have():
    async def main():
        coro = velodrome.Queue().get()
        frame = coro.cr_frame
        assert {name: hasattr(frame, name) for name in FRAME} == dict.fromkeys(FRAME, True)
        assert frame.f_globals["__name__"] == "asyncio.queues"
        assert frame.f_builtins["len"] is len
        assert (frame.f_back, frame.f_locals) == (None, {})
        assert "Queue.get" in repr(frame)
        coro.close()
        assert coro.cr_frame is None

    velodrome.run(main())
