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
        transport = SubprocessTransport(
            self, protocol, args, shell, stdin, stdout, stderr, bufsize, waiter=waiter, extra=extra, **kwargs
        )
        self._watch_child(transport)
        try:
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await tasks.shield(transport.exited)
            raise
        return transport

    # In which iteration the transport hears of the end depends on the version.
    _child_watcher_callback = _Unix._child_watcher_callback

    # Of a loop whose __init__ does not get to its end.
    _pidfds = frozenset()

    def _watch_child(self, transport):
        process = transport._proc
        try:
            pidfd = os.pidfd_open(process.pid)
        except (AttributeError, OSError):
            # No such call, or no descriptor to be had.
            name = f"velodrome-child-{process.pid}"
            arguments = (process, transport)
            threading.Thread(target=self._wait_for_child, args=arguments, name=name, daemon=True).start()
            return
        self._pidfds.add(pidfd)
        self._add_reader(pidfd, self._child_ended, pidfd, process, transport)

    def _child_ended(self, pidfd, process, transport):
        self._remove_reader(pidfd)
        self._pidfds.discard(pidfd)
        os.close(pidfd)
        self._child_watcher_callback(process.pid, _exit_code(process), transport)

    def _wait_for_child(self, process, transport):
        """In a thread of its own."""
        code = _exit_code(process)
        try:
            self.call_soon_threadsafe(self._child_watcher_callback, process.pid, code, transport)
        except RuntimeError:
            logger.warning("Loop %r that handles pid %r is closed", self, process.pid)

    def _forget_children(self):
        """The loop is closed. Who still runs is waited for by the subprocess module, in its time."""
        while self._pidfds:
            os.close(self._pidfds.pop())


class SubprocessTransport(unix_events._UnixSubprocessTransport):
    """asyncio's, except that closing it while its pipes are being connected closes all of them.

    asyncio's leaves open what is connected from then on, and a process that the child has left behind can
    keep that so for ever.
    """

    def __init__(self, loop, *args, **kwargs):
        #: A future of the child's end. Up to 3.12, `_wait()` waits for the pipes too, which are never there
        #: when connecting them is cancelled.
        self.exited = loop.create_future()
        super().__init__(loop, *args, **kwargs)

    def _process_exited(self, returncode):
        try:
            super()._process_exited(returncode)
        finally:
            # Also where the program's factory has made no protocol, which asyncio trips over.
            self.exited.set_result(returncode)

    async def _connect_pipes(self, waiter):
        process = self._proc
        await super()._connect_pipes(waiter)
        for fd, protocol in self._pipes.items():
            if protocol is None:
                # Connecting has failed.
                (process.stdin, process.stdout, process.stderr)[fd].close()
            elif self._closed:
                protocol.pipe.close()


def _exit_code(process):
    """Wait for a child and return how it ended; 255 if somebody else has waited for it."""
    try:
        _pid, status = os.waitpid(process.pid, 0)
    except ChildProcessError:
        if process.returncode is not None:
            # That was its Popen, asked by the program or by the transport when it was closed.
            return process.returncode
        logger.warning(
            "child process pid %d exit status already read:  will report returncode 255", process.pid
        )
        return 255
    return os.waitstatus_to_exitcode(status)
