"""What `loop.sock_recv()` and its like refuse: bad arguments, TLS sockets, the sockets of transports."""

import asyncio
import inspect
import socket
import ssl

import pytest
import velodrome
from differential.compare import check_same, outcome, plain
from differential.sockets import CALLS, Wrapped, bound, fill, kinds, pair

pytestmark = pytest.mark.timeout(60)

BAD = {
    "sock_recv": [("n",), (-1,), (None,), (1.5,), (0,), (2**70,)],
    "sock_recv_into": [(b"bytes",), (5,), (memoryview(b"read-only"),), (bytearray(),)],
    "sock_recvfrom": [("n",), (-1,)],
    "sock_recvfrom_into": [(b"bytes",), (5,), (bytearray(5), 6), (bytearray(5), -1), (bytearray(5), "n")],
    "sock_sendall": [("text",), (5,), (None,), (memoryview(b"123456")[::2],)],
    "sock_sendto": [
        ("text", ("127.0.0.1", 1)),
        (b"", None),
        (b"", ("127.0.0.1", 70000)),
        (b"", ("127.0.0.1", -1)),
        (b"", ("127.0.0.1",)),
        (b"", ("::1", 1)),
        (b"", 5),
    ],
    "sock_connect": [(None,), (5,), (("127.0.0.1", 70000),), (("127.0.0.1",),)],
    "sock_accept": [()],
}


@kinds
@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("state", ["open", "closed", "blocking", "timeout"])
@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_refused_as_by_asyncio(kind, name, state, debug):
    blocks = state in ("blocking", "timeout")
    if blocks and not debug and name == "sock_accept":
        arguments = []  # which waits for a time, or for ever, on asyncio's loop
    else:
        arguments = BAD[name]

    def program(loop):
        loop.set_debug(debug)
        said = []
        for given in arguments:
            inner = bound(kind=kind if kind is not Wrapped else socket.socket)
            sock = Wrapped(inner) if kind is Wrapped else inner
            with inner:
                if state == "closed":
                    inner.close()
                elif blocks:
                    inner.settimeout(None if state == "blocking" else 0.01)
                if blocks and not debug and given == (0,):
                    continue  # it would wait
                call = getattr(loop, name)(sock, *given)
                said.append(outcome(lambda call=call: loop.run_until_complete(asyncio.wait_for(call, 5))))
        return said

    check_same(program)


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_socket_is_refused(name):
    def program(loop):
        rest = {"sock_sendto": (b"", ("127.0.0.1", 1)), "sock_accept": ()}.get(name, (bytearray(1),))
        said = []
        for debug in (False, True):
            loop.set_debug(debug)
            for thing in (None, 5, "socket"):
                call = getattr(loop, name)(thing, *rest)
                said.append(outcome(lambda call=call: loop.run_until_complete(call)))
        return said

    check_same(program)


@pytest.mark.parametrize("name", BAD)
def test_a_tls_socket_is_refused(name):
    context = ssl.create_default_context()

    def program(loop):
        rest = {"sock_sendto": (b"", ("127.0.0.1", 1)), "sock_accept": ()}.get(name, (bytearray(1),))
        with context.wrap_socket(socket.socket(), server_hostname="name") as sock:
            loop.run_until_complete(getattr(loop, name)(sock, *rest))

    assert check_same(program) == ("TypeError", "Socket cannot be of type SSLSocket")


@pytest.mark.parametrize("name", [*CALLS, "sock_sendall"])
def test_the_descriptor_of_a_transport_is_refused(name):
    def program(loop):
        one, other = pair()

        async def main():
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=one)
            if name == "sock_sendall":
                fill(one)
            argument = 5 if name in ("sock_recv", "sock_recvfrom") else bytearray(5)
            try:
                await getattr(loop, name)(one, argument)
            except RuntimeError as error:
                return plain(str(error)).split("<")[0]
            finally:
                transport.abort()
                await asyncio.sleep(0.01)

        with one, other:
            return loop.run_until_complete(main())

    outcome = check_same(program)
    assert outcome[1].endswith("is used by transport ")


def test_parameters_have_asyncios_names(loop):
    for name in BAD:
        theirs = inspect.signature(getattr(asyncio.SelectorEventLoop, name))
        ours = inspect.signature(getattr(velodrome.Loop, name))
        assert list(ours.parameters) == list(theirs.parameters)
        assert [p.default for p in ours.parameters.values()] == [
            p.default for p in theirs.parameters.values()
        ]
    one, other = pair()
    with one, other:
        loop.run_until_complete(loop.sock_sendall(data=b"1", sock=other))
        assert loop.run_until_complete(loop.sock_recv(n=5, sock=one)) == b"1"
