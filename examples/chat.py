"""A chat server: whoever connects gives a name, and from then on every line goes to everybody else.

    python examples/chat.py                     listen on 127.0.0.1, port 8888
    nc 127.0.0.1 8888                           join, from as many terminals as you like

It is written with asyncio's streams and nothing else; one line, the last of main(), says what runs it.
"""

import argparse
import asyncio
import contextlib

import velodrome

#: So many bytes may wait for a member who does not read. Then they are taken for gone.
PATIENCE = 256 * 1024


class Room:
    """The people in the room, by name, and the way to each of them."""

    def __init__(self):
        self.members = {}

    def tell(self, line, but=None):
        """Tell everybody something, but for one of them.

        Nobody is waited for here: one member with a bad line must not hold up the others.
        """
        for name, writer in self.members.items():
            if name == but:
                continue
            writer.write(line.encode() + b"\n")
            if writer.transport.get_write_buffer_size() > PATIENCE:
                writer.transport.abort()  # their own task notices, and says goodbye for them

    async def welcome(self, reader, writer):
        """Look after one connection, from the question for a name to the goodbye."""
        name = None
        try:
            writer.write(b"What is your name?\n")
            name = await self.introduce(reader, writer)
            if name is None:
                return
            writer.write(f"Welcome, {name}. Here: {', '.join(sorted(self.members))}.\n".encode())
            self.tell(f"* {name} has come in", but=name)
            async for line in reader:
                if text := line.decode(errors="replace").strip():
                    self.tell(f"{name}: {text}", but=name)
        except (ConnectionError, ValueError):
            pass  # the line broke, or was longer than any line should be
        except asyncio.CancelledError:
            pass  # the server ends, and nobody waits for this task to say so
        finally:
            writer.close()
            if name is not None:
                del self.members[name]
                self.tell(f"* {name} has left")

    async def introduce(self, reader, writer):
        """Return the name that somebody has chosen, which nobody else has; None if they leave first."""
        while line := await reader.readline():
            name = line.decode(errors="replace").strip()
            if name.isalnum() and name not in self.members:
                self.members[name] = writer
                return name
            writer.write(b"Letters and digits, please, and a name that nobody has. What is yours?\n")
        return None


async def serve(host, port):
    """Keep a room open until somebody presses Ctrl-C."""
    server = await asyncio.start_server(Room().welcome, host, port)
    try:
        for socket in server.sockets:
            address, port, *_ = socket.getsockname()
            print(f"chatting on {address} port {port}", flush=True)
        await asyncio.Event().wait()
    finally:
        server.close()  # nobody new; run() cancels the tasks of those who are here, and they hang up


def main():
    """Read the arguments and open the room."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", default="127.0.0.1", help="an address to listen on (%(default)s)")
    parser.add_argument("--port", default=8888, type=int, help="a port, 0 for any (%(default)s)")
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        velodrome.run(serve(arguments.host, arguments.port))


if __name__ == "__main__":
    main()
