"""Asynchronous generators: the loop closes those that are dropped or left, and puts the hooks back."""

import asyncio
import gc
import sys
import threading

import pytest
from differential import worlds
from differential.compare import check_same

either_loop = worlds.either_loop


async def numbers(closed, name="closed"):
    try:
        for number in range(10):
            yield number
            await asyncio.sleep(0)
    finally:
        await asyncio.sleep(0)
        closed.append(name)


def test_dropped_generator_is_closed_by_the_loop(either_loop):
    closed = []

    async def main():
        async for number in numbers(closed):
            if number == 2:
                break
        gc.collect()
        for _ in range(4):
            await asyncio.sleep(0)
        assert closed == ["closed"]

    either_loop.run_until_complete(main())


def test_shutdown_closes_what_is_open(either_loop):
    closed = []
    kept = [numbers(closed, number) for number in range(3)]

    async def main():
        for generator in kept[:2]:
            await generator.__anext__()

    either_loop.run_until_complete(main())
    assert closed == []
    either_loop.run_until_complete(either_loop.shutdown_asyncgens())
    assert sorted(closed) == [0, 1]


def test_generator_begun_after_the_shutdown_warns(either_loop):
    closed = []

    async def main():
        await either_loop.shutdown_asyncgens()
        generator = numbers(closed)
        with pytest.warns(ResourceWarning, match="was scheduled after loop.shutdown_asyncgens"):
            await generator.__anext__()
        await generator.aclose()

    either_loop.run_until_complete(main())


def test_generator_that_fails_while_it_is_closed():
    def program(loop):
        contexts = []
        loop.set_exception_handler(
            lambda loop, context: contexts.append(
                (context["message"].partition(" at 0x")[0], sorted(context))
            )
        )

        async def bad():
            try:
                yield 1
            finally:
                raise ValueError("while closing")

        async def main():
            generator = bad()
            await generator.__anext__()
            await loop.shutdown_asyncgens()

        loop.run_until_complete(main())
        return contexts

    kind, contexts = check_same(program)
    assert kind == "returned" and len(contexts) == 1


def test_hooks_are_put_back(either_loop):
    def first(generator):
        pass

    def last(generator):
        pass

    async def main():
        hooks = sys.get_asyncgen_hooks()
        assert hooks.firstiter == either_loop._asyncgen_firstiter_hook
        assert hooks.finalizer == either_loop._asyncgen_finalizer_hook

    before = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=first, finalizer=last)
    try:
        either_loop.run_until_complete(main())
        assert sys.get_asyncgen_hooks() == (first, last)
        either_loop.call_soon(lambda: 1 / 0)
        either_loop.set_exception_handler(lambda loop, context: sys.exit(1))
        with pytest.raises(SystemExit):
            either_loop.run_forever()
        assert sys.get_asyncgen_hooks() == (first, last)
    finally:
        sys.set_asyncgen_hooks(*before)
        either_loop.set_exception_handler(None)


def test_generator_dropped_in_another_thread(either_loop):
    closed = []
    box = []

    async def begin():
        box.append(numbers(closed))
        await box[0].__anext__()

    async def wait():
        while not closed:
            await asyncio.sleep(0)

    either_loop.run_until_complete(begin())
    thread = threading.Thread(target=box.clear)
    thread.start()
    thread.join()
    either_loop.run_until_complete(wait())


def test_generator_of_a_closed_loop_is_dropped_quietly(either_loop):
    closed = []
    box = []

    async def begin():
        box.append(numbers(closed))
        await box[0].__anext__()

    loop = type(either_loop)()
    loop.run_until_complete(begin())
    loop.close()
    box.clear()
    gc.collect()
    assert closed == []
