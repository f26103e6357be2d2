"""Pipes and subprocesses: asyncio's own transport of a subprocess, over native transports of its pipes.

The end of a child is noticed through a pidfd, or by a thread that waits for it where the kernel has
none; never through SIGCHLD, and so in any thread. Up to 3.13, a child watcher that the event loop policy
has is not asked.
"""

import os
import threading
from asyncio import base_events, tasks, unix_events
from asyncio.log import logger

from velodrome._velodrome import ReadPipeTransport, WritePipeTransport

_Base = base_events.BaseEventLoop
_Unix = unix_events._UnixSelectorEventLoop


class Processes:
    """The part of the loop that talks with pipes and child processes."""

    connect_read_pipe = _Base.connect_read_pipe
    connect_write_pipe = _Base.connect_write_pipe

    def _make_read_pipe_transport(self, pipe, protocol, waiter=None, extra=None):
        return ReadPipeTransport(self, pipe, protocol, waiter, extra)

    def _make_write_pipe_transport(self, pipe, protocol, waiter=None, extra=None):
        return WritePipeTransport(self, pipe, protocol, waiter, extra)

    subprocess_exec = _Base.subprocess_exec
    subprocess_shell = _Base.subprocess_shell
    _log_subprocess = _Base._log_subprocess

    async def _make_subprocess_transport(
        self, protocol, args, shell, stdin, stdout, stderr, bufsize, extra=None, **kwargs
    ):
        waiter = self.create_future()
        transport = unix_events._UnixSubprocessTransport(
            self, protocol, args, shell, stdin, stdout, stderr, bufsize, waiter=waiter, extra=extra, **kwargs
        )
        self._watch_child(transport)
        try:
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await tasks.shield(transport._wait())
            raise
        return transport

    # In which iteration the transport hears of the end depends on the version.
    _child_watcher_callback = _Unix._child_watcher_callback

    def _watch_child(self, transport):
        pid = transport.get_pid()
        try:
            pidfd = os.pidfd_open(pid)
        except (AttributeError, OSError):
            # No such call, or no descriptor to be had.
            threading.Thread(
                target=self._wait_for_child, args=(pid, transport), name=f"velodrome-child-{pid}", daemon=True
            ).start()
        else:
            self._add_reader(pidfd, self._child_ended, pid, pidfd, transport)

    def _child_ended(self, pid, pidfd, transport):
        self._remove_reader(pidfd)
        os.close(pidfd)
        self._child_watcher_callback(pid, _exit_code(pid), transport)

    def _wait_for_child(self, pid, transport):
        """In a thread of its own."""
        code = _exit_code(pid)
        try:
            self.call_soon_threadsafe(self._child_watcher_callback, pid, code, transport)
        except RuntimeError:
            logger.warning("Loop %r that handles pid %r is closed", self, pid)


def _exit_code(pid):
    """Wait for a child and return how it ended; 255 if somebody else has waited for it."""
    try:
        _pid, status = os.waitpid(pid, 0)
    except ChildProcessError:
        logger.warning("child process pid %d exit status already read: will report returncode 255", pid)
        return 255
    return os.waitstatus_to_exitcode(status)
