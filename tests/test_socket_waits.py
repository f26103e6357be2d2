"""Calls on sockets that have to wait: what is watched meanwhile, who takes whose place, and what is left.

(Cancellation at every point is in test_socket_cancellation.py.)
"""

import asyncio
import gc
import os
import socket
import sys
import weakref

import pytest
import velodrome
from differential.compare import check_same, one_turn, outcome, turns
from differential.sockets import CALLS, Subclass, Wrapped, fill, kinds, pair
from differential.worlds import either_loop  # noqa: F401

pytestmark = pytest.mark.timeout(60)


def test_a_closed_loop_is_told_when_it_would_have_to_wait():
    def program(loop):
        one, other = pair()
        with one, other:
            call = loop.sock_recv(one, 5)
            loop.close()
            call.send(None)

    assert check_same(program) == ("RuntimeError", "Event loop is closed")


def test_nothing_happens_before_it_is_awaited(either_loop):  # noqa: F811
    one, other = pair()
    with one, other:
        other.send(b"data")
        call = either_loop.sock_recv(one, 5)
        call.close()
        assert either_loop.run_until_complete(either_loop.sock_recv(one, 5)) == b"data"


def test_the_task_shows_what_it_waits_for(either_loop):  # noqa: F811
    loop = either_loop
    one, other = pair()

    async def main():
        return await loop.sock_recv(one, 5)

    with one, other:
        task = loop.create_task(main())
        one_turn(loop)
        future = task._fut_waiter
        assert asyncio.isfuture(future) and not future.done()
        future.set_result(b"from elsewhere")
        assert loop.run_until_complete(task) == b"from elsewhere"
        one_turn(loop)
        assert not loop.remove_reader(one)


@kinds
@pytest.mark.parametrize("name", [*CALLS, "sock_sendall", "sock_accept"])
def test_a_cancelled_wait_takes_nothing_and_watches_nothing(either_loop, kind, name):  # noqa: F811
    loop = either_loop
    if name == "sock_accept":
        inner, other = socket.create_server(("127.0.0.1", 0)), socket.socket()
        inner.setblocking(False)
        sock = inner
    else:
        sock, other = pair(kind)
        inner = sock.sock if kind is Wrapped else sock
    with inner, other:
        arguments = {"sock_recv": (5,), "sock_recvfrom": (5,), "sock_accept": ()}.get(name, (bytearray(5),))
        if name == "sock_sendall":
            fill(inner)
        task = loop.create_task(getattr(loop, name)(sock, *arguments))
        turns(loop, 2)
        assert not task.done()
        task.cancel()
        turns(loop, 2)
        assert task.cancelled()
        assert not loop.remove_reader(inner)
        assert not loop.remove_writer(inner)
        if name in CALLS:
            other.send(b"data")
            turns(loop, 2)
            assert inner.recv(5) == b"data"


@pytest.mark.parametrize("direction", ["reader", "writer"])
def test_a_later_call_takes_the_place_of_an_earlier_one(direction):
    """Of two on the same socket, the first never ends, also when the second is over."""

    def program(loop):
        one, other = pair()
        with one, other:
            if direction == "writer":
                fill(one)

            def call():
                return loop.sock_recv(one, 5) if direction == "reader" else loop.sock_sendall(one, b"data")

            def go():
                return other.send(b"12") if direction == "reader" else other.recv(1 << 20)

            first, second = loop.create_task(call()), loop.create_task(call())
            turns(loop, 2)
            go()
            turns(loop, 3)
            said = [first.done(), second.done() and second.result()]
            third = loop.create_task(call())
            turns(loop, 2)
            first.cancel()
            turns(loop, 2)
            if direction == "reader":
                go()
            turns(loop, 3)
            return [*said, first.cancelled(), third.result()]

    check_same(program)


@pytest.mark.parametrize("way", ["add", "remove", "remove twice"])
def test_readers_of_the_program_take_the_place_of_a_call(way):
    def program(loop):
        one, other = pair()
        with one, other:
            task = loop.create_task(loop.sock_recv(one, 5))
            turns(loop, 2)
            said = []
            if way == "add":
                loop.add_reader(one, lambda: said.append(one.recv(5)))
            else:
                said.append(loop.remove_reader(one))
            if way == "remove twice":
                said.append(loop.remove_reader(one))
            other.send(b"data")
            turns(loop, 3)
            said.append(task.done())
            task.cancel()
            turns(loop, 3)
            other.send(b"more")
            turns(loop, 3)
            said.append(loop.remove_reader(one))
            return said

    check_same(program)


def test_a_call_takes_the_place_of_a_reader():
    def program(loop):
        one, other = pair()
        said = []
        with one, other:
            loop.add_reader(one, said.append, "reader")
            task = loop.create_task(loop.sock_recv(one, 5))
            turns(loop, 2)
            other.send(b"data")
            turns(loop, 4)
            said.append(task.result())
            said.append(loop.remove_reader(one))
            return said

    check_same(program)


def test_what_is_watched_after_a_call_is_the_programs_own(loop):
    """When a call ends its registration rests for an iteration; whatever happens then finds none of it."""
    one, other = pair()
    third, fourth = pair()
    seen = []

    async def main(act):
        data = await loop.sock_recv(one, 5)
        act()
        return data

    def replace():
        os.dup2(third.fileno(), one.fileno())
        loop.add_reader(one, lambda: seen.append(one.recv(5)))

    with one, other, third, fourth:
        task = loop.create_task(main(lambda: seen.append(loop.remove_reader(one))))
        turns(loop, 2)
        other.send(b"data")
        turns(loop, 2)
        assert task.result() == b"data" and seen == [False]

        task = loop.create_task(main(replace))
        turns(loop, 2)
        other.send(b"data")
        turns(loop, 2)
        assert task.result() == b"data"
        fourth.send(b"new")
        turns(loop, 2)
        assert seen == [False, b"new"]
        assert loop.remove_reader(one)


def test_another_file_of_the_same_number_is_waited_for(loop):
    """The next call renews the registration of the last one: for the file that is there now."""
    one, other = pair()
    third, fourth = pair()

    async def main():
        first = await loop.sock_recv(one, 5)
        os.dup2(third.fileno(), one.fileno())
        return first, await loop.sock_recv(one, 5)

    with one, other, third, fourth:
        task = loop.create_task(main())
        turns(loop, 2)
        other.send(b"old")
        turns(loop, 3)
        fourth.send(b"new")
        assert loop.run_until_complete(asyncio.wait_for(task, 10)) == (b"old", b"new")


def test_a_socket_that_is_closed_meanwhile_harms_nobody(either_loop):  # noqa: F811
    """The call waits until it is cancelled; whoever has the number then is served, and stays registered."""
    loop = either_loop
    one, other = pair()
    number = one.fileno()
    task = loop.create_task(loop.sock_recv(one, 5))
    turns(loop, 2)
    one.close()
    other.close()
    third, fourth = pair()
    with third, fourth:
        assert number in (third.fileno(), fourth.fileno())
        mine, peer = (third, fourth) if third.fileno() == number else (fourth, third)
        if isinstance(loop, velodrome.Loop):
            # On asyncio's loop the number is still taken for watched, and nothing is ever heard of it.
            stranger = loop.create_task(loop.sock_recv(mine, 5))
            turns(loop, 2)
            task.cancel()
            turns(loop, 2)
            assert task.cancelled() and not stranger.done()
            peer.send(b"data")
            assert loop.run_until_complete(asyncio.wait_for(stranger, 10)) == b"data"
        else:
            task.cancel()
            turns(loop, 2)


def test_a_call_that_is_over_keeps_nothing(loop):
    one, other = pair()

    class Buffer(bytearray):
        pass

    async def main():
        other.send(b"data")
        buffer = Buffer(5)
        watched = weakref.ref(buffer)
        await loop.sock_recv_into(one, buffer)
        waiting = asyncio.ensure_future(loop.sock_recv_into(one, buffer))
        await asyncio.sleep(0)
        other.send(b"data")
        await waiting
        del buffer, waiting
        gc.collect()
        return watched()

    with one, other:
        assert loop.run_until_complete(main()) is None


def test_an_abandoned_wait_is_ended(loop):
    """As its coroutine is when nobody holds it: nothing is watched then, and nothing received."""
    one, other = pair()

    async def main():
        await loop.sock_recv(one, 5)

    with one, other:
        coroutine = main()
        coroutine.send(None)
        coroutine.close()
        assert not loop.remove_reader(one)
        other.send(b"data")
        turns(loop, 2)
        assert one.recv(5) == b"data"


def test_a_call_keeps_its_place_while_attempts_come_too_early(loop):
    """Somebody else may take what has come, before the call does."""
    one, other = pair()
    with one, other:
        task = loop.create_task(loop.sock_recv(one, 5))
        turns(loop, 2)
        other.send(b"data")
        loop.call_soon(one.recv, 5)
        one_turn(loop)
        turns(loop, 3)
        assert not task.done()
        other.send(b"more")
        assert loop.run_until_complete(task) == b"more"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_stops_the_loop_goes_out_of_it(stop):
    class Stopping(Subclass):
        ready = False

        def recv(self, count):
            if self.ready:
                raise stop("now")
            return super().recv(count)

    def program(loop):
        one, other = pair(Stopping)
        with one, other:
            task = loop.create_task(loop.sock_recv(one, 5))
            turns(loop, 2)
            one.ready = True
            other.send(b"data")
            said = outcome(turns, loop, 3)
            one.ready = False
            said = said, task.done()
            return said, loop.run_until_complete(task)

    check_same(program)


def test_other_exceptions_are_the_calls(loop):
    class Failing(Subclass):
        error = BlockingIOError

        def send(self, data):
            raise self.error("message")

    def program(loop):
        one, other = pair(Failing)
        with one, other:
            task = loop.create_task(loop.sock_sendall(one, b"data"))
            turns(loop, 2)
            one.error = ZeroDivisionError
            return loop.run_until_complete(task)

    assert check_same(program) == ("ZeroDivisionError", "message")


def test_a_resized_buffer_is_refused_while_it_is_sent():
    def program(loop):
        one, other = pair()
        data = bytearray(3_000_000)
        with one, other:
            task = loop.create_task(loop.sock_sendall(one, data))
            turns(loop, 2)
            said = outcome(data.clear)
            task.cancel()
            turns(loop, 2)
            del task
            data.clear()
            return said

    assert check_same(program)[1][0] == "BufferError"


def test_the_slow_callback_is_named(loop, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 0
    one, other = pair()
    with one, other:
        task = loop.create_task(loop.sock_recv(one, 5))
        turns(loop, 2)
        other.send(b"data")
        assert loop.run_until_complete(task) == b"data"
    assert "Executing <Handle SocketCall._ready() created at " in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="counts by /proc")
def test_many_turns_leave_nothing_open(loop):
    async def main():
        for _ in range(200):
            one, other = pair()
            with one, other:
                task = loop.create_task(loop.sock_recv(one, 5))
                await asyncio.sleep(0)
                other.send(b"data")
                await task

    before = os.listdir("/proc/self/fd")
    loop.run_until_complete(main())
    assert os.listdir("/proc/self/fd") == before
