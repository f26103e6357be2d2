"""TLS: asyncio's `SSLProtocol`, with what it does for every packet in Rust.

`TlsCore` keeps the fields that decide about a packet, and has the functions that are called for one; all the
rest is asyncio's own code. Where a program has replaced any of asyncio's classes or methods, what it has put
there is used instead.
"""

from asyncio import base_events, sslproto
from inspect import unwrap
from types import SimpleNamespace

from velodrome._asyncios_own import with_names
from velodrome._velodrome import TlsCore, _tls_settle

_Protocol = sslproto.SSLProtocol
_Transport = sslproto._SSLProtocolTransport

#: What is in Rust, or called from there past the class.
_REPLACED = {
    _Protocol: (
        "_control_app_writing",
        "_control_ssl_reading",
        "_do_read",
        "_do_read__buffered",
        "_do_read__copied",
        "_do_write",
        "_get_app_transport",
        "_get_read_buffer_size",
        "_get_write_buffer_size",
        "_process_outgoing",
        "_write_appdata",
        "buffer_updated",
        "get_buffer",
    ),
    _Transport: ("write",),
}
_ORIGINALS = [(owner, name, vars(owner)[name]) for owner, names in _REPLACED.items() for name in names]


class SSLTransport(_Transport):
    """What a protocol sees of a TLS connection; asyncio's has "SSL" in its name too.

    `write` is in Rust, and put here by `_tls_settle`.
    """


class TlsProtocol(TlsCore, _Protocol):
    """Between the transport of a socket and the protocol of a program."""

    def __init__(self, *args, **kwargs):
        self._begin_capture()
        try:
            super().__init__(*args, **kwargs)
        finally:
            # Perhaps nobody has asked what was seen; soon it may be gone.
            self._end_capture()
        # 256 KiB, which only transports ask for that are not ours; it is made anew when one does.
        self._ssl_buffer = self._ssl_buffer_view = b""

    def _get_app_transport(self):
        if self._app_transport is None:
            if self._app_transport_created:
                raise RuntimeError("Creating _SSLProtocolTransport twice")
            self._app_transport = SSLTransport(self._loop, self)
            self._app_transport_created = True
        return self._app_transport

    if "_check_shutdown_timeout" not in unwrap(_Protocol._on_shutdown_complete).__code__.co_names:
        # Earlier releases of asyncio end the time-out before all is sent: a peer that has said its last word
        # and does not read keeps the descriptor open for ever.
        def _on_shutdown_complete(self, shutdown_exc):
            if shutdown_exc:
                super()._on_shutdown_complete(shutdown_exc)
                return
            running, self._shutdown_timeout_handle = self._shutdown_timeout_handle, None
            super()._on_shutdown_complete(shutdown_exc)
            self._shutdown_timeout_handle = running or self._loop.call_later(
                self._ssl_shutdown_timeout, self._check_shutdown_timeout
            )

    def _fail(self, exc):
        """Answer to an exception out of reading or writing."""
        try:
            raise exc
        except Exception as error:
            self._fatal_error(error, "Fatal error on SSL protocol")
        finally:
            exc = None  # the traceback leads here


def _settle():
    if sslproto.ssl is None:
        again, ssl_object, ssl_socket = (), None, None
    else:
        import _ssl

        again, ssl_object, ssl_socket = sslproto.SSLAgainErrors, sslproto.ssl.SSLObject, _ssl._SSLSocket
    states = sslproto.SSLProtocolState
    stages = [states.UNWRAPPED, states.DO_HANDSHAKE, states.WRAPPED, states.FLUSHING, states.SHUTDOWN]
    _tls_settle(TlsProtocol, SSLTransport, again, ssl_object, ssl_socket, stages)


_settle()


def make_protocol(*args, **kwargs):
    """Make the TLS layer for a connection: ours, or what a program has put in asyncio's place."""
    if (
        sslproto.SSLProtocol is _Protocol
        and sslproto._SSLProtocolTransport is _Transport
        and all(vars(owner).get(name) is original for owner, name, original in _ORIGINALS)
    ):
        return TlsProtocol(*args, **kwargs)
    return sslproto.SSLProtocol(*args, **kwargs)


def with_our_protocol(function):
    """Return one of asyncio's functions, which makes the TLS layer by its name, so that it makes ours."""
    names = {**vars(base_events), "sslproto": SimpleNamespace(SSLProtocol=make_protocol)}
    return with_names(function, base_events, names)
