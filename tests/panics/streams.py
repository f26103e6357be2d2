"""Uses of streams over a transport that does nothing."""

import asyncio
import gc

import velodrome
from velodrome import _velodrome

from .uses import USES, abandon, look_at, made, uses


class IdleTransport(asyncio.Transport):
    def nothing(self, *arguments):
        pass

    close = write = writelines = get_extra_info = nothing

    def is_closing(self):
        return True


class QuietWriter(velodrome.StreamWriter):
    """One whose __init__ has failed would be heard of once more when it goes, as asyncio's is."""

    def __del__(self):
        pass


uses(lambda loop: QuietWriter(IdleTransport(), None, None, loop) and None)


def with_streams(function):
    """A use of a reader, a protocol and a writer over a transport that does nothing."""

    async def used(loop):
        reader = velodrome.StreamReader(loop=loop)
        protocol = velodrome.StreamReaderProtocol(reader, lambda reader, writer: None, loop=loop)
        protocol._stream_writer = None
        transport = IdleTransport()
        protocol.connection_made(transport)
        writer = velodrome.StreamWriter(transport, protocol, reader, loop)
        result = function(reader, protocol, writer)
        if asyncio.iscoroutine(result):
            await result

    USES.append(used)


with_streams(lambda reader, protocol, writer: look_at(reader))
with_streams(lambda reader, protocol, writer: look_at(protocol))
with_streams(lambda reader, protocol, writer: look_at(writer))
for which in range(3):
    with_streams(lambda *streams, which=which: setattr(streams[which], "__dict__", vars(streams[which])))
with_streams(lambda reader, protocol, writer: abandon(reader, protocol, writer))
with_streams(lambda reader, protocol, writer: gc.collect() and None)
with_streams(lambda reader, protocol, writer: reader.feed_data(b"data"))
with_streams(lambda reader, protocol, writer: protocol.data_received(b"data"))
with_streams(lambda reader, protocol, writer: reader.set_exception(ValueError()))
with_streams(lambda reader, protocol, writer: setattr(reader, "_transport", None) or reader.set_transport(1))
with_streams(lambda reader, protocol, writer: (protocol.pause_writing(), protocol.resume_writing()) and None)
with_streams(lambda reader, protocol, writer: protocol._get_close_waiter(writer) and None)
with_streams(lambda reader, protocol, writer: protocol._drain_helper())
for name in ["exception", "_wakeup_waiter", "feed_eof", "at_eof", "__aiter__"]:
    with_streams(lambda reader, protocol, writer, name=name: getattr(reader, name)() and None)
for name, argument in [
    ("read", 1),
    ("readexactly", 4),
    ("readuntil", b"t"),
    ("readline", None),
    ("__anext__", None),
]:
    with_streams(
        lambda reader, protocol, writer, name=name, argument=argument: (
            reader.feed_data(b"data\n"),
            getattr(reader, name)(*[] if argument is None else [argument]),
        )[1]
    )
for name in ["close", "is_closing"]:
    with_streams(lambda reader, protocol, writer, name=name: getattr(writer, name)() and None)
with_streams(lambda reader, protocol, writer: writer.write(b"data"))
with_streams(lambda reader, protocol, writer: writer.writelines([b"data"]))
with_streams(lambda reader, protocol, writer: writer.get_extra_info("socket"))
with_streams(lambda reader, protocol, writer: writer.drain())
with_streams(lambda reader, protocol, writer: protocol._closed.set_result(None) or writer.wait_closed())
uses(
    lambda loop: made(_velodrome.StreamReaderCore),
    lambda loop: made(_velodrome.StreamWriterCore),
    lambda loop: made(_velodrome.StreamReaderProtocolCore),
)
