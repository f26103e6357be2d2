"""An ASGI application that refuses to run on any loop but velodrome's."""

import asyncio
import json
import os

import velodrome


def check_loop():
    loop = asyncio.get_running_loop()
    assert isinstance(loop, velodrome.Loop), f"this runs on {loop!r}"


async def app(scope, receive, send):
    check_loop()
    await {"lifespan": lifespan, "http": http, "websocket": websocket}[scope["type"]](scope, receive, send)


async def lifespan(scope, receive, send):
    while True:
        message = await receive()
        check_loop()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def http(scope, receive, send):
    match scope["path"]:
        case "/":
            await respond(send, b"hello")
        case "/echo":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                more = message["more_body"]
                await send({"type": "http.response.body", "body": message["body"], "more_body": more})
        case "/large":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(64):
                await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        case "/slow":
            await asyncio.sleep(0.02)
            await respond(send, b"slow")
        case "/open":
            # Of everything that is open the sockets alone: a first request may import something.
            names = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
            links = [os.readlink(name) for name in names if os.path.islink(name)]
            count = sum(link.startswith("socket:") for link in links)
            await respond(send, json.dumps({"sockets": count, "tasks": len(asyncio.all_tasks())}).encode())


async def respond(send, body):
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def websocket(scope, receive, send):
    """Send every message back, text as text and bytes as bytes."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        check_loop()
        if (text := message.get("text")) is not None:
            await send({"type": "websocket.send", "text": text})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})
