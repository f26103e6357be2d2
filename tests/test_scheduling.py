"""call_soon, call_later, call_at, threads, iterations: who runs when."""

import asyncio
import collections
import contextvars
import gc
import logging
import random
import re
import socket
import subprocess
import sys
import threading
import types
import weakref

import pytest
import velodrome
from differential import worlds
from differential.compare import check_same, on_both, one_turn, outcome, plain

either_loop = worlds.either_loop


# -- Iterations -----------------------------------------------------------------------------------------


def test_callbacks_run_in_the_order_in_which_they_were_queued(either_loop):
    seen = []
    for number in range(1000):
        either_loop.call_soon(seen.append, number)
    one_turn(either_loop)
    assert seen == list(range(1000))


def test_iteration_runs_exactly_the_jobs_queued_when_it_began(either_loop):
    seen = []

    def again(number):
        seen.append(number)
        either_loop.call_soon(again, number + 1)

    again(0)
    for expected in range(1, 20):
        either_loop.stop()
        either_loop.run_forever()
        assert seen[-1] == expected


def test_stop_lets_the_iteration_end(either_loop):
    seen = []
    either_loop.call_soon(seen.append, "before")
    either_loop.call_soon(either_loop.stop)
    either_loop.call_soon(lambda: either_loop.call_soon(seen.append, "queued afterwards"))
    either_loop.call_soon(seen.append, "after")
    either_loop.run_forever()
    assert seen == ["before", "after"]
    one_turn(either_loop)
    assert seen == ["before", "after", "queued afterwards"]


def test_stop_of_a_loop_that_does_not_run_serves_what_is_ready_once(either_loop):
    seen = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"1")
        either_loop.add_reader(ours, seen.append, "readable")
        either_loop.call_soon(seen.append, "soon")
        either_loop.call_later(-1, seen.append, "due")
        either_loop.stop()
        either_loop.run_forever()
        assert seen == ["soon", "readable", "due"]
        either_loop.remove_reader(ours)


def test_stop_is_forgotten_when_the_loop_has_stopped(either_loop):
    either_loop.stop()
    either_loop.run_forever()
    assert either_loop.run_until_complete(asyncio.sleep(0, "ran")) == "ran"


def test_readiness_is_seen_after_as_many_turns_as_in_asyncio():
    def program(loop):
        ours, theirs = socket.socketpair()
        seen = []

        async def main():
            loop.add_reader(ours, lambda: seen.append(ours.recv(10)))
            counts = []
            for _ in range(5):
                theirs.send(b"x")
                count = 0
                while not seen:
                    count += 1
                    await asyncio.sleep(0)
                counts.append(count)
                seen.clear()
            loop.remove_reader(ours)
            return counts

        with ours, theirs:
            return loop.run_until_complete(main())

    kind, counts = check_same(program)
    assert kind == "returned" and len(counts) == 5


@pytest.mark.parametrize("every", ["1", "64", "0", "-1", "nonsense"])
def test_polling_as_told_changes_nothing(monkeypatch, every):
    monkeypatch.setenv("VELODROME_POLL_EVERY", every)

    def program(loop):
        seen = []

        async def main():
            for number in range(200):
                loop.call_later(0, seen.append, ("later", number))
                loop.call_soon(seen.append, number)
                await asyncio.sleep(0)

        loop.run_until_complete(main())
        return seen

    check_same(program)


def test_loop_that_is_always_busy_serves_other_threads(either_loop):
    arrived = []
    asked = threading.Event()

    def from_outside():
        asked.wait()
        either_loop.call_soon_threadsafe(arrived.append, True)

    async def main():
        asked.set()
        while not arrived:
            await asyncio.sleep(0)

    thread = threading.Thread(target=from_outside)
    thread.start()
    either_loop.run_until_complete(main())
    thread.join()


def test_loop_that_is_always_busy_lets_timers_fire(either_loop):
    fired = []

    async def main():
        either_loop.call_later(0.002, fired.append, True)
        while not fired:
            await asyncio.sleep(0)

    either_loop.run_until_complete(main())


# -- Threads --------------------------------------------------------------------------------------------


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


# -- Timers ---------------------------------------------------------------------------------------------


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


# -- Keywords and contexts ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda loop, callback: loop.call_soon(callback=callback),
        lambda loop, callback: loop.call_soon(callback, context=None),
        lambda loop, callback: loop.call_soon_threadsafe(callback=callback),
        lambda loop, callback: loop.call_later(delay=-1, callback=callback),
        lambda loop, callback: loop.call_later(-1, callback=callback),
        lambda loop, callback: loop.call_at(when=0, callback=callback, context=None),
        lambda loop, callback: loop.call_soon(),
        lambda loop, callback: loop.call_soon_threadsafe(),
        lambda loop, callback: loop.call_later(),
        lambda loop, callback: loop.call_later(1),
        lambda loop, callback: loop.call_at(),
        lambda loop, callback: loop.call_at(1),
        lambda loop, callback: loop.call_soon(callback, contxt=None),
        lambda loop, callback: loop.call_soon(callback, callback=callback),
        lambda loop, callback: loop.call_later(1, callback, delay=3),
        lambda loop, callback: loop.time(1),
        lambda loop, callback: loop.stop(1),
        lambda loop, callback: loop.is_running(1),
    ],
)
def test_arguments_are_taken_as_asyncio_takes_them(call):
    def program(loop):
        seen = []
        call(loop, lambda: seen.append("called"))
        one_turn(loop)
        return seen

    (expected, what), (found, same) = on_both(program)
    assert found == expected
    if expected == "returned":
        assert same == what


def test_callback_runs_in_the_context_that_was_given(either_loop):
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []
    context = contextvars.copy_context()
    context.run(variable.set, "given")

    def note():
        seen.append(variable.get())
        variable.set("changed")

    either_loop.call_soon(note, context=context)
    either_loop.call_soon(note, context=context)
    either_loop.call_later(-2, note, context=context)
    either_loop.call_at(0, note, context=contextvars.Context())
    either_loop.call_soon(note)
    either_loop.call_soon(note)
    one_turn(either_loop)
    assert sorted(seen) == sorted(["given", "changed", "changed", "unset", "unset", "unset"])
    assert variable.get() == "unset"


@pytest.mark.parametrize("context", [1, "context", {}])
def test_context_that_is_none(context):
    """asyncio finds out when the callback runs."""

    def program(loop):
        problems = []
        loop.set_exception_handler(lambda loop, context: problems.append(type(context["exception"]).__name__))
        loop.call_soon(lambda: problems.append("called"), context=context)
        loop.call_later(-1, lambda: problems.append("called"), context=context)
        one_turn(loop)
        return problems

    expected, found = on_both(program)
    assert found == expected


def test_context_that_is_entered_already(caplog):
    def program(loop):
        problems = []
        loop.set_exception_handler(lambda loop, context: problems.append(plain(str(context["exception"]))))
        context = contextvars.copy_context()

        def run():
            loop.call_soon(problems.append, "called", context=context)
            loop.call_later(-1, problems.append, "called", context=context)
            one_turn(loop)

        context.run(run)
        return problems, sorted(record.getMessage() for record in caplog.records)

    (expected, (problems, records)), (found, (our_problems, our_records)) = on_both(program)
    assert (found, our_problems) == (expected, problems)
    assert "called" not in problems and len(our_records) == 2 * len(records)


# -- Running within running -----------------------------------------------------------------------------


def skip_where_asyncio_is_confused(loop):
    if isinstance(loop, asyncio.SelectorEventLoop) and sys.version_info[:3] == (3, 13, 0):
        pytest.skip("asyncio 3.13.0 takes the refusal for the end of the run")


def test_running_a_running_loop_is_refused(either_loop):
    skip_where_asyncio_is_confused(either_loop)

    async def main():
        with pytest.raises(RuntimeError, match="^This event loop is already running$"):
            either_loop.run_forever()
        nap = asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="^This event loop is already running$"):
            either_loop.run_until_complete(nap)
        nap.close()
        await asyncio.sleep(0)
        assert asyncio.get_running_loop() is either_loop and either_loop.is_running()
        return "went on"

    assert either_loop.run_until_complete(main()) == "went on"


def test_running_another_loop_within_is_refused(either_loop):
    skip_where_asyncio_is_confused(either_loop)
    other = type(either_loop)()

    async def main():
        with pytest.raises(RuntimeError, match="^Cannot run the event loop while another loop is running$"):
            other.run_forever()
        assert asyncio.get_running_loop() is either_loop

    either_loop.run_until_complete(main())
    other.close()


def test_running_our_loop_within_asyncios_is_refused_and_the_other_way_round():
    ours, theirs = velodrome.new_event_loop(), asyncio.SelectorEventLoop()

    async def main(inner):
        with pytest.raises(RuntimeError, match="while another loop is running"):
            inner.run_forever()

    ours.run_until_complete(main(theirs))
    if sys.version_info[:3] != (3, 13, 0):
        theirs.run_until_complete(main(ours))
    ours.close()
    theirs.close()


def test_closing_a_running_loop_is_refused(either_loop):
    async def main():
        with pytest.raises(RuntimeError, match="^Cannot close a running event loop$"):
            either_loop.close()

    either_loop.run_until_complete(main())
    assert not either_loop.is_closed()


# -- Exceptions out of callbacks ------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, SystemExit(3)])
@pytest.mark.parametrize("how", ["soon", "later", "threadsafe", "task", "reader"])
def test_what_stops_the_loop_leaves_it_usable(either_loop, error, how):
    seen = []

    def fail():
        seen.append("failed")
        raise error

    async def task():
        fail()

    ours, theirs = socket.socketpair()
    with ours, theirs:
        either_loop.call_soon(seen.append, "before")
        if how == "soon":
            either_loop.call_soon(fail)
        elif how == "later":
            either_loop.call_later(-1, fail)
        elif how == "threadsafe":
            either_loop.call_soon_threadsafe(fail)
        elif how == "reader":
            theirs.send(b"1")
            either_loop.add_reader(ours, fail)
        else:
            failing = either_loop.create_task(task())
        either_loop.call_soon(seen.append, "after")
        with pytest.raises(type(error) if isinstance(error, BaseException) else error):
            either_loop.run_forever()
        assert asyncio._get_running_loop() is None
        assert not either_loop.is_running()
        if how == "reader":
            either_loop.remove_reader(ours)
        one_turn(either_loop)
    assert sorted(seen) == ["after", "before", "failed"]
    if how == "task":
        assert type(failing.exception()) is SystemExit or isinstance(failing.exception(), KeyboardInterrupt)
        assert asyncio.all_tasks(either_loop) == set()


def test_what_remains_of_an_interrupted_iteration_runs_first(either_loop):
    seen = []

    def fail():
        either_loop.call_soon(seen.append, "queued while failing")
        raise KeyboardInterrupt

    either_loop.call_soon(fail)
    either_loop.call_soon(seen.append, "remains")
    with pytest.raises(KeyboardInterrupt):
        either_loop.run_forever()
    either_loop.call_soon(seen.append, "queued afterwards")
    one_turn(either_loop)
    assert seen == ["remains", "queued while failing", "queued afterwards"]


class Halt(BaseException):
    pass


@pytest.mark.parametrize("error", [ValueError("no"), Halt("no"), asyncio.CancelledError(), GeneratorExit()])
@pytest.mark.parametrize("how", ["soon", "later", "threadsafe", "done"])
@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
def test_other_exceptions_go_to_the_exception_handler(error, how, debug):
    def program(loop):
        seen = []
        loop.set_debug(debug)

        def handler(handling_loop, context):
            assert handling_loop is loop and context["exception"] is error
            handle = context["handle"]
            assert isinstance(handle, asyncio.Handle) and handle._callback is fail
            assert (handle._source_traceback is None) == (context.get("source_traceback") is None)
            assert error.__traceback__ is not None
            # (A future shows the frame that made it: asyncio's create_future(), or our caller.)
            message = re.sub(r"<Future finis.*?>", "<Future>", plain(context["message"]))
            seen.append((message, sorted(context)))

        def fail(*arguments):
            raise error

        loop.set_exception_handler(handler)
        if how == "soon":
            loop.call_soon(fail, 1, "two")
        elif how == "later":
            loop.call_later(-1, fail)
        elif how == "threadsafe":
            loop.call_soon_threadsafe(fail, 1)
        else:
            future = loop.create_future()
            future.add_done_callback(fail)
            future.set_result(None)
        loop.call_soon(seen.append, "goes on")
        one_turn(loop)
        return seen

    kind, seen = check_same(program)
    assert kind == "returned" and len(seen) == 2


# -- The exception handler ------------------------------------------------------------------------------


def logged(caplog, program, loop):
    """What a program logs on a loop, without what differs from run to run."""
    caplog.clear()
    caplog.set_level(logging.DEBUG, logger="asyncio")
    program(loop)
    return [
        (record.levelname, plain(record.getMessage()), bool(record.exc_info)) for record in caplog.records
    ]


def check_same_log(caplog, program):
    (_, expected), (_, found) = on_both(lambda loop: logged(caplog, program, loop))
    assert found == expected
    return expected


def test_default_exception_handler_logs_as_asyncio(caplog):
    def program(loop):
        def fail(argument):
            raise ValueError("no")

        loop.call_soon(fail, 1)
        one_turn(loop)
        loop.call_exception_handler({"message": "by hand", "one": 1, "two": "2"})
        loop.call_exception_handler({"one": 1})

    records = check_same_log(caplog, program)
    assert len(records) == 3 and records[0][2]


def test_handler_that_raises_is_logged_with_the_first_error(caplog):
    def program(loop):
        def handler(loop, context):
            raise LookupError("in the handler")

        loop.set_exception_handler(handler)
        loop.call_soon(lambda: 1 / 0)
        one_turn(loop)
        assert loop.run_until_complete(asyncio.sleep(0, "goes on")) == "goes on"

    records = check_same_log(caplog, program)
    assert "Unhandled error in exception handler" in records[0][1]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_handler_may_stop_the_loop(either_loop, error):
    def handler(loop, context):
        raise error

    either_loop.set_exception_handler(handler)
    either_loop.call_soon(lambda: 1 / 0)
    with pytest.raises(error):
        either_loop.run_forever()
    either_loop.set_exception_handler(None)
    assert either_loop.run_until_complete(asyncio.sleep(0, "usable")) == "usable"


def test_default_handler_that_raises(caplog):
    class Mixin:
        def default_exception_handler(self, context):
            raise LookupError("in the default handler")

    def program(loop):
        loop.call_soon(lambda: 1 / 0)
        one_turn(loop)

    records = []
    for base in (asyncio.SelectorEventLoop, velodrome.Loop):
        loop = type("Loop", (Mixin, base), {})()
        records.append(logged(caplog, program, loop))
        loop.close()
    assert records[1] == records[0] and "Exception in default exception handler" in records[0][0][1]


def test_exception_handler_must_be_callable():
    def program(loop):
        assert loop.get_exception_handler() is None
        loop.set_exception_handler(print)
        assert loop.get_exception_handler() is print
        loop.set_exception_handler(None)
        assert loop.get_exception_handler() is None
        loop.set_exception_handler("handler")

    assert check_same(program)[0] == "TypeError"


def test_exception_handler_runs_in_the_callbacks_context(either_loop):
    """3.12 and later; before, the handler runs in the loop's own."""
    variable = contextvars.ContextVar("variable", default="unset")

    def program(loop):
        seen = []
        loop.set_exception_handler(lambda loop, context: seen.append(variable.get()))

        def fail():
            variable.set("set by the callback")
            raise ValueError

        async def failing():
            variable.set("set by the task")
            raise KeyError

        loop.call_soon(fail)
        one_turn(loop)
        task = loop.create_task(failing())
        one_turn(loop)
        del task
        gc.collect()
        return seen

    check_same(program)


# -- Debug mode -----------------------------------------------------------------------------------------


def test_slow_callbacks_are_logged_as_asyncio_logs_them(caplog):
    def program(loop):
        def named():
            pass

        async def coroutine():
            await asyncio.sleep(0)
            await future

        class Callable:
            def __call__(self, *arguments):
                pass

            def __repr__(self):
                return "Callable()"

            def method(self):
                pass

        loop.set_debug(True)
        # Everything is slow.
        loop.slow_callback_duration = 0
        future = loop.create_future()
        loop.call_soon(named)
        loop.call_soon(Callable(), 1, "two")
        loop.call_soon(Callable().method)
        loop.call_later(-1, named)
        loop.call_soon_threadsafe(named)
        cancelled = loop.call_soon(named)
        cancelled.cancel()
        task = loop.create_task(coroutine(), name="the task")
        one_turn(loop)
        one_turn(loop)
        future.set_result(None)
        one_turn(loop)
        assert task.done()

    def without_numbers(records):
        # asyncio's own callbacks: what reads its self-pipe.
        messages = [
            re.sub(r"\d\.\d{3} seconds", "SECONDS", re.sub(r"when=[\d.]+", "when=TIME", message)).replace(
                "<_Thread", "<Thread"
            )
            for _, message, _ in records
        ]
        return [message for message in messages if "_read_from_self" not in message]

    (_, expected), (_, found) = on_both(lambda loop: without_numbers(logged(caplog, program, loop)))
    assert found == expected
    assert len([message for message in expected if message.startswith("Executing ")]) >= 10


def test_slow_callback_duration_is_as_in_asyncio(either_loop):
    assert either_loop.slow_callback_duration == 0.1


def frames(traceback):
    """The frames of a source traceback from this file's last one on."""
    last = max(index for index, frame in enumerate(traceback) if frame.filename == __file__)
    return [(frame.filename, frame.name, frame.line) for frame in traceback[last:]]


def ways_to_make_something(loop):
    """Things that remember in debug mode where they were made, each made in a line of this function."""

    async def coroutine():
        pass

    async def inside():
        made["asyncio.create_task"] = asyncio.create_task(coroutine())
        made["ensure_future"] = asyncio.ensure_future(coroutine())
        made["asyncio.Future()"] = asyncio.Future()

    made = {}
    made["call_soon"] = loop.call_soon(print)
    made["call_soon_threadsafe"] = loop.call_soon_threadsafe(print)
    made["call_later"] = loop.call_later(100, print)
    made["call_at"] = loop.call_at(100, print)
    made["create_future"] = loop.create_future()
    made["create_task"] = loop.create_task(coroutine())
    made["create_task with a name"] = loop.create_task(coroutine(), name="name")
    loop.run_until_complete(inside())
    if sys.version_info >= (3, 12):
        loop.set_task_factory(asyncio.eager_task_factory)
        made["eager"] = loop.create_task(coroutine())
        loop.set_task_factory(None)
    return made


def test_source_tracebacks_end_where_asyncios_end():
    def program(loop):
        loop.set_debug(True)
        made = ways_to_make_something(loop)
        loop.run_until_complete(asyncio.sleep(0))
        tracebacks = {name: frames(thing._source_traceback) for name, thing in made.items()}
        # asyncio's has its own create_future() as well, which is no use.
        del tracebacks["create_future"][1:]
        return tracebacks

    kind, tracebacks = check_same(program)
    assert kind == "returned"
    assert tracebacks["call_soon"][-1][1] == "ways_to_make_something"


def test_source_tracebacks_of_our_own_functions_end_at_the_caller(loop):
    loop.set_debug(True)

    async def coroutine():
        pass

    async def inside():
        made = [velodrome.create_task(coroutine()), velodrome.Future(), velodrome.Task(coroutine())]
        return [thing._source_traceback[-1].name for thing in made]

    assert loop.run_until_complete(inside()) == ["inside"] * 3


def test_without_debug_mode_there_are_no_source_tracebacks(either_loop):
    made = ways_to_make_something(either_loop)
    assert {name for name, thing in made.items() if thing._source_traceback is not None} == set()
    either_loop.run_until_complete(asyncio.sleep(0))


def test_debug_mode_tracks_where_coroutines_come_from(either_loop):
    async def coroutine():
        pass

    def origin():
        made = coroutine()
        made.close()
        return made.cr_origin

    async def main():
        origins = [origin()]
        either_loop.set_debug(True)
        await asyncio.sleep(0)
        origins.append(origin())
        either_loop.set_debug(False)
        await asyncio.sleep(0)
        origins.append(origin())
        return origins

    before = sys.get_coroutine_origin_tracking_depth()
    origins = either_loop.run_until_complete(main())
    assert [origin is not None for origin in origins] == [False, True, False]
    assert origins[1][0][2] == "origin"
    either_loop.set_debug(True)
    either_loop.run_until_complete(asyncio.sleep(0))
    assert sys.get_coroutine_origin_tracking_depth() == before


def test_debug_mode_follows_the_environment(run_python):
    code = """
import asyncio, sys, velodrome
loop = velodrome.new_event_loop()
print(loop.get_debug(), asyncio.new_event_loop().get_debug())
"""
    assert run_python(code).stdout.split() == ["False", "False"]
    assert run_python(code, env={"PYTHONASYNCIODEBUG": "1"}).stdout.split() == ["True", "True"]
    assert run_python(code, options=("-X", "dev")).stdout.split() == ["True", "True"]


# -- Replaced methods -----------------------------------------------------------------------------------

REPLACED = [
    "call_soon",
    "call_later",
    "call_at",
    "time",
    "create_task",
    "create_future",
    "call_soon_threadsafe",
]


def recorder(name, calls, original):
    def method(*arguments, **options):
        if name == "time":
            calls.append("time")
        elif name in ("create_future", "create_task"):
            calls.append((name, sorted(options)))
        else:
            positional = [argument for argument in arguments if callable(argument)]
            shown = getattr(positional[0], "__qualname__", type(positional[0]).__name__)
            calls.append((name, shown, sorted(options)))
        return original(*arguments, **options)

    return method


async def busy_program(loop):
    """Something of everything that asyncio does through the loop's methods."""

    async def child(future):
        await asyncio.sleep(0)
        return await future

    future = loop.create_future()
    task = asyncio.create_task(child(future))
    loop.call_later(0, future.set_result, 1)
    assert await task == 1
    await asyncio.sleep(0.001)
    other = asyncio.ensure_future(child(future))
    assert await asyncio.gather(other, child(future)) == [1, 1]
    waiter = loop.create_future()
    task = loop.create_task(child(waiter), name="cancelled")
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(loop.create_future(), 0.001)
    event = asyncio.Event()
    loop.call_soon(event.set)
    await event.wait()
    callback = loop.create_future()
    callback.add_done_callback(lambda _: None)
    callback.set_result(None)
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError):
        await asyncio.current_task()
    return "done"


def wakeup_by_another_name(calls):
    """asyncio's C tasks queue steps as `TaskStepMethWrapper`; all that counts is that they do."""
    named = []
    for call in calls:
        if isinstance(call, tuple) and len(call) == 3:
            name = call[1]
            if "step" in name.lower() or "wakeup" in name.lower():
                call = (call[0], "step", call[2])
        named.append(call)
    return named


@pytest.mark.parametrize("name", REPLACED)
@pytest.mark.parametrize("where", ["instance", "subclass"])
def test_replaced_method_is_called_where_asyncio_calls_it(name, where):
    found = {}
    for base in (asyncio.SelectorEventLoop, velodrome.Loop):
        calls = []
        if where == "instance":
            loop = base()
            setattr(loop, name, recorder(name, calls, getattr(loop, name)))
        else:

            def method(self, *arguments, _base=base, _calls=calls, **options):
                original = types.MethodType(getattr(_base, name), self)
                return recorder(name, _calls, original)(*arguments, **options)

            loop = type("Replaced", (base,), {name: method})()
        assert loop.run_until_complete(busy_program(loop)) == "done"
        loop.close()
        found[base] = wakeup_by_another_name(calls)
    ours, theirs = found[velodrome.Loop], found[asyncio.SelectorEventLoop]
    if name == "time":
        # How often a loop looks at its own clock is its own affair, but look it must.
        assert ours and theirs
    else:
        assert ours == theirs


def test_method_replaced_while_the_loop_runs_counts_at_once(either_loop):
    calls = []

    async def main():
        await asyncio.sleep(0)
        either_loop.call_soon = recorder("call_soon", calls, either_loop.call_soon)
        await asyncio.sleep(0)
        assert len(calls) == 1
        del either_loop.call_soon
        await asyncio.sleep(0)
        assert len(calls) == 1

    either_loop.run_until_complete(main())


def test_method_replaced_on_the_class_counts(monkeypatch, loop):
    calls = []
    original = velodrome.Loop.call_soon

    def call_soon(self, *arguments, **options):
        calls.append(arguments)
        return original(self, *arguments, **options)

    monkeypatch.setattr(velodrome.Loop, "call_soon", call_soon, raising=False)
    loop.run_until_complete(asyncio.sleep(0))
    assert len(calls) >= 2


@pytest.mark.parametrize("sleep", [asyncio.sleep, velodrome.sleep], ids=["asyncio", "velodrome"])
def test_clock_that_a_program_replaced_is_the_loops_clock(either_loop, sleep):
    now = 1000.0
    either_loop.time = lambda: now
    seen = []

    async def sleeper():
        await sleep(50)
        seen.append("slept")

    either_loop.call_later(10, seen.append, "ten")
    at = either_loop.call_at(1005, seen.append, "five")
    assert at.when() == 1005
    assert either_loop.call_later(1, print).when() == 1001
    task = either_loop.create_task(sleeper())

    def turn():
        either_loop.stop()
        either_loop.run_forever()

    turn()
    assert seen == []
    now = 1005.0
    turn()
    assert seen == ["five"]
    now = 1049.0
    turn()
    assert seen == ["five", "ten"]
    now = 1051.0
    turn()
    turn()
    assert seen == ["five", "ten", "slept"] and task.done()


def test_replaced_create_future_serves_our_sleep():
    made = []

    class Future(asyncio.Future):
        pass

    class Loop(velodrome.Loop):
        def create_future(self):
            made.append(Future(loop=self))
            return made[-1]

    loop = Loop()
    loop.run_until_complete(velodrome.sleep(0.001))
    loop.close()
    assert len(made) == 1 and made[0].done()


def test_replaced_create_task_serves_our_create_task():
    made = []

    class Loop(velodrome.Loop):
        def create_task(self, coro, **options):
            made.append(options)
            return super().create_task(coro, **options)

    async def main():
        return await velodrome.create_task(asyncio.sleep(0, "slept"), name="mine")

    loop = Loop()
    assert loop.run_until_complete(main()) == "slept"
    loop.close()
    assert {"name": "mine"} in made


def test_replaced_task_class_is_used(monkeypatch, loop):
    """Where a program has put its own class in asyncio.tasks, the loop's tasks are of that class."""

    class Task(asyncio.Task):
        pass

    class Future(asyncio.Future):
        pass

    monkeypatch.setattr(asyncio.tasks, "Task", Task)
    monkeypatch.setattr(asyncio.futures, "Future", Future)

    async def main():
        return type(asyncio.current_task()), type(asyncio.get_running_loop().create_future())

    assert loop.run_until_complete(main()) == (Task, Future)


# -- The loop as an object ------------------------------------------------------------------------------


def test_loop_is_an_abstract_event_loop(loop):
    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert isinstance(loop, velodrome.Loop)


def test_loop_can_be_extended():
    class Loop(velodrome.Loop):
        __slots__ = ("slot",)

        def __init__(self, value):
            super().__init__()
            self.value = value

        def call_soon(self, callback, *arguments, context=None):
            self.value += 1
            return super().call_soon(callback, *arguments, context=context)

    loop = Loop(10)
    loop.slot = "in a slot"
    loop.run_until_complete(asyncio.sleep(0))
    assert loop.value > 10
    loop.close()


def test_loop_has_attributes_and_weak_references(either_loop):
    either_loop.anything = "mine"
    assert either_loop.__dict__["anything"] == "mine"
    assert weakref.ref(either_loop)() is either_loop
    assert {either_loop: 1}[either_loop] == 1


def test_closed_loop_is_freed():
    def make():
        loop = velodrome.new_event_loop()
        loop.call_later(1000, lambda: loop)
        loop.call_soon(lambda: loop)
        loop.close()
        return weakref.ref(loop)

    gone = make()
    gc.collect()
    assert gone() is None


@pytest.mark.filterwarnings("ignore:unclosed event loop", "ignore:Exception ignored")
@pytest.mark.parametrize(
    "tie",
    [
        lambda loop, end: loop.call_soon(lambda: loop),
        lambda loop, end: loop.call_soon_threadsafe(lambda: loop),
        lambda loop, end: loop.call_later(1000, lambda: loop),
        lambda loop, end: loop.add_reader(end, lambda: loop),
        lambda loop, end: loop.set_task_factory(lambda *arguments: loop),
        lambda loop, end: loop.set_exception_handler(lambda *arguments: loop),
        lambda loop, end: setattr(loop, "attribute", loop),
        lambda loop, end: setattr(loop, "call_soon", lambda: loop),
        lambda loop, end: setattr(loop, "future", loop.create_future()),
    ],
    ids=["soon", "threadsafe", "later", "reader", "factory", "handler", "attribute", "method", "future"],
)
def test_loop_in_a_cycle_is_freed(either_loop, tie):
    loop = type(either_loop)()
    ours, theirs = socket.socketpair()
    tie(loop, ours)
    gone = weakref.ref(loop)
    del loop
    gc.collect()
    assert gone() is None
    ours.close()
    theirs.close()


def test_loop_shows_its_state():
    def program(loop):
        shown = [repr(loop)]

        async def main():
            shown.append(repr(loop))

        loop.run_until_complete(main())
        loop.close()
        shown.append(repr(loop))
        return [plain(text) for text in shown]

    kind, shown = check_same(program)
    assert kind == "returned" and "running=True" in shown[1]


def test_loop_that_was_not_initialised():
    class Loop(velodrome.Loop):
        def __init__(self):
            pass

    loop = Loop()
    with pytest.raises(RuntimeError):
        loop.call_soon(print)
    with pytest.raises(RuntimeError):
        loop.call_later(1, print)
    with pytest.raises(RuntimeError):
        loop.add_reader(0, print)
    with pytest.raises((RuntimeError, AttributeError)):
        loop.run_forever()
    assert asyncio._get_running_loop() is None


def test_dropped_callbacks_may_call_the_loop(either_loop):
    """What is dropped when the loop closes may run code that uses the loop."""

    class Last:
        def __init__(self):
            self.outcomes = []

        def __del__(self):
            seen.append(outcome(either_loop.call_soon, print)[0])
            seen.append(outcome(either_loop.call_later, 1, print)[0])
            either_loop.is_closed()
            either_loop.remove_reader(0)

    seen = []
    either_loop.call_soon(print, Last())
    either_loop.call_later(1000, print, Last())
    either_loop.call_later(2000, print, Last()).cancel()
    either_loop.call_soon(print, Last()).cancel()
    assert seen == ["returned"] * 4
    either_loop.close()
    gc.collect()
    assert len(seen) == 8


# -- What others read -----------------------------------------------------------------------------------


def test_ready_holds_the_handles(either_loop):
    assert len(either_loop._ready) == 0
    handles = [either_loop.call_soon(print, number) for number in range(3)]
    assert list(either_loop._ready) == handles
    handles[1].cancel()
    assert len([handle for handle in either_loop._ready if not handle._cancelled]) == 2


def test_ready_holds_what_other_threads_queued(either_loop):
    handle = either_loop.call_soon_threadsafe(print)
    assert list(either_loop._ready) == [handle]
    handle.cancel()


def test_ready_holds_a_handle_per_task_step(either_loop):
    async def coroutine():
        pass

    task = either_loop.create_task(coroutine())
    (handle,) = either_loop._ready
    assert isinstance(handle, asyncio.Handle)
    assert handle._callback.__self__ is task
    assert handle._context is not None
    either_loop.run_until_complete(task)


def test_scheduled_holds_the_timers(either_loop):
    later = either_loop.call_later(2000, print)
    sooner = either_loop.call_later(1000, print)
    assert either_loop._scheduled[0] is sooner
    assert sorted(either_loop._scheduled) == [sooner, later]
    assert sooner._scheduled and sooner._when == sooner.when()


def test_thread_id_is_that_of_the_thread_that_runs(either_loop):
    async def main():
        return either_loop._thread_id

    assert either_loop._thread_id is None
    assert either_loop.run_until_complete(main()) == threading.get_ident()
    assert either_loop._thread_id is None


def test_private_attributes_and_methods(either_loop):
    assert either_loop._closed is False
    assert either_loop._debug is False
    assert either_loop._stopping is False
    assert either_loop._default_executor is None
    assert either_loop._exception_handler is None
    assert either_loop._task_factory is None
    assert either_loop._clock_resolution > 0
    assert dict(either_loop._signal_handlers) == {}
    assert either_loop._check_closed() is None
    assert either_loop._check_thread() is None
    either_loop.stop()
    assert either_loop._stopping is True
    either_loop.run_forever()
    either_loop._run_once  # noqa: B018
    either_loop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        either_loop._check_closed()


def test_single_iterations_by_hand(either_loop):
    """nest_asyncio and test harnesses drive loops with _run_once()."""
    seen = []

    def first():
        seen.append("first")
        either_loop.call_soon(seen.append, "second")

    either_loop.call_soon(first)
    asyncio._set_running_loop(either_loop)
    try:
        either_loop._run_once()
        assert seen == ["first"]
        either_loop._run_once()
        assert seen == ["first", "second"]
    finally:
        asyncio._set_running_loop(None)


def test_handles_of_others_can_be_queued(either_loop):
    """uvicorn and others make asyncio.Handle themselves."""
    seen = []
    either_loop._add_callback(asyncio.Handle(seen.append, ("theirs",), either_loop))
    cancelled = asyncio.Handle(seen.append, ("cancelled",), either_loop)
    cancelled.cancel()
    either_loop._add_callback(cancelled)
    one_turn(either_loop)
    assert seen == ["theirs"]


# -- Task factories -------------------------------------------------------------------------------------


async def nothing():
    return "nothing"


class Extended(asyncio.Task):
    pass


class ExtendedOurs(velodrome.Task):
    pass


@pytest.mark.parametrize(
    "task_class", [asyncio.Task, velodrome.Task, Extended, ExtendedOurs, asyncio.tasks._PyTask]
)
@pytest.mark.parametrize("form", ["two arguments", "keywords"])
def test_task_factory_makes_the_tasks(either_loop, task_class, form):
    made = []

    if form == "keywords":

        def factory(loop, coro, **options):
            made.append(sorted(options))
            return task_class(coro, loop=loop, **options)

    else:

        def factory(loop, coro):
            made.append([])
            return task_class(coro, loop=loop)

    async def main():
        task = asyncio.create_task(nothing())
        assert type(task) is task_class
        named = velodrome.create_task(nothing())
        assert type(named) is task_class
        return await task, await named

    either_loop.set_task_factory(factory)
    assert either_loop.get_task_factory() is factory
    assert either_loop.run_until_complete(main()) == ("nothing", "nothing")
    either_loop.set_task_factory(None)
    assert either_loop.get_task_factory() is None
    assert len(made) == 3


def test_task_factory_gets_what_asyncios_gets():
    def program(loop):
        got = []

        def factory(loop, coro, **options):
            got.append({name: str(value) for name, value in options.items() if name != "context"})
            got.append("context" in options)
            return asyncio.Task(coro, loop=loop, **options)

        async def main():
            names = []
            for options in (
                {},
                {"name": "anna"},
                {"context": contextvars.copy_context()},
                {"name": "anna", "context": contextvars.copy_context()},
                {"context": None},
                {"name": None},
            ):
                task = loop.create_task(nothing(), **options)
                names.append(plain(task.get_name()))
                await task
            return names

        loop.set_task_factory(factory)
        return loop.run_until_complete(main()), got

    check_same(program)


def test_old_task_factory_and_a_context():
    """asyncio's answer to a factory that does not know `context` depends on the version."""

    def program(loop):
        async def main():
            coro = nothing()
            try:
                task = loop.create_task(coro, context=contextvars.copy_context())
            except TypeError:
                coro.close()
                raise
            return await task

        loop.set_task_factory(lambda loop, coro: asyncio.Task(coro, loop=loop))
        return loop.run_until_complete(main())

    (expected, _), (found, _) = on_both(program)
    assert found == expected


@pytest.mark.parametrize("factory", ["text", 1, object()])
def test_task_factory_must_be_callable(factory):
    def program(loop):
        loop.set_task_factory(factory)

    assert check_same(program)[0] == "TypeError"


def test_task_factory_may_return_any_future(either_loop):
    def factory(loop, coro, **options):
        coro.close()
        future = loop.create_future()
        future.set_result("a future")
        future.set_name = lambda name: None
        return future

    either_loop.set_task_factory(factory)
    task = either_loop.create_task(nothing())
    either_loop.set_task_factory(None)
    assert either_loop.run_until_complete(task) == "a future"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
@pytest.mark.parametrize("task_class", [asyncio.Task, velodrome.Task, ExtendedOurs])
def test_eager_task_factory(either_loop, task_class):
    seen = []

    async def child(number):
        seen.append((number, "begins"))
        if number:
            await asyncio.sleep(0)
        seen.append((number, "ends"))
        return number

    async def main():
        me = asyncio.current_task()
        done = asyncio.create_task(child(0), name="done at once")
        assert done.done() and done.result() == 0 and type(done) is task_class
        assert asyncio.current_task() is me
        waiting = asyncio.create_task(child(1), name="waits")
        assert not waiting.done() and waiting in asyncio.all_tasks()
        assert done not in asyncio.all_tasks()
        seen.append("main")
        return await waiting

    either_loop.set_task_factory(asyncio.create_eager_task_factory(task_class))
    assert either_loop.run_until_complete(main()) == 1
    assert seen == [
        (0, "begins"),
        (0, "ends"),
        (1, "begins"),
        "main",
        (1, "ends"),
    ]


# -- asyncio's own functions ----------------------------------------------------------------------------


def test_asyncio_knows_loop_and_task(either_loop):
    """Also functions that were imported before velodrome."""

    async def child():
        return asyncio.current_task()

    async def main():
        assert asyncio.get_running_loop() is either_loop
        assert asyncio.get_event_loop() is either_loop
        assert asyncio._get_running_loop() is either_loop
        me = asyncio.current_task()
        assert asyncio.current_task(either_loop) is me
        task = asyncio.create_task(child())
        assert asyncio.all_tasks() == asyncio.all_tasks(either_loop) == {me, task}
        assert await task is task
        assert asyncio.current_task() is me
        assert asyncio.all_tasks() == {me}
        assert isinstance(me, asyncio.Task) and isinstance(me, asyncio.Future)
        assert isinstance(either_loop.create_future(), asyncio.Future)
        assert isinstance(either_loop.call_soon(print), asyncio.Handle)
        assert isinstance(either_loop.call_later(0, print), asyncio.TimerHandle)
        return me

    me = either_loop.run_until_complete(main())
    assert asyncio.current_task(either_loop) is None
    assert asyncio.all_tasks(either_loop) == set()
    assert me.done()
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


def test_callback_has_no_current_task(either_loop):
    seen = []
    either_loop.call_soon(lambda: seen.append(asyncio.current_task()))
    one_turn(either_loop)
    assert seen == [None]


def test_task_that_nobody_refers_to_stays_alive_while_it_is_scheduled(either_loop):
    seen = []

    async def child(name, *delays):
        for delay in delays:
            await asyncio.sleep(delay)
            gc.collect()
        seen.append(name)

    async def main():
        either_loop.create_task(child("at once"))
        either_loop.create_task(child("turns", 0, 0))
        either_loop.create_task(child("timers", 0.001, 0.001))
        gc.collect()
        while len(seen) < 3:
            await asyncio.sleep(0)
            gc.collect()

    either_loop.run_until_complete(main())
    assert seen[0] == "at once" and sorted(seen) == ["at once", "timers", "turns"]


# -- Fork -----------------------------------------------------------------------------------------------

FORK = """
import asyncio, gc, os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
if sys.argv[1] == "velodrome":
    import velodrome
    new_loop = velodrome.new_event_loop
else:
    new_loop = asyncio.SelectorEventLoop

async def child_main():
    await asyncio.sleep(0.001)
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon_threadsafe(future.set_result, "child ran")
    return await future

def child(parents):
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError as error:
        print("child:", error)
    else:
        print("child: running loop", loop)
    # What the parent's loop holds in the child must not reach the parent.
    parents.call_soon_threadsafe(print, "never")
    loop = new_loop()
    print("child:", loop.run_until_complete(child_main()), flush=True)
    loop.close()

async def main():
    loop = asyncio.get_running_loop()
    read, write = os.pipe()
    arrived = loop.create_future()
    loop.add_reader(read, lambda: arrived.done() or arrived.set_result(os.read(read, 10)))
    timer = asyncio.create_task(asyncio.sleep(0.01, "timer"))
    await asyncio.sleep(0)
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            child(loop)
            gc.collect()
            status = 0
        finally:
            sys.stdout.flush()
            os._exit(status)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        await asyncio.sleep(0.001)
    print("parent: child's status", status)
    assert asyncio.get_running_loop() is loop
    os.write(write, b"x")
    print("parent:", await arrived, await timer)
    other = loop.create_future()
    import threading
    threading.Thread(target=loop.call_soon_threadsafe, args=(other.set_result, "thread")).start()
    print("parent:", await other)
    loop.remove_reader(read)

loop = new_loop()
loop.run_until_complete(main())
loop.close()
"""


@pytest.mark.parametrize("name", ["asyncio", "velodrome"])
def test_fork_leaves_the_parents_loop_alone(run_python, name):
    assert run_python(FORK, name).stdout.splitlines() == [
        "child: no running event loop",
        "child: child ran",
        "parent: child's status 0",
        "parent: b'x' timer",
        "parent: thread",
    ]


FORK_IDLE = """
import asyncio, os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
if sys.argv[1] == "velodrome":
    import velodrome
    new_loop = velodrome.new_event_loop
else:
    new_loop = asyncio.SelectorEventLoop
loop = new_loop()
loop.run_until_complete(asyncio.sleep(0))
read, write = os.pipe()
loop.add_reader(read, print)
pid = os.fork()
if pid == 0:
    # The child may close its copy; the parent's registrations stay.
    loop.remove_reader(read)
    loop.close()
    os._exit(0)
os.waitpid(pid, 0)
future = loop.create_future()
loop.add_reader(read, lambda: future.set_result(os.read(read, 10)))
os.write(write, b"watched")
print(loop.run_until_complete(asyncio.wait_for(future, 10)))
loop.remove_reader(read)
loop.close()
"""


def test_closing_a_loop_in_the_child_leaves_the_parents_registrations(run_python):
    """asyncio fails here: its child unregisters in the epoll set that both share."""
    assert run_python(FORK_IDLE, "velodrome").stdout == "b'watched'\n"


# -- What a program may not do to us --------------------------------------------------------------------


def test_object_that_dies_in_the_ready_queue_may_call_soon(either_loop):
    """The queue must not be borrowed while an argument dies."""
    seen = []

    class Last:
        def __del__(self):
            seen.append("died")
            either_loop.call_soon(seen.append, "called")

    for _ in range(10):
        either_loop.call_soon(lambda _: None, Last())
    one_turn(either_loop)
    one_turn(either_loop)
    assert seen.count("died") == 10 and seen.count("called") == 10


def test_collector_runs_in_every_callback(either_loop):
    """The collector looks into the loop while it runs."""
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:

        async def child(number):
            await asyncio.sleep(0)
            return [number]

        async def main():
            results = await asyncio.gather(*[child(number) for number in range(50)])
            assert results == [[number] for number in range(50)]
            for number in range(50):
                either_loop.call_later(0, list, [number])
                either_loop.call_soon_threadsafe(list, [number])
            await asyncio.sleep(0)

        either_loop.run_until_complete(main())
    finally:
        gc.set_threshold(*threshold)


def test_interpreter_exits_with_a_running_loop(run_python):
    code = """
import asyncio, sys, velodrome
async def main():
    asyncio.get_running_loop().call_later(0, sys.exit, 7)
    task = asyncio.create_task(asyncio.sleep(1000))
    await asyncio.sleep(1000)
velodrome.new_event_loop().run_until_complete(main())
"""
    done = run_python(code, check=False)
    assert done.returncode == 7 and "Fatal" not in done.stderr


def test_loop_that_is_never_closed_warns(run_python):
    code = "import velodrome; loop = velodrome.new_event_loop(); del loop"
    done = run_python(code, options=("-W", "error::ResourceWarning"))
    assert "ResourceWarning: unclosed event loop <Loop" in done.stderr


def test_loop_left_behind_at_exit_is_no_crash(run_python):
    code = """
import asyncio, velodrome
loop = velodrome.new_event_loop()
loop.call_soon(print); loop.call_later(1, print)
task = loop.create_task(asyncio.sleep(1))
future = loop.create_future()
handle = loop.call_soon_threadsafe(print)
"""
    assert run_python(code).returncode == 0


def test_idle_loop_makes_one_system_call_per_wait(run_python):
    """Counted by the kernel, where it lets us."""
    code = """
import asyncio, sys, velodrome
async def main():
    for _ in range(100):
        await velodrome.sleep(0.001)
velodrome.run(main())
"""
    try:
        done = subprocess.run(
            [
                "strace",
                "-f",
                "-c",
                "-e",
                "trace=epoll_wait,epoll_pwait,epoll_pwait2,read",
                sys.executable,
                "-c",
                code,
            ],
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        pytest.skip("strace is not installed")
    if "Operation not permitted" in done.stderr:
        pytest.skip("strace may not trace here")
    calls = sum(int(line.split()[3]) for line in done.stderr.splitlines() if "epoll" in line)
    assert 100 <= calls <= 120
