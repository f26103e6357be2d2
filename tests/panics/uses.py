"""The list of uses, and what they are made of.

A use is a function of the running loop; what it returns is awaited if it can be.
"""

import asyncio
import contextlib
import ctypes
import threading

import velodrome

USES = []


def use(function):
    USES.append(function)
    return function


def uses(*functions):
    USES.extend(functions)


def done_future(loop, result=None):
    future = loop.create_future()
    future.set_result(result)
    return future


def failed_future(loop):
    future = loop.create_future()
    future.set_exception(ValueError())
    future._log_traceback = False
    return future


async def nothing():
    pass


async def fail():
    raise ValueError


async def forever(loop):
    await loop.create_future()


@contextlib.contextmanager
def task_of(loop, coroutine):
    task = loop.create_task(coroutine)
    try:
        yield task
    finally:
        task.cancel()


def with_task(function):
    """A use of a task that waits."""

    async def used(loop):
        with task_of(loop, forever(loop)) as task:
            await asyncio.sleep(0)
            function(task)

    USES.append(used)


def send(iterator):
    """PyIter_Send(), which `await` calls on some versions only."""
    result = ctypes.c_void_p()
    call = ctypes.PyDLL(None).PyIter_Send
    call.argtypes = [ctypes.py_object, ctypes.py_object, ctypes.c_void_p]
    call(iterator, None, ctypes.byref(result))
    if result.value:
        # The reference is ours.
        ctypes.pythonapi.Py_DecRef(ctypes.cast(result, ctypes.py_object))


def in_thread(function):
    """Run a function where no loop runs."""
    raised = []

    def work():
        try:
            function()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


@contextlib.contextmanager
def another_loop():
    loop = velodrome.new_event_loop()
    try:
        yield loop
    finally:
        loop.close()


def with_loop(function):
    """A use of a loop that does not run."""

    def used(_loop):
        with another_loop() as loop:
            function(loop)

    USES.append(used)


def made(kind, *arguments):
    """Make an instance of a class that may well refuse."""
    with contextlib.suppress(TypeError):
        kind.__new__(kind, *arguments)


def abandon(*objects):
    """Leave objects to the collector, which clears the oldest first, and so these before what holds them."""
    holder = list(objects)
    holder.append(holder)


def look_at(thing):
    """Read every attribute of an object that its class keeps natively, and set it to what it is."""
    for name in dir(type(thing)):
        if type(getattr(type(thing), name, None)).__name__ == "getset_descriptor" and name != "__dict__":
            with contextlib.suppress(AttributeError, RuntimeError):
                value = getattr(thing, name)
                setattr(thing, name, value)
    repr(thing)
    str(thing)
