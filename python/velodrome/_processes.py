"""Pipes and subprocesses: asyncio's own transports over the loop's readers and writers."""

import sys
from asyncio import base_events, unix_events

_Base = base_events.BaseEventLoop
_Unix = unix_events._UnixSelectorEventLoop


class Processes:
    """The part of the loop that talks with pipes and child processes."""

    connect_read_pipe = _Base.connect_read_pipe
    connect_write_pipe = _Base.connect_write_pipe
    _make_read_pipe_transport = _Unix._make_read_pipe_transport
    _make_write_pipe_transport = _Unix._make_write_pipe_transport

    subprocess_exec = _Base.subprocess_exec
    subprocess_shell = _Base.subprocess_shell
    _log_subprocess = _Base._log_subprocess
    _make_subprocess_transport = _Unix._make_subprocess_transport
    _child_watcher_callback = _Unix._child_watcher_callback


if sys.version_info >= (3, 14):

    def make_watcher():
        """Return what waits for child processes; before 3.14 the event loop policy has it."""
        if unix_events.can_use_pidfd():
            return unix_events._PidfdChildWatcher()
        return unix_events._ThreadedChildWatcher()

else:

    def make_watcher():
        """Return None: the event loop policy has what waits for child processes."""
        return None
