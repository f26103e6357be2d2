"""Future: what it is, how it is made and extended, and who waits for it; the same answers as asyncio's."""

import asyncio
import copy
import gc
import inspect
import pickle
import sys
import weakref
from collections import abc

import pytest
import velodrome
from differential import futures, worlds
from differential.compare import check_same, one_turn, outcome, turns
from differential.futures import ATTRIBUTES, Extended, future_of, wait_for

either_loop = worlds.either_loop
future_class = futures.future_class


# -- What it is --------------------------------------------------------------------------------------------


def test_future_is_one_of_asyncios(either_loop, future_class):
    future = future_class(loop=either_loop)
    assert isinstance(future, asyncio.Future)
    assert issubclass(future_class, asyncio.Future)
    assert asyncio.isfuture(future)
    assert inspect.isawaitable(future) and isinstance(future, abc.Awaitable)
    assert not asyncio.iscoroutine(future) and not inspect.iscoroutine(future)
    assert not isinstance(future, abc.Coroutine) and not isinstance(future, abc.Iterator)
    assert isinstance(future, abc.Iterable)
    assert asyncio.ensure_future(future) is future
    assert asyncio.wrap_future(future) is future


def test_tasks_are_futures_too(either_loop):
    async def main():
        return asyncio.current_task()

    task = either_loop.run_until_complete(main())
    for future in (task, either_loop.create_future(), velodrome.Future(loop=either_loop)):
        assert isinstance(future, velodrome.Future) == isinstance(future, asyncio.Future) is True
    assert not isinstance(1, velodrome.Future) and not isinstance(either_loop.create_future(), velodrome.Task)
    assert issubclass(velodrome.Task, velodrome.Future) and issubclass(asyncio.Task, velodrome.Future)
    assert issubclass(velodrome.Task, asyncio.Task) and issubclass(velodrome.Task, asyncio.Future)
    assert not issubclass(velodrome.Future, velodrome.Task) and not issubclass(int, velodrome.Future)
    assert isinstance(task, asyncio.Task)
    assert not isinstance(asyncio.Future(loop=either_loop), Extended)
    assert not issubclass(asyncio.Future, Extended) and issubclass(Extended, velodrome.Future)
    with pytest.raises(TypeError):
        issubclass(1, velodrome.Future)


def test_future_has_attributes_and_weak_references(either_loop, future_class):
    future = future_class(loop=either_loop)
    future.anything = "mine"
    assert future.anything == "mine"
    del future.anything
    assert not hasattr(future, "anything")
    assert weakref.ref(future)() is future and {future: 1}[future] == 1
    with pytest.raises(AttributeError):
        future._state = "mine"
    for name in ("_asyncio_future_blocking", "_log_traceback"):
        with pytest.raises(AttributeError):
            delattr(future, name)


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, pickle.dumps])
def test_future_can_be_copied_as_little_as_asyncios(copier):
    def program(loop):
        return copier(future_of(loop))

    loops = [asyncio.SelectorEventLoop(), velodrome.new_event_loop()]
    kinds = [outcome(program, loop)[0] for loop in loops]
    for loop in loops:
        loop.close()
    assert kinds == ["TypeError"] * 2


def test_class_can_be_subscripted(future_class):
    assert future_class[int].__origin__ is future_class
    assert future_class[int].__args__ == (int,)


def test_future_finds_the_running_loop(either_loop, future_class):
    async def main():
        assert future_class().get_loop() is either_loop
        assert future_class(loop=None).get_loop() is either_loop

    either_loop.run_until_complete(main())


def test_future_without_any_loop():
    def program(loop):
        future_of(None, asyncio.Future)

    asyncio.set_event_loop(None)
    expected = outcome(lambda: asyncio.Future())
    assert outcome(lambda: velodrome.Future()) == expected and expected[0] in ("RuntimeError", "returned")


@pytest.mark.parametrize(
    "arguments, options",
    [((1,), {}), ((), {"lop": 1}), ((), {"loop": 1}), ((), {"loop": object()}), ((None,), {"loop": None})],
)
def test_bad_arguments_of_the_constructor(arguments, options):
    expected = outcome(asyncio.Future, *arguments, **options)
    assert outcome(velodrome.Future, *arguments, **options)[0] == expected[0] == "TypeError" or (
        expected[0] == "AttributeError"
    )


METHODS = [
    ("result", ()),
    ("exception", ()),
    ("set_result", (1,)),
    ("set_exception", (ValueError(),)),
    ("cancel", ()),
    ("cancelled", ()),
    ("done", ()),
    ("add_done_callback", (print,)),
    ("remove_done_callback", (print,)),
    ("get_loop", ()),
    ("__iter__", ()),
    ("__await__", ()),
    ("__repr__", ()),
    ("_make_cancelled_error", ()),
    ("__del__", ()),
]


@pytest.mark.parametrize("method, arguments", METHODS)
def test_future_that_was_not_initialised(method, arguments):
    """Whatever the answer is, it is no crash; and no method takes it for a future."""
    future = velodrome.Future.__new__(velodrome.Future, loop=None)
    for name in (*ATTRIBUTES, "_loop", "_callbacks"):
        outcome(getattr, future, name)
    kind, _ = outcome(getattr(future, method), *arguments) if hasattr(future, method) else ("returned", None)
    assert kind in ("RuntimeError", "InvalidStateError", "returned")
    if method in ("set_result", "set_exception", "cancel", "add_done_callback", "get_loop", "__await__"):
        assert kind == "RuntimeError"


@pytest.mark.parametrize(
    "call",
    [
        lambda future: future.set_result(),
        lambda future: future.set_result(1, 2),
        lambda future: future.set_result(result=1),
        lambda future: future.set_exception(),
        lambda future: future.set_exception(exception=ValueError()),
        lambda future: future.set_exception(1),
        lambda future: future.set_exception("text"),
        lambda future: future.set_exception(int),
        lambda future: future.add_done_callback(),
        lambda future: future.add_done_callback(print, 1),
        lambda future: future.add_done_callback(print, contxt=1),
        lambda future: future.add_done_callback(fn=print),
        lambda future: future.remove_done_callback(),
        lambda future: future.remove_done_callback(fn=print),
        lambda future: future.cancel(1),
        lambda future: future.cancel(1, 2),
        lambda future: future.cancel(msg=1),
        lambda future: future.cancel(message=1),
        lambda future: future.done(1),
        lambda future: future.result(1),
        lambda future: future.result(timeout=1),
        lambda future: future.exception(1),
        lambda future: setattr(future, "_log_traceback", True),
        lambda future: setattr(future, "_log_traceback", 0),
        lambda future: setattr(future, "_asyncio_future_blocking", 1),
        lambda future: setattr(future, "_loop", None),
    ],
)
def test_arguments_are_taken_as_asyncio_takes_them(call):
    def program(loop):
        future = future_of(loop)
        return call(future), future._state

    loops = [asyncio.SelectorEventLoop(), velodrome.new_event_loop()]
    expected, found = (outcome(program, loop) for loop in loops)
    for loop in loops:
        loop.close()
    assert found[0] == expected[0]
    if expected[0] == "returned":
        assert found == expected


def test_initialising_again():
    """Until 3.14 it begins anew; from 3.15 on it is an error."""

    def program(loop):
        future = future_of(loop)
        future.set_result(1)
        future.add_done_callback(print)
        future.__init__(loop=loop)
        return future._state, future._callbacks, future._result

    check_same(program)


# -- Subclasses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [asyncio.Future, velodrome.Future])
def test_overridden_methods_of_a_subclass_are_called(either_loop, base):
    calls = []

    class Future(base):
        def add_done_callback(self, callback, *, context=None):
            calls.append("add_done_callback")
            super().add_done_callback(callback, context=context)

        def result(self):
            calls.append("result")
            return super().result()

        def cancel(self, msg=None):
            calls.append("cancel")
            return super().cancel(msg)

        def set_result(self, value):
            calls.append("set_result")
            super().set_result(value)

    async def main():
        future = Future(loop=either_loop)
        either_loop.call_soon(future.set_result, "value")
        assert await future == "value"
        future = Future(loop=either_loop)
        task = either_loop.create_task(wait_for(future))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert future.cancelled()

    either_loop.run_until_complete(main())
    assert [call for call in calls if call != "result"] == [
        *("add_done_callback", "set_result"),
        *("add_done_callback", "cancel"),
    ]
    assert "result" in calls


def test_subclass_with_its_own_constructor_and_del(either_loop):
    deleted = []

    class Future(velodrome.Future):
        def __init__(self, value, **options):
            super().__init__(**options)
            self.value = value

        def __del__(self):
            deleted.append(self.value)

    future = Future(5, loop=either_loop)
    future.set_result(1)
    assert either_loop.run_until_complete(wait_for(future)) == 1
    del future
    gc.collect()
    assert deleted == [5]


def test_duck_typed_future_is_awaited(either_loop):
    """A class of its own with asyncio's protocol: `_asyncio_future_blocking` and `add_done_callback`."""

    class Duck:
        _asyncio_future_blocking = False

        def __init__(self, loop):
            self.inner = loop.create_future()

        def get_loop(self):
            return self.inner.get_loop()

        def add_done_callback(self, callback, *, context):
            self.inner.add_done_callback(lambda _: callback(self), context=context)

        def result(self):
            return self.inner.result()

        def cancel(self, msg=None):
            return self.inner.cancel(msg)

        def __await__(self):
            if not self.inner.done():
                self._asyncio_future_blocking = True
                yield self
            return self.inner.result()

    async def main(duck):
        return await duck

    duck = Duck(either_loop)
    task = either_loop.create_task(main(duck))
    one_turn(either_loop)
    assert task._fut_waiter is duck and duck._asyncio_future_blocking is False
    duck.inner.set_result("quack")
    assert either_loop.run_until_complete(task) == "quack"

    duck = Duck(either_loop)
    task = either_loop.create_task(main(duck))
    one_turn(either_loop)
    task.cancel("message")
    turns(either_loop, 2)
    assert task.cancelled() and duck.inner.cancelled()


def test_awaited_by_shows_who_waits(either_loop):
    if sys.version_info < (3, 14):
        pytest.skip("_asyncio_awaited_by came with 3.14")

    async def main():
        future = either_loop.create_future()
        assert future._asyncio_awaited_by is None
        tasks = {either_loop.create_task(wait_for(future)) for _ in range(2)}
        await asyncio.sleep(0)
        assert set(future._asyncio_awaited_by) == tasks
        future.set_result(None)
        await asyncio.wait(tasks)
        assert not future._asyncio_awaited_by
        task = either_loop.create_task(asyncio.sleep(0))
        outer = either_loop.create_task(wait_for(task))
        await asyncio.sleep(0)
        assert set(task._asyncio_awaited_by) == {outer}
        await outer
        assert not task._asyncio_awaited_by

    either_loop.run_until_complete(main())
