"""Whatever is given to whatever we have: an exception that says so, never a crash or a fault of the module.

Every attribute of every kind of object is read, called with nothing and with each of a set of strange things,
set to each of them, and deleted; each time on a fresh object, which is then shown, copied, driven and
collected.
"""

import json

PROGRAM = """
import asyncio, copy, gc, itertools, json, logging, socket, sys, warnings
import velodrome

warnings.simplefilter("ignore")
logging.disable()

class Raises:
    def fail(self, *_):
        raise KeyError("hostile")
    __eq__ = __hash__ = __bool__ = __index__ = __iter__ = __await__ = __call__ = fail

class Agrees:
    def agree(self, *_, **__):
        return Agrees()
    __getattr__ = __call__ = agree
    __iter__ = __await__ = lambda self: iter((1, 2))
    __index__ = __int__ = __len__ = lambda self: 1
    __float__ = lambda self: 1.0
    # Not always: there are loops that go on as long as there is something.
    __bool__ = lambda self: next(answers)

answers = itertools.cycle([True, False])

class Number(int):
    pass

def nothing(*_, **__):
    pass

async def coroutine():
    pass

STRANGE = [
    lambda: None, lambda: 0, lambda: -1, lambda: 2**70, lambda: float("nan"), lambda: True, lambda: Number(3),
    lambda: "", lambda: "\\udc80", lambda: b"x", lambda: bytearray(b"x"),
    lambda: (), lambda: [1], lambda: {1: 2}, lambda: type, lambda: ValueError,
    lambda: StopIteration(1), lambda: GeneratorExit(), lambda: KeyboardInterrupt(),
    lambda: nothing, coroutine, Raises, Agrees,
    lambda: asyncio.Future(), lambda: velodrome.Future(), velodrome.Lock,
]

# (No loops: the numbers would be descriptors, of this very program.)
def kinds(loop, near):
    for name in ("Lock", "Event", "Condition", "Semaphore", "BoundedSemaphore", "Queue", "LifoQueue",
                 "PriorityQueue", "TaskGroup", "Runner", "Future"):
        yield name, getattr(velodrome, name)
    yield "Barrier", lambda: velodrome.Barrier(2)
    yield "Timeout", lambda: velodrome.timeout(100)
    yield "Task", lambda: loop.create_task(coroutine())
    yield "Handle", lambda: loop.call_soon(nothing)
    yield "TimerHandle", lambda: loop.call_later(100, nothing)
    yield "ThreadSafeHandle", lambda: loop.call_soon_threadsafe(nothing)
    yield "StreamReader", velodrome.StreamReader
    yield "StreamReaderProtocol", lambda: velodrome.StreamReaderProtocol(velodrome.StreamReader())
    yield "gather", lambda: velodrome.gather(loop.create_future())
    yield "shield", lambda: velodrome.shield(loop.create_future())
    yield "as_completed", lambda: velodrome.as_completed([loop.create_future()])
    yield "iterator", lambda: loop.create_future().__await__()
    yield "sleep", lambda: velodrome.sleep(100)
    yield "acquire", lambda: velodrome.Lock().acquire()
    yield "sock_recv", lambda: loop.sock_recv(near, 10)
    yield "context manager", lambda: velodrome.TaskGroup().__aenter__()

def attempt(function, *arguments):
    # A SystemError is what CPython says of a module that breaks its rules, and ours of a panic.
    try:
        return function(*arguments)
    except SystemError:
        raise
    except BaseException:
        return None

# What is asked of an object after something in it was replaced, as far as it has that.
USES = [
    ("put_nowait", 1), ("get_nowait",), ("locked",), ("release",), ("set",), ("clear",), ("notify_all",),
    ("when",), ("reschedule", 1.0), ("feed_data", b"x"), ("feed_eof",),
    ("set_result", 1), ("add_done_callback", nothing), ("cancel",),
]

def end(thing):
    attempt(copy.copy, thing)
    attempt(repr, thing)
    attempt(lambda: next(thing))
    attempt(lambda: thing.send(None))
    attempt(lambda: thing.throw(ValueError))
    if isinstance(thing, (asyncio.Future, asyncio.AbstractEventLoop)) or hasattr(type(thing), "send"):
        attempt(lambda: (thing.cancel if isinstance(thing, asyncio.Future) else thing.close)())

async def main():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: heard.append(context.get("exception")))
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        for kind, make in kinds(loop, near):
            before = tried
            for name in dir(make()):
                strike(kind, make, name)
                await asyncio.sleep(0)
            counts[kind] = tried - before
            gc.collect()

def strike(kind, make, name):
    global tried
    def fresh():
        global tried
        tried += 1
        return make()
    try:
        attempt(getattr, fresh(), name)
        whole = fresh()
        came = attempt(lambda: getattr(whole, name)())
        end(came), end(whole)
        for strange in STRANGE:
            whole = fresh()
            end(attempt(lambda: getattr(whole, name)(strange())))
            end(whole)
            whole = fresh()
            attempt(setattr, whole, name, strange())
            for use, *arguments in USES:
                attempt(lambda: getattr(whole, use)(*arguments))
            end(whole)
        whole = fresh()
        attempt(delattr, whole, name)
        end(whole)
    except SystemError as error:
        raise AssertionError(f"{kind}.{name}") from error

tried, counts, heard = 0, {}, []
sys.unraisablehook = lambda report: heard.append(report.exc_value)
velodrome.run(main())
gc.collect()
assert not [error for error in heard if isinstance(error, SystemError)], heard
print(json.dumps(counts))
"""


def test_strange_arguments_neither_crash_nor_break_the_rules_of_the_interpreter(run_python):
    done = run_python(PROGRAM, options=("-X", "faulthandler"))
    tried = json.loads(done.stdout.splitlines()[-1])
    assert len(tried) == 27 and min(tried.values()) > 100, tried
