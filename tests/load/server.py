"""A server for the load tests: `server.py LOOP KIND`; tells about itself when a line comes on stdin.

LOOP is the module whose new_event_loop() is used. KIND is what connections meet: `echo` sends everything
back; `flood` sends for as long as it may; `greet` says hello and waits for the end; `streams` is `flood` by
way of a StreamWriter. `datagrams` sends datagrams back.
"""

import asyncio
import contextlib
import gc
import importlib
import json
import os
import resource
import sys
import threading

CHUNK = bytes(16 * 1024)


class Connection(asyncio.Protocol):
    """One connection; the class counts those that are open."""

    open = set()

    def connection_made(self, transport):
        self.transport = transport
        self.open.add(self)

    def connection_lost(self, error):
        self.open.discard(self)


class Echo(Connection):
    """Sends everything back, and does not read on while that does not get through."""

    def data_received(self, data):
        self.transport.write(data)

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


class Flood(Connection):
    """Sends as much as it may."""

    def connection_made(self, transport):
        super().connection_made(transport)
        self.resume_writing()

    def pause_writing(self):
        self.writing = False

    def resume_writing(self):
        self.writing = True
        while self.writing and not self.transport.is_closing():
            self.transport.write(CHUNK)


class Greet(Connection):
    """Says hello."""

    def connection_made(self, transport):
        super().connection_made(transport)
        transport.write(b"hello")


class Datagrams(asyncio.DatagramProtocol):
    """Sends every datagram back; counts as one that is open."""

    count = 0

    def connection_made(self, transport):
        self.transport = transport
        Connection.open.add(self)

    def datagram_received(self, data, addr):
        Datagrams.count += 1
        self.transport.sendto(data, addr)


async def flood_by_streams(reader, writer):
    """Send for ever, as fast as drain() lets it."""
    connection = Connection()
    connection.connection_made(writer.transport)
    try:
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(CHUNK)
                await writer.drain()
    finally:
        connection.connection_lost(None)
        writer.close()


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def main(kind):
    loop = asyncio.get_running_loop()
    troubles = []
    loop.set_exception_handler(lambda loop, context: troubles.append(context["message"]))
    if kind == "streams":
        server = await asyncio.start_server(flood_by_streams, "127.0.0.1", 0, backlog=4096)
    elif kind == "datagrams":
        server, _ = await loop.create_datagram_endpoint(Datagrams, ("127.0.0.1", 0))
        server.sockets = [server.get_extra_info("socket")]
    else:
        factory = {"echo": Echo, "flood": Flood, "greet": Greet}[kind]
        server = await loop.create_server(factory, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    over = loop.create_future()

    def tell():
        gc.collect()
        unsent = [connection.transport.get_write_buffer_size() for connection in Connection.open]
        figures = {
            "open": len(Connection.open),
            "datagrams": Datagrams.count,
            "descriptors": len(os.listdir("/proc/self/fd")),
            "resident": resident_bytes(),
            "blocks": sys.getallocatedblocks(),
            "unsent": max(unsent, default=0),
            "limits": [c.transport.get_write_buffer_limits() for c in list(Connection.open)[:1]],
            "troubles": troubles,
            "cpu": sum(resource.getrusage(resource.RUSAGE_SELF)[:2]),
        }
        print(json.dumps(figures), flush=True)

    def listen_to_stdin():
        for _ in sys.stdin:
            loop.call_soon_threadsafe(tell)
        loop.call_soon_threadsafe(over.set_result, None)

    threading.Thread(target=listen_to_stdin, daemon=True).start()
    await over


with asyncio.Runner(loop_factory=importlib.import_module(sys.argv[1]).new_event_loop) as runner:
    runner.run(main(sys.argv[2]))
