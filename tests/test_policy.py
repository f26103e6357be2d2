"""The policy makes Velodrome's loops, for asyncio's run and Runner too, and is otherwise asyncio's own."""

import asyncio
import sys
import warnings

import pytest
import velodrome


@pytest.fixture
def policy():
    """velodrome's policy, in force."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.14 on
        asyncio.set_event_loop_policy(velodrome.EventLoopPolicy())
        try:
            yield asyncio.get_event_loop_policy()
        finally:
            asyncio.set_event_loop_policy(None)


def test_the_policy_is_one_of_asyncios():
    policies = [
        getattr(asyncio.events, name)
        for name in ("AbstractEventLoopPolicy", "_AbstractEventLoopPolicy")
        if name in vars(asyncio.events)
    ]
    assert policies and all(issubclass(velodrome.EventLoopPolicy, policy) for policy in policies)


def test_the_policy_makes_velodromes_loops(policy):
    loop = asyncio.new_event_loop()
    assert type(loop) is velodrome.Loop
    loop.close()
    assert type(policy.new_event_loop()) is velodrome.Loop


def test_run_and_runner_of_asyncio_follow_the_policy(policy):
    async def main():
        return type(asyncio.get_running_loop())

    assert asyncio.run(main()) is velodrome.Loop
    with asyncio.Runner() as runner:
        assert runner.run(main()) is velodrome.Loop


def test_the_policy_keeps_the_current_loop(policy):
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    assert asyncio.get_event_loop() is loop
    asyncio.set_event_loop(None)
    with pytest.raises(RuntimeError):
        asyncio.get_event_loop()
    loop.close()


def test_making_a_policy_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        velodrome.EventLoopPolicy()


@pytest.mark.skipif(sys.version_info >= (3, 16), reason="policies are gone")
def test_policy():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        before = asyncio.get_event_loop_policy()
        asyncio.set_event_loop_policy(velodrome.EventLoopPolicy())
        try:
            loop = asyncio.new_event_loop()
            assert type(loop) is velodrome.Loop
            loop.close()

            async def main():
                return type(asyncio.get_running_loop())

            assert asyncio.run(main()) is velodrome.Loop
            asyncio.set_event_loop(loop)
            assert asyncio.get_event_loop() is loop
            asyncio.set_event_loop(None)
        finally:
            asyncio.set_event_loop_policy(before)
