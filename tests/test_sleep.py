"""velodrome.sleep: a coroutine like asyncio's, for as long and with what it is given."""

import asyncio
import fractions
import inspect
import sys
from collections import abc
from decimal import Decimal

import pytest
import velodrome
from differential import worlds
from differential.compare import on_both, one_turn, outcome, turns
from differential.sleeps import either_sleep

either_loop = worlds.either_loop


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
