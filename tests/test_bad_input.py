"""What a program must not do: asyncio's error, and nothing left behind."""

import asyncio
import gc
import socket
import threading

import pytest
import velodrome
from differential import worlds
from differential.compare import check_same, on_both, one_turn, open_descriptors, outcome

either_loop = worlds.either_loop


async def coroutine_function():
    pass


class Instance:
    async def method(self):
        pass

    async def __call__(self):
        pass


# -- A closed loop -----------------------------------------------------------------------------------------

METHODS = {
    "run_forever": lambda loop: loop.run_forever(),
    "run_until_complete of a future": lambda loop: loop.run_until_complete(loop.create_future()),
    "run_until_complete": lambda loop: closing(coroutine_function(), loop.run_until_complete),
    "stop": lambda loop: loop.stop(),
    "is_running": lambda loop: loop.is_running(),
    "is_closed": lambda loop: loop.is_closed(),
    "close": lambda loop: loop.close(),
    "time": lambda loop: loop.time() > 0,
    "get_debug": lambda loop: loop.get_debug(),
    "set_debug": lambda loop: loop.set_debug(True),
    "call_soon": lambda loop: loop.call_soon(print),
    "call_soon_threadsafe": lambda loop: loop.call_soon_threadsafe(print),
    "call_later": lambda loop: loop.call_later(1, print),
    "call_later without delay": lambda loop: loop.call_later(None, print),
    "call_at": lambda loop: loop.call_at(1, print),
    "create_future": lambda loop: asyncio.isfuture(loop.create_future()),
    "create_task": lambda loop: closing(coroutine_function(), loop.create_task),
    "create_task of nothing": lambda loop: loop.create_task(None),
    "set_task_factory": lambda loop: loop.set_task_factory(None),
    "run_in_executor": lambda loop: loop.run_in_executor(None, print),
    "set_exception_handler": lambda loop: loop.set_exception_handler(None),
    "add_reader": lambda loop: loop.add_reader(0, print),
    "remove_reader": lambda loop: loop.remove_reader(0),
    "add_writer": lambda loop: loop.add_writer(1, print),
    "remove_writer": lambda loop: loop.remove_writer(1),
    "remove_signal_handler": lambda loop: loop.remove_signal_handler(10),
    "add_signal_handler": lambda loop: loop.add_signal_handler(10, print),
    "call_exception_handler": lambda loop: loop.call_exception_handler({"message": "closed"}),
    "repr": lambda loop: "closed=True" in repr(loop),
    "_check_closed": lambda loop: loop._check_closed(),
    "_ready": lambda loop: len(loop._ready),
    "_scheduled": lambda loop: len(loop._scheduled),
    "_write_to_self": lambda loop: loop._write_to_self(),
    "_run_once": lambda loop: outcome(loop._run_once)[0] != "returned",
}


def closing(coro, call):
    try:
        return call(coro)
    finally:
        coro.close()


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("use", METHODS.values(), ids=METHODS)
def test_closed_loop_used_again(use, debug):
    def program(loop):
        loop.set_debug(debug)
        loop.call_soon(print)
        loop.call_later(1, print)
        loop.close()
        before = open_descriptors()
        first = outcome(use, loop)
        again = outcome(use, loop)
        assert open_descriptors() == before
        assert asyncio._get_running_loop() is None
        return first, again

    check_same(program)


def test_handles_and_futures_outlive_their_loop(either_loop):
    handles = [either_loop.call_soon(print), either_loop.call_later(1, print)]
    future = either_loop.create_future()
    either_loop.close()
    for handle in handles:
        repr(handle)
        handle.cancel()
        assert handle.cancelled()
    future.set_result(1)
    assert future.result() == 1


def test_task_of_a_closed_loop(either_loop):
    """What wakes it cannot: that is the future's error, and the task stays pending."""
    future = either_loop.create_future()

    async def main():
        await future

    task = either_loop.create_task(main())
    one_turn(either_loop)
    either_loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        future.set_result(None)
    assert future.done() and not task.done()
    task._log_destroy_pending = False


# -- The wrong thread --------------------------------------------------------------------------------------

FROM_OUTSIDE = {
    "call_soon": lambda loop: loop.call_soon(print),
    "call_later": lambda loop: loop.call_later(1, print),
    "call_at": lambda loop: loop.call_at(1, print),
    "create_task": lambda loop: closing(coroutine_function(), loop.create_task),
    "future.set_result": lambda loop: loop.future.set_result(1),
    "future.set_exception": lambda loop: loop.future.set_exception(ValueError()),
    "future.cancel": lambda loop: loop.future.cancel(),
    "awaited.set_result": lambda loop: loop.awaited.set_result(1),
    "task.cancel": lambda loop: loop.task.cancel(),
    "future.add_done_callback": lambda loop: loop.done.add_done_callback(print),
    "create_future": lambda loop: asyncio.isfuture(loop.create_future()),
    "call_soon_threadsafe": lambda loop: loop.call_soon_threadsafe(int) is not None,
    "run_forever": lambda loop: loop.run_forever(),
    "close": lambda loop: loop.close(),
    "is_running": lambda loop: loop.is_running(),
    "time": lambda loop: loop.time() > 0,
    "_check_thread": lambda loop: loop._check_thread(),
}


@pytest.mark.parametrize("use", FROM_OUTSIDE.values(), ids=FROM_OUTSIDE)
def test_loop_used_from_the_wrong_thread_in_debug_mode(use):
    def program(loop):
        loop.set_debug(True)
        results = []
        loop.set_exception_handler(lambda loop, context: None)

        def from_outside():
            results.append(outcome(use, loop))

        async def wait(future):
            await future

        async def main():
            loop.future = loop.create_future()
            loop.future.add_done_callback(int)
            loop.awaited = loop.create_future()
            loop.done = loop.create_future()
            loop.done.set_result(None)
            loop.task = asyncio.create_task(wait(loop.awaited))
            await asyncio.sleep(0)
            thread = threading.Thread(target=from_outside)
            thread.start()
            # The loop's thread waits: nothing runs at the same time.
            thread.join()
            loop.task.cancel()

        loop.run_until_complete(main())
        loop.future = loop.awaited = loop.done = loop.task = None
        return results

    kind, results = check_same(program)
    assert kind == "returned" and len(results) == 1


def test_wrong_thread_without_debug_mode_is_taken_on_trust(either_loop):
    seen = []

    async def main():
        thread = threading.Thread(target=either_loop.call_soon, args=(seen.append, "called"))
        thread.start()
        thread.join()
        await asyncio.sleep(0)

    either_loop.run_until_complete(main())
    assert seen == ["called"]


# -- Bad callbacks -----------------------------------------------------------------------------------------

CALLS = {
    "call_soon": lambda loop, callback: loop.call_soon(callback),
    "call_soon_threadsafe": lambda loop, callback: loop.call_soon_threadsafe(callback),
    "call_later": lambda loop, callback: loop.call_later(-1, callback),
    "call_at": lambda loop, callback: loop.call_at(1, callback),
    "run_in_executor": lambda loop, callback: loop.run_in_executor(None, callback),
}
BAD_CALLBACKS = {
    "none": lambda: None,
    "number": lambda: 1,
    "text": lambda: "text",
    "coroutine function": lambda: coroutine_function,
    "coroutine": lambda: coroutine_function(),
    "method that is a coroutine function": lambda: Instance().method,
    "object": lambda: object(),
}


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("bad", BAD_CALLBACKS.values(), ids=BAD_CALLBACKS)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_callback_that_is_none(call, bad, debug):
    """In debug mode it is refused, otherwise the exception handler hears of it, or nobody does."""

    def program(loop):
        problems = []
        loop.set_debug(debug)
        loop.set_exception_handler(
            lambda loop, context: problems.append(type(context.get("exception")).__name__)
        )
        callback = bad()
        made = outcome(call, loop, callback)
        if made[0] == "returned":
            made = "returned", None
        else:
            assert list(loop._ready) == [] and list(loop._scheduled) == []
        one_turn(loop)
        if hasattr(callback, "close"):
            callback.close()
        return made, problems

    (_, (expected, problems)), (_, (found, our_problems)) = on_both(program)
    assert (found, our_problems) == (expected, problems)
    if debug:
        assert expected[0] == "TypeError"


# -- Bad delays --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "delay",
    [None, "1", b"1", [], (), {}, object(), len, 10**400, -(10**400)],
    ids=lambda delay: str(delay)[:9],
)
def test_delay_that_is_no_number(delay):
    def program(loop):
        made = outcome(loop.call_later, delay, print)
        assert list(loop._scheduled) == [] and list(loop._ready) == []
        assert loop.run_until_complete(asyncio.sleep(0.001, "usable")) == "usable"
        return made

    kind, (error, _) = check_same(program)
    assert kind == "returned" and error in ("TypeError", "OverflowError")


@pytest.mark.parametrize(
    "when", ["1", b"1", [], (), {}, object(), 1j, len], ids=lambda when: type(when).__name__
)
def test_time_that_is_no_number(loop, when):
    """asyncio takes it, and its loop breaks later; ours refuses it."""
    with pytest.raises(TypeError):
        loop.call_at(when, print)
    assert loop._scheduled == [] and loop._ready == []
    assert loop.run_until_complete(asyncio.sleep(0.001, "usable")) == "usable"


def test_time_that_is_none():
    def program(loop):
        loop.call_at(None, print)

    assert check_same(program) == ("TypeError", "when cannot be None")


@pytest.mark.parametrize("call", ["call_later", "call_at"])
def test_time_that_is_not_a_number_does_not_break_the_loop(loop, call):
    """asyncio's answer depends on the version, and on what else is scheduled: at worst its loop breaks."""
    seen = []
    order = [1, float("nan"), -1, float("nan"), 0]
    for number, delay in enumerate(order):
        getattr(loop, call)(delay, seen.append, number)
    kind, _ = outcome(loop.run_until_complete, asyncio.sleep(0.001, "usable"))
    assert loop.run_until_complete(asyncio.sleep(0.001, "usable")) == "usable"
    assert kind in ("returned", "ValueError")
    assert 2 in seen and 4 in seen
    for timer in loop._scheduled:
        timer.cancel()


@pytest.mark.parametrize("delay", [float("-inf"), -1e300, -(10**20)])
def test_delay_before_everything(either_loop, delay):
    seen = []
    handle = either_loop.call_later(delay, seen.append, "called")
    assert handle.when() < 0
    one_turn(either_loop)
    assert seen == ["called"]


# -- Nothing is left behind --------------------------------------------------------------------------------


def test_failures_leave_no_handles_tasks_or_descriptors(either_loop):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        either_loop.run_until_complete(asyncio.sleep(0))
        gc.collect()
        before = open_descriptors()
        for _ in range(3):
            for bad in (
                lambda: either_loop.call_soon(),
                lambda: either_loop.call_later("1", print),
                lambda: either_loop.call_later(None, print),
                lambda: either_loop.call_at(None, print),
                lambda: either_loop.create_task(None),
                lambda: either_loop.create_task(print),
                lambda: either_loop.run_until_complete(5),
                lambda: either_loop.add_reader(-1, print),
                lambda: either_loop.add_reader("text", print),
                lambda: either_loop.add_signal_handler(0, print),
                lambda: either_loop.set_task_factory(5),
                lambda: either_loop.set_exception_handler(5),
                lambda: velodrome.Task(None, loop=either_loop),
            ):
                with pytest.raises((TypeError, ValueError)):
                    bad()
        gc.collect()
        assert open_descriptors() == before
        assert list(either_loop._ready) == [] and list(either_loop._scheduled) == []
        assert asyncio.all_tasks(either_loop) == set()


def test_refused_task_is_no_pending_task_when_it_dies(either_loop):
    """Task() that raises leaves an object that never was a task."""
    reports = []
    either_loop.set_exception_handler(lambda loop, context: reports.append(context))
    for class_ in (asyncio.Task, velodrome.Task):
        for bad in (None, print, either_loop.create_future()):
            with pytest.raises(TypeError):
                class_(bad, loop=either_loop)
    gc.collect()
    assert reports == []
    assert asyncio.all_tasks(either_loop) == set()


def test_arguments_that_fail_to_be_shown(either_loop, caplog):
    """An error report must survive objects whose repr raises."""

    class Bad:
        def __repr__(self):
            raise LookupError("no repr")

    either_loop.call_soon(lambda argument: 1 / 0, Bad())
    one_turn(either_loop)
    assert either_loop.run_until_complete(asyncio.sleep(0, "usable")) == "usable"
