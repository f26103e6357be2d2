"""Sending a file, cancelled at every point: where the file is then, and that nothing more is sent."""

import asyncio
import contextlib
import io

import pytest
from differential import worlds
from differential.cancellation import Operation, every_point, settle, tokens
from differential.compare import check_same, one_turn, turns
from differential.sendfile import DATA, connection, drained, file_of, pair, result_of

either_loop = worlds.either_loop

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("ready", [False, True], ids=["waiting", "ready as well"])
@pytest.mark.parametrize("at", range(6))
def test_the_position_after_a_cancellation(at, ready):
    """As it was, unless the socket was found ready in the very turn in which it was cancelled."""

    def program(loop):
        with pair() as (ours, theirs), file_of(DATA) as file:
            file.seek(17)
            task = loop.create_task(loop.sock_sendfile(ours, file, 5))
            arrived = b""
            for _ in range(at):
                one_turn(loop)
                arrived += drained(theirs)
            if ready:
                loop.call_soon(task.cancel)
            else:
                one_turn(loop)
                one_turn(loop)
                task.cancel()
            one_turn(loop)
            one_turn(loop)
            assert settle(loop, task.done)
            arrived += drained(theirs)
            assert not loop.remove_writer(ours)
            return result_of(task), file.tell(), len(arrived)

    check_same(program)


class Sendings(Operation):
    """Files that are being sent, about to be cancelled."""

    #: So many chunks that it takes several turns, and not so many that it takes long to try each.
    data = DATA[:300_000]

    def __init__(self, loop):
        super().__init__(loop)
        self.things = contextlib.ExitStack()
        self.checks = []

    def file_of(self, kind):
        return self.things.enter_context(file_of(self.data) if kind == "file" else io.BytesIO(self.data))

    def check_and_finish(self):
        for task in self.tasks:
            if not task.cancelled():
                assert task.result() == len(self.data)
        for check in self.checks:
            check()
        self.tasks.clear()
        self.things.close()
        turns(self.loop, 2)

    def drain(self, sock):
        """Have the peer read, turn by turn."""
        if not self.over():
            self.heard = getattr(self, "heard", 0) + len(drained(sock))
            self.loop.call_soon(self.drain, sock)


@pytest.fixture
def loop(either_loop):
    either_loop.set_exception_handler(lambda loop, context: None)
    # What waits for a thread is at the same point every time.
    either_loop.run_in_executor = run_at_once(either_loop)
    return either_loop


def run_at_once(loop):
    def run_in_executor(executor, function, *arguments):
        future = loop.create_future()
        loop.call_soon(lambda: future.cancelled() or future.set_result(function(*arguments)))
        return future

    return run_in_executor


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_cancelled_to_a_socket(loop, kind):
    def begin():
        sendings = Sendings(loop)
        ours, theirs = sendings.things.enter_context(pair())
        file = sendings.things.enter_context(sendings.file_of(kind))
        sendings.begin(loop.sock_sendfile(ours, file))
        sendings.drain(theirs)

        def check():
            # Nothing is watched, and nothing more comes.
            assert not loop.remove_writer(ours)
            drained(theirs)
            one_turn(loop)
            assert drained(theirs) == b""

        sendings.checks.append(check)
        return sendings

    assert every_point(loop, begin) > 5


@pytest.mark.parametrize("buffered", [False, True], ids=["", "after what waits"])
@pytest.mark.parametrize("kind", ["file", "memory"])
def test_cancelled_to_a_transport(loop, kind, buffered):
    """Then the transport reads and writes as before."""
    if buffered and isinstance(loop, asyncio.SelectorEventLoop):
        pytest.skip("asyncio leaves the transport unable to write, and does not resume reading")

    def begin():
        sendings = Sendings(loop)
        transport, protocol, theirs = sendings.things.enter_context(connection(loop))
        file = sendings.things.enter_context(sendings.file_of(kind))
        if buffered:
            transport.write(Sendings.data)
        sendings.begin(loop.sendfile(transport, file))
        sendings.drain(theirs)

        def check():
            assert transport.get_protocol() is protocol
            assert transport.is_reading()
            token = next(tokens)
            transport.write(token)
            received = b""

            def arrived():
                nonlocal received
                received += drained(theirs)
                return received.endswith(token)

            assert settle(loop, arrived)
            theirs.send(token)
            assert settle(loop, lambda: token in protocol.told)

        sendings.checks.append(check)
        return sendings

    assert every_point(loop, begin) > 5


def test_a_number_that_is_taken_over(loop):
    """A socket that is closed while a file is sent to it: whoever has its number then is sent nothing."""
    if isinstance(loop, asyncio.SelectorEventLoop):
        pytest.skip("asyncio's selector keeps a closed number, and then refuses or mistakes the stranger's")

    def begin():
        sendings = Sendings(loop)
        ours, theirs = sendings.things.enter_context(pair())
        file = sendings.things.enter_context(file_of(DATA))
        sendings.begin(loop.sock_sendfile(ours, file))

        def close():
            ours.close()
            loop.call_soon(loop.call_soon, lambda: [task.cancel() for task in sendings.tasks])

        loop.call_soon(loop.call_soon, loop.call_soon, close)
        return sendings

    assert every_point(loop, begin) > 2
