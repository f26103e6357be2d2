"""The other side in the same thread, whose ciphertext is mangled on its way; it never waits for time to pass.

The socket is local, so that all that we answer can be had once we have nothing more to do.
"""

import asyncio
import contextlib
import functools
import socket
import ssl

from .sides import Recorder, client_context, connected, described, other, server_context

context_of = functools.cache(
    lambda role, version: {"client": client_context, "server": server_context}[role](version)
)

#: So many times the loop has asked the kernel without there being anything to read, and we are at rest.
IDLE = 3

#: What the two sides say to each other.
MESSAGES = [b"a", b"b" * 5_000, b"c" * 40_000]


class Cut(Exception):
    """The stream ends here."""


def records(stream):
    """Split ciphertext into its records."""
    found = []
    while stream:
        length = 5 + int.from_bytes(stream[3:5], "big")
        found.append(stream[:length])
        stream = stream[length:]
    return found


class Readable:
    """A socket that can always be read: once a loop says so, it has asked the kernel for all others too."""

    def __enter__(self):
        self.sock, ours = socket.socketpair()
        with ours:
            ours.send(b"x")
        return self

    def __exit__(self, *exception):
        self.sock.close()

    async def seen(self):
        loop = asyncio.get_running_loop()
        seen = loop.create_future()

        def note():
            loop.remove_reader(self.sock)
            seen.set_result(None)

        loop.add_reader(self.sock, note)
        await seen


class Other:
    """The other side: Python's TLS over memory. `mangle(stream)` yields what is delivered, piece by piece."""

    def __init__(self, sock, role, version, mangle, messages):
        sock.setblocking(False)
        self.sock, self.mangle, self.messages = sock, mangle, messages
        self.readable = Readable()
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        hostname = "localhost" if role == "client" else None
        self.connection = context_of(role, version).wrap_bio(
            self.incoming, self.outgoing, role == "server", hostname
        )

    async def exchange(self):
        """Deliver what there is, and take what is answered; return whether something was."""
        heard = False
        for piece in self.mangle(self.outgoing.read()):
            # A connection that is closed, or does not read, gets no more.
            with contextlib.suppress(OSError):
                self.sock.send(piece)
            heard |= await self.rest()
        return await self.rest() or heard

    async def rest(self):
        heard, idle = False, 0
        while idle < IDLE:
            try:
                data = self.sock.recv(1 << 20)
            except BlockingIOError:
                idle += 1
                await self.readable.seen()
                continue
            if not data:
                raise Cut
            self.incoming.write(data)
            heard, idle = True, 0
        return heard

    async def step(self, call):
        """Call until it gives a result, as long as that gets anywhere."""
        while True:
            try:
                result = call()
            except ssl.SSLWantReadError:
                if not await self.exchange():
                    raise Cut from None
            else:
                await self.exchange()
                return result

    async def talk(self):
        await self.step(self.connection.do_handshake)
        for message in self.messages:
            await self.step(lambda: self.connection.write(message))
            await self.step(lambda: self.connection.read(100_000))
        await self.step(self.connection.unwrap)

    async def run(self):
        """Talk until that is over or leads nowhere; then the stream ends."""
        with self.sock, self.readable, contextlib.suppress(Cut, OSError):
            try:
                # Errors of this side are what mangling does; what it says of them is delivered too.
                with contextlib.suppress(Cut, ssl.SSLError):
                    await self.talk()
                await self.exchange()
            finally:
                self.sock.shutdown(socket.SHUT_WR)
                while True:
                    await self.rest()


async def meet(role, version, mangle, protocol=Recorder, messages=MESSAGES):
    """Be `role` while the other side's ciphertext is mangled; return what became of us, and our protocol."""
    ours, theirs = socket.socketpair()
    elsewhere = asyncio.ensure_future(Other(theirs, other(role), version, mangle, messages).run())
    recorder = protocol()
    outcome = []
    try:
        transport = await connected(ours, context_of(role, version), role, recorder)
    except Exception as error:
        outcome.append(described(error))
    else:
        for message in messages:
            transport.write(message)
        await recorder.lost
        outcome.extend(recorder.events)
        outcome.append(len(recorder.data))
    await elsewhere
    # The socket is closed in the iteration in which the protocol is told, or in the next ones.
    for _ in range(10):
        await asyncio.sleep(0)
    return outcome, ours.fileno(), recorder
