"""A peer that is OpenSSL itself, by ctypes: it asks for new handshakes and keys, as `ssl` cannot."""

import ctypes
import functools
import socket
import threading

import pytest

from .sides import CERTIFICATE, KEY, LIMIT, VERSIONS

_PEM = 1
_SET_MIN_VERSION, _SET_MAX_VERSION = 123, 124
UPDATE_REQUESTED = 1


@functools.cache
def library():
    """Return the library that `_ssl` has loaded; skip the test where it is a part of the interpreter."""
    import _ssl

    found = ctypes.CDLL(getattr(_ssl, "__file__", None))
    if not hasattr(found, "SSL_renegotiate"):
        pytest.skip("OpenSSL is a part of the interpreter, and its functions cannot be found")
    pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    for name, result, *arguments in (
        ("TLS_client_method", pointer),
        ("TLS_server_method", pointer),
        ("SSL_CTX_new", pointer, pointer),
        ("SSL_CTX_free", None, pointer),
        ("SSL_CTX_ctrl", ctypes.c_long, pointer, number, ctypes.c_long, pointer),
        ("SSL_CTX_use_certificate_file", number, pointer, text, number),
        ("SSL_CTX_use_PrivateKey_file", number, pointer, text, number),
        ("SSL_new", pointer, pointer),
        ("SSL_free", None, pointer),
        ("SSL_set_fd", number, pointer, number),
        ("SSL_connect", number, pointer),
        ("SSL_accept", number, pointer),
        ("SSL_renegotiate", number, pointer),
        ("SSL_key_update", number, pointer, number),
        ("SSL_do_handshake", number, pointer),
        ("SSL_read", number, pointer, pointer, number),
        ("SSL_write", number, pointer, pointer, number),
        ("SSL_shutdown", number, pointer),
    ):
        function = getattr(found, name)
        function.restype, function.argtypes = result, arguments
    return found


class OpenSslPeer:
    """The other side, in a thread. `talk(peer)` is what it says; its calls give what OpenSSL's give."""

    def __init__(self, sock, role, version, talk):
        self.library, self.sock, self.role, self.talk = library(), sock, role, talk
        self.version = VERSIONS[version]
        # It writes twice before it reads, all the time.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.said = []
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        call = self.library
        context = call.SSL_CTX_new(getattr(call, f"TLS_{self.role}_method")())
        for which in (_SET_MIN_VERSION, _SET_MAX_VERSION):
            call.SSL_CTX_ctrl(context, which, self.version, None)
        if self.role == "server":
            call.SSL_CTX_use_certificate_file(context, CERTIFICATE.encode(), _PEM)
            call.SSL_CTX_use_PrivateKey_file(context, KEY.encode(), _PEM)
        self.connection = call.SSL_new(context)
        with self.sock:
            call.SSL_set_fd(self.connection, self.sock.fileno())
            start = call.SSL_connect if self.role == "client" else call.SSL_accept
            if start(self.connection) == 1:
                self.talk(self)
        call.SSL_free(self.connection)
        call.SSL_CTX_free(context)

    def write(self, data):
        return self.library.SSL_write(self.connection, data, len(data))

    def read(self, count=100):
        """Return how much came, or that nothing more will."""
        return self.library.SSL_read(self.connection, ctypes.create_string_buffer(count), count)

    def renegotiate(self):
        """Ask for a new handshake; whether it could be begun, for a client whether it was done."""
        self.library.SSL_renegotiate(self.connection)
        return self.library.SSL_do_handshake(self.connection) == 1

    def ask_for_keys(self):
        self.library.SSL_key_update(self.connection, UPDATE_REQUESTED)
        return self.library.SSL_do_handshake(self.connection) == 1

    def join(self):
        self.thread.join(LIMIT)
        assert not self.thread.is_alive(), "the peer still waits"
        return self.said
