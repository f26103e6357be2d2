"""Streams: the native classes over asyncio's, and the functions that make connections with them.

What asyncio does once per connection is asyncio's own code here as well: functions of `asyncio.streams`, of
whichever version that is, in which the names of the classes mean ours.
"""

from abc import ABCMeta
from asyncio import streams, subprocess
from types import SimpleNamespace

from velodrome._asyncios_own import with_names
from velodrome._velodrome import StreamReaderCore, StreamReaderProtocolCore, StreamWriterCore

# After `install()` these names in asyncio.streams are ours.
_Reader, _Writer, _Protocol = streams.StreamReader, streams.StreamWriter, streams.StreamReaderProtocol


# What the names mean in those functions.
_globals = dict(vars(streams))
_subprocess_globals = dict(vars(subprocess))


def _over_ours(function, doc=None):
    """Return a function of asyncio.streams or asyncio.subprocess over our classes."""
    module, names = streams, _globals
    if function.__module__ == subprocess.__name__:
        module, names = subprocess, _subprocess_globals
    ours = with_names(function, module, names, doc)
    if ours is not function:
        ours.__module__ = "velodrome"
    return ours


# The metaclass is for one thing: asyncio's own objects, made before `install()` or by those who took the
# names before, are instances as well. It is ABCMeta, with which most other metaclasses get along.


class StreamReader(StreamReaderCore, _Reader, metaclass=ABCMeta):
    """What a protocol feeds and a program reads: bytes, lines, messages."""

    @classmethod
    def __subclasshook__(cls, candidate):
        return (cls is StreamReader and issubclass(candidate, _Reader)) or NotImplemented


class StreamWriter(StreamWriterCore, _Writer, metaclass=ABCMeta):
    """What a program writes to: a transport, and a way to wait until it has room."""

    @classmethod
    def __subclasshook__(cls, candidate):
        return (cls is StreamWriter and issubclass(candidate, _Writer)) or NotImplemented


class StreamReaderProtocol(StreamReaderProtocolCore, _Protocol, metaclass=ABCMeta):
    """The protocol between a transport and a StreamReader."""

    connection_made = _over_ours(_Protocol.connection_made)

    @classmethod
    def __subclasshook__(cls, candidate):
        return (cls is StreamReaderProtocol and issubclass(candidate, _Protocol)) or NotImplemented


for _class in StreamReader, StreamWriter, StreamReaderProtocol:
    _class.__module__ = "velodrome"
    _globals[_class.__name__] = _class

open_connection = _over_ours(streams.open_connection)
start_server = _over_ours(streams.start_server)
open_unix_connection = _over_ours(streams.open_unix_connection)
start_unix_server = _over_ours(streams.start_unix_server)

# The pipes of a subprocess: its protocol makes the readers and the writer.
_subprocess_globals["streams"] = SimpleNamespace(**_globals)


class _SubprocessStreamProtocol(subprocess.SubprocessStreamProtocol):
    connection_made = _over_ours(subprocess.SubprocessStreamProtocol.connection_made)


_SubprocessStreamProtocol.__name__ = "SubprocessStreamProtocol"
_subprocess_globals["SubprocessStreamProtocol"] = _SubprocessStreamProtocol
create_subprocess_exec = _over_ours(
    subprocess.create_subprocess_exec, "Run a program; return its Process, whose pipes are streams."
)
create_subprocess_shell = _over_ours(
    subprocess.create_subprocess_shell,
    "Run a command in a shell; return its Process, whose pipes are streams.",
)
