"""as_completed on each version: an iterator, or the generator that it was up to 3.12."""

import asyncio
import collections.abc
import gc
import sys
import weakref

import pytest
import velodrome
from differential import worlds
from differential.compare import outcome, plain

either_loop = worlds.either_loop


def both(loop, program):
    """What a program gives with asyncio's function and with ours, which have to agree."""

    async def run(aio):
        answer = program(aio.as_completed)
        return await answer if asyncio.iscoroutine(answer) else answer

    answers = [outcome(loop.run_until_complete, run(aio)) for aio in (asyncio, velodrome)]
    assert answers[0] == answers[1]
    return answers[0]


async def value(number):
    for _ in range(number):
        await asyncio.sleep(0)
    return number


def test_bad_arguments(either_loop):
    def program(as_completed):
        coroutine = value(1)
        things = [None, 1, "text", [1], asyncio.get_running_loop().create_future(), coroutine, [None], print]
        answers = []
        for thing in things:
            answers.append(outcome(lambda thing=thing: list(as_completed(thing))))
        coroutine.close()
        for arguments, keywords in (((), {}), (([], 1), {}), (([],), {"bad": 1})):
            answers.append(outcome(as_completed, *arguments, **keywords)[0])
        return answers

    both(either_loop, program)


def test_when_the_coroutines_begin(either_loop):
    """A generator does nothing before it is iterated over."""

    async def program(as_completed):
        before = len(asyncio.all_tasks())
        completing = as_completed([value(1), value(2)])
        after = len(asyncio.all_tasks())
        results = [await one for one in completing]
        return after - before, results

    both(either_loop, program)


def test_of_nothing_and_to_the_end(either_loop):
    async def program(as_completed):
        nothing = as_completed([])
        answers = [list(nothing), outcome(next, nothing)[0], list(as_completed([], timeout=0))]
        completing = as_completed([value(0)])
        answers.append(await next(completing))
        answers += [outcome(next, completing)[0], outcome(next, completing)[0]]
        return answers

    both(either_loop, program)


def test_the_time_is_up_and_a_future_fails(either_loop):
    async def program(as_completed):
        loop = asyncio.get_running_loop()
        late, failed = loop.create_future(), loop.create_future()
        failed.set_exception(ValueError("failed"))
        answers = []
        for one in as_completed([late, failed, value(3)], timeout=0.05):
            try:
                answers.append(await one)
            except Exception as error:
                answers.append((type(error), str(error)))
        return sorted(map(str, answers)), late.done(), late._callbacks

    both(either_loop, program)


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="it is no generator since 3.13")
def test_it_is_a_generator(either_loop):
    def program(as_completed):
        answers = []
        for prepare in (lambda it: None, lambda it: next(it).close(), lambda it: it.close()):
            for use in (
                lambda it: it.send(None).close(),
                lambda it: it.send(1).close(),
                lambda it: it.throw(ValueError("thrown")),
                lambda it: it.throw(ValueError),
                lambda it: it.throw(1),
                lambda it: it.throw(StopIteration("stop")),
                lambda it: it.throw(GeneratorExit),
                lambda it: it.close(),
                lambda it: it.gi_running,
                lambda it: iter(it) is it,
            ):
                generator = as_completed([asyncio.get_running_loop().create_future()])
                prepare(generator)
                answers.append(outcome(use, generator))
                answers.append(outcome(lambda generator=generator: [one.close() for one in generator]))
        answers.append(isinstance(generator, collections.abc.Generator))
        answers.append((generator.__name__, generator.__qualname__, plain(repr(generator))))
        return answers

    both(either_loop, program)


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="it is no generator since 3.13")
def test_a_generator_that_is_iterated_over_by_what_it_iterates_over(either_loop):
    def program(as_completed):
        def futures():
            answers.append(outcome(next, generator))
            answers.append(generator.gi_running)
            yield asyncio.get_running_loop().create_future()

        answers = []
        generator = as_completed(futures())
        next(generator).close()
        return answers

    both(either_loop, program)


class Future(velodrome.Future):
    """One that takes attributes."""


def test_a_cycle_dies(loop):
    async def main():
        future = Future(loop=loop)
        future.itself = velodrome.as_completed([future])
        next(future.itself).close()
        return weakref.ref(future)

    reference = loop.run_until_complete(main())
    gc.collect()
    assert reference() is None


def test_a_cycle_of_what_has_not_begun_dies(loop):
    async def main():
        futures = Futures()
        futures.append(Future(loop=loop))
        futures[0].itself = velodrome.as_completed(futures)
        return weakref.ref(futures)

    class Futures(list):
        pass

    reference = loop.run_until_complete(main())
    gc.collect()
    assert reference() is None
