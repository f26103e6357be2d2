import asyncio
from abc import ABCMeta
from asyncio import open_connection as open_connection
from asyncio import open_unix_connection as open_unix_connection
from asyncio import start_server as start_server
from asyncio import start_unix_server as start_unix_server
from asyncio.subprocess import create_subprocess_exec as create_subprocess_exec
from asyncio.subprocess import create_subprocess_shell as create_subprocess_shell

from velodrome._velodrome import StreamReaderCore, StreamReaderProtocolCore, StreamWriterCore

class StreamReader(StreamReaderCore, asyncio.StreamReader, metaclass=ABCMeta): ...
class StreamWriter(StreamWriterCore, asyncio.StreamWriter, metaclass=ABCMeta): ...
class StreamReaderProtocol(StreamReaderProtocolCore, asyncio.StreamReaderProtocol, metaclass=ABCMeta): ...
