"""`wait()`: which futures are done, and which are pending."""

import asyncio

import pytest
import velodrome
from differential import worlds

either_loop = worlds.either_loop


@pytest.mark.parametrize("kind", [list, set, frozenset, dict.fromkeys, iter], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("done", [[], [0], [3], [1, 2], [0, 1, 2, 3]], ids=str)
def test_divides_the_futures_into_two_sets_of_its_own(either_loop, kind, done):
    async def main():
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in range(4)]
        given = kind(futures)
        for place in done:
            futures[place].set_result(None)
        until = asyncio.FIRST_COMPLETED if done else asyncio.ALL_COMPLETED
        finished, pending = await velodrome.wait(given, timeout=0.01, return_when=until)
        assert (type(finished), type(pending)) == (set, set)
        assert finished == {futures[place] for place in done}
        assert pending == set(futures) - finished
        finished.clear()
        pending.clear()
        assert kind is iter or list(given) == list(kind(futures))

    either_loop.run_until_complete(main())


def test_a_future_that_is_given_twice_is_there_once(either_loop):
    async def main():
        future = asyncio.get_running_loop().create_future()
        future.set_result(None)
        assert await velodrome.wait([future, future]) == ({future}, set())

    either_loop.run_until_complete(main())
