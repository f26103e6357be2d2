"""call_later, call_at and the clock: timers fire in the order of their times, and none is early."""

import asyncio
import random
import weakref

import pytest
from differential import worlds
from differential.compare import one_turn

either_loop = worlds.either_loop


def test_timers_fire_in_the_order_of_their_times(either_loop):
    seen = []
    base = either_loop.time()
    offsets = [number / 100_000 for number in range(300)]
    shuffled = offsets[:]
    random.Random(1).shuffle(shuffled)
    for offset in shuffled:
        either_loop.call_at(base + offset, seen.append, offset)
    either_loop.call_at(base + 0.004, either_loop.stop)
    either_loop.run_forever()
    assert seen == offsets


def test_timers_of_one_time_fire_in_the_order_in_which_they_were_made(loop):
    """asyncio leaves this to its heap; it is what programs hope for."""
    seen = []
    when = loop.time() + 0.001
    for number in range(500):
        loop.call_at(when, seen.append, number)
    loop.call_at(when, loop.stop)
    loop.run_forever()
    assert seen == list(range(500))


@pytest.mark.parametrize("delay", [-1, -0.5, -1000000, 0, 0.0, -0.0, False])
def test_timer_that_is_due_comes_after_what_is_ready(either_loop, delay):
    seen = []
    either_loop.call_later(delay, seen.append, "timer")
    either_loop.call_soon(seen.append, "soon")
    one_turn(either_loop)
    assert seen == ["soon", "timer"]


def test_negative_delays_keep_their_order(either_loop):
    seen = []
    for delay in (-1, -3, -2, 0, -4):
        either_loop.call_later(delay, seen.append, delay)
    one_turn(either_loop)
    assert seen == [-4, -3, -2, -1, 0]


def test_time_before_the_clock_began_is_due(either_loop):
    seen = []
    either_loop.call_at(-5, seen.append, "before")
    either_loop.call_at(0, seen.append, "at")
    one_turn(either_loop)
    assert sorted(seen) == ["at", "before"]


def test_times_before_the_clock_began_keep_their_order(either_loop):
    seen = []
    for when in (-1, -3, -2, -4):
        either_loop.call_at(when, seen.append, when)
    one_turn(either_loop)
    assert seen == [-4, -3, -2, -1]


@pytest.mark.parametrize("delay", [float("inf"), 1e300, 10**30, 1e10])
def test_timer_in_the_far_future_waits(either_loop, delay):
    handle = either_loop.call_later(delay, pytest.fail)
    either_loop.run_until_complete(asyncio.sleep(0.001))
    one_turn(either_loop)
    assert handle.when() >= delay
    handle.cancel()


def test_timer_is_not_early(either_loop):
    def check(when):
        late.append(either_loop.time() >= when)
        if len(late) == 20:
            either_loop.stop()

    late = []
    for number in range(20):
        when = either_loop.time() + number / 5000
        # asyncio allows itself the resolution of the clock.
        either_loop.call_at(when, check, when - 1e-9)
    either_loop.run_forever()
    assert all(late)


def test_first_of_two_due_timers_cancels_the_second(either_loop):
    seen = []
    either_loop.call_later(-2, lambda: (seen.append("first"), second.cancel()))
    second = either_loop.call_later(-1, seen.append, "second")
    one_turn(either_loop)
    one_turn(either_loop)
    assert seen == ["first"]


def test_callback_cancels_the_next(either_loop):
    seen = []
    either_loop.call_soon(lambda: second.cancel())
    second = either_loop.call_soon(seen.append, "cancelled")
    either_loop.call_soon(seen.append, "third")
    one_turn(either_loop)
    assert seen == ["third"]


def test_cancelled_timer_lets_go_of_its_callback_at_once(loop):
    class Callback:
        def __call__(self):
            pass

    callback = Callback()
    gone = weakref.ref(callback)
    handle = loop.call_later(1000, callback, callback)
    del callback
    assert gone() is not None and loop._scheduled == [handle]
    handle.cancel()
    assert gone() is None and loop._scheduled == []


def test_cancelled_timers_do_not_keep_the_loop_waiting(either_loop):
    for _ in range(200):
        either_loop.call_later(1000, pytest.fail).cancel()
    seen = []
    either_loop.call_later(0.001, lambda: (seen.append("fired"), either_loop.stop()))
    either_loop.run_forever()
    assert seen == ["fired"]


def test_timer_made_by_a_timer_that_is_due_fires_in_the_next_iteration(either_loop):
    seen = []

    def first():
        seen.append("first")
        either_loop.call_later(-1, seen.append, "second")

    either_loop.call_later(-1, first)
    one_turn(either_loop)
    assert seen == ["first"]
    one_turn(either_loop)
    assert seen == ["first", "second"]


def test_delay_may_be_any_number_that_adds_to_a_float(either_loop):
    import fractions

    seen = []
    handle = either_loop.call_later(fractions.Fraction(-1, 2), seen.append, "fraction")
    assert isinstance(handle.when(), float)
    either_loop.call_at(fractions.Fraction(1, 2), seen.append, "at a fraction")
    either_loop.call_later(True, seen.append, "a bool is a number").cancel()
    one_turn(either_loop)
    assert sorted(seen) == ["at a fraction", "fraction"]


def test_time_is_that_of_time_monotonic(either_loop):
    import time

    before = time.monotonic()
    between = either_loop.time()
    assert before <= between <= time.monotonic()
