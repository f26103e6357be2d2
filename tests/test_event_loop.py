"""The loop as an object: who may run it and where, its life, and what others and asyncio see of it."""

import asyncio
import gc
import selectors
import socket
import sys
import threading
import weakref

import pytest
import velodrome
from differential import worlds
from differential.compare import check_same, one_turn, outcome, plain

either_loop = worlds.either_loop


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


@pytest.mark.parametrize("kind", ["DefaultSelector", "SelectSelector", "PollSelector", "EpollSelector"])
@pytest.mark.parametrize("how", ["positional", "keyword", "derived"])
def test_selector_of_pythons_own_is_closed_with_the_loop(kind, how):
    class Derived(velodrome.Loop):
        def __init__(self, selector):
            super().__init__(selector)

    selector = getattr(selectors, kind)()
    if how == "derived":
        loop = Derived(selector)
    else:
        loop = velodrome.Loop(selector) if how == "positional" else velodrome.Loop(selector=selector)
    assert isinstance(loop, velodrome.Loop)
    assert loop.run_until_complete(asyncio.sleep(0, "result")) == "result"
    loop.close()
    loop.close()
    assert selector.get_map() is None


def test_selector_of_the_programs_own_is_asked_by_asyncios_loop():
    """prompt_toolkit gives asyncio.SelectorEventLoop one, to have a GUI's events handled while it waits."""

    class Selector(selectors.DefaultSelector):
        def select(self, timeout=None):
            asked.append(timeout)
            return super().select(timeout)

    class Derived(velodrome.Loop):
        pass

    asked = []
    loop = velodrome.Loop(Selector())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert asked
    assert not isinstance(loop, velodrome.Loop)
    with Selector() as selector, pytest.raises(TypeError, match="does not ask <.*Selector object at "):
        Derived(selector)


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
