"""Receiving datagrams: when, in which order and context a protocol hears of them, and from whom they are."""

import asyncio
import contextlib
import contextvars

import pytest
from differential.compare import check_same, one_turn, turns
from differential.datagrams import Protocol, drain, end, local, peer

pytestmark = pytest.mark.timeout(60)


def test_one_datagram_is_received_in_an_iteration_where_that_can_be_told():
    """What a protocol queues runs before it hears of the next datagram."""

    def program(loop):
        order = []
        protocol = Protocol(
            received=lambda protocol: (
                order.append(protocol.told[-1][1]),
                loop.call_soon(order.append, "queued"),
            )
        )
        transport, _ = local(loop, protocol)
        with peer() as other:
            for number in range(5):
                other.sendto(b"%d" % number, transport.get_extra_info("sockname"))
        turns(loop, 12)
        end(loop, transport)
        return order

    check_same(program)


@pytest.mark.parametrize(
    "act",
    [
        lambda loop, protocol: protocol.transport.pause_reading(),
        lambda loop, protocol: (protocol.transport.pause_reading(), protocol.transport.resume_reading()),
        lambda loop, protocol: protocol.transport.close(),
        lambda loop, protocol: protocol.transport.abort(),
        lambda loop, protocol: loop.stop(),
        lambda loop, protocol: loop.call_later(0, loop.stop),
        lambda loop, protocol: loop.call_soon(loop.stop),
        lambda loop, protocol: loop.call_soon_threadsafe(loop.stop),
        lambda loop, protocol: protocol.transport.set_protocol(Protocol(received=protocol.acts["received"])),
        lambda loop, protocol: 1 / 0,
    ],
    ids=["pause", "pause, resume", "close", "abort", "stop", "later", "soon", "thread", "protocol", "raise"],
)
def test_what_a_protocol_does_counts_before_the_next_datagram(act):
    """Five are there when the loop runs for as long as it is not stopped."""

    def program(loop):
        heard = []
        loop.set_exception_handler(lambda loop, context: heard.append(context["message"].split()[0]))
        told = []

        def received(protocol):
            told.append(protocol.told[-1])
            act(loop, protocol)

        transport, protocol = local(loop, Protocol(received=received))
        with peer() as other:
            for number in range(5):
                other.sendto(b"%d" % number, transport.get_extra_info("sockname"))
        loop.call_later(0.05, loop.stop)
        loop.run_forever()
        said = list(told), list(protocol.told), heard
        end(loop, transport)
        return said

    check_same(program)


@pytest.mark.parametrize("most", [3, 0, -1, 10**6, True, 2.5, "4", None])
def test_most_of_a_datagram_that_is_received(most):
    """A program may give its transport another `max_size` at any time."""

    def program(loop):
        reports = []
        loop.set_exception_handler(
            lambda loop, context: reports.append((context["message"], repr(context["exception"])))
        )
        transport, protocol = local(loop)
        with peer() as other:
            for largest in (transport.max_size, most):
                transport.max_size = largest
                other.sendto(b"datagram", transport.get_extra_info("sockname"))
                turns(loop, 4)
        end(loop, transport)
        return protocol.told, reports

    check_same(program)


def test_many_arrive_in_order_and_alone(loop):
    """Also where nothing else is watched, so that many are received for one readiness."""
    transport, protocol = local(loop)
    with peer() as other:
        for number in range(100):
            other.sendto(b"%d" % number, transport.get_extra_info("sockname"))
    one_turn(loop)
    while len(protocol.told) < 101:
        one_turn(loop)
    assert [told[1] for told in protocol.told[1:]] == [b"%d" % number for number in range(100)]
    end(loop, transport)


def test_addresses_are_told_apart(loop):
    """More senders than the loop remembers, each with its own address, and each is answered."""
    protocol = Protocol()
    protocol.datagram_received = lambda data, addr: protocol.transport.sendto(b"%d" % addr[1], addr)
    transport, _ = local(loop, protocol)
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(peer()) for _ in range(150)]
        for _ in range(3):
            for other in others:
                other.sendto(b"?", transport.get_extra_info("sockname"))
                answer = []
                while not answer:
                    one_turn(loop)
                    answer = drain(other)
                assert answer == [b"%d" % other.getsockname()[1]]
    end(loop, transport)


def test_contexts():
    """A protocol is called in the context in which its transport was made, or reading was resumed."""
    variable = contextvars.ContextVar("variable", default="none")

    def program(loop):
        said = []
        protocol = Protocol()
        for name in ("connection_made", "datagram_received", "connection_lost", "resume_writing"):
            method = getattr(protocol, name)
            setattr(
                protocol,
                name,
                lambda *args, name=name, method=method: (method(*args), said.append((name, variable.get()))),
            )

        async def main():
            variable.set("made")
            transport, _ = await loop.create_datagram_endpoint(lambda: protocol, ("127.0.0.1", 0))
            variable.set("later")
            with peer() as other:
                other.sendto(b"one", transport.get_extra_info("sockname"))
                await asyncio.sleep(0.01)
                transport.pause_reading()
                variable.set("resumed")
                transport.resume_reading()
                other.sendto(b"two", transport.get_extra_info("sockname"))
                await asyncio.sleep(0.01)
            variable.set("closed")
            transport.close()
            await asyncio.sleep(0.01)

        loop.run_until_complete(main())
        return said

    check_same(program)
