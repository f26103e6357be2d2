"""One entry, in a process of its own: told to panic, and what must go on working then."""

import asyncio
import gc
import importlib
import logging
import signal
import socket
import sys
import threading
import traceback
import warnings

import velodrome

from . import arm
from .uses import USES, another_loop, forever

# They are tried in this order.
for kind in ("futures", "loops", "transports", "sockets", "streams", "coordination", "hosts"):
    importlib.import_module(f"panics.{kind}")


async def program(loop):
    """A bit of everything, whose answer is known."""
    answer = []
    answer.append(await velodrome.sleep(0, "slept"))
    answer.append(await asyncio.gather(velodrome.sleep(0.001, 1), asyncio.sleep(0.001, 2)))
    future = loop.create_future()
    loop.call_soon(future.set_result, "soon")
    answer.append(await future)
    future = loop.create_future()
    loop.call_later(0.001, future.set_result, "later")
    answer.append(await future)
    future = loop.create_future()
    threading.Thread(target=loop.call_soon_threadsafe, args=(future.set_result, "thread")).start()
    answer.append(await future)
    task = loop.create_task(forever(loop), name="name")
    answer.append(task.get_name())
    await asyncio.sleep(0)
    task.cancel("why")
    try:
        await task
    except asyncio.CancelledError:
        answer.append("cancelled")
    one, two = socket.socketpair()
    with one, two:
        future = loop.create_future()
        loop.add_reader(one, lambda: future.done() or future.set_result(one.recv(10)))
        two.send(b"read")
        answer.append(await future)
        loop.remove_reader(one)
    try:
        async with asyncio.timeout(0.001):
            await velodrome.sleep(60)
    except TimeoutError:
        answer.append("timeout")
    return answer


ANSWER = ["slept", [1, 2], "soon", "later", "thread", "name", "cancelled", b"read", "timeout"]


class Witness:
    """Who heard of the panic, and what they heard."""

    def __init__(self):
        self.heard = []

    def hear(self, where, exception):
        if isinstance(exception, SystemError):
            self.heard.append((where, str(exception)))
        elif exception is not None and not isinstance(exception, ValueError):
            # ValueError is what the uses themselves leave unretrieved.
            self.heard.append((where, repr(exception)))

    def unraisable(self, unraisable):
        self.hear("unraisable", unraisable.exc_value)

    def handler(self, loop, context):
        self.hear("handler", context.get("exception"))


class Listening(logging.Handler):
    """Futures of concurrent.futures log what their callbacks raise."""

    def __init__(self, witness):
        super().__init__()
        self.witness = witness

    def emit(self, record):
        self.witness.hear("logged", record.exc_info[1])


def quiet(witness):
    sys.unraisablehook = witness.unraisable
    logging.getLogger("concurrent.futures").addHandler(Listening(witness))
    warnings.simplefilter("ignore")
    # The collector runs when it is told to.
    gc.disable()


async def use_once(function, loop):
    awaitable = function(loop)
    if awaitable is not None and hasattr(awaitable, "__await__"):
        await awaitable


def use_all():
    """Use everything, with nothing armed; return what goes wrong."""
    witness, failures = Witness(), []
    quiet(witness)

    async def main(loop):
        for function in USES:
            try:
                await use_once(function, loop)
            except Exception:
                failures.append(traceback.format_exc())

    with another_loop() as loop:
        loop.set_exception_handler(witness.handler)
        loop.run_until_complete(main(loop))
    gc.collect()
    return failures + witness.heard


def strike(entry):
    """Arm an entry and use everything until it strikes."""
    witness = Witness()
    quiet(witness)
    report = {"struck": False, "heard": witness.heard}

    async def main(loop):
        arm(entry)
        for function in USES:
            try:
                await use_once(function, loop)
                # What was queued runs now.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                left = arm(None)
            except SystemError as error:
                witness.hear("raised", error)
                left = arm(None)
            if left is None:
                report["struck"] = True
                break
            arm(left)
        gc.collect()
        report["program"] = await program(loop) == ANSWER

    loop = velodrome.new_event_loop()
    loop.set_exception_handler(witness.handler)
    loop.run_until_complete(main(loop))
    loop.close()
    del loop
    gc.collect()
    report["again"] = velodrome.run(whole_program()) == ANSWER
    return report


async def whole_program(witness=None):
    loop = asyncio.get_running_loop()
    if witness is not None:
        loop.set_exception_handler(witness.handler)
    return await program(loop)


def disarm():
    """Whether what was armed has struck."""
    try:
        return arm(None) is None
    except SystemError:  # it was this very function
        return False


class StoppedByClock(BaseException):
    pass


def strike_anywhere(entry):
    """Arm an entry and run a program, which the panic may break wherever it comes to pass."""
    witness = Witness()
    quiet(witness)
    report = {"heard": witness.heard}

    def stop(*_):
        raise StoppedByClock

    # A task that is not woken waits for ever, and so does who closes its loop.
    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 2, 0.5)
    threading.excepthook = lambda raised: witness.hear("thread", raised.exc_value)
    arm(entry)
    try:
        velodrome.run(whole_program(witness))
    except BaseException as error:
        witness.hear("raised", error)
        # The clock's exception may hide the panic's.
        while (error := error.__context__) is not None:
            witness.hear("context", error)
    signal.setitimer(signal.ITIMER_REAL, 0)
    report["struck"] = disarm()
    gc.collect()
    report["running"] = asyncio._get_running_loop() is not None
    report["again"] = velodrome.run(whole_program()) == ANSWER
    return report


def refuse(entry):
    """Let an entry panic while an exception is on its way."""
    witness = Witness()
    quiet(witness)
    with another_loop() as loop:
        arm(entry)
        try:
            loop.create_task(1)
        except TypeError as error:
            witness.hear("raised", error)
        except BaseException as error:
            witness.hear("raised instead", error)
    gc.collect()
    return {"struck": disarm(), "heard": witness.heard}
