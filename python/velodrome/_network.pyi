from socket import _GetAddrInfoResult
from typing import Any

class Network:
    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> _GetAddrInfoResult: ...
    async def getnameinfo(
        self, sockaddr: tuple[str, int] | tuple[str, int, int, int], flags: int = 0
    ) -> tuple[str, str]: ...

    # As asyncio's own, whose keywords differ from version to version.
    create_connection: Any
    create_server: Any
    create_unix_connection: Any
    create_unix_server: Any
    create_datagram_endpoint: Any
    connect_accepted_socket: Any
    sendfile: Any
    start_tls: Any
    sock_sendfile: Any
