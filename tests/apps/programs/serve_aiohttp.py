"""An aiohttp server that refuses to run on any loop but velodrome's; over TLS if there is an argv[2]."""

import asyncio
import contextlib
import os
import socket
import sys

import velodrome
import ways
from aiohttp import WSMsgType, web


@web.middleware
async def check_loop(request, handler):
    loop = asyncio.get_running_loop()
    assert isinstance(loop, velodrome.Loop), f"this runs on {loop!r}"
    try:
        return await handler(request)
    except ConnectionError:
        return web.Response()  # to nobody: the client has gone, which aiohttp would log as an error


async def hello(request):
    return web.Response(body=b"hello")


async def echo(request):
    response = web.StreamResponse()
    await response.prepare(request)
    async for chunk in request.content.iter_any():
        await response.write(chunk)
    await response.write_eof()
    return response


async def large(request):
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(64):
        await response.write(bytes(65536))
    await response.write_eof()
    return response


async def slow(request):
    await asyncio.sleep(0.02)
    return web.Response(body=b"slow")


async def how_many_open(request):
    names = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    links = [os.readlink(name) for name in names if os.path.islink(name)]
    count = sum(link.startswith("socket:") for link in links)
    return web.json_response({"sockets": count, "tasks": len(asyncio.all_tasks())})


async def websocket(request):
    """Send every message back, text as text and bytes as bytes."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        else:
            await socket.send_bytes(message.data)
    return socket


def application():
    application = web.Application(middlewares=[check_loop], client_max_size=1 << 30)
    application.router.add_get("/", hello)
    application.router.add_post("/echo", echo)
    application.router.add_get("/large", large)
    application.router.add_get("/slow", slow)
    application.router.add_get("/open", how_many_open)
    application.router.add_get("/ws", websocket)
    return application


async def serve(listening, context):
    runner = web.AppRunner(application())
    await runner.setup()
    await web.SockSite(runner, listening, ssl_context=context).start()
    try:
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def main():
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    how, *tls = sys.argv[1:]
    context = ways.identity() if tls else None
    scheme = "https" if tls else "http"
    print(f"running on {scheme}://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        if how == "run":
            velodrome.run(serve(listening, context))
        elif how == "runner":
            with asyncio.Runner(loop_factory=velodrome.new_event_loop) as runner:
                runner.run(serve(listening, context))
        elif how == "run_app":
            web.run_app(
                application(),
                sock=listening,
                ssl_context=context,
                print=None,
                loop=velodrome.new_event_loop(),
            )
        elif how == "unaware":  # of velodrome, which `python -m velodrome` brings in
            web.run_app(application(), sock=listening, ssl_context=context, print=None)


main()
