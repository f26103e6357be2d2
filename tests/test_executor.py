"""Executors, getaddrinfo and getnameinfo."""

import asyncio
import concurrent.futures
import contextvars
import functools
import socket
import sys
import threading
import warnings

import pytest
import velodrome
from differential import worlds
from differential.compare import check_same, on_both, outcome

either_loop = worlds.either_loop


# -- run_in_executor ---------------------------------------------------------------------------------------


def test_function_runs_in_another_thread(either_loop):
    async def main():
        future = either_loop.run_in_executor(None, threading.get_ident)
        assert asyncio.isfuture(future)
        return await future

    assert either_loop.run_until_complete(main()) != threading.get_ident()
    assert isinstance(either_loop._default_executor, concurrent.futures.ThreadPoolExecutor)


def test_arguments_results_and_errors(either_loop):
    def divide(first, second):
        return first // second

    async def main():
        assert await either_loop.run_in_executor(None, divide, 7, 2) == 3
        with pytest.raises(ZeroDivisionError):
            await either_loop.run_in_executor(None, divide, 7, 0)
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            assert await either_loop.run_in_executor(executor, divide, 9, 3) == 3
        assert await asyncio.to_thread(divide, 8, 2) == 4

    either_loop.run_until_complete(main())


def test_to_thread_brings_the_context(either_loop):
    variable = contextvars.ContextVar("variable", default="unset")

    async def main():
        variable.set("set")
        return await asyncio.to_thread(variable.get)

    assert either_loop.run_until_complete(main()) == "set"


def test_many_at_once(either_loop):
    async def main():
        numbers = await asyncio.gather(
            *[either_loop.run_in_executor(None, abs, -number) for number in range(200)]
        )
        assert numbers == list(range(200))

    either_loop.run_until_complete(main())


def test_cancelled_before_it_began(either_loop):
    """The function never runs, and the executor's future is cancelled as well."""
    began = threading.Event()
    go_on = threading.Event()
    ran = []

    def block():
        began.set()
        go_on.wait()

    async def main():
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            first = either_loop.run_in_executor(executor, block)
            second = either_loop.run_in_executor(executor, ran.append, True)
            await asyncio.to_thread(began.wait)
            second.cancel()
            await asyncio.sleep(0)
            go_on.set()
            await first
            with pytest.raises(asyncio.CancelledError):
                await second

    either_loop.run_until_complete(main())
    assert ran == []


def test_default_executor_can_be_set(either_loop):
    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="mine") as executor:
        either_loop.set_default_executor(executor)
        assert either_loop._default_executor is executor
        name = either_loop.run_until_complete(
            either_loop.run_in_executor(None, lambda: threading.current_thread().name)
        )
    assert name.startswith("mine")


@pytest.mark.parametrize("executor", [None, 1, object(), concurrent.futures.Executor()], ids=repr)
def test_default_executor_must_be_one_of_threads(executor):
    def program(loop):
        loop.set_default_executor(executor)

    assert check_same(program)[0] == "TypeError"


def test_wrong_use():
    async def coroutine():
        pass

    def program(loop, debug):
        loop.set_debug(debug)
        return [
            outcome(loop.run_in_executor, None, 5)[0],
            outcome(loop.run_in_executor, None, coroutine)[0],
            outcome(loop.run_in_executor, 5, print)[0],
            outcome(loop.run_in_executor, None)[0],
        ]

    for debug in (False, True):
        (_, expected), (_, found) = on_both(program, debug)
        assert found == expected


def test_results_that_arrive_after_the_loop_was_closed(either_loop, caplog):
    """They are dropped, without a crash and without a word from a dead loop."""
    loop = type(either_loop)()
    go_on = threading.Event()
    executor = concurrent.futures.ThreadPoolExecutor(1)
    loop.run_in_executor(executor, go_on.wait)
    loop.close()
    go_on.set()
    executor.shutdown()
    assert caplog.records == []


# -- Shutting down -----------------------------------------------------------------------------------------


def test_shutdown_waits_for_what_runs(either_loop):
    done = []

    def work():
        started.wait()
        done.append(True)

    async def main():
        either_loop.run_in_executor(None, work)
        either_loop.call_later(0.01, started.set)
        await either_loop.shutdown_default_executor()

    started = threading.Event()
    either_loop.run_until_complete(main())
    assert done == [True]
    with pytest.raises(RuntimeError, match="^Executor shutdown has been called$"):
        either_loop.run_in_executor(None, print)


def test_shutdown_without_an_executor(either_loop):
    either_loop.run_until_complete(either_loop.shutdown_default_executor())
    with pytest.raises(RuntimeError, match="^Executor shutdown has been called$"):
        either_loop.run_in_executor(None, print)


@pytest.mark.skipif(
    sys.version_info < (3, 13), reason="the timeout came with 3.12, and did not work at first"
)
def test_shutdown_gives_up_after_its_timeout(either_loop):
    go_on = threading.Event()

    async def main():
        future = either_loop.run_in_executor(None, go_on.wait)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            await either_loop.shutdown_default_executor(0.01)
        go_on.set()
        await asyncio.wait([future])
        return [str(warning.message) for warning in caught]

    messages = either_loop.run_until_complete(main())
    assert any("did not finishing joining its threads within 0.01 seconds" in message for message in messages)


def test_close_does_not_wait(either_loop):
    loop = type(either_loop)()
    go_on = threading.Event()
    loop.run_in_executor(None, go_on.wait)
    executor = loop._default_executor
    loop.close()
    assert loop._default_executor is None
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.run_in_executor(None, print)
    go_on.set()
    executor.shutdown()


def test_thread_that_calls_back_until_the_end(run_python):
    """Threads that go on calling into a loop that is closed get an error, not a crash."""
    code = """
import asyncio, threading, velodrome
loop = velodrome.new_event_loop()
errors = []
def call():
    try:
        while True:
            loop.call_soon_threadsafe(int)
    except RuntimeError as error:
        errors.append(str(error))
threads = [threading.Thread(target=call) for _ in range(3)]
for thread in threads:
    thread.start()
loop.run_until_complete(asyncio.sleep(0.02))
loop.close()
for thread in threads:
    thread.join()
print(errors)
"""
    assert run_python(code).stdout == f"{['Event loop is closed'] * 3}\n"


# -- Names -------------------------------------------------------------------------------------------------


def test_getaddrinfo(either_loop):
    async def main():
        found = await either_loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
        named = await either_loop.getaddrinfo(
            "localhost", None, family=socket.AF_INET, flags=socket.AI_PASSIVE
        )
        with pytest.raises(socket.gaierror):
            await either_loop.getaddrinfo("127.0.0.1", "no such service")
        return found, named

    found, named = either_loop.run_until_complete(main())
    assert found == socket.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
    assert {entry[4][0] for entry in named} == {"127.0.0.1"}


def test_getaddrinfo_in_debug_mode(either_loop, caplog):
    either_loop.set_debug(True)
    either_loop.slow_callback_duration = 1000
    caplog.set_level("DEBUG", logger="asyncio")
    either_loop.run_until_complete(either_loop.getaddrinfo("127.0.0.1", 80))
    assert "Get address info 127.0.0.1:80" in caplog.text


def test_getnameinfo(either_loop):
    async def main():
        return await either_loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)

    assert either_loop.run_until_complete(main()) == ("127.0.0.1", "80")


# -- Futures of concurrent.futures -------------------------------------------------------------------------


def test_wrap_future(either_loop):
    async def main():
        foreign = concurrent.futures.Future()
        future = asyncio.wrap_future(foreign)
        threading.Thread(target=foreign.set_result, args=("from a thread",)).start()
        assert await future == "from a thread"
        foreign = concurrent.futures.Future()
        future = asyncio.wrap_future(foreign)
        future.cancel()
        await asyncio.sleep(0)
        return foreign.cancelled()

    assert either_loop.run_until_complete(main())


def test_run_coroutine_threadsafe(either_loop):
    async def coroutine(value):
        await asyncio.sleep(0)
        if value is None:
            raise ValueError("no value")
        return value

    def work():
        submit = functools.partial(asyncio.run_coroutine_threadsafe, loop=either_loop)
        try:
            assert submit(coroutine(5)).result(30) == 5
            with pytest.raises(ValueError):
                submit(coroutine(None)).result(30)
            pending = submit(asyncio.sleep(1000))
            assert pending.cancel()
            return "worked"
        finally:
            either_loop.call_soon_threadsafe(either_loop.stop)

    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        result = executor.submit(work)
        either_loop.run_forever()
        assert result.result(30) == "worked"


def test_our_loop_under_run_coroutine_threadsafe_keeps_to_its_class(loop):
    """The task is ours, whoever asked for it."""
    kinds = []

    async def main():
        kinds.append(type(asyncio.current_task()))

    future = asyncio.run_coroutine_threadsafe(main(), loop)
    loop.run_until_complete(asyncio.wrap_future(future, loop=loop))
    assert kinds == [velodrome.Task]
