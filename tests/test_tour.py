"""The tour (examples/tour.py) says the same on velodrome as on asyncio, line by line."""

import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOUR = Path(__file__).parents[1] / "examples" / "tour.py"


@functools.cache
def tour(*arguments):
    """Run the tour in a process of its own, with every warning an error that would show."""
    # Warnings as errors: a forgotten coroutine that the tour does not catch as it promises shows on stderr.
    # Strings hash differently in every process, so an order that comes from hashes shows, too.
    done = subprocess.run(
        [sys.executable, "-W", "error", TOUR, *arguments], capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr
    return done


def chapters(output):
    """Return the lines of each chapter, by its number."""
    parts = re.split(r"^(\d+)\. ", output, flags=re.MULTILINE)
    return {int(number): text.splitlines() for number, text in zip(parts[1::2], parts[2::2], strict=True)}


def test_both_loops_say_the_same_line_by_line():
    assert tour("--loop", "velodrome").stdout.splitlines() == tour("--loop", "asyncio").stdout.splitlines()


@pytest.mark.parametrize("loop", ["velodrome", "asyncio"])
def test_nothing_on_stderr(loop):
    assert tour("--loop", loop).stderr == ""


def test_default_loop_is_velodrome():
    assert "velodrome." in tour("--verbose", "1").stderr
    assert "velodrome." in tour("--verbose", "--loop", "velodrome", "1").stderr
    assert "asyncio." in tour("--verbose", "--loop", "asyncio", "1").stderr


def test_same_output_in_every_process():
    tour.cache_clear()
    first = tour("--loop", "velodrome").stdout
    tour.cache_clear()
    assert tour("--loop", "velodrome").stdout == first


@pytest.mark.parametrize("loop", ["velodrome", "asyncio"])
@pytest.mark.parametrize(
    ("number", "line"),
    [
        (1, "    main     awaiting it gave 42"),
        (2, "    python   RuntimeWarning: coroutine 'save' was never awaited"),
        (3, "    Runner   two runs, the same loop: True; closed: False"),
        (4, "    main     the sleeper holds nobody up"),
        (5, "    main     still my turn; the worker has printed nothing yet"),
        (6, "    creator  got 'PING'"),
        (7, "    main     return_exceptions=False: job 7 failed"),
        (7, "    main     results[3] = ValueError('job 3 failed')"),
        (8, "    main     anna cancelled: True; boris cancelled: True"),
        (8, "    main     out of the block: (ValueError('hasty failed'),)"),
        (9, "    main     woken with 'four, said the future'"),
        (10, "    task     cancelled before I was done"),
        (11, "    main     three deposits of 10 with a lock: 30"),
    ],
)
def test_key_line(loop, number, line):
    assert line in chapters(tour("--loop", loop).stdout)[number]


@pytest.mark.parametrize("loop", ["velodrome", "asyncio"])
def test_turns_alternate(loop):
    """The order is the lesson of these chapters: one line elsewhere, and it is wrong."""

    def told(number, *speakers):
        """Return what these speakers say in a chapter, in order, without the columns' blanks."""
        lines = (line.split() for line in chapters(tour("--loop", loop).stdout)[number])
        return [" ".join(words) for words in lines if words and words[0] in speakers]

    apart = ["left 1", "left 2", "left 3", "right 1", "right 2", "right 3"]
    in_turns = ["left 1", "right 1", "left 2", "right 2", "left 3", "right 3"]
    assert told(4, "left", "right") == apart + in_turns
    assert told(6, "creator", "task")[:3] == ["creator turn 0", "task turn 0", "creator turn 1"]
    assert told(9, "numbers", "callback") == [
        *("numbers 1", "numbers 2", "numbers 3", "numbers 4", "numbers result set; my turn goes on"),
        *("callback called by the loop, done: True", "numbers 5"),
    ]
    assert told(10, "task")[-2:] == ["task cancelled before I was done", "task cleaning up"]


def test_one_chapter_alone():
    assert list(chapters(tour("--loop", "asyncio", "9").stdout)) == [9]


def test_no_such_chapter():
    done = subprocess.run([sys.executable, TOUR, "12"], capture_output=True, text=True, timeout=50)
    assert done.returncode == 2
    assert "they are 1 to 11" in done.stderr
