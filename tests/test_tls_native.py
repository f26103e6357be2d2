"""Where OpenSSL is called natively, and where asyncio's own way is taken.

That is where a program has put something of its own in asyncio's place, and where there is a reason not to.
"""

import asyncio
import os
import socket
import ssl
from asyncio import sslproto

import pytest
import velodrome
from tls.pairs import ended, pair
from tls.sides import Recorder, client_context, connected, run, server_context

FALLBACK = os.environ.get("VELODROME_TLS") == "fallback"


def test_it_is_in_force():
    """What the tests in this file are about is what they run on."""

    async def main():
        transport, client, accepted, server = await pair()
        layer = transport._ssl_protocol
        found = type(layer).__module__, layer._native
        transport.close()
        await ended(client, server)
        return found

    assert run("velodrome", main)[0] == ("velodrome._tls", not FALLBACK)
    assert velodrome.build_info()["tls"] == ("fallback: VELODROME_TLS=fallback" if FALLBACK else "native")


def test_what_a_program_has_put_in_asyncios_place_is_used(monkeypatch):
    class Mine(sslproto.SSLProtocol):
        pass

    async def kind():
        transport, client, accepted, server = await pair()
        found = type(transport._ssl_protocol)
        transport.close()
        await ended(client, server)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(sslproto, "SSLProtocol", Mine)
        assert run("velodrome", kind)[0] is Mine
    seen = []
    original = sslproto.SSLProtocol._process_outgoing
    with monkeypatch.context() as patch:
        patch.setattr(
            sslproto.SSLProtocol, "_process_outgoing", lambda self: (seen.append(self), original(self))[1]
        )
        assert run("velodrome", kind)[0] is sslproto.SSLProtocol
    assert seen
    assert run("velodrome", kind)[0].__module__ == "velodrome._tls"


@pytest.mark.parametrize(
    "name",
    [
        "_control_app_writing",
        "_control_ssl_reading",
        "_do_read",
        "_do_write",
        "_process_outgoing",
        "_write_appdata",
        "buffer_updated",
        "get_buffer",
    ],
)
def test_a_method_that_is_replaced_in_asyncios_class_is_called(monkeypatch, name):
    """As by a program that wants to know what passes."""
    original = getattr(sslproto.SSLProtocol, name)
    called = []

    def noting(self, *arguments):
        called.append(name)
        return original(self, *arguments)

    async def main():
        transport, client, accepted, server = await pair()
        called.clear()
        transport.write(b"there")
        await server.receive(5)
        transport.close()
        await ended(client, server)
        return bytes(server.data)

    monkeypatch.setattr(sslproto.SSLProtocol, name, noting)
    assert run("velodrome", main)[0] == b"there"
    assert called


def test_objects_that_read_and_write_in_their_own_way_are_asked():
    """As truststore's do, or a program's that wants to see what passes."""
    calls = []

    class Watching(ssl.SSLObject):
        def read(self, *arguments):
            calls.append("read")
            return super().read(*arguments)

        def write(self, data):
            calls.append("write")
            return super().write(data)

    async def main():
        context = client_context()
        context.sslobject_class = Watching
        ours, theirs = socket.socketpair()
        client, server = Recorder(), Recorder()
        accepting = asyncio.ensure_future(connected(theirs, server_context(), "server", server))
        transport = await connected(ours, context, "client", client)
        accepted = await accepting
        transport.write(b"there")
        await server.receive(5)
        accepted.write(b"and back")
        await client.receive(8)
        transport.close()
        await ended(client, server)
        return bytes(client.data)

    assert run("velodrome", main)[0] == b"and back"
    assert {"read", "write"} <= set(calls)


def test_only_what_is_made_with_the_layer_is_called_natively():
    """Not what was seen being made then, and is assigned later: by that time it might be gone."""

    class Mine(ssl.SSLObject):
        def read(self, *arguments):
            return super().read(*arguments)

    async def main():
        context = client_context()
        context.sslobject_class = Mine
        loop = asyncio.get_running_loop()
        layer = velodrome._tls.make_protocol(loop, Recorder(), context, None, server_hostname="localhost")
        plain = ssl.SSLObject.__new__(ssl.SSLObject)
        plain._sslobj = layer._sslobj._sslobj
        found = [layer._native]
        layer._sslobj = plain
        found.append(layer._native)
        return found

    assert run("velodrome", main)[0] == [False, False]


def test_an_object_that_is_replaced_is_no_longer_used():
    async def main():
        transport, client, accepted, server = await pair()
        layer = transport._ssl_protocol
        layer._sslobj = layer._sslobj
        native = layer._native
        transport.write(b"still there")
        await server.receive(11)
        accepted.write(b"still here")
        await client.receive(10)
        transport.close()
        await ended(client, server)
        return native, bytes(client.data)

    assert run("velodrome", main)[0] == (False, b"still here")


def test_build_info_says_why(run_python, tmp_path):
    """Of a second OpenSSL in everybody's sight, and of a Python without ssl."""
    code = """if True:
        import ctypes, _ssl, shutil, sys, velodrome
        with open("/proc/self/maps") as maps:
            found = {line.split()[-1] for line in maps if "/libssl" in line}
        for library in found:
            ctypes.CDLL(shutil.copy(library, sys.argv[1]), ctypes.RTLD_GLOBAL)
        print(bool(found), velodrome.build_info()["tls"], sep=": ")
    """
    unforced = {"VELODROME_TLS": ""}
    said = run_python(code, tmp_path, env=unforced).stdout.strip()
    if said.startswith("True"):
        assert said == "True: fallback: another OpenSSL is in the program's global scope"
    code = """if True:
        import sys
        sys.modules["ssl"] = sys.modules["_ssl"] = None
        import velodrome
        print(velodrome.build_info()["tls"])
    """
    assert run_python(code, env=unforced).stdout == "fallback: there is no ssl module\n"
