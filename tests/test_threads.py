"""to_thread, wrap_future and run_coroutine_threadsafe: asyncio's answers, whichever thread asks."""

import asyncio
import concurrent.futures
import contextvars
import functools
import gc
import logging
import threading
import weakref

import pytest
import velodrome
from differential import worlds
from differential.compare import garbage_stays_young, outcome, plain

either_loop = worlds.either_loop
BOTH = pytest.mark.parametrize("aio", [asyncio, velodrome], ids=["asyncio", "velodrome"])
variable = contextvars.ContextVar("variable")


def on_both(program):
    """What a program gives with asyncio's functions and with ours, each on both loops; they have to agree."""
    answers = []
    for make_loop in (asyncio.SelectorEventLoop, velodrome.Loop):
        for aio in (asyncio, velodrome):
            loop = make_loop()
            try:
                answers.append(outcome(loop.run_until_complete, program(aio)))
            finally:
                worlds.close(loop)
    assert all(answer == answers[0] for answer in answers), answers
    return answers[0]


# -- to_thread -----------------------------------------------------------------------------------------------


@BOTH
def test_a_function_runs_in_a_thread_in_a_copy_of_the_context(aio, either_loop):
    def function(*args, **kwargs):
        before = variable.get()
        variable.set("changed")
        return before, args, kwargs, threading.current_thread() is threading.main_thread()

    async def main():
        variable.set("set")
        answer = await aio.to_thread(function, 1, func=2, loop=3)
        return answer, variable.get()

    answer = ("set", (1,), {"func": 2, "loop": 3}, False)
    assert either_loop.run_until_complete(main()) == (answer, "set")


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, asyncio.CancelledError])
def test_what_a_function_raises_is_raised(kind):
    def function():
        raise kind("in the thread")

    async def main(aio):
        try:
            return await aio.to_thread(function)
        except BaseException as error:
            return type(error), str(error), type(error.__cause__)

    on_both(main)


def test_nothing_happens_before_it_is_awaited(loop):
    called = []
    with pytest.warns(RuntimeWarning, match="coroutine 'to_thread' was never awaited"):
        velodrome.to_thread(called.append, 1)
        gc.collect()
    waiting = velodrome.to_thread(called.append, 1)
    assert asyncio.iscoroutine(waiting)
    with pytest.raises(RuntimeError, match="^no running event loop$"):
        waiting.send(None)
    assert not called


def test_a_loops_own_run_in_executor_is_called():
    seen = []

    class Mixin:
        def run_in_executor(self, executor, function, *args):
            seen.append((executor, type(function), function.args[0], function.keywords, args))
            return super().run_in_executor(executor, function, *args)

    for base in (asyncio.SelectorEventLoop, velodrome.Loop):
        loop = type("Own", (Mixin, base), {})()
        assert loop.run_until_complete(velodrome.to_thread(str, b"a", encoding="ascii")) == "a"
        worlds.close(loop)
    assert seen == [(None, functools.partial, str, {"encoding": "ascii"}, ())] * 2


@BOTH
def test_cancelling_what_waits_for_a_thread(aio, either_loop):
    begun, end = threading.Event(), threading.Event()

    def function():
        begun.set()
        assert end.wait(20)

    async def main():
        task = asyncio.create_task(aio.to_thread(function))
        while not begun.is_set():
            await asyncio.sleep(0)
        task.cancel("enough")
        try:
            await task
        except asyncio.CancelledError as error:
            return error.args
        finally:
            end.set()

    assert either_loop.run_until_complete(main()) == ("enough",)


def test_a_call_without_a_function():
    for arguments in ((), (), ()):
        assert outcome(velodrome.to_thread, *arguments) == outcome(asyncio.to_thread, *arguments)
    assert outcome(velodrome.to_thread, func=print) == outcome(asyncio.to_thread, func=print)


# -- wrap_future ---------------------------------------------------------------------------------------------

ENDS = {
    "result": lambda future: future.set_result("done"),
    "exception": lambda future: future.set_exception(ValueError("no")),
    "cancelled": lambda future: (future.cancel(), future.set_running_or_notify_cancel()),
    "cancelled error": lambda future: future.set_exception(concurrent.futures.CancelledError("theirs")),
    "invalid state": lambda future: future.set_exception(concurrent.futures.InvalidStateError("theirs")),
    "timeout": lambda future: future.set_exception(concurrent.futures.TimeoutError("theirs")),
    "interrupt": lambda future: future.set_exception(KeyboardInterrupt("theirs")),
}


@pytest.mark.parametrize("where", ["before", "here", "thread"])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_an_outcome_is_handed_on(end, where):
    async def main(aio):
        theirs = concurrent.futures.Future()
        if where == "before":
            end(theirs)
        ours = aio.wrap_future(theirs)
        if where == "here":
            end(theirs)
        elif where == "thread":
            thread = threading.Thread(target=end, args=[theirs])
            thread.start()
            thread.join()
        try:
            return await ours
        except BaseException as error:
            same = not theirs.cancelled() and theirs.exception() is error
            return type(error), error.args, same, ours.cancelled()

    on_both(main)


def test_a_cancellation_is_handed_on_and_no_outcome_then():
    async def main(aio):
        waiting, running = concurrent.futures.Future(), concurrent.futures.Future()
        running.set_running_or_notify_cancel()
        futures = [aio.wrap_future(waiting), aio.wrap_future(running)]
        states = []
        for future in futures:
            states += [future.cancel(), waiting.cancelled(), running.cancelled()]
        await asyncio.sleep(0)
        states += [waiting.cancelled(), running.cancelled()]
        running.set_result("too late")
        await asyncio.sleep(0)
        return states, [future.cancelled() for future in futures]

    on_both(main)


def test_what_is_no_future_of_concurrent_futures():
    async def main(aio):
        future = asyncio.get_running_loop().create_future()
        assert aio.wrap_future(future) is future
        assert aio.wrap_future(future, loop="any") is future
        answers = []
        for thing in (None, 1, "text", object):
            answers.append(outcome(aio.wrap_future, thing))
            answers.append(outcome(aio.wrap_future, thing, loop=None))
        answers.append(outcome(aio.wrap_future, concurrent.futures.Future(), loop=1)[0])
        return answers

    on_both(main)
    assert outcome(velodrome.wrap_future)[0] == outcome(asyncio.wrap_future)[0] == "TypeError"
    assert outcome(velodrome.wrap_future, 1, 2)[0] == outcome(asyncio.wrap_future, 1, 2)[0] == "TypeError"


def test_without_assertions_it_is_another_error(run_python):
    program = """
import asyncio, velodrome
loop = velodrome.new_event_loop()
for aio in asyncio, velodrome:
    try:
        aio.wrap_future(1, loop=loop)
    except Exception as error:
        print(type(error).__name__, error)
"""
    first, second = run_python(program, options=["-O"]).stdout.splitlines()
    assert first == second == "TypeError A future is required for source argument"


@BOTH
def test_an_outcome_for_a_closed_loop_is_dropped(aio, caplog):
    with caplog.at_level(logging.ERROR):
        for base in (asyncio.SelectorEventLoop, velodrome.Loop):
            loop = base()
            theirs = concurrent.futures.Future()
            ours = aio.wrap_future(theirs, loop=loop)
            loop.close()
            thread = threading.Thread(target=theirs.set_result, args=["late"])
            thread.start()
            thread.join()
            del ours
    if not caplog.records:
        return
    # A version that compares loops rather than asking which one runs says that the loop is closed.
    assert aio is velodrome or {record.exc_text for record in caplog.records}


@BOTH
def test_chained_futures_die_together(aio, loop):
    theirs = concurrent.futures.Future()
    ours = aio.wrap_future(theirs, loop=loop)
    references = [weakref.ref(theirs), weakref.ref(ours)]
    del theirs, ours
    gc.collect()
    assert [reference() for reference in references] == [None, None]


@pytest.mark.parametrize("kept", ["none", "theirs", "ours"])
def test_futures_that_were_chained_live_as_long_as_asyncios(kept):
    """Without the garbage collector, which is late for an exception that holds a connection open."""

    async def main(aio):
        theirs = concurrent.futures.Future()
        ours = aio.wrap_future(theirs)
        theirs.set_result(None)
        await ours
        references = [weakref.ref(theirs), weakref.ref(ours)]
        held = {"none": None, "theirs": theirs, "ours": ours}[kept]
        del theirs, ours
        await asyncio.sleep(0)
        return [reference() is None for reference in references], held is None

    with garbage_stays_young():
        on_both(main)


def test_the_future_of_a_coroutine_lives_as_long_as_asyncios():
    async def main(aio):
        theirs = aio.run_coroutine_threadsafe(asyncio.sleep(0), asyncio.get_running_loop())
        while not theirs.done():
            await asyncio.sleep(0)
        reference = weakref.ref(theirs)
        del theirs
        await asyncio.sleep(0)
        return reference() is None

    with garbage_stays_young():
        assert on_both(main) == ("returned", True)


# -- run_coroutine_threadsafe --------------------------------------------------------------------------------


def submit(aio, coroutine_function, ask=lambda future: future.result(20), factory=None):
    """Run a coroutine function on a loop from another thread; return what that thread is told."""
    answers = []
    for base in (asyncio.SelectorEventLoop, velodrome.Loop):
        loop = base()
        reports = []
        loop.set_exception_handler(lambda loop, context, reports=reports: reports.append(context))
        loop.set_task_factory(factory)

        def other_thread(loop=loop):
            try:
                future = aio.run_coroutine_threadsafe(coroutine_function(), loop)
                assert type(future) is concurrent.futures.Future
                return outcome(ask, future)
            finally:
                loop.call_soon_threadsafe(loop.stop)

        with concurrent.futures.ThreadPoolExecutor() as pool:
            asked = pool.submit(other_thread)
            loop.run_forever()
            told = [plain(str(report["exception"])) for report in reports]
            answers.append((asked.result(20), told))
        loop.set_task_factory(None)
        worlds.close(loop)
    assert answers[0] == answers[1]
    return answers[0]


@pytest.mark.parametrize("kind", [None, ValueError, asyncio.CancelledError, asyncio.InvalidStateError])
def test_another_thread_gets_the_outcome(kind):
    async def main():
        await asyncio.sleep(0)
        if kind is not None:
            raise kind("on the loop")
        return threading.current_thread() is threading.main_thread()

    answers = [submit(aio, main) for aio in (asyncio, velodrome)]
    assert answers[0] == answers[1]


def test_another_thread_cancels():
    said = []

    async def main():
        try:
            begun.set()
            await asyncio.sleep(60)
        finally:
            said.append("cancelled")
            ended.set()

    def ask(future):
        assert begun.wait(20)
        answers = future.cancel(), outcome(future.result, 20)
        assert ended.wait(20)
        begun.clear()
        ended.clear()
        return answers

    answers = []
    for aio in (asyncio, velodrome):
        begun, ended = threading.Event(), threading.Event()
        answers.append(submit(aio, main, ask))
    assert answers[0] == answers[1]
    assert len(said) == 4


def test_a_loop_that_makes_no_tasks_is_reported_and_told():
    def factory(loop, coro, **options):
        coro.close()
        raise ValueError("no tasks today")

    async def main():
        pass

    answers = [submit(aio, main, factory=factory) for aio in (asyncio, velodrome)]
    assert answers[0] == answers[1] == (("ValueError", "no tasks today"), ["no tasks today"])


def test_only_coroutines_are_taken(either_loop):
    def bad(aio):
        for thing in (None, 1, print, test_only_coroutines_are_taken, either_loop.create_future()):
            yield outcome(aio.run_coroutine_threadsafe, thing, either_loop)

    assert list(bad(velodrome)) == list(bad(asyncio))
    coroutine = asyncio.sleep(0)
    for loop in (None, 1):
        answers = [outcome(aio.run_coroutine_threadsafe, coroutine, loop) for aio in (asyncio, velodrome)]
        assert answers[0] == answers[1]
    either_loop.close()
    answers = [outcome(aio.run_coroutine_threadsafe, coroutine, either_loop) for aio in (asyncio, velodrome)]
    assert answers[0] == answers[1]
    coroutine.close()
