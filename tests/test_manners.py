"""inspect, mock, pickle and typing are told of our functions and methods what they are told of asyncio's."""

import asyncio
import contextlib
import inspect
import pickle
import sys
import warnings
from unittest import mock

import pytest
import velodrome

# Names of our own that asyncio has as well, where the object is ours.
NAMES = sorted(
    name
    for name in set(velodrome.__all__) & set(asyncio.__all__)
    if getattr(velodrome, name) is not getattr(asyncio, name)
    and name not in ("EventLoop", "SelectorEventLoop", "new_event_loop")
)
CLASSES = [name for name in NAMES if isinstance(getattr(velodrome, name), type)]
FUNCTIONS = [name for name in NAMES if name not in CLASSES]
#: Classes whose instances are easily made, with arguments.
MADE = {
    **dict.fromkeys(
        ["Lock", "Event", "Condition", "Semaphore", "BoundedSemaphore", "TaskGroup", "Runner"], ()
    ),
    **dict.fromkeys(["Queue", "LifoQueue", "PriorityQueue"], ()),
    "Barrier": (1,),
    "Timeout": (None,),
    # They ask for nothing of what they are over before they are used.
    "StreamReader": (2**16, mock.Mock()),
    "StreamWriter": (mock.Mock(), mock.Mock(), None, mock.Mock()),
    "StreamReaderProtocol": (mock.Mock(), None, mock.Mock()),
}
#: Is theirs a function in C? Those show other signatures, and none at all on some versions.
IN_C = ("Future", "Task", "current_task", "all_tasks")


def members(name):
    """The public methods that asyncio's class has, and the special ones that are coroutine functions."""
    theirs = getattr(asyncio, name)
    special = ("__aenter__", "__aexit__", "__enter__", "__exit__")
    return [m for m in dir(theirs) if callable(getattr(theirs, m)) and (m[0] != "_" or m in special)]


METHODS = [(name, member) for name in CLASSES for member in members(name)]
EVERYTHING = [(name,) for name in NAMES] + METHODS


def find(aio, path):
    thing = aio
    for name in path:
        thing = getattr(thing, name)
    return thing


def is_coroutine_function(thing):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # asyncio's, from 3.14 on
        return asyncio.iscoroutinefunction(thing)


def same_answers(ours, theirs):
    assert is_coroutine_function(ours) == is_coroutine_function(theirs)
    # Up to 3.11 inspect asks for code of Python's, and for nothing else.
    if sys.version_info >= (3, 12):
        assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(theirs)
    assert callable(ours) == callable(theirs)


@pytest.mark.parametrize("path", EVERYTHING, ids=".".join)
def test_what_is_a_coroutine_function_and_how_it_is_called(path):
    ours, theirs = find(velodrome, path), find(asyncio, path)
    same_answers(ours, theirs)
    assert ours.__name__ == theirs.__name__
    # Methods that are inherited there may be of the class itself here.
    assert ours.__qualname__.rpartition(".")[2] == theirs.__qualname__.rpartition(".")[2]
    assert bool(inspect.getdoc(ours)) >= bool(inspect.getdoc(theirs))


@pytest.mark.parametrize("member", members("SelectorEventLoop"))
def test_methods_of_loops_are_coroutine_functions_where_asyncios_are(member, loop):
    theirs = getattr(asyncio.SelectorEventLoop, member)
    same_answers(getattr(velodrome.Loop, member), theirs)
    same_answers(getattr(loop, member), theirs)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="mock asks inspect, which asks for code on 3.11")
def test_what_a_mock_of_a_loop_receives_is_awaited(loop):
    mocked = mock.create_autospec(loop)
    mocked.sock_recv.return_value = b"data"
    assert loop.run_until_complete(mocked.sock_recv(None, 1)) == b"data"


@pytest.mark.parametrize("name", MADE)
def test_bound_methods(name):
    for member in members(name):
        ours = getattr(getattr(velodrome, name)(*MADE[name]), member)
        theirs = getattr(getattr(asyncio, name)(*MADE[name]), member)
        same_answers(ours, theirs)
        assert signature(ours) == signature(theirs), member
        assert ours.__self__ is not None


def signature(thing):
    """Names, kinds and defaults; what stands only by position here may have a name there."""
    try:
        parameters = inspect.signature(thing).parameters.values()
    except ValueError:
        return None
    return [
        (p.name, p.kind if p.kind != p.POSITIONAL_ONLY else p.POSITIONAL_OR_KEYWORD, p.default is p.empty)
        for p in parameters
    ]


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in IN_C])
def test_signatures_of_functions(name):
    theirs = signature(getattr(asyncio, name))
    if name == "run":
        theirs = [*theirs[:2], ("loop_factory", inspect.Parameter.KEYWORD_ONLY, False)]  # not on 3.11
    if name == "eager_task_factory":
        return  # recognised by other things
    assert signature(getattr(velodrome, name)) == theirs


@pytest.mark.parametrize("name", NAMES)
def test_modules_and_pickles(name):
    ours = getattr(velodrome, name)
    assert ours.__module__ == "velodrome"
    if name != "eager_task_factory":
        assert pickle.loads(pickle.dumps(ours)) is ours
    for member in members(name) if name in CLASSES else ():
        method = getattr(ours, member)
        if is_coroutine_function(method):
            assert pickle.loads(pickle.dumps(method)) is method


@pytest.mark.parametrize("name", CLASSES)
def test_subscripts(name):
    answers = []
    for aio in (asyncio, velodrome):
        try:
            alias = getattr(aio, name)[int]
            answers.append((alias.__origin__.__name__, alias.__args__))
        except TypeError:
            answers.append(None)
    assert answers[0] == answers[1]


def test_functions_in_classes_bind_as_functions_of_python_do():
    class Holder:
        sleep = velodrome.sleep

    holder = Holder()
    assert inspect.ismethod(holder.sleep) and holder.sleep.__self__ is holder
    assert Holder.sleep is velodrome.sleep
    sleeping = Holder.sleep(0)
    assert asyncio.iscoroutine(sleeping)
    sleeping.close()


@pytest.mark.parametrize("name", MADE)
@pytest.mark.skipif(sys.version_info < (3, 12), reason="mock asks inspect, which asks for code on 3.11")
def test_mocks_of_our_classes_are_those_of_asyncios(name):
    mocks = [mock.create_autospec(getattr(aio, name)) for aio in (asyncio, velodrome)]
    instances = [mocked(*MADE[name]) for mocked in mocks]
    specs = [mock.Mock(spec=getattr(aio, name)(*MADE[name])) for aio in (asyncio, velodrome)]
    for member in members(name):
        if member.startswith("__"):
            continue
        arguments = [1] * len(signature(getattr(asyncio.__dict__[name](*MADE[name]), member)))
        kinds = []
        for mocked in (*instances, *specs):
            # (What is no coroutine function wants its arguments by name, or has none.)
            with contextlib.suppress(TypeError):
                result = getattr(mocked, member)(*arguments)
                kinds.append(asyncio.iscoroutine(result))
                if kinds[-1]:
                    result.close()
        assert len(set(kinds)) <= 1, (member, kinds)


def test_patching_puts_back():
    before = velodrome.Lock.acquire, velodrome.sleep
    with mock.patch.object(velodrome.Lock, "acquire"), mock.patch("velodrome.sleep") as sleep:
        assert velodrome.sleep is sleep
        assert velodrome.Lock.acquire is not before[0]
    assert (velodrome.Lock.acquire, velodrome.sleep) == before
