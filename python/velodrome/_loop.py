"""The event loop: what runs once per loop, over the native core that runs once per callback.

The core (`_velodrome.LoopCore`) schedules and runs. What is here is called once per run, per signal
or per error, and much of it is asyncio's own code: unbound functions of `asyncio.BaseEventLoop`,
which ask nothing of a loop but its public methods and a few attributes, and so give the answers of
the Python underneath, whichever that is.
"""

import asyncio
import errno
import os
import signal
import sys
import threading
import warnings
import weakref
from asyncio import base_events, coroutines, events, format_helpers, unix_events
from asyncio.log import logger
from contextlib import suppress
from types import MappingProxyType

from velodrome._network import Network
from velodrome._processes import Processes
from velodrome._velodrome import LoopCore

_Base = base_events.BaseEventLoop
_Unix = unix_events._UnixSelectorEventLoop


class Loop(LoopCore, Network, Processes, asyncio.AbstractEventLoop):
    """An asyncio event loop, implemented in Rust.

    It can be subclassed, has a ``__dict__``, and its methods can be replaced on a subclass or an instance.
    """

    # For a loop whose __init__ does not get to its end.
    _given_selector = None
    _default_executor = None
    _signal_handlers = MappingProxyType({})
    _wakeup_fd_before = None

    def __new__(cls, *args, **kwargs):
        if cls is Loop and not _is_known(*args[:1], **kwargs):
            # asyncio's own loop asks it; prompt_toolkit's handles the events of a GUI meanwhile.
            return _Unix(*args, **kwargs)
        return super().__new__(cls)

    def __init__(self, selector=None):
        try:
            if not _is_known(selector):
                raise TypeError(f"a loop derived from velodrome's does not ask {selector!r}")
            super().__init__()
        except BaseException:
            self._release()  # what was never open needs no closing
            raise
        self._given_selector = selector
        self._asyncgens = weakref.WeakSet()
        self._asyncgens_shutdown_called = False
        self._coroutine_origin_tracking_enabled = False
        self._coroutine_origin_tracking_saved_depth = None
        self._current_handle = None
        self._default_executor = None
        self._exception_handler = None
        self._executor_shutdown_called = False
        self._old_agen_hooks = None
        self._signal_handlers = {}
        self._unix_server_sockets = {}
        self._pidfds = set()
        self._wakeup_fd_before = None
        self.slow_callback_duration = 0.1
        _loops.add(self)
        self.set_debug(coroutines._is_debug_mode())

    __repr__ = _Base.__repr__
    __del__ = _Base.__del__

    # -- Running -----------------------------------------------------------------------------------

    run_until_complete = _Base.run_until_complete

    def _check_running(self):
        if self.is_running():
            raise RuntimeError("This event loop is already running")
        if events._get_running_loop() is not None:
            raise RuntimeError("Cannot run the event loop while another loop is running")

    def _run_forever_setup(self):
        self._set_coroutine_origin_tracking(self._debug)
        self._old_agen_hooks = sys.get_asyncgen_hooks()
        self._thread_id = threading.get_ident()
        sys.set_asyncgen_hooks(
            firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook
        )
        events._set_running_loop(self)
        self._take_wakeup_fd()

    def _run_forever_cleanup(self):
        # Whatever fails, this thread is free for another loop afterwards.
        try:
            if not self._signal_handlers:
                self._give_wakeup_fd_back()
            self._set_coroutine_origin_tracking(False)
            if self._old_agen_hooks is not None:
                sys.set_asyncgen_hooks(*self._old_agen_hooks)
                self._old_agen_hooks = None
        finally:
            events._set_running_loop(None)
            try:
                self._stopping = False
            finally:
                self._thread_id = None

    def run_forever(self):
        """Run until stop() is called."""
        self._check_closed()
        self._check_running()
        try:
            self._run_forever_setup()
            if type(self)._run_once is LoopCore._run_once and "_run_once" not in vars(self):
                self._run_until_stopped()
                return
            # Loops that count or time their iterations replace it.
            while True:
                self._run_once()
                if self._stopping:
                    break
        finally:
            self._run_forever_cleanup()

    def close(self):
        """Close the event loop; it must not be running.

        Queued callbacks are dropped, and the default executor is shut down without waiting for it.
        """
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        if self._debug:
            logger.debug("Close %r", self)
        try:
            self._give_signals_up()
        finally:
            # Also where that fails, in another thread than the main one.
            self._release()
            if self._given_selector is not None:
                self._given_selector.close()
            self._forget_children()
            self._executor_shutdown_called = True
            executor = self._default_executor
            if executor is not None:
                self._default_executor = None
                executor.shutdown(wait=False)

    def _give_signals_up(self):
        if sys.is_finalizing():
            if self._signal_handlers:
                warnings.warn(
                    f"Closing the loop {self!r} on interpreter shutdown stage, "
                    "skipping signal handlers removal",
                    ResourceWarning,
                    stacklevel=3,
                    source=self,
                )
                self._signal_handlers.clear()
        else:
            for sig in list(self._signal_handlers):
                self.remove_signal_handler(sig)
            self._give_wakeup_fd_back()

    set_debug = _Base.set_debug
    _set_coroutine_origin_tracking = _Base._set_coroutine_origin_tracking

    # -- Callbacks ---------------------------------------------------------------------------------

    _check_callback = _Base._check_callback

    def _callback_failed(self, handle, exception):
        """A callback, or a task's step, raised: tell the exception handler, as asyncio's Handle._run does."""
        shown = _shown_callback(handle._callback, handle._args, self._debug)
        context = {"message": f"Exception in callback {shown}", "exception": exception, "handle": handle}
        if handle._source_traceback:
            context["source_traceback"] = handle._source_traceback
        self.call_exception_handler(context)

    def _callback_slow(self, handle, seconds):
        """In debug mode, a callback took this long."""
        if seconds >= self.slow_callback_duration:
            base_events.logger.warning(
                "Executing %s took %.3f seconds", base_events._format_handle(handle), seconds
            )

    # -- Tasks -------------------------------------------------------------------------------------

    set_task_factory = _Base.set_task_factory
    get_task_factory = _Base.get_task_factory
    # The native methods come here when a factory is set, or another class in place of asyncio's.
    _create_task_with_factory = _Base.create_task
    _create_foreign_future = _Base.create_future

    # -- Asynchronous generators -------------------------------------------------------------------

    _asyncgen_firstiter_hook = _Base._asyncgen_firstiter_hook
    _asyncgen_finalizer_hook = _Base._asyncgen_finalizer_hook
    shutdown_asyncgens = _Base.shutdown_asyncgens

    # -- Threads -----------------------------------------------------------------------------------

    run_in_executor = _Base.run_in_executor
    set_default_executor = _Base.set_default_executor
    shutdown_default_executor = _Base.shutdown_default_executor
    _do_shutdown = _Base._do_shutdown
    _check_default_executor = _Base._check_default_executor

    # -- Errors ------------------------------------------------------------------------------------

    get_exception_handler = _Base.get_exception_handler
    set_exception_handler = _Base.set_exception_handler
    default_exception_handler = _Base.default_exception_handler
    call_exception_handler = _Base.call_exception_handler

    # -- Signals -----------------------------------------------------------------------------------

    def add_signal_handler(self, sig, callback, *args):
        """Call callback(*args) on the loop when the signal arrives; only in the main thread.

        Raises ValueError if the signal number is invalid or uncatchable, RuntimeError if there is a problem
        setting up the handler.
        """
        if coroutines.iscoroutine(callback) or _iscoroutinefunction(callback):
            raise TypeError("coroutines cannot be used with add_signal_handler()")
        self._check_signal(sig)
        self._check_closed()
        try:
            # Refused outside the main thread, before anything is changed.
            self._set_wakeup_fd()
        except (ValueError, OSError) as exc:
            raise RuntimeError(str(exc)) from exc
        self._signal_handlers[sig] = events.Handle(callback, args, self, None)
        try:
            # The signal's number arrives through the wake-up descriptor, if Python has some handler for it.
            signal.signal(sig, _sighandler_noop)
            # Fewer system calls are interrupted.
            signal.siginterrupt(sig, False)
            self._ask_always(True)
        except OSError as exc:
            del self._signal_handlers[sig]
            if not self._signal_handlers and not self.is_running():
                self._give_wakeup_fd_back()
            if exc.errno == errno.EINVAL:
                raise RuntimeError(f"sig {sig} cannot be caught") from exc
            raise

    def remove_signal_handler(self, sig):
        """Remove a handler for a signal; return whether there was one."""
        self._check_signal(sig)
        try:
            del self._signal_handlers[sig]
        except KeyError:
            return False
        handler = signal.default_int_handler if sig == signal.SIGINT else signal.SIG_DFL
        try:
            signal.signal(sig, handler)
        except OSError as exc:
            if exc.errno == errno.EINVAL:
                raise RuntimeError(f"sig {sig} cannot be caught") from exc
            raise
        if not self._signal_handlers:
            self._ask_always(False)
            if not self.is_running():
                self._give_wakeup_fd_back()
        return True

    _check_signal = _Unix._check_signal
    _handle_signal = _Unix._handle_signal

    def _set_wakeup_fd(self):
        self._own_kernel()
        before = signal.set_wakeup_fd(self._wake_fd(), warn_on_full_buffer=False)
        if before != self._wake_fd():
            self._leave_wakeup_chain()
            self._wakeup_fd_before = before

    def _take_wakeup_fd(self):
        """While the loop runs in the main thread, signals wake it, also between two system calls."""
        if threading.get_ident() == threading.main_thread().ident:
            # A thread of another interpreter can look like the main one and still be refused.
            with suppress(ValueError):
                self._set_wakeup_fd()
                # One that the program has put there itself keeps getting its signals.
                if self._wakeup_fd_before not in (None, -1) and not self._signal_handlers:
                    self._give_wakeup_fd_back()

    def _give_wakeup_fd_back(self):
        self._leave_wakeup_chain()
        before, self._wakeup_fd_before = self._wakeup_fd_before, None
        if before is None:
            return
        try:
            now = signal.set_wakeup_fd(before, warn_on_full_buffer=True)
            if now != self._wake_fd():
                # Somebody else has put theirs there meanwhile.
                signal.set_wakeup_fd(now)
        except (ValueError, OSError) as exc:
            logger.info("set_wakeup_fd(%s) failed: %s", before, exc)
            # Whoever that was is gone; ours must not stay behind in its place.
            with suppress(ValueError, OSError):
                now = signal.set_wakeup_fd(-1)
                if now != self._wake_fd():
                    signal.set_wakeup_fd(now, warn_on_full_buffer=False)

    def _leave_wakeup_chain(self):
        """A loop that means to put our descriptor back is to put back what was there before ours."""
        fd, before = self._wake_fd(), self._wakeup_fd_before
        for other in list(_loops):
            if other is not self and other._wakeup_fd_before == fd:
                other._wakeup_fd_before = -1 if before is None else before


def new_event_loop():
    """Return a new velodrome event loop."""
    return Loop()


def _is_known(selector=None, **others):
    """Whether a loop that is given this selector would watch descriptors as ours does by itself."""
    return not others and (selector is None or type(selector).__module__ == "selectors")


_sighandler_noop = unix_events._sighandler_noop
# The public one is deprecated from 3.14 on.
_iscoroutinefunction = getattr(coroutines, "_iscoroutinefunction", None) or coroutines.iscoroutinefunction

# Loops that a fork would share with the child.
_loops = weakref.WeakSet()


def _forget_the_parents_kernel():
    """In a forked child: whatever it does with a loop of its parent's must not reach the parent."""
    loops = [loop for loop in _loops if not loop.is_closed()]
    with suppress(ValueError):  # another interpreter's
        # Signals of the child are none of the parent's business.
        current = signal.set_wakeup_fd(-1)
        if current not in [-1, *(loop._wake_fd() for loop in loops)]:
            signal.set_wakeup_fd(current)
    for loop in loops:
        loop._forget_kernel()
        if loop.is_running() and loop._thread_id == threading.get_ident():
            events._set_running_loop(None)


os.register_at_fork(after_in_child=_forget_the_parents_kernel)

if sys.version_info >= (3, 13):

    def _shown_callback(callback, args, debug):
        return format_helpers._format_callback_source(callback, args, debug=debug)

else:

    def _shown_callback(callback, args, debug):
        return format_helpers._format_callback_source(callback, args)
