"""The end of a child process is heard in the iteration in which asyncio hears it."""

import asyncio
import os
import sys

import pytest
from differential.compare import check_same, one_turn


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio waited in a thread, which nothing orders")
def test_order_of_output_and_end():
    def program(loop):
        calls = []

        class Protocol(asyncio.SubprocessProtocol):
            def pipe_data_received(self, fd, data):
                calls.append(("data", fd, data))

            def pipe_connection_lost(self, fd, exc):
                calls.append(("lost", fd, exc))

            def process_exited(self):
                calls.append("exited")

            def connection_lost(self, exc):
                calls.append(("connection lost", exc))

        starting = loop.subprocess_exec(Protocol, "sh", "-c", "read line; echo out; echo err >&2; exit 3")
        transport, _protocol = loop.run_until_complete(starting)
        transport.get_pipe_transport(0).write(b"go\n")
        # Everything has happened before the loop looks.
        os.waitid(os.P_PID, transport.get_pid(), os.WEXITED | os.WNOWAIT)
        for turn in range(20):
            calls.append(turn)
            one_turn(loop)
        code = transport.get_returncode()
        transport.close()
        return calls, code

    calls, code = check_same(program)[1]
    assert code == 3
    assert calls.index(("data", 1, b"out\n")) < calls.index("exited")
