"""Descriptors that cannot be watched are refused as by asyncio, and a loop leaves none of its own behind."""

import asyncio
import os
import socket
import sys
import tempfile

import pytest
import velodrome
from differential import sockets, worlds
from differential.compare import check_same, on_both, one_turn, open_descriptors, outcome, plain

either_loop = worlds.either_loop
pair = sockets.connected


# -- What cannot be watched --------------------------------------------------------------------------------


class NoFile:
    pass


class BadFile:
    def __init__(self, answer):
        self.answer = answer

    def fileno(self):
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def __repr__(self):
        return f"BadFile({self.answer!r})"


def closed_descriptor():
    """A number that is free, and far from those that a new loop takes."""
    read, write = os.pipe()
    os.dup2(read, 777)
    for descriptor in (read, write, 777):
        os.close(descriptor)
    return 777


def closed_socket():
    with socket.socket() as made:
        return made


def closed_file():
    with tempfile.TemporaryFile() as file:
        return file


def regular_file():
    return tempfile.TemporaryFile()


BAD = {
    "closed": closed_descriptor,
    "negative": lambda: -1,
    "very negative": lambda: -(2**70),
    "huge": lambda: 2**31 - 1,
    "more than huge": lambda: 2**31,
    "beyond everything": lambda: 2**70,
    "float": lambda: 1.5,
    "none": lambda: None,
    "text": lambda: "1",
    "no file": NoFile,
    "class": lambda: NoFile,
    "closed socket": closed_socket,
    "closed file": closed_file,
    "regular file": regular_file,
    "regular file's number": lambda: (
        os.open("/dev/null", os.O_RDONLY) and os.open("/etc/passwd", os.O_RDONLY)
    ),
    "folder": lambda: os.open("/", os.O_RDONLY),
    "fileno is text": lambda: BadFile("1"),
    "fileno is none": lambda: BadFile(None),
    "fileno is a float": lambda: BadFile(1.0),
    "fileno is negative": lambda: BadFile(-1),
    "fileno raises": lambda: BadFile(LookupError("no fileno")),
    "fileno raises TypeError": lambda: BadFile(TypeError("no fileno")),
    "fileno raises AttributeError": lambda: BadFile(AttributeError("no fileno")),
    "fileno raises ValueError": lambda: BadFile(ValueError("no fileno")),
    "fileno is no method": lambda: type("Odd", (), {"fileno": 3, "__repr__": lambda self: "Odd()"})(),
}


@pytest.mark.parametrize("method", ["add_reader", "add_writer", "remove_reader", "remove_writer"])
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_bad_descriptors_give_asyncios_error_and_leave_nothing_behind(method, bad):
    file = bad()
    arguments = (file, print) if method.startswith("add") else (file,)

    def program(loop):
        before = open_descriptors()
        first = outcome(getattr(loop, method), *arguments)
        again = outcome(getattr(loop, method), *arguments)
        assert open_descriptors() == before
        assert len([handle for handle in loop._ready if not handle.cancelled()]) == 0
        # The loop is as usable as before.
        assert loop.run_until_complete(asyncio.sleep(0.001, "usable")) == "usable"
        return first, again

    try:
        kind, (first, again) = check_same(program)
        assert kind == "returned" and first == again
        if method.startswith("add"):
            assert first[0] in ("ValueError", "OSError", "PermissionError", "LookupError", "OverflowError")
    finally:
        if isinstance(file, int) and 2 < file < 1000 and bad is not BAD["closed"]:
            os.close(file)
        elif hasattr(file, "close"):
            file.close()


@pytest.mark.parametrize(
    "call",
    [
        lambda loop, fd: loop.add_reader(),
        lambda loop, fd: loop.add_reader(fd),
        lambda loop, fd: loop.add_reader(fd=fd, callback=int),
        lambda loop, fd: loop.add_reader(fd, callback=int),
        lambda loop, fd: loop.add_writer(fd, callback=int),
        lambda loop, fd: loop.add_reader(fd, int, context=None),
        lambda loop, fd: loop.add_reader(fd, int, nonsense=None),
        lambda loop, fd: (loop.add_reader(fd, int), loop.remove_reader(fd=fd)),
        lambda loop, fd: (loop.add_writer(fd, int), loop.remove_writer(fd=fd)),
        lambda loop, fd: loop.remove_reader(),
        lambda loop, fd: loop.remove_reader(fd, 1),
    ],
)
def test_arguments_are_taken_as_asyncio_takes_them(call, pair):
    ours, _ = pair

    def program(loop):
        try:
            call(loop, ours.fileno())
        finally:
            loop.remove_reader(ours)
            loop.remove_writer(ours)

    (expected, _), (found, _) = on_both(program)
    assert found == expected


@pytest.mark.parametrize("callback", [None, 1, "text"])
def test_callback_that_cannot_be_called(callback, pair):
    """asyncio finds out when the descriptor is ready."""
    ours, theirs = pair
    theirs.send(b"x")

    def program(loop):
        kinds = []
        loop.set_exception_handler(lambda loop, context: kinds.append(type(context["exception"]).__name__))
        loop.add_reader(ours, callback)
        one_turn(loop)
        loop.remove_reader(ours)
        return kinds

    check_same(program)


def test_closed_loop(pair):
    ours, _ = pair

    def program(loop):
        loop.add_reader(ours, print)
        loop.remove_writer(ours)
        loop.close()
        return [
            outcome(loop.add_reader, ours, print),
            outcome(loop.add_writer, ours, print),
            outcome(loop.remove_reader, ours),
            outcome(loop.remove_writer, ours),
            outcome(loop.remove_reader, -1),
        ]

    kind, outcomes = check_same(program)
    assert kind == "returned" and outcomes[0] == ("RuntimeError", "Event loop is closed")


def test_failed_replacement_keeps_what_was_there(either_loop, pair):
    ours, theirs = pair
    calls = []
    either_loop.add_reader(ours, calls.append, "kept")
    with pytest.raises((ValueError, TypeError)):
        either_loop.add_reader(None, calls.append)
    with pytest.raises(TypeError):
        either_loop.add_reader(ours)
    theirs.send(b"x")
    one_turn(either_loop)
    assert calls == ["kept"]
    either_loop.remove_reader(ours)


def test_debug_mode_watches_over_readers_too(pair):
    ours, theirs = pair

    async def coroutine():
        pass

    def program(loop):
        loop.set_debug(True)
        outcomes = [outcome(loop.add_reader, ours, coroutine)]
        handle = loop._add_reader(ours.fileno(), int)
        outcomes.append((plain(repr(handle)), handle._source_traceback is not None))
        loop.remove_reader(ours)
        outcomes.append(plain(repr(handle)))
        return outcomes

    check_same(program)


# -- The loop's own ----------------------------------------------------------------------------------------


def test_closing_the_loop_with_readers_closes_nothing_of_the_programs(pair):
    ours, theirs = pair
    before = open_descriptors()
    loop = velodrome.new_event_loop()
    loop.add_reader(ours, print)
    loop.add_writer(ours, print)
    loop.add_reader(theirs, print)
    theirs.send(b"x")
    loop.close()
    assert open_descriptors() == before
    assert ours.recv(1) == b"x"


def test_loops_leave_no_descriptors(either_loop):
    before = open_descriptors()
    for _ in range(20):
        loop = type(either_loop)()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    assert open_descriptors() == before


def test_out_of_descriptors(run_python):
    """EMFILE is an OSError when the loop is made, and nothing is left behind."""
    code = """
import errno, os, resource, velodrome, asyncio
velodrome.new_event_loop().close()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
kept = []
try:
    while True:
        kept.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
for _ in range(3):
    for free in range(3):
        closed = [os.close(kept.pop()) for _ in range(free)]
        before = len(os.listdir("/proc/self/fd")) if free else None
        try:
            loop = velodrome.new_event_loop()
        except OSError as error:
            assert error.errno == errno.EMFILE, error
        else:
            loop.close()
        while True:
            try:
                kept.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                break
print(len(kept))
os.closerange(10, 64)
loop = velodrome.new_event_loop()
print(loop.run_until_complete(asyncio.sleep(0, "usable")))
loop.close()
"""
    lines = run_python(code).stdout.splitlines()
    assert int(lines[0]) >= 59 and lines[1] == "usable"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_descriptors_of_the_loop_are_not_inherited(run_python):
    code = """
import os, subprocess, velodrome
loop = velodrome.new_event_loop()
print(all(not os.get_inheritable(int(fd)) for fd in os.listdir("/proc/self/fd") if int(fd) > 2 and
          os.path.exists("/proc/self/fd/" + fd)))
"""
    assert run_python(code).stdout == "True\n"
