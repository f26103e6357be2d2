"""Worlds: a loop, and the tasks, futures and sleeps that programs use on it."""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import velodrome

from .python_loop import PythonLoop

try:
    import uvloop
except ImportError:
    uvloop = None


class Turns:
    """Mixed into a loop class: the time is the number of turns that the test gave the loop.

    A turn is one iteration, so timers fire in the same iterations on every loop and nothing waits.
    """

    turn = 0

    def time(self):
        return float(self.turn)


class AsyncioTurns(Turns, asyncio.SelectorEventLoop):
    pass


class VelodromeTurns(Turns, velodrome.Loop):
    pass


@dataclass(frozen=True)
class World:
    """Where a program runs."""

    name: str
    loop_class: Callable[[], asyncio.AbstractEventLoop]
    #: The same class, timed by turns, if there is one.
    turns_class: Callable[[], asyncio.AbstractEventLoop] | None
    sleep: Callable[..., Any] = asyncio.sleep
    create_task: Callable[..., Any] = asyncio.create_task
    #: Makes a function of a loop that makes futures.
    new_future: Callable[[], Callable[..., Any]] = lambda: lambda loop: loop.create_future()
    task_factory: Callable[..., Any] | None = None
    #: Where programs take gather, Lock, timeout and the like from.
    aio: Any = asyncio

    def __repr__(self):
        return f"<{self.name}>"


class Names:
    """asyncio's names, ours where we have them."""

    def __getattr__(self, name):
        return getattr(velodrome, name, None) or getattr(asyncio, name)


OURS = Names()


def factory_of(*classes):
    """Make a function that makes task factories which use these classes in turn."""

    def make():
        made = 0

        def factory(loop, coro, **options):
            nonlocal made
            made += 1
            return classes[made % len(classes)](coro, loop=loop, **options)

        return factory

    return make


def eager_factory_of(task_class):
    """Make a function that makes an eager task factory (Python 3.12)."""
    return lambda: asyncio.create_eager_task_factory(task_class)


class Subclass(velodrome.Task):
    """A Python subclass, which Rust must not take for exactly the class that it extends."""


class SubclassFuture(velodrome.Future):
    pass


for _class in (Subclass, SubclassFuture):
    # Who they are shows in messages.
    _class.__name__ = _class.__base__.__name__


def futures_of(*classes):
    """Make a function that makes functions that make futures of these classes in turn."""

    def make():
        made = 0

        def new_future(loop):
            nonlocal made
            made += 1
            return classes[made % len(classes)](loop=loop)

        return new_future

    return make


_asyncio_loop = dict(loop_class=asyncio.SelectorEventLoop, turns_class=AsyncioTurns)
_velodrome_loop = dict(loop_class=velodrome.Loop, turns_class=VelodromeTurns)

ASYNCIO = World("asyncio", **_asyncio_loop)

#: Each must give asyncio's traces.
WORLDS = [
    World("velodrome", **_velodrome_loop),
    World("native", **_velodrome_loop, sleep=velodrome.sleep, create_task=velodrome.create_task, aio=OURS),
    World("native with stock tasks", **_velodrome_loop, task_factory=factory_of(asyncio.Task), aio=OURS),
    World("stock tasks", **_velodrome_loop, task_factory=factory_of(asyncio.Task)),
    World(
        "stock tasks and futures",
        **_velodrome_loop,
        task_factory=factory_of(asyncio.Task),
        new_future=futures_of(asyncio.Future),
        sleep=velodrome.sleep,
    ),
    World(
        "tasks in turn", **_velodrome_loop, task_factory=factory_of(asyncio.Task, velodrome.Task, Subclass)
    ),
    World(
        "futures in turn",
        **_velodrome_loop,
        new_future=futures_of(velodrome.Future, asyncio.Future, SubclassFuture),
        sleep=velodrome.sleep,
    ),
    World(
        "subclass", **_velodrome_loop, task_factory=factory_of(Subclass), create_task=velodrome.create_task
    ),
    World(
        "our tasks on asyncio",
        **_asyncio_loop,
        task_factory=factory_of(velodrome.Task),
        new_future=futures_of(velodrome.Future),
        sleep=velodrome.sleep,
        create_task=velodrome.create_task,
    ),
    World("native on asyncio", **_asyncio_loop, aio=OURS),
    World(
        "everything in turn on asyncio",
        **_asyncio_loop,
        task_factory=factory_of(asyncio.Task, velodrome.Task, Subclass),
        new_future=futures_of(velodrome.Future, asyncio.Future, SubclassFuture),
    ),
]

PY_TASKS = World(
    "Python's tasks on asyncio",
    **_asyncio_loop,
    task_factory=factory_of(asyncio.tasks._PyTask),
    new_future=futures_of(asyncio.futures._PyFuture),
)

WITH_FACTORY = World("asyncio with a task factory", **_asyncio_loop, task_factory=factory_of(asyncio.Task))

#: Pairs: what the second does, the first does.
PAIRS = [(world, WITH_FACTORY if world.task_factory else ASYNCIO) for world in WORLDS]
PAIRS.append(
    (
        World(
            "Python's tasks on velodrome",
            **_velodrome_loop,
            task_factory=factory_of(asyncio.tasks._PyTask),
            new_future=futures_of(asyncio.futures._PyFuture),
            sleep=velodrome.sleep,
        ),
        PY_TASKS,
    )
)
if sys.version_info >= (3, 12):
    _eager_asyncio = World("eager tasks", **_asyncio_loop, task_factory=lambda: asyncio.eager_task_factory)
    PAIRS += [
        (
            World(
                "eager tasks on velodrome", **_velodrome_loop, task_factory=eager_factory_of(velodrome.Task)
            ),
            _eager_asyncio,
        ),
        (
            World(
                "stock eager tasks on velodrome",
                **_velodrome_loop,
                task_factory=lambda: asyncio.eager_task_factory,
                sleep=velodrome.sleep,
            ),
            _eager_asyncio,
        ),
        (
            World(
                "our eager tasks on asyncio", **_asyncio_loop, task_factory=eager_factory_of(velodrome.Task)
            ),
            _eager_asyncio,
        ),
        (
            World(
                "our eager factory",
                **_velodrome_loop,
                task_factory=lambda: velodrome.eager_task_factory,
                aio=OURS,
            ),
            _eager_asyncio,
        ),
        (
            World(
                "our eager factory of stock tasks on asyncio",
                **_asyncio_loop,
                task_factory=lambda: velodrome.create_eager_task_factory(asyncio.Task),
                aio=OURS,
            ),
            _eager_asyncio,
        ),
    ]


def foreign(name, loop_class):
    """A pair on a loop that is neither asyncio's nor ours, whose own tasks are asyncio's."""
    loop = dict(loop_class=loop_class, turns_class=None)
    ours = World(
        f"our tasks on {name}",
        **loop,
        task_factory=factory_of(velodrome.Task),
        new_future=futures_of(velodrome.Future),
        sleep=velodrome.sleep,
        create_task=velodrome.create_task,
        aio=OURS,
    )
    theirs = World(
        f"asyncio's tasks on {name}",
        **loop,
        task_factory=factory_of(asyncio.Task),
        new_future=futures_of(asyncio.Future),
    )
    return ours, theirs


PAIRS.append(foreign("a loop in Python", PythonLoop))
if uvloop is not None:
    PAIRS.append(foreign("uvloop", uvloop.new_event_loop))


def pairs(turns=False):
    """Pairs as parameters of a test; those on a loop that can be timed by turns, or all."""
    return [
        pytest.param(*pair, id=pair[0].name.replace(" ", "_").replace("'", ""))
        for pair in PAIRS
        if not turns or pair[0].turns_class
    ]


@pytest.fixture(params=["asyncio", "velodrome"])
def either_loop(request):
    """asyncio's loop, then velodrome's: not set as the current one, closed at the end."""
    loop = asyncio.SelectorEventLoop() if request.param == "asyncio" else velodrome.new_event_loop()
    yield loop
    close(loop)


def close(loop):
    """Close a loop with what runs on it."""
    if loop.is_closed():
        return
    loop.set_exception_handler(None)
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
