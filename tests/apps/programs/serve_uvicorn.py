"""Serves asgi.py with uvicorn, in a program that chooses the loop itself."""

import asyncio
import contextlib
import sys

import uvicorn
import velodrome

how, http = sys.argv[1:]
server = uvicorn.Server(uvicorn.Config("asgi:app", port=0, http=http, ws="websockets", lifespan="on"))
# Ctrl-C stops the server, which then passes it on.
with contextlib.suppress(KeyboardInterrupt):
    if how == "run":
        velodrome.run(server.serve())
    elif how == "runner":
        with asyncio.Runner(loop_factory=velodrome.new_event_loop) as runner:
            runner.run(server.serve())
