"""Scenarios that can be told in Python and in Rust: their language, random ones, and traces of asyncio.

A body is a list of operations, an operation a list of its name and arguments; `write` gives them the form
that `crates/velodrome/tests/faces.rs` reads, which does the same with the Rust face. Time is counted, not
measured: it stands still while anything is ready, and jumps to the next timer when nothing is.

The faces differ on purpose in these, which a scenario cannot say or which `Scenario.differs` notices:

- A task that awaits another one and is cancelled cancels that one too in asyncio.
- A gather that is cancelled ends with the first of its tasks in asyncio, and with the last in Rust. If that
  task fails instead, the error comes out in asyncio, and the cancellation is lost; in Rust it is not.
- A task that is cancelled while it waits for its turn leaves the line at once in asyncio, and in its own next
  step in Rust. Who is to be served meanwhile is woken a little later, but in the same turn.
- A task that was cancelled, and whose group fails, is cancelled again by asyncio from 3.13 on. In Rust it is
  not: if it then returned the group's error, that would be lost, by the last of these.
  (Up to 3.12 asyncio may not take back the cancellation that the group itself has sent.)
- Two timers due at the same time run in any order in asyncio, and as they were set in Rust.
- A task that cancels itself and then returns has been cancelled; one that raises has failed in asyncio. In
  Rust an error is what is returned.

Run as a program it needs nothing but the standard library: `scenarios.py SEED COUNT` writes scenarios and
their traces, line by line.
"""

import asyncio
import random
import sys

#: Parts of the unit of time; every timer gets some of them, so that no two come at once.
PARTS = 1 << 20
#: When what has not ended is cancelled, and how often.
LONG = 1000
PATIENCE = 20


class Fail(Exception):
    pass


class OrderedSet(dict):
    """Stands in for a `set` whose order asyncio leaves to chance."""

    def add(self, item):
        self[item] = None

    def discard(self, item):
        self.pop(item, None)


def show(error):
    if isinstance(error, BaseExceptionGroup):
        return f"({' '.join(map(show, error.exceptions))})"
    return str(error) if isinstance(error, Fail) else repr(error)


# -- Making -------------------------------------------------------------------------------------------------


def make(rng, depth=3, size=6):
    """Make a body."""
    return [_operation(rng, depth) for _ in range(rng.randint(1, size))]


def _operation(rng, depth):
    plain = {
        "mark": lambda: [rng.randrange(10)],
        "yield": list,
        "sleep": lambda: [rng.randint(1, 9)],
        "put": lambda: [rng.randrange(10)],
        "get": list,
        "wait": list,
        "set": list,
        "clear": list,
        "cancel": lambda: [rng.randrange(3)],
        "fail": lambda: [rng.randrange(10)],
    }
    weights = {"yield": 4, "sleep": 3, "put": 3, "get": 3, "cancel": 4}

    def inner(size=4):
        return make(rng, depth - 1, size)

    def several():
        return [inner() for _ in range(rng.randint(0, 3))]

    nested = {
        "spawn": lambda: [rng.randrange(3), inner()],
        "lock": lambda: [inner()],
        "permit": lambda: [inner()],
        "gather": lambda: [*several()],
        "collect": lambda: [*several()],
        "group": lambda: [inner(2), *several()],
        "timeout": lambda: [rng.randint(1, 12), inner()],
        "attempt": lambda: [inner()],
        "catch": lambda: [inner(), _cleaning_up(rng), rng.randrange(2)],
    }
    weights |= {"spawn": 6, "lock": 4, "permit": 2, "timeout": 3, "attempt": 2}
    kinds = {**plain, **nested} if depth else plain
    (name,) = rng.choices(list(kinds), [weights.get(kind, 1) for kind in kinds])
    return [name, *kinds[name]()]


def _cleaning_up(rng):
    return [rng.choice([["yield"], ["mark", rng.randrange(10)]]) for _ in range(rng.randint(0, 3))]


def write(body):
    """Write a body: operations in parentheses, bodies in brackets."""

    def argument(it):
        return str(it) if isinstance(it, int) else write(it)

    return "[" + " ".join(f"({' '.join([name, *map(argument, rest)])})" for name, *rest in body) + "]"


# -- Running ------------------------------------------------------------------------------------------------


class Counted:
    """Mixed into a loop class: the time is what the scenario says."""

    now = 0.0

    def time(self):
        return self.now


class AsyncioCounted(Counted, asyncio.SelectorEventLoop):
    pass


class Scenario:
    """One scenario on a loop class that counts, with gather, Lock and so on from `aio`."""

    def __init__(self, loop_class, aio, body):
        self.loop_class = loop_class
        self.aio = aio
        self.body = body
        self.trace = []
        self.labels = 0
        self.timers = 0
        self.tasks = {}
        self.kept = []
        #: Whether something came up in which the faces differ.
        self.differs = False

    def run(self):
        """Run it; return its trace."""
        loop = self.loop_class()
        loop.set_exception_handler(lambda loop, context: None)
        try:
            main = loop.create_task(self._main())
            while not main.done():
                loop.call_soon(loop.stop)
                loop.run_forever()
                if not any(not handle.cancelled() for handle in loop._ready):
                    times = [timer.when() for timer in loop._scheduled if not timer.cancelled()]
                    loop.now = min(times, default=loop.now)
                    self.differs |= times.count(loop.now) > 1
            main.result()
            trace = list(self.trace)
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            for _ in range(PATIENCE):
                loop.call_soon(loop.stop)
                loop.run_forever()
        finally:
            loop.close()
        return trace

    def log(self, *entry):
        self.trace.append(" ".join(map(str, entry)))

    def _delay(self, units):
        self.timers += 1
        return units + (self.timers * 0x9E3779B1 & 0xFFFF) / PARTS

    async def _main(self):
        self.lock = self.aio.Lock()
        self.permits = self.aio.Semaphore(2)
        self.queue = self.aio.Queue(1)
        self.event = self.aio.Event()
        self._watch(self.lock, "_wake_up_first")
        self._watch(self.permits, "_wake_up_next")
        self._watch(self.queue, "_wakeup_next")
        self._begin(0, self.body)
        for _ in range(PATIENCE):
            await asyncio.sleep(self._delay(LONG))
            left = [task for task in self.kept if not task.done()]
            if not left:
                break
            self.log("cancels", len(left))
            for task in left:
                task.cancel()
        for number, task in enumerate(self.kept):
            if not task.done():
                self.log(number, "runs")
            elif task.cancelled():
                self.log(number, "was cancelled")
            else:
                error = task.exception()
                self.log(number, "is done" if error is None else f"has failed: {show(error)}")

    async def _spawn(self, label, slot, body):
        self._begin(slot, body)

    def _begin(self, slot, body):
        self.tasks[slot] = task = asyncio.get_running_loop().create_task(self._body(body))
        self.kept.append(task)

    async def _body(self, body):
        self.labels += 1
        label = self.labels
        self.log(label, "begins")
        try:
            for name, *arguments in body:
                await getattr(self, "_" + name)(label, *arguments)
        except asyncio.CancelledError:
            self.log(label, "is cancelled")
            raise
        except Exception as error:
            self.log(label, "fails:", show(error))
            raise
        self.log(label, "ends")
        return label

    def _watch(self, line, name):
        """Notice who has left the line when the next one is served."""
        serve = getattr(line, name, None)
        if serve is None:  # It is not asyncio's.
            return

        def watched(*waiters):
            for waiting in waiters or [line._waiters]:
                self.differs |= any(waiter.cancelled() for waiter in waiting or ())
            return serve(*waiters)

        setattr(line, name, watched)

    async def _mark(self, label, number):
        self.log(label, "mark", number)

    async def _yield(self, label):
        await asyncio.sleep(0)
        self.log(label, "goes on")

    async def _sleep(self, label, units):
        await asyncio.sleep(self._delay(units))
        self.log(label, "slept", units)

    async def _put(self, label, item):
        await self.queue.put(item)
        self.log(label, "put", item)

    async def _get(self, label):
        self.log(label, "got", await self.queue.get())

    async def _wait(self, label):
        await self.event.wait()
        self.log(label, "waited")

    async def _set(self, label):
        self.event.set()

    async def _clear(self, label):
        self.event.clear()

    async def _cancel(self, label, slot):
        if slot in self.tasks:
            self.log(label, "cancels", slot, "in time" if self.tasks[slot].cancel() else "too late")

    async def _fail(self, label, number):
        # (A task that was cancelled and has not given way since ends so in Rust, whatever it returns.)
        await asyncio.sleep(0)
        raise Fail(number)

    async def _lock(self, label, body):
        async with self.lock:
            self.log(label, "locked")
            await self._body(body)
        self.log(label, "unlocked")

    async def _permit(self, label, body):
        async with self.permits:
            self.log(label, "permitted")
            await self._body(body)
        self.log(label, "gave back")

    async def _gather(self, label, *bodies):
        tasks = [asyncio.ensure_future(self._body(body)) for body in bodies]
        gathering = self.aio.gather(*tasks)
        try:
            results = await gathering
        finally:
            if getattr(gathering, "_cancel_requested", False):
                failed = gathering.done() and not gathering.cancelled() and gathering.exception()
                self.differs |= isinstance(failed, Fail | ExceptionGroup) or len(tasks) > 1
        self.log(label, "gathered", *results)

    async def _collect(self, label, *bodies):
        results = await self.aio.gather(*map(self._body, bodies), return_exceptions=True)
        self.log(label, "collected", *(it if isinstance(it, int) else f"!{show(it)}" for it in results))

    async def _group(self, label, block, *bodies):
        try:
            async with self.aio.TaskGroup() as group:
                if not hasattr(type(group), "_tasks"):
                    group._tasks = OrderedSet()
                for body in bodies:
                    group.create_task(self._body(body))
                await self._body(block)
        except BaseExceptionGroup:
            self.differs |= asyncio.current_task().cancelling() > 0
            raise
        self.log(label, "grouped")

    async def _timeout(self, label, units, body):
        try:
            async with self.aio.timeout(self._delay(units)):
                await self._body(body)
        except TimeoutError:
            self.log(label, "timed out")
        else:
            self.log(label, "in time")

    async def _attempt(self, label, body):
        try:
            await self._body(body)
        except (Fail, BaseExceptionGroup) as error:
            self.log(label, "attempted:", show(error))

    async def _catch(self, label, body, cleaning_up, pass_on):
        try:
            await self._body(body)
        except asyncio.CancelledError:
            self.log(label, "hears")
            await self._body(cleaning_up)
            self.log(label, "passes on" if pass_on else "stays")
            if pass_on:
                raise


def traces(seed, count):
    """Make random scenarios in which the faces do not differ, each with its trace on asyncio."""
    number = 0
    while count:
        body = make(random.Random(f"{seed} {number}"), size=8)
        number += 1
        scenario = Scenario(AsyncioCounted, asyncio, body)
        trace = scenario.run()
        if not scenario.differs:
            count -= 1
            yield body, trace


if __name__ == "__main__":
    for body, trace in traces(sys.argv[1], int(sys.argv[2])):
        print(write(body))
        print(";".join(trace))
