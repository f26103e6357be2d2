"""Results and exceptions of a future: what arrives, with which traceback and context.

And what is reported of exceptions that nobody asks for.
"""

import asyncio
import gc
import warnings

import pytest
import velodrome
from differential import futures, worlds
from differential.compare import check_same, on_both, one_turn, outcome, plain, turns
from differential.futures import future_of, wait_for
from differential.interpreter import Halt

either_loop = worlds.either_loop
future_class = futures.future_class


# -- Results and exceptions --------------------------------------------------------------------------------


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


class NoException(Exception):
    def __new__(cls, *arguments):
        return 5


THROWN = [
    (ValueError, KeyError("other")),
    (LookupError, KeyError("derived")),
    (ValueError, (1, 2)),
    (ValueError, (1,)),
    (NoException,),
    (NoException, "value"),
    (ValueError, "value", 5),
    (),
    (ValueError, 1, None, 4),
]


@pytest.mark.parametrize("thrown", THROWN, ids=repr)
@pytest.mark.parametrize("awaitable", ["future", "sleep"])
def test_what_is_thrown_is_what_the_interpreter_makes_of_the_arguments(awaitable, thrown):
    def program(loop):
        ours = isinstance(loop, velodrome.Loop)
        if awaitable == "future":
            thrown_into = future_of(loop).__await__()
        else:
            thrown_into = (velodrome if ours else asyncio).sleep(0)
            thrown_into.send(None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                thrown_into.throw(*thrown)
            except Exception as error:
                return type(error), repr(error)
            finally:
                thrown_into.close()

    check_same(program)


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
