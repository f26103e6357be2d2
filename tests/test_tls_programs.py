"""Programs on the other side of a TLS connection: openssl's client and server, and curl."""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess

import pytest
from tls.pairs import versions
from tls.sides import CERTIFICATE, KEY, client_context, run, server_context


@pytest.fixture
def echo_server():
    """A function that returns what work(port) does, in a thread, while a TLS server echoes lines."""

    def serve(work, version=None):
        async def main():
            async def echo(reader, writer):
                while line := await reader.readline():
                    writer.write(line)
                    if line == b"\r\n":  # the end of an HTTP request's head
                        writer.write(b"")
                        break
                writer.close()

            server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context(version))
            try:
                return await asyncio.to_thread(work, server.sockets[0].getsockname()[1])
            finally:
                server.close()

        return run("velodrome", main)[0]

    return serve


openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl program")


@openssl
@versions
def test_a_client_that_is_openssl(echo_server, version):
    """With a new key, or a whole new handshake, in the middle of the conversation."""
    command, announced = {"1.3": (b"K\n", b"KEYUPDATE"), "1.2": (b"R\n", b"RENEGOTIATING")}[version]

    def until(stream, text):
        seen = b""
        while text not in seen:
            chunk = os.read(stream.fileno(), 4096)
            assert chunk, seen
            seen += chunk

    def work(port):
        arguments = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", CERTIFICATE]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(arguments, bufsize=0, **pipes) as client:
            client.stdin.write(b"one line\n")
            until(client.stdout, b"\none line\n")
            # Commands are recognised at the beginning of what is read at a time.
            client.stdin.write(command)
            until(client.stderr, announced)
            if version == "1.3":
                client.stdin.write(b"another line\n")
                until(client.stdout, b"another line\n")
            # Refused a new handshake, it may have gone by itself.
            with contextlib.suppress(BrokenPipeError):
                client.stdin.write(b"Q\n")
        return True

    assert echo_server(work, version)


@openssl
@versions
def test_a_server_that_is_openssl(version):
    """`s_server -rev` sends every line back reversed."""

    async def main():
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = await asyncio.create_subprocess_exec(
            *("openssl", "s_server", "-accept", str(port), "-cert", CERTIFICATE, "-key", KEY, "-rev"),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )
        try:
            while b"ACCEPT" not in await server.stdout.readline():
                pass
            context = client_context(version)
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=context, server_hostname="localhost"
            )
            writer.write(b"straight\n")
            line = await reader.readline()
            writer.close()
            return line
        finally:
            server.kill()
            await server.wait()

    assert run("velodrome", main)[0] == b"thgiarts\n"


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@versions
def test_a_client_that_is_curl(version):
    async def main():
        async def answer(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 200000\r\nconnection: close\r\n\r\n")
            writer.write(b"x" * 200_000)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server_context(version))
        port = server.sockets[0].getsockname()[1]
        curl = await asyncio.create_subprocess_exec(
            *(
                "curl",
                "--silent",
                "--fail",
                "--noproxy",
                "*",
                "--cacert",
                CERTIFICATE,
                f"https://localhost:{port}/",
            ),
            stdout=subprocess.PIPE,
        )
        output, _ = await curl.communicate()
        server.close()
        return curl.returncode, output

    assert run("velodrome", main)[0] == (0, b"x" * 200_000)
