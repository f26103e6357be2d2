from asyncio import sslproto
from collections.abc import Callable
from typing import Any, TypeVar

from velodrome._velodrome import TlsCore

_F = TypeVar("_F", bound=Callable[..., Any])

class SSLTransport(sslproto._SSLProtocolTransport):
    def write(self, data: bytes | bytearray | memoryview) -> None: ...

class TlsProtocol(TlsCore, sslproto.SSLProtocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

def make_protocol(*args: Any, **kwargs: Any) -> sslproto.SSLProtocol: ...
def with_our_protocol(function: _F) -> _F: ...
