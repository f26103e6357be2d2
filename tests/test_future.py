"""Future: the same answers as asyncio's, on any loop and for any task."""

import asyncio
import contextvars
import copy
import gc
import inspect
import pickle
import sys
import weakref
from collections import abc

import pytest
import velodrome
from differential import worlds
from differential.compare import check_same, garbage_stays_young, on_both, one_turn, outcome, plain, turns
from differential.interpreter import Halt, make_exception, show
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

either_loop = worlds.either_loop


@pytest.fixture(params=["asyncio", "velodrome"])
def future_class(request):
    return asyncio.Future if request.param == "asyncio" else velodrome.Future


class Extended(velodrome.Future):
    """A Python subclass."""


# Who it is shows in messages.
Extended.__name__ = "Future"


def future_of(loop, make=velodrome.Future):
    """A future of the kind that belongs to the loop."""
    return asyncio.Future(loop=loop) if isinstance(loop, asyncio.SelectorEventLoop) else make(loop=loop)


# -- Random histories ------------------------------------------------------------------------------------

numbers = st.integers(0, 2)
steps = st.one_of(
    st.tuples(st.just("set_result"), st.sampled_from([None, 1, "result"])),
    st.tuples(
        st.just("set_exception"),
        st.sampled_from(["value", "class", "cancelled", "halt", "exit", "nothing"]),
    ),
    st.tuples(st.just("cancel"), st.sampled_from([None, "message", 5])),
    st.tuples(st.just("result")),
    st.tuples(st.just("exception")),
    st.tuples(st.just("add"), numbers, st.booleans()),
    st.tuples(st.just("remove"), numbers),
    st.tuples(st.just("turn")),
    st.tuples(st.just("next")),
    st.tuples(st.just("send"), st.sampled_from([None, 3])),
    st.tuples(st.just("throw"), st.sampled_from(["value", "class", "stop", "halt"])),
    st.tuples(st.just("close")),
    st.tuples(st.just("new iterator")),
    st.tuples(st.just("blocking"), st.booleans()),
    st.tuples(st.just("log"), st.booleans()),
    st.tuples(st.just("message"), st.sampled_from(["message", None, 5])),
    st.tuples(st.just("error")),
)

ATTRIBUTES = [
    "_state",
    "_result",
    "_exception",
    "_log_traceback",
    "_asyncio_future_blocking",
    "_cancel_message",
    "_source_traceback",
]


@garbage_stays_young()
def live(loop, make, history):
    """Put a future through a history; return all that could be seen."""
    seen = []
    reports = []
    loop.set_exception_handler(lambda loop, context: reports.append((context["message"], sorted(context))))
    future = make(loop=loop)
    iterator = iter(future)

    def callback(number):
        return lambda done: seen.append(("callback", number, done is future))

    callbacks = [callback(number) for number in range(3)]
    for step, *arguments in history:
        match step:
            case "set_result":
                did = outcome(future.set_result, *arguments)
            case "set_exception":
                did = outcome(future.set_exception, make_exception(arguments[0], "text"))
            case "cancel":
                did = outcome(future.cancel, *arguments)
            case "result" | "exception":
                did = outcome(lambda step=step: show(getattr(future, step)(), tracebacks=False))
            case "add":
                number, context = arguments
                options = {"context": contextvars.Context()} if context else {}
                did = outcome(future.add_done_callback, callbacks[number], **options)
            case "remove":
                did = outcome(future.remove_done_callback, callbacks[arguments[0]])
            case "turn":
                did = outcome(one_turn, loop)
            case "next":
                did = outcome(lambda: next(iterator) is future)
            case "send":
                did = outcome(lambda: iterator.send(arguments[0]) is future)
            case "throw":
                did = outcome(iterator.throw, make_exception(arguments[0], "thrown"))
            case "close":
                did = outcome(iterator.close)
            case "new iterator":
                iterator = future.__await__()
                did = None
            case "blocking":
                did = outcome(setattr, future, "_asyncio_future_blocking", *arguments)
            case "log":
                did = outcome(setattr, future, "_log_traceback", *arguments)
            case "message":
                did = outcome(setattr, future, "_cancel_message", *arguments)
            case "error":
                error = future._make_cancelled_error()
                did = type(error).__name__, error.args
        if isinstance(did, tuple) and did[0] == "SystemError":
            did = "StopIteration", ""  # asyncio's iterator, used after its end, forgets to say so before 3.14
        if step == "next" and did == ("StopIteration", "None"):
            did = "StopIteration", ""  # from 3.14 on asyncio's says None outright
        seen.append((step, did))
        seen.append([show(getattr(future, name), tracebacks=False) for name in ATTRIBUTES])
        seen.append([future.done(), future.cancelled(), plain(repr(future))])
        listed = future._callbacks
        seen.append(listed and [callbacks.index(callback) for callback, context in listed])
    outcome(one_turn, loop)
    future = iterator = None
    gc.collect(0)
    return seen, reports


@pytest.mark.parametrize("make", [velodrome.Future, Extended])
@settings(
    max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
@given(history=st.lists(steps, max_size=8))
def test_future_lives_as_asyncios_does(make, history):
    loop = asyncio.SelectorEventLoop()
    try:
        expected = live(loop, asyncio.Future, history)
        found = live(loop, make, history)
    finally:
        loop.close()
    assert found == expected
    loop = velodrome.new_event_loop()
    try:
        assert live(loop, make, history) == expected
    finally:
        loop.close()


# -- What it is --------------------------------------------------------------------------------------------


def test_future_is_one_of_asyncios(either_loop, future_class):
    future = future_class(loop=either_loop)
    assert isinstance(future, asyncio.Future)
    assert issubclass(future_class, asyncio.Future)
    assert asyncio.isfuture(future)
    assert inspect.isawaitable(future) and isinstance(future, abc.Awaitable)
    assert not asyncio.iscoroutine(future) and not inspect.iscoroutine(future)
    assert not isinstance(future, abc.Coroutine) and not isinstance(future, abc.Iterator)
    assert isinstance(future, abc.Iterable)
    assert asyncio.ensure_future(future) is future
    assert asyncio.wrap_future(future) is future


def test_tasks_are_futures_too(either_loop):
    async def main():
        return asyncio.current_task()

    task = either_loop.run_until_complete(main())
    for future in (task, either_loop.create_future(), velodrome.Future(loop=either_loop)):
        assert isinstance(future, velodrome.Future) == isinstance(future, asyncio.Future) is True
    assert not isinstance(1, velodrome.Future) and not isinstance(either_loop.create_future(), velodrome.Task)
    assert issubclass(velodrome.Task, velodrome.Future) and issubclass(asyncio.Task, velodrome.Future)
    assert issubclass(velodrome.Task, asyncio.Task) and issubclass(velodrome.Task, asyncio.Future)
    assert not issubclass(velodrome.Future, velodrome.Task) and not issubclass(int, velodrome.Future)
    assert isinstance(task, asyncio.Task)
    assert not isinstance(asyncio.Future(loop=either_loop), Extended)
    assert not issubclass(asyncio.Future, Extended) and issubclass(Extended, velodrome.Future)
    with pytest.raises(TypeError):
        issubclass(1, velodrome.Future)


def test_future_has_attributes_and_weak_references(either_loop, future_class):
    future = future_class(loop=either_loop)
    future.anything = "mine"
    assert future.anything == "mine"
    del future.anything
    assert not hasattr(future, "anything")
    assert weakref.ref(future)() is future and {future: 1}[future] == 1
    with pytest.raises(AttributeError):
        future._state = "mine"
    for name in ("_asyncio_future_blocking", "_log_traceback"):
        with pytest.raises(AttributeError):
            delattr(future, name)


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, pickle.dumps])
def test_future_can_be_copied_as_little_as_asyncios(copier):
    def program(loop):
        return copier(future_of(loop))

    loops = [asyncio.SelectorEventLoop(), velodrome.new_event_loop()]
    kinds = [outcome(program, loop)[0] for loop in loops]
    for loop in loops:
        loop.close()
    assert kinds == ["TypeError"] * 2


def test_class_can_be_subscripted(future_class):
    assert future_class[int].__origin__ is future_class
    assert future_class[int].__args__ == (int,)


def test_future_finds_the_running_loop(either_loop, future_class):
    async def main():
        assert future_class().get_loop() is either_loop
        assert future_class(loop=None).get_loop() is either_loop

    either_loop.run_until_complete(main())


def test_future_without_any_loop():
    def program(loop):
        future_of(None, asyncio.Future)

    asyncio.set_event_loop(None)
    expected = outcome(lambda: asyncio.Future())
    assert outcome(lambda: velodrome.Future()) == expected and expected[0] in ("RuntimeError", "returned")


@pytest.mark.parametrize(
    "arguments, options",
    [((1,), {}), ((), {"lop": 1}), ((), {"loop": 1}), ((), {"loop": object()}), ((None,), {"loop": None})],
)
def test_bad_arguments_of_the_constructor(arguments, options):
    expected = outcome(asyncio.Future, *arguments, **options)
    assert outcome(velodrome.Future, *arguments, **options)[0] == expected[0] == "TypeError" or (
        expected[0] == "AttributeError"
    )


METHODS = [
    ("result", ()),
    ("exception", ()),
    ("set_result", (1,)),
    ("set_exception", (ValueError(),)),
    ("cancel", ()),
    ("cancelled", ()),
    ("done", ()),
    ("add_done_callback", (print,)),
    ("remove_done_callback", (print,)),
    ("get_loop", ()),
    ("__iter__", ()),
    ("__await__", ()),
    ("__repr__", ()),
    ("_make_cancelled_error", ()),
    ("__del__", ()),
]


@pytest.mark.parametrize("method, arguments", METHODS)
def test_future_that_was_not_initialised(method, arguments):
    """Whatever the answer is, it is no crash; and no method takes it for a future."""
    future = velodrome.Future.__new__(velodrome.Future, loop=None)
    for name in (*ATTRIBUTES, "_loop", "_callbacks"):
        outcome(getattr, future, name)
    kind, _ = outcome(getattr(future, method), *arguments) if hasattr(future, method) else ("returned", None)
    assert kind in ("RuntimeError", "InvalidStateError", "returned")
    if method in ("set_result", "set_exception", "cancel", "add_done_callback", "get_loop", "__await__"):
        assert kind == "RuntimeError"


@pytest.mark.parametrize(
    "call",
    [
        lambda future: future.set_result(),
        lambda future: future.set_result(1, 2),
        lambda future: future.set_result(result=1),
        lambda future: future.set_exception(),
        lambda future: future.set_exception(exception=ValueError()),
        lambda future: future.set_exception(1),
        lambda future: future.set_exception("text"),
        lambda future: future.set_exception(int),
        lambda future: future.add_done_callback(),
        lambda future: future.add_done_callback(print, 1),
        lambda future: future.add_done_callback(print, contxt=1),
        lambda future: future.add_done_callback(fn=print),
        lambda future: future.remove_done_callback(),
        lambda future: future.remove_done_callback(fn=print),
        lambda future: future.cancel(1),
        lambda future: future.cancel(1, 2),
        lambda future: future.cancel(msg=1),
        lambda future: future.cancel(message=1),
        lambda future: future.done(1),
        lambda future: future.result(1),
        lambda future: future.result(timeout=1),
        lambda future: future.exception(1),
        lambda future: setattr(future, "_log_traceback", True),
        lambda future: setattr(future, "_log_traceback", 0),
        lambda future: setattr(future, "_asyncio_future_blocking", 1),
        lambda future: setattr(future, "_loop", None),
    ],
)
def test_arguments_are_taken_as_asyncio_takes_them(call):
    def program(loop):
        future = future_of(loop)
        return call(future), future._state

    loops = [asyncio.SelectorEventLoop(), velodrome.new_event_loop()]
    expected, found = (outcome(program, loop) for loop in loops)
    for loop in loops:
        loop.close()
    assert found[0] == expected[0]
    if expected[0] == "returned":
        assert found == expected


def test_initialising_again():
    """Until 3.14 it begins anew; from 3.15 on it is an error."""

    def program(loop):
        future = future_of(loop)
        future.set_result(1)
        future.add_done_callback(print)
        future.__init__(loop=loop)
        return future._state, future._callbacks, future._result

    check_same(program)


# -- Callbacks ---------------------------------------------------------------------------------------------


def test_callbacks_run_in_order_each_in_its_context(either_loop, future_class):
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []
    future = future_class(loop=either_loop)
    for number in range(5):
        context = contextvars.copy_context()
        context.run(variable.set, number)
        future.add_done_callback(
            lambda done, number=number: seen.append((number, variable.get(), done is future)), context=context
        )
    future.add_done_callback(lambda _: seen.append(variable.get()))
    future.set_result(None)
    assert seen == []
    one_turn(either_loop)
    assert seen == [(number, number, True) for number in range(5)] + ["unset"]


def test_waiting_tasks_and_callbacks_are_told_in_the_order_in_which_they_came(either_loop, future_class):
    seen = []

    async def waiter(name, future):
        await future
        seen.append(name)

    async def main():
        future = future_class(loop=either_loop)
        expected, tasks = [], []
        for number in range(6):
            if number % 2:
                expected.append(("callback", number))
                future.add_done_callback(lambda _, number=number: seen.append(("callback", number)))
            else:
                expected.append(("task", number))
                tasks.append(asyncio.create_task(waiter(("task", number), future)))
                await asyncio.sleep(0)
        assert len(future._callbacks) == 6
        future.set_result(None)
        assert future._callbacks is None
        await asyncio.sleep(0)
        assert seen == expected

    either_loop.run_until_complete(main())


def test_removing_a_callback_removes_all_that_are_equal(either_loop, future_class):
    class Callback:
        def __init__(self, key):
            self.key = key

        def __eq__(self, other):
            return isinstance(other, Callback) and self.key == other.key

        def __call__(self, future):
            seen.append(self.key)

        __hash__ = None

    seen = []
    future = future_class(loop=either_loop)
    for key in (1, 2, 1, 3, 1):
        future.add_done_callback(Callback(key))
    assert future.remove_done_callback(Callback(1)) == 3
    assert future.remove_done_callback(Callback(1)) == 0
    future.set_result(None)
    one_turn(either_loop)
    assert seen == [2, 3]


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("what", ["remove", "add", "clear", "finish"])
def test_comparing_callbacks_may_change_the_list(either_loop, size, what):
    """A crash in older CPythons; whatever happens, the future lives."""

    class Evil:
        def __eq__(self, other):
            if what == "remove":
                future.remove_done_callback(plain_callback)
            elif what == "add":
                future.add_done_callback(plain_callback)
            elif what == "finish":
                if not future.done():
                    future.set_result(None)
            else:
                for callback, _ in future._callbacks or ():
                    if callback is plain_callback:
                        future.remove_done_callback(callback)
            return False

        __hash__ = None

    def plain_callback(_):
        called.append(1)

    called = []
    future = velodrome.Future(loop=either_loop)
    for _ in range(size):
        future.add_done_callback(plain_callback)
    future.remove_done_callback(Evil())
    if not future.done():
        future.set_result(None)
    turns(either_loop, 3)
    assert future._callbacks is None and len(called) <= 2 * size


def test_comparison_that_fails_is_passed_on(either_loop, future_class):
    class Evil:
        def __eq__(self, other):
            raise LookupError("no comparison")

        __hash__ = None

    future = future_class(loop=either_loop)
    for _ in range(3):
        future.add_done_callback(print)
    with pytest.raises(LookupError):
        future.remove_done_callback(Evil())
    assert len(future._callbacks) == 3


def test_waiting_task_can_be_removed_like_a_callback(either_loop):
    """_callbacks lists what wakes a waiting task; to remove_done_callback() it is one of them."""

    async def waiter():
        await future

    future = either_loop.create_future()
    task = either_loop.create_task(waiter())
    one_turn(either_loop)
    ((wakeup, context),) = future._callbacks
    assert wakeup.__self__ is task
    assert future.remove_done_callback(wakeup) == 1
    assert future._callbacks is None
    future.set_result(None)
    turns(either_loop, 2)
    assert not task.done()
    either_loop.call_soon(wakeup, future)
    one_turn(either_loop)
    assert task.done()


def test_callback_added_to_a_done_future_runs_soon(either_loop, future_class):
    seen = []
    future = future_class(loop=either_loop)
    future.set_result(1)
    future.add_done_callback(seen.append)
    assert seen == [] and future._callbacks is None
    one_turn(either_loop)
    assert seen == [future]


def test_future_of_a_closed_loop(future_class):
    def program(loop):
        future = future_of(loop)
        future.add_done_callback(print)
        future.add_done_callback(print)
        empty = future_of(loop)
        loop.close()
        outcomes = [outcome(future.set_result, 1), future._state, future._callbacks]
        outcomes.append(outcome(future.add_done_callback, print))
        outcomes += [outcome(empty.set_exception, ValueError()), empty._state, outcome(empty.exception)[0]]
        return outcomes

    kind, outcomes = check_same(program)
    assert kind == "returned" and outcomes[0] == ("RuntimeError", "Event loop is closed")


# -- Results and exceptions --------------------------------------------------------------------------------


async def wait_for(future):
    return await future


@pytest.mark.parametrize("kind", [ValueError, Halt, asyncio.CancelledError, TimeoutError])
@pytest.mark.parametrize("raised_before", [False, True])
def test_exception_has_the_traceback_that_asyncio_gives_it_however_often_it_is_raised(kind, raised_before):
    def program(loop):
        error = kind("no")

        def origin():
            raise error

        def names(traceback):
            found = []
            while traceback:
                found.append(traceback.tb_frame.f_code.co_name)
                traceback = traceback.tb_next
            return found

        async def main():
            future = future_of(loop)
            if raised_before:
                try:
                    origin()
                except BaseException as caught:
                    future.set_exception(caught)
            else:
                future.set_exception(error)
            seen = []
            for _ in range(3):
                try:
                    await wait_for(future)
                except BaseException as caught:
                    assert caught is error
                    seen.append(names(caught.__traceback__))
                seen.append(names(future.exception().__traceback__))
                try:
                    future.result()
                except BaseException as caught:
                    seen.append(names(caught.__traceback__))
            return seen

        return loop.run_until_complete(main())

    (kind, expected), (_, found) = on_both(program)
    assert kind == "returned" and found == expected


def chain(error):
    """The types of an exception and those of its contexts."""
    names = []
    while error is not None:
        names.append(type(error).__name__)
        error = error.__context__
    return names


@pytest.mark.parametrize("how", ["result", "await", "exception"])
@pytest.mark.parametrize("outcome_", ["error", "cancelled"])
@pytest.mark.parametrize("kind", ["future", "task"])
def test_exception_raised_while_another_is_handled_has_it_as_context(either_loop, how, outcome_, kind):
    async def fail():
        if outcome_ == "error":
            raise KeyError("of the future")
        raise asyncio.CancelledError

    async def main():
        if kind == "task":
            future = either_loop.create_task(fail())
            await asyncio.wait([future])
        else:
            future = either_loop.create_future()
            if outcome_ == "error":
                future.set_exception(KeyError("of the future"))
            else:
                future.cancel()
        try:
            try:
                raise ValueError("handled")
            except ValueError:
                if how == "result":
                    future.result()
                elif how == "await":
                    await future
                else:
                    raise future.exception()
        except (KeyError, asyncio.CancelledError) as error:
            return chain(error)

    expected = ["KeyError" if outcome_ == "error" else "CancelledError", "ValueError"]
    assert either_loop.run_until_complete(main()) == expected


def test_exception_that_a_waiting_task_gets_while_it_handles_another(either_loop):
    async def main(future):
        try:
            raise ValueError("handled")
        except ValueError:
            await future

    def run(finish):
        future = either_loop.create_future()
        task = either_loop.create_task(main(future))
        one_turn(either_loop)
        finish(future, task)
        turns(either_loop, 2)
        try:
            task.result()
        except BaseException as error:
            return chain(error)

    assert run(lambda future, task: future.set_exception(KeyError())) == ["KeyError", "ValueError"]
    assert run(lambda future, task: future.cancel()) == ["CancelledError", "ValueError"]
    assert run(lambda future, task: task.cancel()) == ["CancelledError", "ValueError"]


def test_error_of_a_method_has_what_is_handled_as_context(either_loop, future_class):
    future = future_class(loop=either_loop)
    for call in (future.result, future.exception, lambda: future.set_exception(1)):
        try:
            try:
                raise ValueError("handled")
            except ValueError:
                call()
        except Exception as error:
            assert chain(error)[1:] == ["ValueError"]


@pytest.mark.parametrize(
    "value", [StopIteration("v"), StopIteration, StopAsyncIteration("v"), GeneratorExit("v")]
)
def test_exceptions_that_end_iterations(value):
    """What becomes of StopIteration has changed within 3.11 and 3.12."""

    def program(loop):
        future = future_of(loop)
        seen = [outcome(future.set_exception, value), future._state]
        if future.done():
            error = future.exception()
            seen += [type(error).__name__, str(error), chain(error), type(error.__cause__).__name__]
            seen.append(outcome(loop.run_until_complete, wait_for(future)))
        return seen

    check_same(program)


@pytest.mark.parametrize(
    "value",
    [(1, 2), (), StopIteration(1), ValueError, KeyError("x"), None, [], "text", (1,), BaseException()],
)
def test_any_result_arrives_as_it_is(either_loop, future_class, value):
    """Values that a StopIteration could take for something else."""
    future = future_class(loop=either_loop)
    future.set_result(value)
    assert either_loop.run_until_complete(wait_for(future)) is value
    iterator = iter(future)
    with pytest.raises(StopIteration) as caught:
        iterator.send(None)
    assert caught.value.value is value
    iterator = future.__await__()
    with pytest.raises(StopIteration) as caught:
        next(iterator)
    assert caught.value.value is value


def test_stop_iteration_that_escapes_stays_as_it_was(either_loop, future_class):
    """The exception object that brings a result may be reused, but never one that somebody has seen."""
    kept = []
    for number in range(5):
        future = future_class(loop=either_loop)
        future.set_result([number])
        try:
            future.__await__().send(None)
        except StopIteration as stop:
            kept.append(stop)
    assert either_loop.run_until_complete(wait_for(future)) == [4]
    assert [stop.value for stop in kept] == [[number] for number in range(5)]
    assert len({id(stop) for stop in kept}) == 5


def test_yield_from_a_future(either_loop, future_class):
    import types

    @types.coroutine
    def old(future):
        return (yield from future)

    async def main():
        future = future_class(loop=either_loop)
        either_loop.call_soon(future.set_result, "result")
        return await old(future)

    assert either_loop.run_until_complete(main()) == "result"


def test_cancelled_error_is_made_anew_for_everybody(either_loop, future_class):
    future = future_class(loop=either_loop)
    future.cancel("message")
    errors = []
    for _ in range(2):
        with pytest.raises(asyncio.CancelledError) as caught:
            future.result()
        errors.append(caught.value)
    assert [error.args for error in errors] == [("message",)] * 2 and errors[0] is not errors[1]


# -- Exceptions that nobody asks for -----------------------------------------------------------------------


def reports_of(loop):
    reports = []
    loop.set_exception_handler(lambda loop, context: reports.append(context))
    return reports


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
def test_exception_never_retrieved_is_reported_as_by_asyncio(debug):
    def program(loop):
        loop.set_debug(debug)
        reports = reports_of(loop)
        error = ValueError("nobody asked")
        future = future_of(loop)
        future.set_exception(error)
        del future
        gc.collect()
        (context,) = reports
        assert context["exception"] is error
        assert (context.get("source_traceback") is not None) == debug
        return context["message"], sorted(context), plain(repr(context["future"])).partition(" created")[0]

    kind, (message, *_) = check_same(program)
    assert message == "Future exception was never retrieved"


@pytest.mark.parametrize(
    "retrieve",
    [
        lambda future, loop: future.exception(),
        lambda future, loop: outcome(future.result),
        lambda future, loop: outcome(loop.run_until_complete, wait_for(future)),
        lambda future, loop: outcome(loop.run_until_complete, future),
        lambda future, loop: future.cancel(),
        lambda future, loop: setattr(future, "_log_traceback", False),
    ],
)
def test_exception_that_was_retrieved_is_not_reported(either_loop, future_class, retrieve):
    reports = reports_of(either_loop)
    future = future_class(loop=either_loop)
    future.set_exception(ValueError())
    assert future._log_traceback is True
    retrieve(future, either_loop)
    assert future._log_traceback is False
    del future
    gc.collect()
    assert reports == []


def test_report_while_the_future_is_in_a_cycle(either_loop, future_class):
    reports = reports_of(either_loop)
    future = future_class(loop=either_loop)
    future.itself = future
    future.set_exception(ValueError())
    del future
    gc.collect()
    assert [context["message"] for context in reports] == ["Future exception was never retrieved"]


def test_handler_may_keep_the_future_that_dies(either_loop, future_class):
    kept = []
    either_loop.set_exception_handler(lambda loop, context: kept.append(context["future"]))
    future = future_class(loop=either_loop)
    future.set_exception(ValueError("kept"))
    del future
    gc.collect()
    assert isinstance(kept[0].exception(), ValueError) and kept[0].done()
    kept.clear()
    gc.collect()
    assert kept == []


# -- Subclasses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [asyncio.Future, velodrome.Future])
def test_overridden_methods_of_a_subclass_are_called(either_loop, base):
    calls = []

    class Future(base):
        def add_done_callback(self, callback, *, context=None):
            calls.append("add_done_callback")
            super().add_done_callback(callback, context=context)

        def result(self):
            calls.append("result")
            return super().result()

        def cancel(self, msg=None):
            calls.append("cancel")
            return super().cancel(msg)

        def set_result(self, value):
            calls.append("set_result")
            super().set_result(value)

    async def main():
        future = Future(loop=either_loop)
        either_loop.call_soon(future.set_result, "value")
        assert await future == "value"
        future = Future(loop=either_loop)
        task = either_loop.create_task(wait_for(future))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert future.cancelled()

    either_loop.run_until_complete(main())
    assert [call for call in calls if call != "result"] == [
        *("add_done_callback", "set_result"),
        *("add_done_callback", "cancel"),
    ]
    assert "result" in calls


def test_subclass_with_its_own_constructor_and_del(either_loop):
    deleted = []

    class Future(velodrome.Future):
        def __init__(self, value, **options):
            super().__init__(**options)
            self.value = value

        def __del__(self):
            deleted.append(self.value)

    future = Future(5, loop=either_loop)
    future.set_result(1)
    assert either_loop.run_until_complete(wait_for(future)) == 1
    del future
    gc.collect()
    assert deleted == [5]


def test_duck_typed_future_is_awaited(either_loop):
    """A class of its own with asyncio's protocol: `_asyncio_future_blocking` and `add_done_callback`."""

    class Duck:
        _asyncio_future_blocking = False

        def __init__(self, loop):
            self.inner = loop.create_future()

        def get_loop(self):
            return self.inner.get_loop()

        def add_done_callback(self, callback, *, context):
            self.inner.add_done_callback(lambda _: callback(self), context=context)

        def result(self):
            return self.inner.result()

        def cancel(self, msg=None):
            return self.inner.cancel(msg)

        def __await__(self):
            if not self.inner.done():
                self._asyncio_future_blocking = True
                yield self
            return self.inner.result()

    async def main(duck):
        return await duck

    duck = Duck(either_loop)
    task = either_loop.create_task(main(duck))
    one_turn(either_loop)
    assert task._fut_waiter is duck and duck._asyncio_future_blocking is False
    duck.inner.set_result("quack")
    assert either_loop.run_until_complete(task) == "quack"

    duck = Duck(either_loop)
    task = either_loop.create_task(main(duck))
    one_turn(either_loop)
    task.cancel("message")
    turns(either_loop, 2)
    assert task.cancelled() and duck.inner.cancelled()


# -- Memory ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tie",
    [
        lambda future: future.set_result(future),
        lambda future: future.add_done_callback(lambda _: future),
        lambda future: [future.add_done_callback(lambda _: future) for _ in range(3)],
        lambda future: setattr(future, "itself", future),
        lambda future: future.cancel([future]),
        lambda future: setattr(future, "iterator", iter(future)),
    ],
)
def test_cycle_through_a_future_is_freed(either_loop, future_class, tie):
    future = future_class(loop=either_loop)
    tie(future)
    gone = weakref.ref(future)
    del future
    gc.collect()
    assert gone() is None


def test_outcome_lives_as_long_as_the_future(either_loop, future_class):
    class Thing:
        pass

    future = future_class(loop=either_loop)
    thing = Thing()
    gone = weakref.ref(thing)
    future.set_result(thing)
    del thing
    either_loop.run_until_complete(wait_for(future))
    assert gone() is future.result()
    del future
    assert gone() is None


def test_done_future_lets_go_of_its_callbacks(either_loop, future_class):
    class Callback:
        def __call__(self, future):
            pass

    future = future_class(loop=either_loop)
    callback = Callback()
    gone = weakref.ref(callback)
    future.add_done_callback(callback)
    del callback
    future.set_result(None)
    one_turn(either_loop)
    assert gone() is None


def test_result_that_a_stop_iteration_brought_is_not_kept(either_loop):
    """The StopIteration that brings results is reused: it must not hold on to the last one."""

    class Thing:
        pass

    async def main():
        gone = []
        for _ in range(3):
            future = either_loop.create_future()
            thing = Thing()
            gone.append(weakref.ref(thing))
            future.set_result(thing)
            del thing
            await future
            del future
        return [reference() for reference in gone]

    assert either_loop.run_until_complete(main()) == [None] * 3


CHAIN = """
import asyncio, gc, sys, velodrome
loop = velodrome.new_event_loop()
new_future = {"ours": loop.create_future, "asyncio's": lambda: asyncio.Future(loop=loop)}[sys.argv[1]]
last = None
for _ in range(int(sys.argv[2])):
    future = new_future()
    future.set_result(last)
    last = future
del future, last
gc.collect()
last = None
for _ in range(int(sys.argv[2])):
    future = new_future()
    future.add_done_callback(last)
    last = future.set_result
del future, last
gc.collect()
print("freed")
"""


@pytest.mark.skipif(sys.version_info < (3, 14), reason="freeing asyncio's own futures recurses there, too")
def test_long_chain_of_futures_is_freed(run_python):
    """As a linked list: freeing one frees the next, and the machine's stack has an end."""
    assert run_python(CHAIN, "ours", 300_000).stdout == "freed\n"


def test_awaited_by_shows_who_waits(either_loop):
    if sys.version_info < (3, 14):
        pytest.skip("_asyncio_awaited_by came with 3.14")

    async def main():
        future = either_loop.create_future()
        assert future._asyncio_awaited_by is None
        tasks = {either_loop.create_task(wait_for(future)) for _ in range(2)}
        await asyncio.sleep(0)
        assert set(future._asyncio_awaited_by) == tasks
        future.set_result(None)
        await asyncio.wait(tasks)
        assert not future._asyncio_awaited_by
        task = either_loop.create_task(asyncio.sleep(0))
        outer = either_loop.create_task(wait_for(task))
        await asyncio.sleep(0)
        assert set(task._asyncio_awaited_by) == {outer}
        await outer
        assert not task._asyncio_awaited_by

    either_loop.run_until_complete(main())
