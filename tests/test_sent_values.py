"""A value that is sent into a coroutine which awaits a future is ignored, as asyncio's futures ignore it; and
futures have no `send` to be seen."""

import asyncio
import types

import pytest
import velodrome
from differential.compare import outcome


class Derived:
    """What a program may derive from a future."""

    called = False

    def send(self, value):
        self.called = True
        return value


async def await_it(awaitable):
    return await awaitable


@types.coroutine
def yield_from_it(awaitable):
    return (yield from awaitable)


async def future(module, loop):
    return loop.create_future(), lambda made: made.set_result("result")


async def failed(module, loop):
    return loop.create_future(), lambda made: made.set_exception(KeyError("failed"))


async def cancelled(module, loop):
    return loop.create_future(), lambda made: made.cancel("cancelled")


async def task(module, loop):
    gate = loop.create_future()
    made = module.Task(await_it(gate), loop=loop)
    await asyncio.sleep(0)
    return made, lambda _made: gate.set_result("result")


async def gathered(module, loop):
    gate = loop.create_future()
    return module.gather(gate), lambda _made: gate.set_result("result")


async def derived(module, loop):
    made = type("Mine", (module.Future,), {})(loop=loop)
    return made, lambda made: made.set_result("result")


MAKERS = [future, failed, cancelled, task, gathered, derived]


def same(program):
    """Compare what asyncio and velodrome make of it."""

    def run(module, loop_factory):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(program(module, runner.get_loop()))

    expected = run(asyncio, asyncio.SelectorEventLoop)
    assert run(velodrome, velodrome.new_event_loop) == expected
    return expected


@pytest.mark.parametrize("value", ["value", 0, StopIteration("value")], ids=["text", "zero", "exception"])
@pytest.mark.parametrize("wait", [await_it, yield_from_it])
@pytest.mark.parametrize("make", MAKERS)
def test_value_sent_to_a_future_that_is_done_is_ignored(make, wait, value):
    async def program(module, loop):
        awaited, finish = await make(module, loop)
        coroutine = wait(awaited)
        assert coroutine.send(None) is awaited
        awaited._asyncio_future_blocking = False
        finish(awaited)
        for _ in range(3):
            await asyncio.sleep(0)
        return outcome(coroutine.send, value)

    same(program)


@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize("make", [future, derived])
def test_value_sent_to_a_future_that_is_pending_is_ignored(make, blocking):
    async def program(module, loop):
        awaited, finish = await make(module, loop)
        coroutine = await_it(awaited)
        coroutine.send(None)
        awaited._asyncio_future_blocking = blocking
        again = outcome(lambda: coroutine.send("value") is awaited)
        finish(awaited)
        return again, outcome(coroutine.send, "value")

    same(program)


def test_driver_within_a_task_may_send_values():
    """As trio-asyncio's does: the coroutine is driven by a program, in a task of ours."""

    @types.coroutine
    def driven(coroutine):
        sent = None
        while True:
            try:
                awaited = coroutine.send(sent)
            except StopIteration as stop:
                return stop.value
            yield awaited
            sent = "done"

    async def program(module, loop):
        made = loop.create_future()
        loop.call_soon(made.set_result, 5)
        return await module.Task(await_it(driven(await_it(made))), loop=loop)

    assert same(program) == 5


@pytest.mark.parametrize("make", [future, task, gathered, derived])
def test_no_send_to_be_seen(make):
    async def program(module, loop):
        awaited, finish = await make(module, loop)
        kind = type(awaited)
        finish(awaited)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return (
            [hasattr(place, "send") for place in (awaited, kind)],
            [type(outcome(getattr, place, "send")[1]) for place in (awaited, kind)],
            isinstance(awaited, types.GeneratorType | types.CoroutineType),
        )

    assert same(program)[0] == [False, False]


def test_send_of_a_program_is_its_own():
    async def program(module, loop):
        made = type("Mine", (Derived, module.Future), {})(loop=loop)
        plain = loop.create_future()
        plain_has_one = outcome(setattr, plain, "send", 1)
        made.set_result(None)
        plain.set_result(None)
        return made.send(3), made.called, plain_has_one, outcome(lambda: plain.send)

    same(program)
