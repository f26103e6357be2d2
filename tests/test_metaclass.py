"""Classes that derive from Future, Task, Handle or TimerHandle and from an abstract class."""

import abc
import asyncio
import collections.abc
import typing

import pytest
import velodrome
from differential import worlds

either_loop = worlds.either_loop

kinds = pytest.mark.parametrize("kind", ["Future", "Task", "Handle", "TimerHandle"])


def both(kind, ask):
    """What is true of asyncio's class of that name, which has to be true of ours."""
    expected = ask(getattr(asyncio, kind))
    assert ask(getattr(velodrome, kind)) == expected
    return expected


class Abstract(abc.ABC):
    @abc.abstractmethod
    def price(self): ...


@kinds
def test_classes_can_be_derived_from_together_with_abstract_ones(kind):
    def ask(base):
        class Whole(base, Abstract):
            def price(self):
                return 1

        class Part(Abstract, base):
            pass

        return (
            [issubclass(Whole, other) for other in (base, Abstract, Part, int)],
            [issubclass(other, Whole) for other in (base, Abstract, Part, int)],
            [Whole.__abstractmethods__, Part.__abstractmethods__],
            isinstance(1, Whole),
        )

    derives, derived, missing, instance = both(kind, ask)
    assert derives == [True, True, False, False] and not any(derived) and not instance
    assert missing == [frozenset(), frozenset({"price"})]


@kinds
def test_what_is_registered_counts_for_the_derived_class_alone(kind):
    def ask(base):
        class Whole(base, Abstract):
            pass

        Whole.register(int)
        classes = (Whole, Abstract, base)
        return (
            [isinstance(True, each) for each in classes],
            [issubclass(bool, each) for each in classes],
            [isinstance("1", each) for each in classes],
        )

    # asyncio's own class knows nothing of it; Abstract does, since Whole derives from it.
    assert both(kind, ask) == ([True, True, False], [True, True, False], [False, False, False])


@kinds
def test_classes_can_be_derived_from_together_with_generic_and_awaitable(kind):
    def ask(base):
        class Both(base, typing.Generic[typing.TypeVar("Anything")], collections.abc.Awaitable):
            def __await__(self):
                yield

        return issubclass(Both, collections.abc.Awaitable), Both[int].__origin__ is Both

    assert both(kind, ask) == (True, True)


@kinds
def test_a_derived_class_asked_of_no_class_raises_as_asyncios_does(kind):
    def ask(base):
        class Whole(base, Abstract):
            pass

        with pytest.raises(TypeError) as caught:
            issubclass(1, Whole)
        return str(caught.value)

    both(kind, ask)


@pytest.mark.parametrize(
    "kind",
    ["Future", "Task", "Handle", "TimerHandle", "Event", "Queue", "Runner", "StreamReader", "TaskGroup"],
)
def test_a_class_that_lacks_what_an_abstract_one_wants_has_instances_only_if_asyncios_has(kind):
    def ask(base):
        class Part(Abstract, base):
            pass

        class Whole(Part):
            def price(self):
                return 1

        assert Whole.__new__(Whole).price() == 1
        try:
            return type(Part.__new__(Part)) is Part
        except TypeError as refused:
            return str(refused)

    answer = both(kind, ask)
    assert answer is True if kind in ("Future", "Task") else "abstract" in answer


def test_instances_of_a_derived_class_are_instances_of_all(either_loop):
    class Abstracted(velodrome.Future, Abstract):
        def price(self):
            return 1

    future = Abstracted(loop=either_loop)
    for kind in (Abstracted, Abstract, velodrome.Future, asyncio.Future, collections.abc.Awaitable):
        assert isinstance(future, kind)
    assert not isinstance(either_loop.create_future(), Abstracted)
    either_loop.call_soon(future.set_result, "done")
    assert either_loop.run_until_complete(future) == "done"
