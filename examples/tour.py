"""A tour of asyncio in eleven chapters, printing what happens as it happens.

    python examples/tour.py                   on velodrome
    python examples/tour.py --loop asyncio    on the standard library
    python examples/tour.py 4 6               only chapters 4 and 6

Every chapter is one function. Its docstring is the lesson, its body the proof, and its output comes out the
same on both loops, line by line: that is what "the same answer as asyncio" means.

Three habits keep luck out of the output. Turns are taken with `sleep(0)`, which gives every other task that
is ready exactly one turn. Nothing printed depends on how long something took. And nothing printed is an
address, or in an order that comes from one.
"""

import argparse
import asyncio
import gc
import inspect
import sys
import textwrap
import warnings


class Names:
    """asyncio's names, each from the first of the modules that has it: so the chapters name no loop."""

    def __init__(self, *modules):
        self._modules = modules

    def __getattr__(self, name):
        for module in self._modules:
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(f"no {name!r} in {', '.join(module.__name__ for module in self._modules)}")


# In every chapter, read `aio` as `asyncio`. main() makes it "velodrome, and asyncio for the rest" unless told
# otherwise: then `aio.run` is velodrome.run, and a name that velodrome does not have is asyncio's.
aio = Names(asyncio)

CHAPTERS = []


def chapter(function):
    """Put a function on the tour, in the order of the file."""
    CHAPTERS.append(function)
    return function


def say(who, what):
    """Print a line the moment it happens, with who says it in a column of its own."""
    print(f"    {who:<8} {what}", flush=True)


@chapter
def a_coroutine_awaited():
    """A coroutine, awaited

    Calling an `async def` function runs none of it: it makes a coroutine, a body that waits for
    somebody to drive it. `await` drives it, right here and now, and hands back what it returns.
    Awaiting is a call, not a way to get something to run beside you: that takes a task (chapter 5).
    """

    async def double(number):
        say("double", f"running, with {number}")
        return number * 2

    async def main():
        coroutine = double(21)
        say("main", f"calling double(21) made a {type(coroutine).__name__} and printed nothing")
        result = await coroutine
        say("main", f"awaiting it gave {result}")

        # A coroutine is used up by being awaited; a second await has nothing left to run.
        try:
            await coroutine
        except RuntimeError as error:
            say("main", f"awaiting it again: {error}")

    aio.run(main())


@chapter
def a_coroutine_never_awaited():
    """A coroutine, never awaited

    Forget the `await` and nothing runs, silently. Python notices only when the coroutine is thrown
    away, and then warns. The warning is the most useful line that asyncio prints: some `await` is
    missing.
    """

    async def save(what):
        say("save", f"saving {what}")

    async def main():
        save("the report")  # no await: this line makes a coroutine and drops it
        say("main", "save() was called, and nobody saved anything")

    # Warnings go to stderr; here they are caught, to be printed in their place between the other lines.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        aio.run(main())
        gc.collect()  # CPython warns at once; this is for an interpreter that collects later

    for warning in caught:
        # The qualified name holds the function's whole path; its last part is enough to read.
        message = str(warning.message).replace(save.__qualname__, save.__name__)
        say("python", f"{warning.category.__name__}: {message}")


@chapter
def run_and_runner():
    """run, and Runner

    `run(main())` is the door into the async world: it makes a loop, runs one coroutine on it to the
    end, cleans up and closes the loop. A `Runner` is the same door held open: it keeps one loop for
    several runs.
    """

    async def which():
        return aio.get_running_loop()

    first, second = aio.run(which()), aio.run(which())
    say("run", f"two runs, the same loop: {first is second}; the first loop is closed: {first.is_closed()}")

    with aio.Runner() as runner:
        first, second = runner.run(which()), runner.run(which())
        say("Runner", f"two runs, the same loop: {first is second}; closed: {first.is_closed()}")
    say("Runner", f"after the with block, closed: {first.is_closed()}")

    # There is one loop to a thread. Inside it, one awaits; a second run() has no place.
    async def nested():
        coroutine = which()
        try:
            aio.run(coroutine)
        except RuntimeError as error:
            # The message begins with whose run() it was, asyncio's or velodrome's.
            _, _, message = str(error).partition(".")
            say("nested", f"RuntimeError: {message}")
        coroutine.close()  # never to be awaited, and said so: no warning

    aio.run(nested())


@chapter
def sleep_gives_way():
    """sleep gives way

    A loop runs one task at a time, and only an `await` that has to wait lets another task in. `sleep`
    is the plainest such await. While one task sleeps, the others work; `sleep(0)` waits for nothing, it
    only lets the others take a turn.
    """

    async def counter(name, give_way):
        for number in 1, 2, 3:
            say(name, number)
            if give_way:
                await aio.sleep(0)

    async def main():
        say("main", "two tasks that never give way: one after the other")
        await aio.gather(counter("left", False), counter("right", False))
        say("main", "two tasks that sleep(0) after each number: in turns")
        await aio.gather(counter("left", True), counter("right", True))

        async def sleeper():
            say("sleeper", "good night")
            await aio.sleep(0.02)
            say("sleeper", "good morning")

        asleep = aio.create_task(sleeper())
        await aio.sleep(0)
        say("main", "the sleeper holds nobody up")
        await asleep

    aio.run(main())


@chapter
def a_task_scheduled():
    """A task, scheduled while its creator goes on

    `create_task` takes a coroutine and puts it in the loop's queue. It does not start it: the creator
    goes on until it first gives way. Only then does the task get its first turn.
    """

    async def worker():
        say("worker", "first turn")
        return "work"

    async def main():
        task = aio.create_task(worker(), name="worker")
        say("main", f"created the task {task.get_name()!r}, which is done: {task.done()}")
        say("main", "still my turn; the worker has printed nothing yet")
        result = await task
        say("main", f"the task is done: {task.done()}, and its result is {result!r}")

        # A task keeps its result, unlike a coroutine: it can be awaited again, by anyone.
        say("main", f"awaited again, it is still {await task!r}")

    aio.run(main())


@chapter
def back_and_forth():
    """Back and forth, between a task and its creator

    Each `sleep(0)` hands the turn over, so two sides that use it alternate strictly. That is a dialogue
    by good manners: either side could keep the turn. A pair of futures makes it a dialogue by contract:
    each side waits for the other's word.
    """

    async def manners():
        async def task():
            for number in range(3):
                say("task", f"turn {number}")
                await aio.sleep(0)
            say("task", "no more turns needed")

        partner = aio.create_task(task())
        for number in range(3):
            say("creator", f"turn {number}")
            await aio.sleep(0)
        await partner

    async def contract():
        loop = aio.get_running_loop()
        serve, back = loop.create_future(), loop.create_future()

        async def task():
            ball = await serve
            say("task", f"got {ball!r}")
            back.set_result(ball.upper())
            say("task", "hit it back; the creator wakes when I give way")

        partner = aio.create_task(task())
        say("creator", "serving, though the task has not even started")
        serve.set_result("ping")
        say("creator", f"got {await back!r}")
        await partner

    aio.run(manners())
    aio.run(contract())


@chapter
def gather_ten():
    """gather, of ten

    `gather` runs many at once and returns their results in the order they were given in, whatever order
    they finish in. When one fails there is a choice: let the first exception out at once, or take
    exceptions as results among the others.
    """

    async def job(number):
        # Later jobs finish earlier: job 9 gives way once, job 0 ten times.
        for _ in range(10 - number):
            await aio.sleep(0)
        finished.append(number)
        if number in (3, 7):
            raise ValueError(f"job {number} failed")
        return number * number

    async def main():
        try:
            await aio.gather(*[job(number) for number in range(10)])
        except ValueError as error:
            say("main", f"return_exceptions=False: {error}")
        say("main", f"finished by then: {finished}")

        # The others were not cancelled: gather let go of them, and they go on as tasks of the loop.
        for _ in range(10):
            await aio.sleep(0)
        say("main", f"a while later:    {finished}")

        finished.clear()
        results = await aio.gather(*[job(number) for number in range(10)], return_exceptions=True)
        say("main", f"return_exceptions=True: finished in the order {finished}")
        for number, result in enumerate(results):
            say("main", f"results[{number}] = {result!r}")

    finished = []
    aio.run(main())


@chapter
def a_task_group():
    """TaskGroup: one fails, its siblings are cancelled

    A task group does not let go of anybody. `async with` waits for every member, and when one fails it
    cancels the rest, waits until they have cleaned up, and raises what went wrong, as a group, since
    several members may fail at once.
    """

    async def patient(name, after):
        try:
            say(name, "waiting for a long time")
            await aio.sleep(3600)
        except aio.CancelledError:
            # Members are cancelled in no particular order: the group keeps them in a set. Where the order
            # matters it has to be said: boris waits for anna. A cancelled task may still await, to clean up.
            await after.wait()
            say(name, "cancelled; tidying up")
            await aio.sleep(0)
            raise  # a cancellation is passed on, or the group would take it for a normal end
        finally:
            say(name, "gone")
            gone[name].set()

    async def hasty():
        await aio.sleep(0)
        say("hasty", "failing")
        raise ValueError("hasty failed")

    async def main():
        always = aio.Event()
        always.set()
        try:
            async with aio.TaskGroup() as group:
                anna = group.create_task(patient("anna", after=always))
                boris = group.create_task(patient("boris", after=gone["anna"]))
                failing = group.create_task(hasty())
                say("main", "the group is full; leaving the block, which waits for its members")
        except* ValueError as errors:
            say("main", f"out of the block: {errors.exceptions!r}")
        say("main", f"anna cancelled: {anna.cancelled()}; boris cancelled: {boris.cancelled()}")
        say("main", f"hasty cancelled: {failing.cancelled()}; its exception: {failing.exception()!r}")

    gone = {"anna": aio.Event(), "boris": aio.Event()}
    aio.run(main())


@chapter
def a_future_awaited():
    """A future's result, awaited while another task prints numbers

    A future is an empty box with a lid that opens once. Who awaits it sleeps until somebody sets its
    result; nobody runs inside it. Tasks are futures, too, whose result is set by their coroutine
    returning.
    """

    async def numbers(future):
        for number in range(1, 6):
            say("numbers", number)
            if number == 4:
                future.set_result("four, said the future")
                say("numbers", "result set; my turn goes on")
            await aio.sleep(0)

    async def main():
        future = aio.get_running_loop().create_future()
        future.add_done_callback(lambda done: say("callback", f"called by the loop, done: {done.done()}"))
        printing = aio.create_task(numbers(future))

        say("main", f"awaiting a future that is done: {future.done()}")
        say("main", f"woken with {await future!r}")
        await printing

        try:
            future.set_result("again")
        except aio.InvalidStateError as error:
            say("main", f"a second result: InvalidStateError: {error}")

    aio.run(main())


@chapter
def a_task_nobody_awaits():
    """A task nobody awaits, when main returns

    The program ends when main returns, not when every task is done. `run` then cancels what is left,
    gives it the chance to clean up, and only then closes the loop. Work that must be finished has to be
    awaited by somebody: a TaskGroup is made for that.
    """

    async def background():
        try:
            for number in range(1000):
                say("task", f"step {number}")
                await aio.sleep(0)
            say("task", "all done")  # never printed
        except aio.CancelledError:
            say("task", "cancelled before I was done")
            raise
        finally:
            say("task", "cleaning up")

    async def main():
        # The variable matters: the loop itself keeps only weak references to tasks, and one that nobody
        # holds and nobody awaits may be collected in the middle of its work.
        nonlocal task
        task = aio.create_task(background())
        await aio.sleep(0)
        await aio.sleep(0)
        # The task stands in the queue for its next turn. It still gets that one, for the loop serves what was
        # ready when main returned, and meets the cancellation at the await after it.
        say("main", "returning, and leaving a task behind")

    task = None
    aio.run(main())
    say("run", f"over; the task is done: {task.done()}, cancelled: {task.cancelled()}")


@chapter
def a_lock():
    """A lock, around shared results

    Between two awaits nobody else runs, so a single statement needs no lock. Read, await, then write
    does: by the time of the write another task may have written. A lock lets one task at a time through
    that stretch, in the order of asking.
    """

    async def deposit(account, amount):
        balance = account["balance"]
        await aio.sleep(0)  # say, the bank's database is asked; meanwhile, others read the old balance
        account["balance"] = balance + amount

    async def careful(name, account, amount, lock):
        async with lock:
            say(name, f"has the lock, sees {account['balance']}")
            await deposit(account, amount)
            say(name, f"leaves {account['balance']}")

    async def main():
        account = {"balance": 0}
        await aio.gather(*[deposit(account, 10) for _ in range(3)])
        say("main", f"three deposits of 10 without a lock: {account['balance']}, two of them lost")

        account = {"balance": 0}
        lock = aio.Lock()
        await aio.gather(*[careful(name, account, 10, lock) for name in ("first", "second", "third")])
        say("main", f"three deposits of 10 with a lock: {account['balance']}")

    aio.run(main())


def tell(number):
    """Print a chapter's title and lesson from its docstring, then let it happen."""
    function = CHAPTERS[number - 1]
    title, _, lesson = inspect.cleandoc(function.__doc__).partition("\n\n")
    print(f"{number}. {title}")
    print(textwrap.indent(textwrap.fill(" ".join(lesson.split()), width=96), "  "))
    print()
    function()
    print(flush=True)


def main():
    """Read the arguments and tell the chapters asked for, or all of them."""
    global aio

    parser = argparse.ArgumentParser(description="A tour of asyncio, printing what happens as it happens.")
    parser.add_argument("chapters", nargs="*", type=int, metavar="CHAPTER", help="which to tell; all if none")
    parser.add_argument("--loop", choices=("velodrome", "asyncio"), default="velodrome", help="what runs it")
    parser.add_argument("--verbose", action="store_true", help="say on stderr which loop runs the tour")
    arguments = parser.parse_args()
    for number in arguments.chapters:
        if not 1 <= number <= len(CHAPTERS):
            parser.error(f"there is no chapter {number}: they are 1 to {len(CHAPTERS)}")

    if arguments.loop == "velodrome":
        import velodrome

        aio = Names(velodrome, asyncio)

    if arguments.verbose:
        # Asked of the loop rather than of the arguments. On stderr, so that stdout is the same on every loop.
        with aio.Runner() as runner:
            kind = type(runner.get_loop())
        python = ".".join(map(str, sys.version_info[:3]))
        print(f"Python {python}, loop {kind.__module__}.{kind.__qualname__}", file=sys.stderr)

    for number in arguments.chapters or range(1, len(CHAPTERS) + 1):
        tell(number)


if __name__ == "__main__":
    main()
