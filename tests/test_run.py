"""run_until_complete, run and Runner: a loop's life from end to end."""

import asyncio
import contextlib
import contextvars
import gc
import sys
import threading

import pytest
import velodrome
from differential import worlds
from differential.compare import check_same, one_turn, outcome, turns

either_loop = worlds.either_loop

RUNS = [
    pytest.param(lambda main, **options: asyncio.Runner(**options).run(main), id="asyncio"),
    pytest.param(velodrome.run, id="velodrome"),
]


async def nothing(value="nothing"):
    return value


# -- run_until_complete ------------------------------------------------------------------------------------


def test_result_and_exception_come_out(either_loop):
    async def fail():
        raise ValueError("no")

    assert either_loop.run_until_complete(nothing()) == "nothing"
    future = either_loop.create_future()
    either_loop.call_soon(future.set_result, "future's")
    assert either_loop.run_until_complete(future) == "future's"
    assert either_loop.run_until_complete(future) == "future's"
    with pytest.raises(ValueError, match="no"):
        either_loop.run_until_complete(fail())
    task = either_loop.create_task(asyncio.sleep(1000))
    either_loop.call_soon(task.cancel, "message")
    with pytest.raises(asyncio.CancelledError, match="message"):
        either_loop.run_until_complete(task)


def test_loop_that_is_stopped_too_early(either_loop):
    future = either_loop.create_future()
    either_loop.call_soon(either_loop.stop)
    with pytest.raises(RuntimeError, match="^Event loop stopped before Future completed.$"):
        either_loop.run_until_complete(future)
    assert future._callbacks is None
    future.set_result(1)
    assert either_loop.run_until_complete(future) == 1


@pytest.mark.parametrize("what", [None, 1, "text", nothing, [], iter(())], ids=repr)
def test_what_cannot_be_run(what):
    def program(loop):
        try:
            loop.run_until_complete(what)
        finally:
            assert len(loop._ready) == 0 and loop._thread_id is None

    assert check_same(program)[0] in ("TypeError", "ValueError")


def test_future_of_another_loop(either_loop):
    other = type(either_loop)()
    future = other.create_future()
    with pytest.raises(ValueError, match="The future belongs to a different loop"):
        either_loop.run_until_complete(future)
    other.close()


def test_awaitable_of_another_kind(either_loop):
    class Awaitable:
        def __await__(self):
            yield
            return "awaited"

    assert either_loop.run_until_complete(Awaitable()) == "awaited"


def test_task_that_main_leaves_behind_goes_on_in_the_next_run(either_loop):
    seen = []

    async def child():
        for number in range(4):
            seen.append(number)
            await asyncio.sleep(0)

    async def main():
        task = asyncio.create_task(child())
        await asyncio.sleep(0)
        return task

    task = either_loop.run_until_complete(main())
    before = len(seen)
    turns(either_loop, 5)
    assert seen == [0, 1, 2, 3] and before < 4 and task.done()


# -- run and Runner ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", RUNS)
def test_run_runs_and_cleans_up(run):
    closed = []
    loops = []

    async def generator():
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.append("generator")

    async def child():
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0)
            closed.append("child")

    async def main():
        loops.append(asyncio.get_running_loop())
        kept.append(generator())
        kept.append(asyncio.create_task(child()))
        await kept[0].__anext__()
        loops[0].run_in_executor(None, closed.append, "executor")
        return "result"

    kept = []
    loop_factory = velodrome.new_event_loop if run is velodrome.run else asyncio.SelectorEventLoop
    with contextlib.ExitStack() as stack:
        if run is velodrome.run:
            assert run(main()) == "result"
        else:
            runner = stack.enter_context(asyncio.Runner(loop_factory=loop_factory))
            assert runner.run(main()) == "result"
    assert sorted(closed) == ["child", "executor", "generator"]
    assert loops[0].is_closed() and kept[1].cancelled()
    assert asyncio._get_running_loop() is None


def test_our_run_uses_our_loop():
    async def main():
        return type(asyncio.get_running_loop())

    assert velodrome.run(main()) is velodrome.Loop
    assert velodrome.run(main(), loop_factory=asyncio.SelectorEventLoop) is asyncio.SelectorEventLoop
    with velodrome.Runner() as runner:
        assert runner.run(main()) is velodrome.Loop
        assert type(runner.get_loop()) is velodrome.Loop
    with velodrome.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        assert runner.run(main()) is asyncio.SelectorEventLoop
    with asyncio.Runner(loop_factory=velodrome.new_event_loop) as runner:
        assert runner.run(main()) is velodrome.Loop
    if sys.version_info >= (3, 12):
        assert asyncio.run(main(), loop_factory=velodrome.new_event_loop) is velodrome.Loop


@pytest.mark.parametrize("debug", [None, False, True])
def test_debug_mode_of_a_run(debug):
    async def main():
        return asyncio.get_running_loop().get_debug()

    expected = asyncio.run(main(), debug=debug)
    assert velodrome.run(main(), debug=debug) is expected
    with velodrome.Runner(debug=debug) as runner:
        assert runner.run(main()) is expected


@pytest.mark.parametrize("what", [None, 1, nothing, "text"], ids=repr)
def test_run_of_what_is_no_coroutine(what):
    kind, message = outcome(asyncio.run, what)
    assert outcome(velodrome.run, what) == (kind, message)
    with velodrome.Runner() as ours, asyncio.Runner() as theirs:
        assert outcome(ours.run, what) == outcome(theirs.run, what)


def test_run_within_a_running_loop_is_refused(either_loop):
    async def main():
        coro = nothing()
        with pytest.raises(RuntimeError) as caught:
            velodrome.run(coro)
        coro.close()
        assert str(caught.value) == "velodrome.run() cannot be called from a running event loop"
        coro = nothing()
        runner = velodrome.Runner()
        with pytest.raises(RuntimeError, match="cannot be called from a running"):
            runner.run(coro)
        coro.close()
        return runner

    either_loop.run_until_complete(main()).close()


def test_runner_keeps_its_loop_and_its_context():
    variable = contextvars.ContextVar("variable", default=0)

    async def count():
        variable.set(variable.get() + 1)
        return variable.get(), asyncio.get_running_loop()

    with velodrome.Runner() as runner:
        first, loop = runner.run(count())
        second, same = runner.run(count())
        assert (first, second) == (1, 2) and loop is same is runner.get_loop()
        third, _ = runner.run(count(), context=contextvars.Context())
        assert third == 1
    assert loop.is_closed() and variable.get() == 0
    with pytest.raises(RuntimeError, match="^Runner is closed$"):
        runner.get_loop()


def test_run_in_another_thread():
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(velodrome.run(asyncio.sleep(0.001, "slept"))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["slept"] * 4


def test_error_out_of_run_comes_with_its_traceback():
    async def inner():
        raise ValueError("no")

    async def main():
        await inner()

    with pytest.raises(ValueError) as caught:
        velodrome.run(main())
    names = [entry.name for entry in caught.traceback]
    assert names[-2:] == ["main", "inner"] and names[0] == "test_error_out_of_run_comes_with_its_traceback"


def test_errors_of_tasks_that_run_cancels_are_reported(caplog):
    async def stubborn():
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            raise ValueError("while cancelled") from None

    async def main():
        kept.append(asyncio.create_task(stubborn()))
        await asyncio.sleep(0)

    kept = []
    velodrome.run(main())
    assert "unhandled exception during asyncio.run() shutdown" in caplog.text


def test_run_returns_the_result_on_a_loop_of_velodromes():
    async def main():
        return type(asyncio.get_running_loop())

    assert velodrome.run(main()) is velodrome.Loop


def test_run_raises_the_exception():
    async def fail():
        raise KeyError("key")

    with pytest.raises(KeyError, match="key"):
        velodrome.run(fail())


@pytest.mark.parametrize("run", [asyncio.run, velodrome.run], ids=["asyncio", "velodrome"])
def test_run_is_refused_while_a_loop_runs(run):
    async def main():
        coroutine = nothing()
        try:
            with pytest.raises(RuntimeError, match=r"run\(\) cannot be called from a running event loop"):
                run(coroutine)
        finally:
            coroutine.close()
        return "went on"

    assert velodrome.run(main()) == "went on"
    assert asyncio.run(main()) == "went on"


@pytest.mark.parametrize("debug", [True, False, None])
def test_run_passes_debug_on(debug):
    async def main():
        return asyncio.get_running_loop().get_debug()

    assert velodrome.run(main(), debug=debug) is bool(debug)


def test_run_takes_another_loop_factory():
    async def main():
        return type(asyncio.get_running_loop())

    assert velodrome.run(main(), loop_factory=asyncio.SelectorEventLoop) is asyncio.SelectorEventLoop
    with velodrome.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        assert runner.run(main()) is asyncio.SelectorEventLoop


def test_run_leaves_no_loop_behind():
    loops = []

    async def main():
        loops.append(asyncio.get_running_loop())

    velodrome.run(main())
    assert loops[0].is_closed()
    assert asyncio._get_running_loop() is None


@pytest.mark.parametrize("wrong", [None, 1, nothing, "text"])
def test_run_refuses_what_is_no_coroutine(wrong):
    raised = []
    for run in asyncio.run, velodrome.run:
        with pytest.raises((TypeError, ValueError)) as caught:
            run(wrong)
        raised.append((caught.type, str(caught.value)))
    assert raised[0] == raised[1]


@pytest.mark.skipif(sys.version_info < (3, 14), reason="any awaitable is taken from Python 3.14 on")
def test_run_takes_any_awaitable():
    class Awaitable:
        def __await__(self):
            return velodrome.sleep(0, "result").__await__()

    assert velodrome.run(Awaitable()) == "result"


def test_run_takes_a_native_sleep():
    assert velodrome.run(velodrome.sleep(0, "result")) == "result"


# -- The rest of the life ----------------------------------------------------------------------------------


def test_close_twice(either_loop):
    either_loop.close()
    either_loop.close()
    assert either_loop.is_closed() and not either_loop.is_running()


def test_close_in_debug_mode(either_loop, caplog):
    either_loop.set_debug(True)
    either_loop.call_soon(print)
    either_loop.close()
    assert len(either_loop._ready) == 0


def test_loop_closed_by_another_thread(either_loop):
    thread = threading.Thread(target=either_loop.close)
    thread.start()
    thread.join()
    assert either_loop.is_closed()


def test_stop_within_a_task_and_go_on(either_loop):
    seen = []

    async def main():
        for number in range(3):
            seen.append(number)
            either_loop.stop()
            await asyncio.sleep(0)
        return "done"

    task = either_loop.create_task(main())
    for expected in ([0], [0, 1], [0, 1, 2]):
        either_loop.run_forever()
        assert seen == expected
    one_turn(either_loop)
    assert task.result() == "done"


def test_many_runs_of_one_loop(either_loop):
    for number in range(1000):
        assert either_loop.run_until_complete(nothing(number)) == number


def test_warning_for_a_coroutine_that_is_never_awaited(either_loop):
    async def main():
        with pytest.warns(RuntimeWarning, match="coroutine 'nothing' was never awaited"):
            nothing()
            gc.collect()

    either_loop.run_until_complete(main())


def test_never_awaited_coroutine_in_debug_mode_tells_where_it_came_from(either_loop):
    async def main():
        with pytest.warns(RuntimeWarning) as caught:
            nothing()
            gc.collect()
        return str(caught[0].message)

    either_loop.set_debug(True)
    message = either_loop.run_until_complete(main())
    assert "Coroutine created at (most recent call last)" in message and "in main" in message
