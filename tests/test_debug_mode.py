"""Debug mode: slow callbacks in the log, and source tracebacks that end where asyncio's end."""

import asyncio
import re
import sys

import pytest
import velodrome
from differential import worlds
from differential.compare import check_same, logged, on_both, one_turn

either_loop = worlds.either_loop


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


def test_reports_tell_where_what_runs_was_queued(caplog):
    """The context of the default handler gets the traceback of the handle in which it is called."""

    def program(loop):
        def report(name):
            context = {"message": name}
            loop.default_exception_handler(context)
            own = [frame for frame in context["handle_traceback"] if frame.filename == __file__]
            found.append((name, own[-1].name, own[-1].line))

        async def coroutine():
            report("first step")
            await asyncio.sleep(0)
            report("next step")
            await future
            report("wake-up")
            loop.call_soon(fail)

        def fail():
            report("callback of a step")
            raise SystemExit

        def finish():
            future.set_result(None)

        found = []
        loop.set_debug(True)
        future = loop.create_future()
        loop.call_soon(report, "callback")
        loop.call_soon_threadsafe(report, "callback of any thread")
        loop.call_later(-1, report, "timer")
        task = loop.create_task(coroutine())
        one_turn(loop)
        loop.call_soon(finish)
        with pytest.raises(SystemExit):
            loop.run_forever()
        assert task.done()
        assert loop._current_handle is None
        return found

    kind, found = check_same(program)
    assert kind == "returned"
    assert len(found) == 7
    assert ("wake-up", "finish", "future.set_result(None)") in found


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
