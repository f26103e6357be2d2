"""An SSH server and its clients by asyncssh, in one program; files are copied into the folder argv[2]."""

import asyncio
import os
import subprocess
import sys

import asyncssh
import ways


class Server(asyncssh.SSHServer):
    def begin_auth(self, username):
        return False

    def connection_requested(self, *addresses):
        return True  # forwarding


async def handle(process):
    """What the server runs: a real process, whose pipes are redirected through the connection."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    child = await asyncio.create_subprocess_shell(process.command, **pipes)
    await process.redirect(stdin=child.stdin, stdout=child.stdout, stderr=child.stderr)
    code = await child.wait()
    await process.stdout.drain()
    process.exit(code)


async def main(folder):
    key = asyncssh.generate_private_key("ssh-ed25519")
    listening = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=Server,
        server_host_keys=[key],
        process_factory=handle,
        encoding=None,
        sftp_factory=True,
    )
    options = {"known_hosts": None, "username": "tester", "config": None, "client_keys": None}
    port = listening.get_port()
    connections = [await asyncssh.connect("127.0.0.1", port, **options) for _ in range(5)]

    async def run(number):
        data = f"{number}\n" * 10_000
        done = await connections[number % 5].run("cat; echo error >&2; exit 3", input=data)
        assert (done.stdout, done.stderr, done.exit_status) == (data, "error\n", 3), done

    await asyncio.gather(*map(run, range(40)))
    await copy(connections[0], folder)
    await forward(connections[1])
    for connection in connections:
        connection.close()
        await connection.wait_closed()
    listening.close()
    await listening.wait_closed()


async def copy(connection, folder):
    """There and back again, by SFTP."""
    paths = [os.path.join(folder, name) for name in ("one", "two", "three")]
    with open(paths[0], "wb") as file:
        file.write(os.urandom(5_000_000))
    async with connection.start_sftp_client() as sftp:
        await sftp.put(paths[0], paths[1])
        await sftp.get(paths[1], paths[2])
        assert {"one", "two", "three"} <= set(await sftp.listdir(folder))
    contents = [open(path, "rb").read() for path in paths]
    assert contents[0] == contents[1] == contents[2]


async def forward(connection):
    """A port of this machine, through the connection, to a server that echoes."""

    async def echo(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    forwarded = await connection.forward_local_port("127.0.0.1", 0, *server.sockets[0].getsockname())

    async def ask(number):
        reader, writer = await asyncio.open_connection("127.0.0.1", forwarded.get_port())
        data = bytes([number]) * 100_000
        writer.write(data)
        writer.write_eof()
        assert await reader.read() == data
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*map(ask, range(20)))
    forwarded.close()
    await forwarded.wait_closed()
    server.close()
    await server.wait_closed()


how, folder = sys.argv[1:]
ways.run(main(folder), how)
