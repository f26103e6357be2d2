"""An event loop in Python: the least that asyncio's tasks, futures and primitives ask of one."""

import asyncio
import collections
import heapq
import itertools
import time


class PythonLoop(asyncio.AbstractEventLoop):
    """It has no descriptors, so nobody but itself can wake it."""

    def __init__(self):
        self.ready = collections.deque()
        self.timers = []
        self.numbers = itertools.count()
        self.stopping = self.closed = self.running = self.debug = False
        self.handler = self.factory = self.executor = None

    def call_soon(self, callback, *args, context=None):
        if self.closed:
            raise RuntimeError("Event loop is closed")
        handle = asyncio.Handle(callback, args, self, context)
        self.ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(self, delay, callback, *args, context=None):
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(self, when, callback, *args, context=None):
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self.timers, (when, next(self.numbers), timer))
        return timer

    def _timer_handle_cancelled(self, timer):
        pass

    def time(self):
        return time.monotonic()

    def create_future(self):
        return asyncio.Future(loop=self)

    def create_task(self, coro, **options):
        if self.factory is not None:
            return self.factory(self, coro, **options)
        return asyncio.Task(coro, loop=self, **options)

    def set_task_factory(self, factory):
        self.factory = factory

    def get_task_factory(self):
        return self.factory

    def set_default_executor(self, executor):
        self.executor = executor

    def run_in_executor(self, executor, func, *args):
        return asyncio.wrap_future((executor or self.executor).submit(func, *args), loop=self)

    def get_debug(self):
        return self.debug

    def set_debug(self, enabled):
        self.debug = enabled

    def set_exception_handler(self, handler):
        self.handler = handler

    def default_exception_handler(self, context):
        pass

    def call_exception_handler(self, context):
        if self.handler is not None:
            self.handler(self, context)

    def is_running(self):
        return self.running

    def is_closed(self):
        return self.closed

    def stop(self):
        self.stopping = True

    def close(self):
        self.closed = True
        self.ready.clear()
        self.timers.clear()

    async def shutdown_asyncgens(self):
        pass

    async def shutdown_default_executor(self, timeout=None):
        pass

    def run_forever(self):
        if self.running or asyncio._get_running_loop() is not None:
            raise RuntimeError("This event loop is already running")
        self.running = True
        asyncio._set_running_loop(self)
        try:
            while True:
                self._run_once()
                if self.stopping:
                    break
        finally:
            self.running = self.stopping = False
            asyncio._set_running_loop(None)

    def _run_once(self):
        while self.timers and self.timers[0][2].cancelled():
            heapq.heappop(self.timers)
        if not self.ready and not self.stopping:
            if not self.timers:
                raise RuntimeError("nothing will ever happen")
            time.sleep(max(0, self.timers[0][0] - self.time()))
        while self.timers and self.timers[0][0] <= self.time():
            self.ready.append(heapq.heappop(self.timers)[2])
        for _ in range(len(self.ready)):
            handle = self.ready.popleft()
            if not handle.cancelled():
                handle._run()

    def run_until_complete(self, future):
        future = asyncio.ensure_future(future, loop=self)

        def done(future):
            self.stop()

        future.add_done_callback(done)
        try:
            self.run_forever()
        finally:
            future.remove_done_callback(done)
        if not future.done():
            raise RuntimeError("Event loop stopped before Future completed.")
        return future.result()
