"""Exceptions out of callbacks: what stops the loop, and what the exception handler is told and logs."""

import asyncio
import contextvars
import gc
import re
import signal
import socket
import sys

import pytest
import velodrome
from differential import worlds
from differential.compare import check_same, check_same_log, logged, one_turn, plain, turns

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


def noted(loop, notes):
    """Note what `logger.exception()` would find in the loop's exception handler."""

    def handler(_loop, context):
        handled = sys.exc_info()[1]
        notes.append(
            (context["message"].partition(" ")[0], repr(handled), handled is context.get("exception"))
        )

    loop.set_exception_handler(handler)


def fail(*arguments):
    raise LookupError("no")


@pytest.mark.parametrize("how", ["soon", "later", "threadsafe", "done", "reader", "signal"])
@pytest.mark.parametrize("within", [False, True], ids=["", "within"])
def test_exception_is_handled_while_the_handler_is_called(how, within):
    """And what was handled before is again afterwards."""

    def program(loop):
        notes = []
        noted(loop, notes)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            if how == "soon":
                loop.call_soon(fail)
            elif how == "later":
                loop.call_later(-1, fail)
            elif how == "threadsafe":
                loop.call_soon_threadsafe(fail)
            elif how == "done":
                future = loop.create_future()
                future.add_done_callback(fail)
                future.set_result(None)
            elif how == "reader":
                theirs.send(b"1")
                loop.add_reader(ours, fail)
            else:
                loop.add_signal_handler(signal.SIGUSR1, fail)
                signal.raise_signal(signal.SIGUSR1)
                turns(loop, 2)
                loop.remove_signal_handler(signal.SIGUSR1)
            loop.call_soon(lambda: notes.append(repr(sys.exc_info()[1])))
            if within:
                try:
                    raise KeyError("before")
                except KeyError:
                    one_turn(loop)
                    notes.append(repr(sys.exc_info()[1]))
            else:
                one_turn(loop)
            loop.remove_reader(ours)
        notes.append(repr(sys.exc_info()[1]))
        return notes

    kind, notes = check_same(program)
    assert kind == "returned"
    assert any(note[1:] == ("LookupError('no')", True) for note in notes)


@pytest.mark.parametrize("method", ["connection_made", "data_received", "eof_received", "connection_lost"])
@pytest.mark.parametrize("kind", ["socket", "pipe"])
def test_exception_of_a_protocol_is_handled_while_the_handler_is_called(kind, method):
    def program(loop):
        notes = []
        noted(loop, notes)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        protocol = type("Failing", (asyncio.Protocol,), {method: fail})
        make = loop._make_socket_transport if kind == "socket" else loop._make_read_pipe_transport
        transport = make(ours, protocol())
        turns(loop, 2)
        with theirs:
            theirs.send(b"1")
            turns(loop, 2)
        turns(loop, 3)
        transport.close()
        turns(loop, 2)
        return [note[1:] for note in notes]

    assert set(check_same(program)[1]) == {("LookupError('no')", True)}


def test_error_of_a_datagram_is_handled_while_the_protocol_is_told():
    class Protocol(asyncio.DatagramProtocol):
        def error_received(self, exc):
            self.notes.append((repr(exc), sys.exc_info()[1] is exc))

    def program(loop):
        nobody = socket.socket(type=socket.SOCK_DGRAM)
        nobody.bind(("127.0.0.1", 0))
        endpoint = loop.create_datagram_endpoint(Protocol, remote_addr=nobody.getsockname())
        nobody.close()
        transport, protocol = loop.run_until_complete(endpoint)
        protocol.notes = []
        for _ in range(2):
            transport.sendto(b"data")
            turns(loop, 2)
        transport.close()
        turns(loop, 2)
        return protocol.notes

    assert all(handled for _, handled in check_same(program)[1])


def test_exception_of_a_handler_has_the_first_one_as_its_context(caplog):
    def program(loop):
        def handler(_loop, context):
            raise ValueError("handler")

        loop.set_exception_handler(handler)
        loop.call_soon(fail)
        one_turn(loop)

    for base in (asyncio.SelectorEventLoop, velodrome.Loop):
        caplog.clear()
        loop = base()
        program(loop)
        loop.close()
        (record,) = caplog.records
        assert repr(record.exc_info[1].__context__) == "LookupError('no')"


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
