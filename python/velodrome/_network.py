"""Connections: what the loop does once per connection, over the native transports that work once per packet.

Resolving, connecting, listening and accepting are asyncio's own code, which asks of a loop only what is
here: a transport for a connected socket, and readers and writers. So every keyword of every version is
honoured as it is there.
"""

import socket
from asyncio import base_events, constants, selector_events, tasks, trsock, unix_events
from functools import wraps

from velodrome import _tls
from velodrome._asyncios_own import with_super
from velodrome._selector_view import SelectorView, TransportTable
from velodrome._velodrome import DatagramTransport, SocketTransport

_Base = base_events.BaseEventLoop
_Selector = selector_events.BaseSelectorEventLoop
_Unix = unix_events._UnixSelectorEventLoop


def _or_closed(function):
    """Return one of asyncio's functions that make servers, which closes the server when it is cancelled.

    asyncio's gives way once when the server listens already. Who is cancelled there never gets to see it,
    and asyncio's loop goes on accepting for it.
    """

    @wraps(function)
    async def create(self, *args, start_serving=True, **kwargs):
        server = await function(self, *args, start_serving=False, **kwargs)
        if start_serving:
            server._start_serving()
            try:
                await tasks.sleep(0)
            except BaseException:
                server.close()
                raise
        return server

    return create


class _Listeners:
    """What asyncio's loop for Unix reaches by super()."""

    _stop_serving = _Selector._stop_serving


class Network(_Listeners):
    """The part of the loop that makes connections."""

    # -- Transports --------------------------------------------------------------------------------

    def _make_socket_transport(self, sock, protocol, waiter=None, *, extra=None, server=None, context=None):
        self._ensure_fd_no_transport(sock)
        return SocketTransport(self, sock, protocol, waiter, _completed(extra, sock), server, context)

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
        ssl_protocol = _tls.make_protocol(
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

    start_tls = _tls.with_our_protocol(_Base.start_tls)

    # -- Clients -----------------------------------------------------------------------------------

    create_connection = _Base.create_connection
    _create_connection_transport = _Base._create_connection_transport
    _connect_sock = _Base._connect_sock
    _ensure_resolved = _Base._ensure_resolved

    # -- Servers -----------------------------------------------------------------------------------

    create_server = _or_closed(_Base.create_server)
    _create_server_getaddrinfo = _Base._create_server_getaddrinfo
    connect_accepted_socket = _Base.connect_accepted_socket
    _start_serving = _Selector._start_serving
    _accept_connection = _Selector._accept_connection
    _accept_connection2 = _Selector._accept_connection2

    # -- Unix sockets ------------------------------------------------------------------------------

    create_unix_connection = _Unix.create_unix_connection
    create_unix_server = _or_closed(_Unix.create_unix_server)

    # -- Files -------------------------------------------------------------------------------------

    sendfile = _Base.sendfile
    _sendfile_fallback = _Base._sendfile_fallback
    sock_sendfile = _Base.sock_sendfile
    _check_sendfile_params = _Base._check_sendfile_params
    _sock_sendfile_fallback = _Base._sock_sendfile_fallback
    _sock_sendfile_native = _Unix._sock_sendfile_native
    _sock_sendfile_update_filepos = _Unix._sock_sendfile_update_filepos
    _sock_add_cancellation_callback = _Unix._sock_add_cancellation_callback

    async def _sendfile_native(self, transp, file, offset, count):
        # Nothing is written meanwhile. It refuses a second file, before anything is changed for it.
        emptied = transp._make_empty_waiter()
        resume_reading = transp.is_reading()
        transp.pause_reading()
        self._lend_descriptor(transp)
        try:
            await emptied  # what was kept goes first
            return await self.sock_sendfile(transp._sock, file, offset, count, fallback=False)
        finally:
            transp._reset_empty_waiter()
            if resume_reading:
                transp.resume_reading()
            self._take_descriptor_back(transp)

    # -- Names -------------------------------------------------------------------------------------

    async def getaddrinfo(self, host, port, *, family=0, type=0, proto=0, flags=0):
        """socket.getaddrinfo() in a thread, or at once if nothing has to be looked up."""
        if _is_literal(host) and _is_number(port):
            ask = self._getaddrinfo_debug if self._debug else socket.getaddrinfo
            return ask(host, port, family, type, proto, flags)
        return await _Base.getaddrinfo(self, host, port, family=family, type=type, proto=proto, flags=flags)

    getnameinfo = _Base.getnameinfo
    _getaddrinfo_debug = _Base._getaddrinfo_debug

    # -- Datagrams ---------------------------------------------------------------------------------

    create_datagram_endpoint = _Base.create_datagram_endpoint

    def _make_datagram_transport(self, sock, protocol, address=None, waiter=None, extra=None):
        self._ensure_fd_no_transport(sock)
        return DatagramTransport(self, sock, protocol, address, waiter, _completed(extra, sock))

    # -- For asyncio's own transports, which a program may make on this loop ------------------------

    @property
    def _selector(self):
        return None if self.is_closed() else SelectorView(self)

    @property
    def _transports(self):
        return TransportTable(self)


# From 3.13 on this one removes the path of a Unix socket.
Network._stop_serving = with_super(_Unix._stop_serving, unix_events, Network)


def _is_literal(host):
    """Whether a host is an address for which no file and no server is asked."""
    if host is None:
        return True
    if isinstance(host, (bytes, bytearray)):
        try:
            host = host.decode("ascii")
        except UnicodeDecodeError:
            return False
    if not isinstance(host, str):
        return False
    for family, text in ((socket.AF_INET, host), (socket.AF_INET6, host.partition("%")[0])):
        try:
            socket.inet_pton(family, text)
        except (OSError, ValueError):
            continue
        return True
    return False


def _is_number(port):
    if isinstance(port, (str, bytes)):
        return port.isdigit()
    return port is None or isinstance(port, int)


def _completed(extra, sock):
    """What a transport over a socket can be asked for."""
    extra = {} if extra is None else extra
    extra["socket"] = trsock.TransportSocket(sock)
    extra["sockname"] = _asked(sock.getsockname)
    if "peername" not in extra:
        extra["peername"] = _asked(sock.getpeername)
    return extra


def _asked(name):
    """What a socket says of itself, or None."""
    try:
        return name()
    except OSError:
        return None
