"""Connections: what the loop does once per connection, over the native transports that work once per packet.

Resolving, connecting, listening and accepting are asyncio's own code, which asks of a loop only what is
here: a transport for a connected socket, and readers and writers. So every keyword of every version is
honoured as it is there.
"""

import socket
from asyncio import base_events, constants, selector_events, sslproto, trsock

from velodrome._velodrome import SocketTransport

_Base = base_events.BaseEventLoop
_Selector = selector_events.BaseSelectorEventLoop


class Network:
    """The part of the loop that makes connections."""

    # -- Transports --------------------------------------------------------------------------------

    def _make_socket_transport(self, sock, protocol, waiter=None, *, extra=None, server=None, context=None):
        self._ensure_fd_no_transport(sock)
        extra = {} if extra is None else extra
        extra["socket"] = trsock.TransportSocket(sock)
        extra["sockname"] = _asked(sock.getsockname)
        if "peername" not in extra:
            extra["peername"] = _asked(sock.getpeername)
        # Small writes go out without waiting for the peer's acknowledgement.
        base_events._set_nodelay(sock)
        return SocketTransport(self, sock, protocol, waiter, extra, server, context)

    def _make_ssl_transport(
        self,
        rawsock,
        protocol,
        sslcontext,
        waiter=None,
        *,
        server_side=False,
        server_hostname=None,
        extra=None,
        server=None,
        ssl_handshake_timeout=constants.SSL_HANDSHAKE_TIMEOUT,
        ssl_shutdown_timeout=constants.SSL_SHUTDOWN_TIMEOUT,
        context=None,
        call_connection_made=True,
    ):
        self._ensure_fd_no_transport(rawsock)
        ssl_protocol = sslproto.SSLProtocol(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            call_connection_made,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        self._make_socket_transport(rawsock, ssl_protocol, extra=extra, server=server, context=context)
        return ssl_protocol._app_transport

    start_tls = _Base.start_tls

    # -- Clients -----------------------------------------------------------------------------------

    create_connection = _Base.create_connection
    _create_connection_transport = _Base._create_connection_transport
    _connect_sock = _Base._connect_sock
    _ensure_resolved = _Base._ensure_resolved

    # -- Servers -----------------------------------------------------------------------------------

    create_server = _Base.create_server
    _create_server_getaddrinfo = _Base._create_server_getaddrinfo
    connect_accepted_socket = _Base.connect_accepted_socket
    _start_serving = _Selector._start_serving
    _stop_serving = _Selector._stop_serving
    _accept_connection = _Selector._accept_connection
    _accept_connection2 = _Selector._accept_connection2

    # -- Sockets -----------------------------------------------------------------------------------

    sock_recv = _Selector.sock_recv
    sock_recv_into = _Selector.sock_recv_into
    sock_recvfrom = _Selector.sock_recvfrom
    sock_recvfrom_into = _Selector.sock_recvfrom_into
    sock_sendall = _Selector.sock_sendall
    sock_sendto = _Selector.sock_sendto
    sock_connect = _Selector.sock_connect
    sock_accept = _Selector.sock_accept
    _sock_recv = _Selector._sock_recv
    _sock_recv_into = _Selector._sock_recv_into
    _sock_recvfrom = _Selector._sock_recvfrom
    _sock_recvfrom_into = _Selector._sock_recvfrom_into
    _sock_sendall = _Selector._sock_sendall
    _sock_sendto = _Selector._sock_sendto
    _sock_connect = _Selector._sock_connect
    _sock_connect_cb = _Selector._sock_connect_cb
    _sock_accept = _Selector._sock_accept
    _sock_read_done = _Selector._sock_read_done
    _sock_write_done = _Selector._sock_write_done


def _asked(name):
    """What a socket says of itself, or None."""
    try:
        return name()
    except OSError:
        return None
