"""velodrome.sleep: a coroutine like asyncio's, under any driver."""

import asyncio
import fractions
import gc
import inspect
import sys
import types
import warnings
import weakref
from collections import abc
from decimal import Decimal

import pytest
import velodrome
from differential import worlds
from differential.compare import on_both, one_turn, outcome, turns

either_loop = worlds.either_loop

SLEEPS = [pytest.param(asyncio.sleep, id="asyncio"), pytest.param(velodrome.sleep, id="velodrome")]
either_sleep = pytest.mark.parametrize("sleep", SLEEPS)


# -- What it is --------------------------------------------------------------------------------------------


@either_sleep
def test_sleep_is_a_coroutine_and_no_future(sleep):
    nap = sleep(1)
    assert asyncio.iscoroutine(nap) and not asyncio.isfuture(nap)
    assert inspect.isawaitable(nap)
    assert isinstance(nap, abc.Awaitable) and isinstance(nap, abc.Coroutine)
    assert not isinstance(nap, abc.Iterator) and not isinstance(nap, abc.Iterable)
    assert not hasattr(nap, "_asyncio_future_blocking")
    assert nap.__name__ == nap.__qualname__ == "sleep"
    assert "coroutine object sleep at 0x" in repr(nap)
    assert nap.cr_running is False and nap.cr_await is None
    nap.close()


@either_sleep
def test_what_coroutines_of_python_refuse_ours_refuses_too(sleep):
    # (That next(nap) works is how `await` reaches it.)
    nap = sleep(1)
    with pytest.raises(TypeError, match="can't send non-None value to a just-started coroutine"):
        nap.send(1)
    with pytest.raises(AttributeError):
        nap.anything = 1
    nap.close()


@either_sleep
def test_class_of_sleeps_is_not_for_programs(sleep):
    nap = sleep(1)
    with pytest.raises(TypeError):
        type("Sleep", (type(nap),), {})
    kind, made = outcome(type(nap))
    if kind == "returned":
        with pytest.raises(RuntimeError):
            made.send(None)
    nap.close()


@pytest.mark.parametrize(
    "call",
    [
        lambda sleep: sleep(),
        lambda sleep: sleep(delay=0),
        lambda sleep: sleep(delay=0, result=1),
        lambda sleep: sleep(0, 1),
        lambda sleep: sleep(0, result=1),
        lambda sleep: sleep(0, 1, 2),
        lambda sleep: sleep(0, rslt=1),
        lambda sleep: sleep(0, delay=1),
        lambda sleep: sleep(result=1),
    ],
)
def test_arguments_are_taken_as_asyncio_takes_them(call):
    def run(sleep):
        loop = asyncio.SelectorEventLoop()
        try:
            return loop.run_until_complete(call(sleep))
        finally:
            loop.close()

    expected, found = outcome(run, asyncio.sleep), outcome(run, velodrome.sleep)
    assert found[0] == expected[0]
    if expected[0] == "returned":
        assert found == expected


# -- Sleeping ----------------------------------------------------------------------------------------------


@either_sleep
@pytest.mark.parametrize("result", [None, 0, "result", (1, 2), StopIteration(1), ValueError, ()])
@pytest.mark.parametrize("delay", [0, -1, -0.5, 0.0, 0.001, True, fractions.Fraction(1, 1000), float("-inf")])
def test_sleep_returns_its_result(either_loop, sleep, delay, result):
    if delay is True:
        either_loop.time = lambda: next(times)
        times = iter(range(100))

    async def main():
        assert await sleep(delay, result) is result

    either_loop.run_until_complete(main())


@either_sleep
def test_sleep_is_not_early(either_loop, sleep):
    async def main():
        for delay in (0.0001, 0.001, 0.01):
            before = either_loop.time()
            await sleep(delay)
            # asyncio allows itself the resolution of the clock.
            assert either_loop.time() >= before + delay - 1e-8

    either_loop.run_until_complete(main())


@either_sleep
def test_nothing_happens_before_it_is_awaited(either_loop, sleep):
    async def main():
        naps = [sleep(1), sleep(0)]
        await asyncio.sleep(0)
        assert len(either_loop._scheduled) == 0
        for nap in naps:
            nap.close()

    either_loop.run_until_complete(main())


@either_sleep
def test_sleeps_wake_in_the_order_of_their_times(either_loop, sleep):
    order = []

    async def sleeper(delay):
        await sleep(delay)
        order.append(delay)

    async def main():
        # The same delay from a later time is a later time; and an hour is later than anything.
        late = asyncio.ensure_future(sleeper(3600))
        await asyncio.gather(*[sleeper(0.001) for _ in range(100)])
        late.cancel()

    either_loop.run_until_complete(main())
    assert order == [0.001] * 100


@either_sleep
def test_sleep_zero_gives_way_once(either_loop, sleep):
    order = []

    async def worker(name):
        for number in range(3):
            order.append((name, number))
            await sleep(0)

    async def main():
        await asyncio.gather(worker("left"), worker("right"))

    either_loop.run_until_complete(main())
    assert order == [(name, number) for number in range(3) for name in ("left", "right")]


def test_sleep_under_gather_and_the_like_starts(either_loop):
    """A thing that looked like a future would never be started."""

    async def main():
        sleep = velodrome.sleep
        assert await asyncio.gather(sleep(0.001, 1), sleep(0, 2)) == [1, 2]
        assert await asyncio.wait_for(sleep(0.001, 3), 10) == 3
        assert await asyncio.shield(sleep(0.001, 4)) == 4
        assert await asyncio.ensure_future(sleep(0, 5)) == 5
        assert await asyncio.create_task(sleep(0.001, 6)) == 6
        assert [await each for each in asyncio.as_completed([sleep(0.001, 7)])] == [7]
        async with asyncio.TaskGroup() as group:
            task = group.create_task(sleep(0.001, 8))
        assert task.result() == 8
        done, _ = await asyncio.wait([asyncio.create_task(sleep(0, 9))])
        assert [task.result() for task in done] == [9]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await sleep(1000)
        return 10

    assert either_loop.run_until_complete(main()) == 10
    assert either_loop.run_until_complete(velodrome.sleep(0.001, 11)) == 11
    assert asyncio.run(velodrome.sleep(0.001, 12)) == 12
    assert velodrome.run(velodrome.sleep(0.001, 13)) == 13


@either_sleep
def test_sleep_in_a_tasks_repr_and_stack(either_loop, sleep):
    """Whoever looks at a task that sleeps gets an answer."""
    task = either_loop.create_task(sleep(1000), name="sleeper")
    one_turn(either_loop)
    assert "<Task pending name='sleeper' coro=<" in repr(task) and "sleep" in repr(task)
    assert asyncio.isfuture(task._fut_waiter)
    task.get_stack()
    task.print_stack(file=open("/dev/null", "w"))
    task.cancel()
    turns(either_loop, 2)
    assert task.cancelled() and repr(task) and task.get_stack() is not None
    task.print_stack(file=open("/dev/null", "w"))


# -- Any driver --------------------------------------------------------------------------------------------


@either_sleep
@pytest.mark.parametrize("task_class", [asyncio.Task, asyncio.tasks._PyTask, velodrome.Task])
def test_any_task_can_sleep(either_loop, task_class, sleep):
    async def nested():
        return await sleep(0.001, "slept")

    assert either_loop.run_until_complete(task_class(sleep(0.001, "slept"), loop=either_loop)) == "slept"
    assert either_loop.run_until_complete(task_class(sleep(0, "slept"), loop=either_loop)) == "slept"
    assert either_loop.run_until_complete(task_class(nested(), loop=either_loop)) == "slept"


@either_sleep
@pytest.mark.parametrize("task_class", [asyncio.Task, asyncio.tasks._PyTask, velodrome.Task])
def test_any_task_can_be_cancelled_while_it_sleeps(either_loop, task_class, sleep):
    async def nested():
        await sleep(1000)

    for coroutine in (sleep(1000), nested()):
        task = task_class(coroutine, loop=either_loop)
        one_turn(either_loop)
        future = weakref.ref(task._fut_waiter)
        assert task.cancel("message") and future().cancelled()
        turns(either_loop, 2)
        with pytest.raises(asyncio.CancelledError) as caught:
            task.result()
        del caught
        assert task.cancelled()
        assert [timer for timer in either_loop._scheduled if not timer.cancelled()] == []
        del task, coroutine
        gc.collect()
        assert future() is None


@either_sleep
def test_bare_send(either_loop, sleep):
    """What it yields is a future of the running loop, and not the coroutine itself."""
    seen = []

    def drive():
        nap = sleep(0.001, "slept")
        future = nap.send(None)
        assert asyncio.isfuture(future) and future is not nap and future.get_loop() is either_loop
        assert future._asyncio_future_blocking is True
        future._asyncio_future_blocking = False
        assert nap.cr_running is False and nap.cr_await is not None

        def done(future):
            try:
                nap.send(None)
            except StopIteration as stop:
                seen.append(stop.value)
            either_loop.stop()

        future.add_done_callback(done)

    either_loop.call_soon(drive)
    either_loop.run_forever()
    assert seen == ["slept"]


@either_sleep
def test_bare_send_of_sleep_zero_needs_no_loop(sleep):
    nap = sleep(0, "slept")
    assert nap.send(None) is None
    with pytest.raises(StopIteration) as caught:
        nap.send(None)
    assert caught.value.value == "slept"
    nap = sleep(-1)
    assert next(nap.__await__()) is None
    with pytest.raises(StopIteration) as caught:
        nap.send(None)
    assert caught.value.value is None


@either_sleep
def test_its_iterator_has_the_methods_of_a_coroutines(sleep):
    iterator = sleep(0).__await__()
    assert isinstance(iterator, abc.Iterator) and iter(iterator) is iterator
    assert iterator.__next__() is None
    with pytest.raises(ValueError):
        iterator.throw(ValueError)
    iterator.close()


@either_sleep
def test_awaited_by_the_await_of_a_class(either_loop, sleep):
    class Wrapped:
        def __init__(self, delay):
            self.delay = delay

        def __await__(self):
            result = yield from sleep(self.delay, "slept").__await__()
            return [result]

    class Passed:
        def __await__(self):
            return sleep(0.001, "slept").__await__()

    async def main():
        return await Wrapped(0), await Wrapped(0.001), await Passed()

    assert either_loop.run_until_complete(main()) == (["slept"], ["slept"], "slept")
    task = either_loop.create_task(asyncio.wait_for(Wrapped(1000), 1000))
    turns(either_loop, 3)
    task.cancel()
    turns(either_loop, 5)
    assert task.cancelled() and [timer for timer in either_loop._scheduled if not timer.cancelled()] == []


@either_sleep
def test_awaited_by_a_generator_based_coroutine(either_loop, sleep):
    @types.coroutine
    def old():
        return (yield from sleep(0.001, "slept"))

    async def main():
        return await old()

    assert either_loop.run_until_complete(main()) == "slept"


@either_sleep
def test_without_a_running_loop(sleep):
    nap = sleep(1)
    with pytest.raises(RuntimeError, match="^no running event loop$"):
        nap.send(None)
    nap.close()


@either_sleep
def test_resumed_too_early(either_loop, sleep):
    async def main():
        nap = sleep(1000)
        future = nap.send(None)
        with pytest.raises(RuntimeError, match="^await wasn't used with future$"):
            nap.send(None)
        # Python's coroutine is over with that; ours must be no worse than over.
        with pytest.raises((RuntimeError, StopIteration)):
            nap.send(None)
        future.cancel()
        nap.close()

    either_loop.run_until_complete(main())
    assert [timer for timer in either_loop._scheduled if not timer.cancelled()] == []


@either_sleep
def test_sleep_is_awaited_once(either_loop, sleep):
    async def main():
        for delay in (0, 0.001):
            nap = sleep(delay)
            await nap
            with pytest.raises(RuntimeError, match="^cannot reuse already awaited coroutine$"):
                await nap
            with pytest.raises(RuntimeError, match="^cannot reuse already awaited coroutine$"):
                nap.send(None)
            with pytest.raises(RuntimeError, match="^cannot reuse already awaited coroutine$"):
                nap.throw(ValueError)
            nap.close()

    either_loop.run_until_complete(main())


@either_sleep
def test_awaited_by_two_at_a_time(either_loop, sleep):
    async def wait(nap):
        await nap

    async def main():
        for delay in (0, 1000):
            nap = sleep(delay)
            first = asyncio.ensure_future(wait(nap))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError):
                await nap
            first.cancel()
            await asyncio.wait([first])

    either_loop.run_until_complete(main())


@either_sleep
@pytest.mark.parametrize("stage", ["new", "gave way", "waiting", "done"])
@pytest.mark.parametrize(
    "thrown",
    [
        (ValueError("thrown"),),
        (ValueError,),
        (GeneratorExit,),
        (StopIteration("thrown"),),
        (StopIteration,),
        (KeyboardInterrupt,),
        (ValueError, "thrown"),
    ],
    ids=repr,
)
def test_throw_is_that_of_a_coroutine(either_loop, sleep, stage, thrown):
    def program(loop, sleep):
        async def main():
            nap = sleep(1000 if stage == "waiting" else 0)
            if stage != "new":
                nap.send(None)
            if stage == "done":
                with pytest.raises(StopIteration):
                    nap.send(None)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                outcomes = [outcome(nap.throw, *thrown)]
            outcomes.append(outcome(nap.send, None))
            outcomes.append(nap.close())
            return outcomes, [timer for timer in loop._scheduled if not timer.cancelled()]

        return loop.run_until_complete(main())

    ends_iteration = thrown[0] is StopIteration or isinstance(thrown[0], StopIteration)
    if hasattr(sys, "gettotalrefcount") and stage == "new" and ends_iteration:
        pytest.skip("a debug build of CPython ends the process: a coroutine is not to raise StopIteration")
    ours = isinstance(either_loop, velodrome.Loop) and sleep is asyncio.sleep
    if sys.version_info < (3, 12) and ours and stage == "waiting" and ends_iteration:
        pytest.skip("our futures have no throw(), which 3.11 wants to make a return of StopIteration")
    (_, expected), _ = on_both(program, asyncio.sleep)
    assert program(either_loop, sleep) == expected


@either_sleep
@pytest.mark.parametrize("thrown", [(1,), (), (ValueError("thrown"), "value"), (int,)], ids=repr)
def test_bad_arguments_of_throw(sleep, thrown):
    nap = sleep(0)
    nap.send(None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert outcome(nap.throw, *thrown)[0] == "TypeError"
    nap.close()


@either_sleep
def test_throw_with_what_is_handled_as_context(either_loop, sleep):
    async def nap_while_handling():
        try:
            raise ValueError("handled")
        except ValueError:
            await sleep(1000)

    async def main():
        task = asyncio.create_task(nap_while_handling())
        await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError as error:
            return type(error.__context__)

    assert either_loop.run_until_complete(main()) is ValueError


@either_sleep
@pytest.mark.parametrize("stage", ["new", "gave way", "waiting", "done"])
def test_close(either_loop, sleep, stage, recwarn):
    async def main():
        nap = sleep(1000 if stage == "waiting" else 0)
        if stage != "new":
            nap.send(None)
        if stage == "done":
            with pytest.raises(StopIteration):
                nap.send(None)
        for _ in range(2):
            nap.close()
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            nap.send(None)
        assert [timer for timer in either_loop._scheduled if not timer.cancelled()] == []

    either_loop.run_until_complete(main())
    assert list(recwarn) == []


# -- Dropped ones ------------------------------------------------------------------------------------------


@either_sleep
@pytest.mark.parametrize("delay", [0, 1])
def test_sleep_that_is_never_awaited_warns(sleep, delay):
    with pytest.warns(RuntimeWarning, match="^coroutine 'sleep' was never awaited") as caught:
        sleep(delay)
        gc.collect()
    assert caught[0].filename == __file__ or sleep is asyncio.sleep


@either_sleep
def test_warning_as_error_is_no_crash(sleep, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.warns(pytest.PytestUnraisableExceptionWarning) if False else warnings.catch_warnings():
            hook, seen = sys.unraisablehook, []
            sys.unraisablehook = seen.append
            try:
                sleep(1)
                gc.collect()
            finally:
                sys.unraisablehook = hook
    assert [issubclass(unraisable.exc_type, RuntimeWarning) for unraisable in seen] in ([True], [])


@either_sleep
def test_debug_mode_tells_where_a_sleep_that_is_never_awaited_was_made(either_loop, sleep):
    async def main():
        with pytest.warns(RuntimeWarning, match="was never awaited") as caught:
            sleep(1)
            gc.collect()
        return str(caught[0].message)

    if sleep is velodrome.sleep:
        # Asking costs, so that ours asks only from the first loop of ours in debug mode on.
        other = velodrome.new_event_loop()
        other.set_debug(True)
        other.close()
    either_loop.set_debug(True)
    message = either_loop.run_until_complete(main())
    assert "Coroutine created at" in message and "in main" in message


@either_sleep
def test_dropped_while_it_waits(either_loop, sleep):
    async def main():
        nap = sleep(1000)
        future = weakref.ref(nap.send(None))
        assert future() is not None
        del nap
        gc.collect()
        assert [timer for timer in either_loop._scheduled if not timer.cancelled()] == []
        # asyncio's timer keeps its future until it surfaces.
        assert future() is None or sleep is asyncio.sleep

    either_loop.run_until_complete(main())


def test_cancelled_sleeps_leave_nothing_behind(loop):
    async def main():
        gone = []
        for _ in range(100):
            task = loop.create_task(velodrome.sleep(1000))
            await velodrome.sleep(0)
            gone.append(weakref.ref(task._fut_waiter))
            task.cancel()
            await asyncio.wait([task])
            del task
        await velodrome.sleep(0)
        gc.collect()
        return [reference() for reference in gone if reference() is not None]

    assert loop.run_until_complete(main()) == []


def test_sleeping_tasks_in_cycles_are_freed_with_the_loop():
    def make():
        loop = velodrome.new_event_loop()
        loop.set_exception_handler(lambda loop, context: None)
        task = loop.create_task(velodrome.sleep(1000))
        task.loop = loop
        one_turn(loop)
        return weakref.ref(loop), weakref.ref(task)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gone = make()
        gc.collect()
    assert [reference() for reference in gone] == [None, None]


@either_sleep
def test_future_of_a_sleep_can_be_finished_by_others(either_loop, sleep):
    async def main():
        for finish in (lambda f: f.set_result("early"), lambda f: f.cancel("early"), lambda f: None):
            task = asyncio.create_task(sleep(0.001, "slept"))
            await asyncio.sleep(0)
            finish(task._fut_waiter)
            yield outcome_of(await asyncio.wait([task]))

    def outcome_of(done_and_pending):
        ((task,), _) = done_and_pending
        return outcome(task.result)

    async def collect():
        return [each async for each in main()]

    found = either_loop.run_until_complete(collect())
    # asyncio returns what its future got, which a sleep always sets to its result.
    assert found[1:] == [("CancelledError", "early"), ("returned", "slept")]
    assert found[0][0] == "returned"


# -- Bad delays --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "delay",
    [None, "1", b"1", [], object(), 1j, Decimal("0.001"), Decimal("-1"), 10**400, -(10**400)],
    ids=repr,
)
def test_delay_that_is_none(delay):
    def program(loop, sleep):
        try:
            return loop.run_until_complete(sleep(delay, "slept"))
        finally:
            assert [timer for timer in loop._scheduled if not timer.cancelled()] == []

    expected, _ = on_both(program, asyncio.sleep)
    for found in on_both(program, velodrome.sleep):
        assert found == expected


@pytest.mark.skipif(sys.version_info < (3, 13), reason="before 3.13 asyncio does not look")
def test_delay_that_is_not_a_number(either_loop):
    for sleep in (asyncio.sleep, velodrome.sleep):
        with pytest.raises(ValueError, match=r"^Invalid delay: NaN \(not a number\)$"):
            either_loop.run_until_complete(sleep(float("nan")))


def test_delay_that_is_not_a_number_ends(loop):
    """asyncio before 3.13 sleeps for no time, or breaks its loop."""
    kind, _ = outcome(loop.run_until_complete, velodrome.sleep(float("nan")))
    assert kind in ("returned", "ValueError")
    assert loop.run_until_complete(velodrome.sleep(0, "usable")) == "usable"


@either_sleep
@pytest.mark.parametrize("delay", [float("inf"), 1e300, 1e18, 10**18])
def test_sleep_for_ever_can_be_cancelled(either_loop, sleep, delay):
    task = either_loop.create_task(sleep(delay))
    turns(either_loop, 2)
    assert not task.done() and task.cancel()
    turns(either_loop, 2)
    assert task.cancelled()


def test_delay_is_compared_as_asyncio_compares_it(either_loop):
    """Numbers of other libraries."""

    class Number:
        def __init__(self, value):
            self.value = value

        def __le__(self, other):
            return self.value <= other

        def __ne__(self, other):
            return False

        def __radd__(self, other):
            return other + self.value

        def __float__(self):
            return float(self.value)

        __hash__ = None

    for sleep in (asyncio.sleep, velodrome.sleep):
        assert either_loop.run_until_complete(sleep(Number(-1), "slept")) == "slept"
        assert either_loop.run_until_complete(sleep(Number(0.001), "slept")) == "slept"


def test_sleep_on_a_closed_or_foreign_thread_loop_is_refused_in_debug_mode(either_loop):
    """The running loop is the thread's own, so that nothing of the kind can happen by accident."""

    async def main():
        return await velodrome.sleep(0.001, "slept")

    either_loop.set_debug(True)
    assert either_loop.run_until_complete(main()) == "slept"
