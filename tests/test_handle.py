"""Handle and TimerHandle: what asyncio's have, and what programs read and replace in them."""

import asyncio
import contextvars
import gc
import sys
import weakref

import pytest
import velodrome
from differential import worlds
from differential.compare import check_same, on_both, one_turn, outcome, plain

either_loop = worlds.either_loop


def note():
    """A callback."""


WAYS = {
    "call_soon": lambda loop, callback, *arguments: loop.call_soon(callback, *arguments),
    "call_soon_threadsafe": lambda loop, callback, *arguments: loop.call_soon_threadsafe(
        callback, *arguments
    ),
    "call_later": lambda loop, callback, *arguments: loop.call_later(-1, callback, *arguments),
    "call_at": lambda loop, callback, *arguments: loop.call_at(1, callback, *arguments),
}
ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@ways
def test_handle_is_one_of_asyncios(either_loop, way):
    handle = way(either_loop, note)
    assert isinstance(handle, asyncio.Handle)
    assert isinstance(handle, asyncio.TimerHandle) == (way in (WAYS["call_later"], WAYS["call_at"]))


@ways
def test_handle_is_one_of_what_takes_the_name_of_asyncios(either_loop, way):
    """So isinstance() and issubclass() answer alike where velodrome is installed."""
    handle = way(either_loop, note)
    for name in "Handle", "TimerHandle":
        ours, asyncios = getattr(velodrome, name), getattr(asyncio, name)
        assert isinstance(handle, ours) == isinstance(handle, asyncios)
        assert issubclass(type(handle), ours) == issubclass(type(handle), asyncios)
    assert issubclass(velodrome.TimerHandle, velodrome.Handle)
    assert not issubclass(velodrome.Handle, velodrome.TimerHandle)


def test_handles_of_ours_are_ours(loop):
    assert type(loop.call_soon(note)) is velodrome.Handle
    assert type(loop.call_later(1, note)) is velodrome.TimerHandle


@ways
def test_attributes_that_others_read(either_loop, way):
    handle = way(either_loop, note, 1, "two")
    assert handle._callback is note
    assert handle._args == (1, "two")
    assert handle._loop is either_loop
    assert handle._cancelled is False
    assert isinstance(handle._context, contextvars.Context)
    assert handle._source_traceback is None
    assert handle._repr is None
    if sys.version_info >= (3, 12):
        assert handle.get_context() is handle._context
    if isinstance(handle, asyncio.TimerHandle):
        assert handle._when == handle.when()
        assert handle._scheduled is True
    handle.cancel()
    assert handle._cancelled is True and handle._callback is None and handle._args is None


@ways
@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
def test_handle_shows_itself_as_asyncios_does(way, debug):
    def program(loop):
        loop.set_debug(debug)
        # A whole number of seconds, whatever the clock says.
        loop.time = lambda: 1000.0
        handle = way(loop, note, 1, "two")
        shown = [repr(handle)]
        handle.cancel()
        shown.append(repr(handle))
        handle.cancel()
        shown.append(repr(handle))
        ran = way(loop, note)
        one_turn(loop)
        shown.append(repr(ran))
        return [plain(text).replace("<_Thread", "<Thread") for text in shown]

    kind, shown = check_same(program)
    assert kind == "returned" and "note(" in shown[0]


def test_run_by_hand(either_loop):
    """Loops that wrap others call handle._run()."""
    seen = []
    for way in WAYS.values():
        handle = way(either_loop, seen.append, "ran")
        handle._run()
        handle.cancel()
    assert seen == ["ran"] * 4


def test_run_by_hand_tells_the_exception_handler(either_loop):
    contexts = []
    either_loop.set_exception_handler(lambda loop, context: contexts.append(context))
    handle = either_loop.call_soon(lambda: 1 / 0)
    handle._run()
    handle.cancel()
    assert contexts[0]["handle"] is handle and isinstance(contexts[0]["exception"], ZeroDivisionError)


@ways
def test_what_a_program_replaces_in_a_handle_is_what_runs(either_loop, way):
    """Tracers wrap handle._callback."""
    seen = []
    handle = way(either_loop, seen.append, "as given")
    handle._callback = lambda what: seen.append(["wrapped", what])
    way(either_loop, seen.append, "as given")._args = ("other arguments",)
    variable = contextvars.ContextVar("variable", default="unset")
    other = way(either_loop, lambda: seen.append(variable.get()))
    other._context = contextvars.Context()
    other._context.run(variable.set, "in another context")
    one_turn(either_loop)
    assert seen == [["wrapped", "as given"], "other arguments", "in another context"]


@ways
def test_handle_that_is_marked_as_cancelled_does_not_run(either_loop, way):
    seen = []
    handle = way(either_loop, seen.append, "ran")
    handle._cancelled = True
    one_turn(either_loop)
    assert seen == [] and handle.cancelled()


@ways
def test_cancelled_handle_lets_go_of_callback_and_arguments(either_loop, way):
    class Thing:
        def __call__(self, *arguments):
            pass

    callback, argument = Thing(), Thing()
    gone = weakref.ref(callback), weakref.ref(argument)
    handle = way(either_loop, callback, argument)
    del callback, argument
    handle.cancel()
    assert [reference() for reference in gone] == [None, None]


@ways
def test_handle_that_ran_keeps_its_callback(either_loop, way):
    handle = way(either_loop, note, 1)
    handle._callback = lambda _: None
    one_turn(either_loop)
    assert handle._callback is not None and handle._args == (1,) and not handle.cancelled()


@ways
def test_handle_that_ran_is_freed(either_loop, way):
    gone = weakref.ref(way(either_loop, int))
    one_turn(either_loop)
    assert gone() is None


@ways
def test_cycle_through_a_handle_is_freed(either_loop, way):
    class Callback:
        def __call__(self):
            pass

    def make():
        callback = Callback()
        callback.handle = way(either_loop, callback)
        return weakref.ref(callback)

    gone = make()
    one_turn(either_loop)
    gc.collect()
    assert gone() is None


def test_timers_compare_as_asyncios_do(either_loop):
    first = either_loop.call_at(1000, note)
    same = either_loop.call_at(1000, note)
    later = either_loop.call_at(2000, note)
    assert first < later and later > first and first <= same and first >= same
    assert first == same and first != later and hash(first) == hash(1000)
    assert first != either_loop.call_soon(note)
    assert sorted([later, first]) == [first, later]
    other = asyncio.TimerHandle(1500, note, (), either_loop)
    assert first < other < later
    with pytest.raises(TypeError):
        first < 3  # noqa: B015


def test_handle_has_weak_references_and_no_dict(either_loop):
    for way in WAYS.values():
        handle = way(either_loop, note)
        assert weakref.ref(handle)() is handle
        with pytest.raises(AttributeError):
            handle.anything = 1


def test_handles_can_be_made_by_hand(loop):
    seen = []
    handle = velodrome.Handle(seen.append, ("ran",), loop)
    assert handle._callback is not None and not handle.cancelled()
    loop._add_callback(handle)
    timer = velodrome.TimerHandle(1, seen.append, ("timer",), loop)
    assert timer.when() == 1 and "TimerHandle" in repr(timer)
    timer._run()
    timer.cancel()
    one_turn(loop)
    assert seen == ["timer", "ran"]
    with pytest.raises(TypeError):
        velodrome.Handle()


def test_handle_can_be_extended(loop):
    class Handle(velodrome.Handle):
        def _run(self):
            seen.append("before")
            super()._run()

    seen = []
    loop._add_callback(Handle(seen.append, ("ran",), loop))
    one_turn(loop)
    assert seen == ["before", "ran"]


@pytest.mark.parametrize("kind", ["Handle", "TimerHandle"])
def test_handle_that_was_not_initialised(kind):
    """An error, or an empty answer, and no crash; as with asyncio's."""

    def program(loop):
        class_ = getattr(asyncio if isinstance(loop, asyncio.SelectorEventLoop) else velodrome, kind)
        handle = class_.__new__(class_)
        return [
            outcome(call)[0]
            for call in (
                handle.cancelled,
                handle.cancel,
                handle._run,
                lambda: repr(handle),
                lambda: handle._args,
            )
        ]

    (_, expected), (_, found) = on_both(program)
    assert expected and [kind for kind in found if kind not in ("returned", "AttributeError")] == []


@pytest.mark.parametrize("class_", [asyncio.TimerHandle, velodrome.TimerHandle])
def test_a_loop_of_somebody_else_hears_of_a_cancelled_timer_once(class_):
    class OtherLoop:
        def __init__(self):
            self.told = []

        def get_debug(self):
            return False

        def _timer_handle_cancelled(self, timer):
            self.told.append((timer, timer.cancelled(), timer._callback))

    other = OtherLoop()
    timer = class_(1.0, note, (), other)
    timer.cancel()
    timer.cancel()
    assert other.told == [(timer, False, note)] and timer.cancelled()


@pytest.mark.parametrize("class_", [asyncio.TimerHandle, velodrome.TimerHandle])
def test_asyncios_loop_forgets_cancelled_timers_behind_one_that_waits(class_, monkeypatch):
    """As it does whose timers are ours because `install()` has put our class in place of asyncio's."""
    monkeypatch.setattr(asyncio.events, "TimerHandle", class_)
    loop = asyncio.unix_events._UnixSelectorEventLoop()
    try:
        loop.call_later(1000, note)
        for _ in range(500):
            loop.call_later(2000, note).cancel()
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert len(loop._scheduled) == 1
    finally:
        loop.close()


def test_millions_of_handles_leave_nothing_behind(loop):
    def count():
        gc.collect()
        return len(gc.get_objects())

    def work():
        for _ in range(1000):
            loop.call_soon(int)
            loop.call_later(-1, int)
            loop.call_later(1000, int).cancel()
            loop.call_soon(int).cancel()
            loop.call_soon_threadsafe(int)
        one_turn(loop)

    work()
    before = count()
    for _ in range(10):
        work()
    assert count() <= before + 50
