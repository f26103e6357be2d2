"""The other ways in which a TLS connection comes about: start_tls, TLS in TLS, Unix sockets.

And one that does not, since its handshake is cancelled.
"""

import asyncio
import select
import socket

import pytest
import velodrome
from tls.pairs import both_protocols, ended, pair, same, versions
from tls.sides import (
    LIMIT,
    Peer,
    Recorder,
    client_context,
    connected,
    described,
    other,
    run,
    server_context,
    sockets,
)

CONTEXTS = {"client": client_context, "server": server_context}


@versions
@pytest.mark.parametrize("role", ["client", "server"])
def test_start_tls(version, role):
    """In the middle of a conversation; what was buffered is not lost."""

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = sockets()

        def talk(connection, note):
            note(connection.recv(100))
            connection.sendall(b"secret answer")
            connection.unwrap()

        def plain_first():
            theirs.sendall(b"plain")
            assert theirs.recv(5) == b"go on"
            other_role = {"client": "server", "server": "client"}[role]
            context = {"client": client_context, "server": server_context}[other_role](version)
            return Peer(theirs, context, other_role, talk)

        recorder = Recorder()
        transport, _ = await loop.create_connection(lambda: recorder, sock=ours)
        peer = asyncio.ensure_future(asyncio.to_thread(plain_first))
        await recorder.receive(5)
        transport.write(b"go on")
        context = {"client": client_context, "server": server_context}[role](version)
        hostname = {"server_hostname": "localhost"} if role == "client" else {"server_side": True}
        upgraded = await loop.start_tls(transport, recorder, context, **hostname)
        upgraded.write(b"secret")
        await recorder.lost
        peer_outcome = await asyncio.to_thread((await peer).join)
        return recorder.events, bytes(recorder.data), peer_outcome, upgraded.get_protocol()

    same(main)


@pytest.mark.skipif(
    "_buffer" not in asyncio.BaseEventLoop.start_tls.__code__.co_names,
    reason="asyncio's start_tls loses what is buffered here (gh-142352)",
)
@versions
def test_start_tls_of_streams_with_data_behind_it(version):
    """The client begins its handshake at once, right behind the command; by both kinds of streams."""

    async def main(streams):
        async def serve(reader, writer):
            command = await reader.readline()
            if len(reader._buffer) == 0:
                await asyncio.sleep(0)
            await writer.start_tls(server_context(version))
            writer.write(command + await reader.readline())
            await writer.drain()
            writer.close()

        server = await streams.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await streams.open_connection("127.0.0.1", port)
        writer.write(b"starttls\n")
        await writer.start_tls(client_context(version), server_hostname="localhost")
        writer.write(b"secret\n")
        data = await reader.read()
        writer.close()
        await writer.wait_closed()
        server.close()
        return data

    for loop, streams in ("asyncio", asyncio), ("velodrome", asyncio), ("velodrome", velodrome):
        assert run(loop, lambda: main(streams)) == (b"starttls\nsecret\n", [])


@both_protocols
@versions
@pytest.mark.parametrize("role", ["client", "server"])
def test_start_tls_with_much_still_to_be_sent(version, role, protocol):
    """What was written before goes before, and as it is; what comes behind it is encrypted."""
    count = 1_000_000

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        recorder = protocol()
        transport, _ = await loop.create_connection(lambda: recorder, sock=ours)
        transport.write(b"p" * count)
        waiting = transport.get_write_buffer_size() > 0

        def talk(connection, note):
            connection.sendall(b"s" * count)
            note(len(connection.recv(100)))
            connection.unwrap()

        def peer():
            missing = count
            theirs.settimeout(LIMIT)
            while missing:
                missing -= len(theirs.recv(min(65536, missing)))
            return Peer(theirs, CONTEXTS[other(role)](version), other(role), talk)

        options = {"server_hostname": "localhost"} if role == "client" else {"server_side": True}
        making = asyncio.ensure_future(
            loop.start_tls(transport, recorder, CONTEXTS[role](version), **options)
        )
        await asyncio.sleep(0)
        elsewhere = await asyncio.to_thread(peer)
        upgraded = await making
        await recorder.receive(count)
        upgraded.write(b"at last")
        await recorder.lost
        return waiting, recorder.events, len(recorder.data), await asyncio.to_thread(elsewhere.join)

    assert same(main)[2] == count


@both_protocols
@versions
def test_start_tls_that_comes_to_nothing(version, protocol):
    """Refused, given up, or too late."""

    async def main():
        loop = asyncio.get_running_loop()
        outcomes = []
        for context, options in (
            (None, {}),
            (client_context(version), {"ssl_handshake_timeout": 0}),
            (client_context(version), {"ssl_shutdown_timeout": -1}),
            (client_context(version), {"server_hostname": ".wrong"}),
            (client_context(version), {"server_hostname": "localhost", "ssl_handshake_timeout": 0.05}),
            (client_context(version), {"server_hostname": "localhost"}),
        ):
            ours, theirs = socket.socketpair()
            recorder = protocol()
            transport, _ = await loop.create_connection(lambda: recorder, sock=ours)
            with theirs:
                making = asyncio.ensure_future(loop.start_tls(transport, recorder, context, **options))
                if len(options) == 1 and options.get("server_hostname") == "localhost":
                    while not select.select([theirs], [], [], 0)[0]:
                        await asyncio.sleep(0)
                    making.cancel()
                [raised] = await asyncio.gather(making, return_exceptions=True)
                for _ in range(10):
                    await asyncio.sleep(0)
                outcomes.append((described(raised), recorder.events, transport.is_closing()))
                transport.abort()
                for _ in range(10):
                    await asyncio.sleep(0)
            outcomes.append(ours.fileno())
        return outcomes

    same(main)


@both_protocols
@versions
def test_tls_in_tls(version, protocol):
    async def main():
        loop = asyncio.get_running_loop()
        transport, client, accepted, server = await pair(version)
        inner_client, inner_server = protocol(), protocol()
        accepting = asyncio.ensure_future(
            loop.start_tls(accepted, inner_server, server_context(version), server_side=True)
        )
        inner = await loop.start_tls(
            transport, inner_client, client_context(version), server_hostname="localhost"
        )
        inner_accepted = await accepting
        for size in (10, 100_000):
            inner_client.data.clear()
            inner_server.data.clear()
            inner.write(b"x" * size)
            await inner_server.receive(size)
            inner_accepted.write(inner_server.data)
            await inner_client.receive(size)
        names = [type(t.get_extra_info("ssl_object")).__name__ for t in (inner, inner_accepted)]
        inner.close()
        await ended(inner_client, inner_server)
        return names, len(inner_client.data), inner_client.events, inner_server.events

    same(main)


@versions
def test_cancelled_handshakes_close_the_socket(version):
    async def main():
        ours, theirs = socket.socketpair()
        with theirs:
            connecting = asyncio.ensure_future(connected(ours, client_context(version), "client", Recorder()))
            while not select.select([theirs], [], [], 0)[0]:
                await asyncio.sleep(0)
            connecting.cancel()
            await asyncio.wait([connecting])
            for _ in range(5):
                await asyncio.sleep(0)
            return connecting.cancelled(), ours.fileno()

    same(main)


@versions
def test_unix_sockets(version, tmp_path):
    """By streams, asyncio's and ours."""

    async def main(streams, path):
        outcome, done = [], asyncio.Event()

        async def serve(reader, writer):
            writer.write(await reader.readexactly(100_000))
            await writer.drain()
            outcome.append(await reader.read())
            writer.close()
            await writer.wait_closed()
            done.set()

        server = await streams.start_unix_server(serve, path, ssl=server_context(version))
        reader, writer = await streams.open_unix_connection(
            path, ssl=client_context(version), server_hostname="localhost"
        )
        info = writer.get_extra_info
        outcome.append((info("cipher"), info("peercert")["notAfter"], info("compression"), info("sockname")))
        outcome.append(info("peername") == path)
        writer.write(b"x" * 100_000)
        outcome.append(len(await reader.readexactly(100_000)))
        with pytest.raises(NotImplementedError):
            writer.write_eof()
        outcome.append(writer.can_write_eof())
        writer.close()
        await writer.wait_closed()
        await done.wait()
        server.close()
        return outcome

    outcomes = [
        run(loop, lambda: main(streams, str(tmp_path / f"{number}")))
        for number, (loop, streams) in enumerate(
            [("asyncio", asyncio), ("velodrome", asyncio), ("velodrome", velodrome)]
        )
    ]
    assert outcomes[1] == outcomes[0]
    assert outcomes[2] == outcomes[0]
