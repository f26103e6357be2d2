"""add_reader, add_writer and their removal: descriptors are watched, and never anybody else's."""

import asyncio
import contextlib
import contextvars
import os
import socket
import weakref

import pytest
import velodrome
from differential import sockets, worlds
from differential.compare import check_same, one_turn, turns

either_loop = worlds.either_loop
pair = sockets.connected


def wait(loop, condition):
    """Run the loop until the condition holds."""

    async def main():
        while not condition():
            await asyncio.sleep(0)

    loop.run_until_complete(asyncio.wait_for(main(), 30))


# -- Readiness ---------------------------------------------------------------------------------------------


def test_reader_is_called_as_long_as_there_is_something(either_loop, pair):
    ours, theirs = pair
    calls = []
    either_loop.add_reader(ours, calls.append, "readable")
    turns(either_loop, 2)
    assert calls == []
    theirs.send(b"12")
    turns(either_loop, 3)
    assert calls == ["readable"] * 3
    ours.recv(1)
    turns(either_loop, 2)
    assert len(calls) == 5
    ours.recv(1)
    turns(either_loop, 2)
    assert len(calls) == 5
    assert either_loop.remove_reader(ours) is True


def test_writer_is_called_as_long_as_there_is_room(either_loop, pair):
    ours, theirs = pair
    calls = []
    either_loop.add_writer(ours, calls.append, "writable")
    turns(either_loop, 2)
    assert calls == ["writable"] * 2
    with contextlib.suppress(BlockingIOError):
        while True:
            ours.send(b"x" * 65536)
    calls.clear()
    turns(either_loop, 2)
    assert calls == []
    with contextlib.suppress(BlockingIOError):
        while True:
            theirs.recv(65536)
    wait(either_loop, lambda: calls)
    assert either_loop.remove_writer(ours) is True


def test_reader_and_writer_of_one_descriptor_are_apart(either_loop, pair):
    ours, theirs = pair
    calls = []
    either_loop.add_reader(ours, calls.append, "read")
    either_loop.add_writer(ours, calls.append, "write")
    theirs.send(b"1")
    one_turn(either_loop)
    assert calls == ["read", "write"]
    assert either_loop.remove_reader(ours) is True
    one_turn(either_loop)
    assert calls == ["read", "write", "write"]
    either_loop.add_reader(ours, calls.append, "read again")
    assert either_loop.remove_writer(ours) is True
    one_turn(either_loop)
    assert calls == ["read", "write", "write", "read again"]
    assert either_loop.remove_reader(ours) is True
    assert either_loop.remove_reader(ours) is False and either_loop.remove_writer(ours) is False


@pytest.mark.parametrize("what", ["end of file", "reset", "half closed"])
def test_hang_up_is_seen_by_reader_and_writer(what):
    """What the kernel calls an error or a hang-up comes as readable, writable, or both: as in asyncio."""

    def program(loop):
        calls = []
        if what == "reset":
            with socket.create_server(("127.0.0.1", 0)) as server:
                ours = socket.create_connection(server.getsockname())
                theirs, _ = server.accept()
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            theirs.close()
        else:
            ours, theirs = socket.socketpair()
            if what == "half closed":
                theirs.shutdown(socket.SHUT_WR)
            else:
                theirs.close()
        with ours, theirs:
            loop.add_reader(ours, calls.append, "read")
            loop.add_writer(ours, calls.append, "write")
            one_turn(loop)
            loop.remove_writer(ours)
            one_turn(loop)
            loop.remove_reader(ours)
        return calls

    kind, calls = check_same(program)
    assert kind == "returned" and "read" in calls


def test_pipes(either_loop):
    read, write = os.pipe()
    calls = []
    either_loop.add_reader(read, calls.append, "read")
    either_loop.add_writer(write, calls.append, "write")
    one_turn(either_loop)
    assert calls == ["write"]
    os.write(write, b"x")
    either_loop.remove_writer(write)
    one_turn(either_loop)
    assert calls == ["write", "read"]
    os.read(read, 1)
    os.close(write)
    # The end of a pipe is a hang-up alone.
    one_turn(either_loop)
    assert calls == ["write", "read", "read"]
    either_loop.remove_reader(read)
    os.close(read)


def test_writer_of_a_pipe_that_nobody_reads():
    def program(loop):
        read, write = os.pipe()
        os.close(read)
        calls = []
        loop.add_writer(write, calls.append, "write")
        one_turn(loop)
        loop.remove_writer(write)
        loop.add_reader(write, calls.append, "read")
        one_turn(loop)
        loop.remove_reader(write)
        os.close(write)
        return calls

    check_same(program)


def test_many_descriptors_in_one_iteration(either_loop):
    with contextlib.ExitStack() as stack:
        pairs = [socket.socketpair() for _ in range(200)]
        for sockets in pairs:
            for each in sockets:
                stack.enter_context(each)
        seen = []
        for number, (ours, theirs) in enumerate(pairs):
            either_loop.add_reader(ours, seen.append, number)
            theirs.send(b"x")
        wait(either_loop, lambda: len(set(seen)) == 200)
        for ours, _ in pairs:
            assert either_loop.remove_reader(ours)


def test_idle_loop_wakes_for_a_descriptor(either_loop, pair):
    ours, theirs = pair
    either_loop.add_reader(ours, either_loop.stop)
    import threading

    running = threading.Event()

    def send():
        running.wait()
        theirs.send(b"x")

    thread = threading.Thread(target=send)
    thread.start()
    either_loop.call_soon(running.set)
    either_loop.run_forever()
    thread.join()
    either_loop.remove_reader(ours)


# -- Removal and replacement -------------------------------------------------------------------------------


def test_reader_that_is_removed_while_its_event_is_pending_is_not_called(either_loop):
    """Whichever of the two comes first removes the other."""
    first, second = socket.socketpair(), socket.socketpair()
    calls = []
    with first[0], first[1], second[0], second[1]:
        either_loop.add_reader(first[0], lambda: (calls.append(1), either_loop.remove_reader(second[0])))
        either_loop.add_reader(second[0], lambda: (calls.append(2), either_loop.remove_reader(first[0])))
        first[1].send(b"x")
        second[1].send(b"x")
        one_turn(either_loop)
        assert len(calls) == 1
        turns(either_loop, 2)
        assert len(set(calls)) == 1
        either_loop.remove_reader(first[0])
        either_loop.remove_reader(second[0])


def test_reader_that_removes_itself(either_loop, pair):
    ours, theirs = pair
    calls = []
    either_loop.add_reader(ours, lambda: calls.append(either_loop.remove_reader(ours)))
    theirs.send(b"x")
    turns(either_loop, 3)
    assert calls == [True]


def test_reader_that_is_replaced_while_its_event_is_pending(either_loop):
    """The old one is not called; the new one not before the next iteration."""
    first, second = socket.socketpair(), socket.socketpair()
    calls = []

    def replace(other):
        calls.append("replaces")
        for each in (first[0], second[0]):
            either_loop.add_reader(each, calls.append, "new")

    with first[0], first[1], second[0], second[1]:
        for mine in (first, second):
            either_loop.add_reader(mine[0], replace, None)
            mine[1].send(b"x")
        one_turn(either_loop)
        assert calls == ["replaces"]
        one_turn(either_loop)
        assert calls == ["replaces", "new", "new"]
        either_loop.remove_reader(first[0])
        either_loop.remove_reader(second[0])


def test_replaced_callback_is_let_go(either_loop, pair):
    class Callback:
        def __call__(self):
            pass

    ours, theirs = pair
    callback = Callback()
    gone = weakref.ref(callback)
    either_loop.add_reader(ours, callback)
    del callback
    either_loop.add_reader(ours, print)
    assert gone() is None
    callback = Callback()
    gone = weakref.ref(callback)
    either_loop.add_reader(ours, callback)
    del callback
    either_loop.remove_reader(ours)
    assert gone() is None


def test_handles_of_readers(either_loop, pair):
    """asyncio's private methods return and cancel handles; asyncio.sslproto and others use them."""
    ours, theirs = pair
    handle = either_loop._add_reader(ours.fileno(), print)
    assert isinstance(handle, asyncio.Handle) and not handle.cancelled()
    other = either_loop._add_reader(ours.fileno(), print, "other")
    assert handle.cancelled() and not other.cancelled()
    writer = either_loop._add_writer(ours.fileno(), print)
    assert either_loop._remove_reader(ours.fileno()) is True
    assert other.cancelled() and not writer.cancelled()
    assert either_loop._remove_writer(ours.fileno()) is True
    assert either_loop._remove_writer(ours.fileno()) is False
    assert writer.cancelled()


def test_cancelled_handle_of_a_reader_is_not_called(either_loop, pair):
    ours, theirs = pair
    calls = []
    handle = either_loop._add_reader(ours.fileno(), calls.append, 1)
    theirs.send(b"x")
    handle.cancel()
    turns(either_loop, 2)
    assert calls == []
    either_loop.remove_reader(ours)


def test_reader_runs_in_the_context_in_which_it_was_added(either_loop, pair):
    variable = contextvars.ContextVar("variable", default="unset")
    ours, theirs = pair
    seen = []

    def add():
        variable.set("set")
        either_loop.add_reader(ours, lambda: seen.append(variable.get()))

    contextvars.copy_context().run(add)
    theirs.send(b"x")
    one_turn(either_loop)
    either_loop.remove_reader(ours)
    assert seen == ["set"]


def test_reader_that_raises_goes_on(either_loop, pair):
    ours, theirs = pair
    contexts = []
    either_loop.set_exception_handler(lambda loop, context: contexts.append(context))
    either_loop.add_reader(ours, lambda: 1 / 0)
    theirs.send(b"x")
    turns(either_loop, 2)
    assert [type(context["exception"]) for context in contexts] == [ZeroDivisionError] * 2
    either_loop.remove_reader(ours)


def test_descriptor_that_was_closed_and_given_out_again(either_loop):
    """Removed first, as it must be: then the number belongs to another file, which is watched anew."""
    calls = []
    for number in range(3):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            either_loop.add_reader(ours, calls.append, number)
            theirs.send(b"x")
            one_turn(either_loop)
            assert either_loop.remove_reader(ours)
    assert calls == [0, 1, 2]


def test_descriptor_that_was_closed_while_it_was_watched(either_loop, pair):
    """The kernel forgets it; the loop must neither spin, nor fail, nor call."""
    first, second = socket.socketpair()
    calls = []
    either_loop.add_reader(first.fileno(), calls.append, "closed")
    number = first.fileno()
    second.send(b"x")
    first.close()
    turns(either_loop, 2)
    assert calls == []
    assert either_loop.remove_reader(number) is True
    assert either_loop.remove_reader(number) is False
    second.close()
    ours, theirs = pair
    either_loop.add_reader(ours, calls.append, "another")
    theirs.send(b"x")
    one_turn(either_loop)
    assert calls == ["another"]
    either_loop.remove_reader(ours)


def test_watching_what_lies_behind_two_numbers(either_loop, pair):
    ours, theirs = pair
    calls = []
    with socket.socket(fileno=os.dup(ours.fileno())) as duplicate:
        either_loop.add_reader(ours, calls.append, "one")
        either_loop.add_reader(duplicate, calls.append, "two")
        theirs.send(b"x")
        one_turn(either_loop)
        assert sorted(calls) == ["one", "two"]
        assert either_loop.remove_reader(duplicate)
    one_turn(either_loop)
    assert calls[2:] == ["one"]
    either_loop.remove_reader(ours)


def test_two_loops_watch_one_descriptor(pair):
    ours, theirs = pair
    loops = [velodrome.new_event_loop(), velodrome.new_event_loop()]
    calls = []
    theirs.send(b"x")
    for number, loop in enumerate(loops):
        loop.add_reader(ours, calls.append, number)
    for loop in loops:
        one_turn(loop)
        loop.remove_reader(ours)
        loop.close()
    assert calls == [0, 1]


def test_removal_of_a_reader_from_a_callback_in_between(either_loop):
    """Many are ready, each removes all others: exactly one is called per iteration."""
    pairs = [socket.socketpair() for _ in range(20)]
    calls = []

    def called(number):
        calls.append(number)
        for each, _ in pairs:
            either_loop.remove_reader(each)

    with contextlib.ExitStack() as stack:
        for number, (ours, theirs) in enumerate(pairs):
            stack.enter_context(ours)
            stack.enter_context(theirs)
            theirs.send(b"x")
            either_loop.add_reader(ours, called, number)
        turns(either_loop, 3)
    assert len(calls) == 1
