"""Exceptions out of callbacks: what stops the loop, and what the exception handler is told and logs."""

import asyncio
import contextvars
import gc
import re
import socket

import pytest
import velodrome
from differential import worlds
from differential.compare import check_same, check_same_log, logged, one_turn, plain

either_loop = worlds.either_loop


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
