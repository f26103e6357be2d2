"""Runs a program (see `programs`) in a world, and writes down everything that it could notice.

A program is data: a body is a tuple of operations, an operation a tuple of its name and its arguments. Bodies
run as tasks, as coroutines that are awaited, and as callbacks; a callback's operations are those that need no
`await`. What a body does is in the method `do_NAME` here, or `await_NAME`.
"""

import asyncio
import concurrent.futures
import contextvars
import gc
import re
import warnings

from .scenarios import OrderedSet

#: Iterations given to a program, and to its cancelled tasks afterwards.
TURNS = 120
LAST_TURNS = 40

variable = contextvars.ContextVar("variable", default="unset")


#: Where loops have their frames, each its own, and asyncio's coroutines theirs, of which ours have none.
LOOPS = (
    *("asyncio/base_events.py", "asyncio/events.py", "velodrome/_loop.py", "differential/worlds.py"),
    *("asyncio/locks.py", "asyncio/queues.py", "asyncio/timeouts.py", "asyncio/taskgroups.py"),
    *("asyncio/tasks.py", "asyncio/threads.py", "asyncio/futures.py"),
)


def counts(handle):
    """Tell whether a handle in the queue is the program's. asyncio wakes itself by one of its own."""
    return not handle.cancelled() and getattr(handle._callback, "__name__", "") != "_read_from_self"


class Inline(concurrent.futures.ThreadPoolExecutor):
    """Calls what it is given at once, so that there is no other thread."""

    def submit(self, function, /, *arguments, **keywords):
        future = concurrent.futures.Future()
        try:
            future.set_result(function(*arguments, **keywords))
        except BaseException as error:
            future.set_exception(error)
        return future


class Halt(BaseException):
    """An exception that is no Exception, but does not stop a loop either."""


class Foreign:
    """A future of a loop that never runs."""

    def __init__(self):
        self.loop = asyncio.SelectorEventLoop()
        self.future = self.loop.create_future()


def make_exception(kind, text):
    """Make an exception; some kinds are what set_exception() has to refuse."""
    match kind:
        case "value":
            return ValueError(text)
        case "class":
            return KeyError
        case "cancelled":
            return asyncio.CancelledError(text)
        case "stop":
            return StopIteration(text)
        case "halt":
            return Halt(text)
        case "exit":
            return SystemExit(text)
        case "interrupt":
            return KeyboardInterrupt(text)
        case "timeout":
            return TimeoutError(text)
        case "invalid":
            return concurrent.futures.InvalidStateError(text)
        case "nothing":
            return None


class Stray:
    """An awaitable that yields something."""

    def __init__(self, value):
        self.value = value

    def __await__(self):
        return (yield self.value)


class Run:
    """One program in one world."""

    def __init__(self, world, program, *, debug=False, turns=True):
        self.world = world
        self.aio = world.aio
        self.program = program
        self.debug = debug
        self.turns = turns
        self.trace = []
        self.reports = []
        self.labels = 0
        self.delays = 0
        self.callbacks = []
        self.handles = {}
        self.futures = {}
        self.tasks = {}
        self.order = {}
        self.concurrent = {}
        self.keep = []

    # -- The run ---------------------------------------------------------------------------------------------

    def run(self):
        """Run the program; return its trace and, in no particular order, what was reported."""
        return contextvars.Context().run(self._run_and_collect)

    def _run_and_collect(self):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            collecting = gc.isenabled()
            gc.disable()
            gc.freeze()
            try:
                self._run()
                trace, reports = list(self.trace), self.reports
                for things in (self.keep, self.order, self.tasks, self.futures, self.handles, self.callbacks):
                    things.clear()
                self.concurrent.clear()
                # (What a gather() that failed leaves behind hangs on to its futures.)
                del self.foreign
                gc.collect()
            finally:
                gc.unfreeze()
                if collecting:
                    gc.enable()
        # (Without the place where the coroutine was made, which debug mode adds.)
        reports += [("warning", scrub(str(warning.message)).partition("\n")[0]) for warning in caught]
        return trace, sorted(map(repr, reports))

    def _run(self):
        self.loop = loop = self.world.turns_class() if self.turns else self.world.loop_class()
        self.foreign = Foreign()
        loop.set_debug(self.debug)
        loop.slow_callback_duration = 1000
        if self.world.task_factory is not None:
            loop.set_task_factory(self.world.task_factory())
        reports = self.reports
        trace = self.trace

        def handler(loop, context):
            shown = (
                scrub(context["message"]),
                sorted(context),
                show(context.get("exception"), tracebacks=False),
            )
            # Who is destroyed when is up to reference counts; what a callback raised has its place.
            (trace if "handle" in context else reports).append(("report", *shown))

        loop.set_exception_handler(handler)
        loop.set_default_executor(Inline())
        self.event = self.aio.Event()
        self.lock = self.aio.Lock()
        self.semaphore = self.aio.Semaphore(2)
        self.condition = self.aio.Condition()
        self.queue = self.aio.Queue(1)
        self.bounded = self.aio.BoundedSemaphore(1)
        self.barrier = self.aio.Barrier(2)
        self.others = [self.aio.LifoQueue(2), self.aio.PriorityQueue(2)]
        self.puts = 0
        self.notified = 0
        self.timeouts = []
        self.new_future = self.world.new_future()
        for slot in range(3):
            self.do_new_future(slot)
        main = loop.create_task(self._body(self.program))
        self.tasks[0] = self._keep(main)
        self.order[main] = 0
        self._drive(TURNS)
        self.log("end of time", [self._state(task) for task in self.order])
        for task in self.order:
            task.cancel("the end")
        self._drive(LAST_TURNS)
        self.log("end", [self._state(task) for task in self.order])
        self._guard(lambda: loop.run_until_complete(loop.shutdown_asyncgens()))
        loop.close()
        self.foreign.loop.close()

    def _drive(self, turns):
        if self.turns:
            for _ in range(turns):
                self.loop.turn += 1
                self.loop.stop()
                self._guard(self.loop.run_forever)
                # Has what call_soon_threadsafe() queued show as ready, too.
                self.loop.call_soon(int).cancel()
                timers = sum(not timer.cancelled() for timer in self.loop._scheduled)
                ready = sum(counts(handle) for handle in self.loop._ready)
                self.log("turn", ready, timers)
                if not ready and not timers:
                    return
            return
        loop, left = self.loop, turns

        def tick():
            nonlocal left
            left -= 1
            if left > 0:
                loop.call_soon(tick)
            else:
                loop.stop()

        loop.call_soon(tick)
        while left > 0:
            self._guard(loop.run_forever)

    # -- Writing down ----------------------------------------------------------------------------------------

    def log(self, *entry):
        self.trace.append(entry)

    def _keep(self, thing):
        self.keep.append(thing)
        return thing

    def _guard(self, call):
        """Call something, and write down what it raises."""
        try:
            return call()
        except BaseException as error:
            self.log("raised", show(error))

    def _label(self):
        self.labels += 1
        return self.labels

    def _state(self, task):
        return task._state, task.cancelling(), task._must_cancel, task._fut_waiter is None

    def _delay(self, delay):
        """No two timers at the same time: their order is up to chance in asyncio."""
        self.delays += 1
        return delay + self.delays / 1000 if self.turns else 1000.0

    def _target(self, target):
        kind, slot = target
        return (self.futures if kind == "future" else self.tasks).get(slot)

    def _awaitable(self, target):
        """A target that the running task may wait for, without waiting for itself in a circle."""
        if target[0] == "coroutine":
            return self._body(target[1])
        found = self._target(target)
        current = asyncio.current_task()
        if found is None or (found in self.order and self.order[found] <= self.order.get(current, -1)):
            return self.foreign.future if found is None else self.world.sleep(0, "circle")
        return found

    # -- Bodies ----------------------------------------------------------------------------------------------

    async def _body(self, body):
        label = self._label()
        self.log(label, "begins", variable.get())
        current = asyncio.current_task()
        # (None in a Python task of 3.14 and later: those have a register of their own.)
        if current is not None and current not in self.order:
            self.order[current] = len(self.order)
            self._keep(current)
        tough = False
        try:
            for name, *arguments in body:
                operation = getattr(self, "await_" + name, None)
                try:
                    if operation is not None:
                        self.log(label, name, show(await operation(*arguments)))
                    else:
                        self.log(label, name, show(getattr(self, "do_" + name)(*arguments)))
                except (Exception, asyncio.CancelledError) as error:
                    if not tough:
                        raise
                    self.log(label, "goes on", show(error))
                tough = tough or name == "tough"
        except BaseException as error:
            self.log(label, "fails", show(error))
            raise
        self.log(label, "returns")
        return label

    def _callback(self, body):
        number = len(self.callbacks)

        def callback(*arguments):
            label = self._label()
            self.log(label, "called", variable.get(), [self._name_of(argument) for argument in arguments])
            for name, *arguments in body:
                if not hasattr(self, "await_" + name):
                    self.log(label, name, show(getattr(self, "do_" + name)(*arguments)))

        callback.__qualname__ = f"callback {number}"
        self.callbacks.append(callback)
        return callback

    def _name_of(self, thing):
        for name, things in (("future", self.futures), ("task", self.tasks)):
            for slot, candidate in things.items():
                if candidate is thing:
                    return name, slot
        return "another"

    # -- Operations ------------------------------------------------------------------------------------------

    def do_new_concurrent(self, slot):
        self.concurrent[slot] = self._keep(concurrent.futures.Future())

    def _concurrent(self, slot, call):
        if slot in self.concurrent:
            return self._guard(lambda: call(self.concurrent[slot]))

    def do_run_concurrent(self, slot):
        if slot in self.concurrent and self.concurrent[slot]._state in ("PENDING", "CANCELLED"):
            return self.concurrent[slot].set_running_or_notify_cancel()

    def do_finish_concurrent(self, slot, value):
        return self._concurrent(slot, lambda future: future.set_result(value))

    def do_fail_concurrent(self, slot, kind):
        error = make_exception(kind, f"of {slot}")
        if kind == "cancelled":
            error = concurrent.futures.CancelledError(f"of {slot}")
        return self._concurrent(slot, lambda future: future.set_exception(error))

    def do_cancel_concurrent(self, slot):
        return self._concurrent(slot, lambda future: future.cancel())

    def do_query_concurrent(self, slot):
        return self._concurrent(slot, lambda future: (future._state, show(future.exception(0))))

    def do_wrap(self, slot, future_slot):
        if slot in self.concurrent:
            self.futures[future_slot] = self.aio.wrap_future(self.concurrent[slot], loop=self.loop)
            return self.aio.wrap_future(self.futures[future_slot]) is self.futures[future_slot]

    def do_submit(self, slot, body):
        self.concurrent[slot] = self._keep(self.aio.run_coroutine_threadsafe(self._body(body), self.loop))

    async def await_thread(self, value, kind):
        def function(*arguments, named):
            variable.set("changed in the thread")
            if kind is not None:
                raise make_exception(kind, "raised in the thread")
            return arguments, named

        return await self.aio.to_thread(function, value, variable.get(), named=value)

    def do_mark(self, number):
        return number

    def do_tough(self):
        """From here on the body survives what its operations raise."""

    def do_current(self):
        current = asyncio.current_task()
        return self.order.get(current)

    def do_all(self):
        return sorted(self.order.get(task, -1) for task in asyncio.all_tasks())

    def do_new_future(self, slot):
        self.futures[slot] = self._keep(self.new_future(self.loop))

    def do_set_result(self, slot, value):
        return self._guard(lambda: self.futures[slot].set_result(value))

    def do_set_exception(self, slot, kind):
        exception = make_exception(kind, f"set on {slot}")
        return self._guard(lambda: self.futures[slot].set_exception(exception))

    def do_cancel(self, target, message):
        found = self._target(target)
        if found is None:
            return "absent"
        return self._guard(lambda: found.cancel() if message is None else found.cancel(message))

    def do_uncancel(self, slot):
        task = self.tasks.get(slot)
        return task and (task.uncancel(), task.cancelling())

    def do_cancel_me(self, message):
        current = asyncio.current_task()
        return current and (current.cancel(msg=message), current.cancelling())

    def do_query(self, target):
        found = self._target(target)
        if found is None:
            return "absent"
        answers = [found.done(), found.cancelled(), found._state]
        answers += [self._guard(lambda: show(found.result())), self._guard(lambda: show(found.exception()))]
        if target[0] == "task":
            answers.append(self._state(found))
            stack = [frame.f_code for frame in found.get_stack()]
            answers.append([code.co_name for code in stack if code.co_filename == __file__])
        return answers

    def do_add_callback(self, target, body, with_context):
        found = self._target(target)
        if found is not None:
            options = {"context": contextvars.Context()} if with_context else {}
            found.add_done_callback(self._callback(body), **options)
            return len(found._callbacks or ())

    def do_remove_callback(self, target, number):
        found = self._target(target)
        if found is not None and number < len(self.callbacks):
            return found.remove_done_callback(self.callbacks[number])

    def do_call_soon(self, body, slot, threadsafe):
        call = self.loop.call_soon_threadsafe if threadsafe else self.loop.call_soon
        self.handles[slot] = call(self._callback(body), "argument")

    def do_call_later(self, delay, body, slot):
        self.handles[slot] = self.loop.call_later(self._delay(delay), self._callback(body))

    def do_call_at(self, delay, body, slot):
        context = contextvars.Context()
        when = self.loop.time() + self._delay(delay)
        self.handles[slot] = self.loop.call_at(when, self._callback(body), "at", context=context)

    def do_cancel_handle(self, slot):
        handle = self.handles.get(slot)
        return handle and (handle.cancel(), handle.cancelled())

    def do_spawn(self, slot, body, options):
        options = dict(options)
        if options.pop("context", None):
            options["context"] = contextvars.Context()
        create_task = self.world.create_task if options.pop("function", None) else self.loop.create_task
        # Known by its number even before it begins, but begun perhaps before it is known.
        task = create_task(self._body(body), **options)
        if task not in self.order:
            self.order[task] = len(self.order)
            self._keep(task)
        self.tasks[slot] = task
        return task.get_name() if "name" in options else None

    def do_raise(self, kind):
        error = make_exception(kind, "raised")
        if error is not None:
            raise error

    def do_set_variable(self, value):
        variable.set(value)

    def do_get_variable(self):
        return variable.get()

    def do_event_set(self):
        self.event.set()

    def do_event_clear(self):
        self.event.clear()

    def do_put_nowait(self, item):
        self._guard(lambda: self.queue.put_nowait(item))

    def do_get_nowait(self):
        return self._guard(self.queue.get_nowait)

    def do_release(self):
        self._guard(self.lock.release)

    def do_release_bounded(self):
        self._guard(self.bounded.release)

    def do_task_done(self):
        self._guard(self.queue.task_done)

    def do_shut_down(self, immediate):
        # From 3.13 on.
        if hasattr(asyncio.Queue, "shutdown"):
            self.queue.shutdown(immediate)

    def do_reschedule(self, delay):
        for timeout in self.timeouts:
            when = None if delay is None else self.loop.time() + self._delay(delay)
            self._guard(lambda: timeout.reschedule(when))

    def do_show(self):
        things = (self.event, self.lock, self.semaphore, self.condition, self.bounded, self.barrier)
        states = [repr(thing).partition("[")[2] for thing in things]
        queues = (self.queue, *self.others)
        states += [re.sub(r"^<\S+ at \S+", "", repr(queue)) for queue in queues]
        states += [(queue.qsize(), queue.empty(), queue.full(), queue._unfinished_tasks) for queue in queues]
        states += [(timeout.expired(), repr(timeout)) for timeout in self.timeouts]
        # (When a timeout ends that is not counted in turns is the clock's affair.)
        return [show(state) if self.turns else re.sub(r"when=[\d.]+", "", str(state)) for state in states]

    def do_nested_run(self):
        self._guard(self.loop.run_forever)
        self._guard(lambda: self.loop.run_until_complete(self.futures[0]))

    def do_stop(self):
        self.loop.stop()

    async def await_sleep(self, delay, result):
        return await self.world.sleep(self._delay(delay) if delay > 0 else delay, result)

    async def await_yield(self):
        await self.world.sleep(0)

    async def await_target(self, target):
        return await self._awaitable(target)

    async def await_myself(self):
        current = asyncio.current_task()
        try:
            await current
        finally:
            current._asyncio_future_blocking = False

    async def await_stray(self, kind):
        match kind:
            case "future":
                value = self.futures[0]
            case "foreign":
                return await self.foreign.future
            case "generator":
                value = (number for number in ())
            case "none":
                value = None
            case _:
                value = kind
        return await Stray(value)

    async def await_gather(self, targets, return_exceptions):
        awaitables = [self._awaitable(target) for target in targets]
        return await self.aio.gather(*awaitables, return_exceptions=return_exceptions)

    async def await_wait(self, targets, when, delay):
        awaitables = [self._awaitable(target) for target in targets if target[0] != "coroutine"]
        awaitables = [self.aio.ensure_future(awaitable) for awaitable in awaitables]
        timeout = None if delay is None else self._delay(delay)
        done, pending = await self.aio.wait(awaitables, return_when=when, timeout=timeout)
        return [awaitable in done for awaitable in awaitables], len(pending)

    async def await_as_completed(self, targets):
        awaitables = [self._awaitable(target) for target in targets if target[0] != "coroutine"]
        # Which of several that are done comes first is up to chance.
        awaitables = [future for future in map(self.aio.ensure_future, awaitables) if not future.done()]
        for each in self.aio.as_completed(awaitables):
            self.log("completed", show(await each))

    async def await_each_completed(self, targets, delay):
        awaitables = [self._awaitable(target) for target in targets if target[0] != "coroutine"]
        awaitables = [future for future in map(asyncio.ensure_future, awaitables) if not future.done()]
        timeout = None if delay is None else self._delay(delay)
        completed = self.aio.as_completed(awaitables, timeout=timeout)
        # It is no asynchronous iterator before 3.13.
        if hasattr(completed, "__aiter__"):
            async for each in completed:
                self.log("completed", awaitables.index(each), each.done())

    async def await_wait_for(self, target, delay):
        return await self.aio.wait_for(self._awaitable(target), None if delay is None else self._delay(delay))

    async def await_shield(self, target):
        return await self.aio.shield(self._awaitable(target))

    async def await_timeout(self, delay, body):
        async with self.aio.timeout(self._delay(delay)) as timeout:
            self.timeouts.append(timeout)
            try:
                await self._body(body)
            finally:
                self.timeouts.remove(timeout)
        return timeout.expired()

    async def await_group(self, bodies, body):
        group = self.aio.TaskGroup()
        if isinstance(group, asyncio.TaskGroup):
            group._tasks = OrderedSet()
        async with group:
            for each in bodies:
                group.create_task(self._body(each))
            await self._body(body)

    async def await_attempt(self, body, catch, last):
        caught = {"exception": Exception, "cancelled": asyncio.CancelledError, "all": BaseException}[catch]
        try:
            return await self._body(body)
        except caught as error:
            self.log("caught", show(error))
        finally:
            await self._body(last)

    async def await_repeat(self, times, body):
        for _ in range(times):
            await self._body(body)

    async def await_locked(self, body):
        async with self.lock:
            await self._body(body)

    async def await_semaphore(self, body):
        async with self.semaphore:
            await self._body(body)

    async def await_condition(self, body):
        async with self.condition:
            await self.condition.wait()
            await self._body(body)

    async def await_notify(self, number):
        async with self.condition:
            self.notified += 1
            self.condition.notify(number)

    async def await_wait_condition(self, body, number):
        async with self.condition:
            goal = self.notified + number
            await self.condition.wait_for(lambda: self.notified >= goal)
            await self._body(body)

    async def await_bounded(self, body):
        async with self.bounded:
            await self._body(body)

    async def await_barrier(self):
        return await self.barrier.wait()

    async def await_break_barrier(self, reset):
        await (self.barrier.reset() if reset else self.barrier.abort())

    async def await_join(self):
        await self.queue.join()

    async def await_put_among(self, item):
        # What is alike comes in the order in which it was put.
        self.puts += 1
        for queue in self.others:
            await queue.put((str(item), self.puts))

    async def await_get_among(self):
        return [await queue.get() for queue in self.others]

    async def await_event(self):
        return await self.event.wait()

    async def await_put(self, item):
        await self.queue.put(item)

    async def await_get(self):
        return await self.queue.get()

    async def await_generator(self, items, end):
        async def generator():
            try:
                for item in range(items):
                    await self.world.sleep(0)
                    yield item
            finally:
                self.reports.append("generator closed")

        async for item in generator():
            if item == end:
                break
        return items


def show(value, tracebacks=True, depth=3):
    """Turn a value into what can be compared: exceptions with type, arguments, causes and frames."""
    if isinstance(value, BaseException):
        shown = [type(value).__name__, *(show(argument, tracebacks, depth) for argument in value.args)]
        if isinstance(value, BaseExceptionGroup):
            shown.append([show(error, tracebacks, depth - 1) for error in value.exceptions])
        if tracebacks:
            shown.append(frames(value.__traceback__))
        if depth:
            shown.append(show(value.__cause__, tracebacks, depth - 1))
            shown.append(value.__suppress_context__ or show(value.__context__, tracebacks, depth - 1))
        return shown
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, (list, tuple)):
        return [show(item, tracebacks, depth) for item in value]
    if value is None or isinstance(value, (int, float)):
        return value
    return scrub(repr(value))


def frames(traceback):
    """Name the frames of a traceback, but for what is a loop's own, or asyncio's."""
    names = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if not code.co_filename.endswith(LOOPS):
            names.append(code.co_name)
        traceback = traceback.tb_next
    return names


def scrub(text):
    """Take out of a text what differs from run to run: addresses, lines, and the numbers of unnamed tasks."""
    text = re.sub(r" created at [^ >]+", "", re.sub(r"0x[0-9a-f]+", "0x", text))
    # The same, as reprlib has shortened it.
    text = re.sub(r"\.\.\.[^ >]*\.py:\d+>", "...>", text)
    # asyncio's own callbacks have a place in its source, and ours have none.
    text = re.sub(r"\) at [^ >]*/asyncio/\w+\.py:\d+", ")", text).replace(".<locals>", "")
    text = (
        re.sub(r"shield\._\w+\(\)", "shield()", text)
        .replace("_wait._on", "wait._on")
        .replace("wait_for._release", "_release")
    )
    text = re.sub(r"_release_waiter\(.*?\)\(\)", "_release_waiter()", text)
    return re.sub(r"Task-\d+", "Task-N", text)
