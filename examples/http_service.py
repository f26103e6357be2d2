"""A small HTTP service: it keeps notes, in memory.

    python examples/http_service.py             listen on 127.0.0.1, port 8000
    curl -X PUT localhost:8000/milk -d 'two bottles'
    curl localhost:8000/milk                    the note
    curl localhost:8000/                        the names of all notes
    curl -X DELETE localhost:8000/milk

There is no framework here and there are no streams, only asyncio's Protocol: the bytes that arrive are
given to data_received(), and what is given to the transport goes out. A client of HTTP/1.1 may keep its
connection, and may send the next request before the last one is answered; both work.
"""

import argparse
import asyncio
import contextlib
from http import HTTPStatus

import velodrome

HEAD_LIMIT = 16 * 1024
BODY_LIMIT = 1024 * 1024


class Refused(Exception):
    """A request that is no HTTP, or too large; the connection ends with the answer."""

    def __init__(self, status):
        self.status = status


class Notes:
    """What the service is about. It knows methods, paths and statuses, and nothing of connections."""

    def __init__(self):
        self.notes = {}

    def answer(self, method, path, body):
        """Return the status and the body that answer a request."""
        name = path.removeprefix("/")
        if not name:
            if method != "GET":
                return HTTPStatus.METHOD_NOT_ALLOWED, b""
            return HTTPStatus.OK, "".join(f"{name}\n" for name in sorted(self.notes)).encode()
        match method:
            case "PUT":
                status = HTTPStatus.NO_CONTENT if name in self.notes else HTTPStatus.CREATED
                self.notes[name] = body
                return status, b""
            case "GET" if name in self.notes:
                return HTTPStatus.OK, self.notes[name]
            case "DELETE" if name in self.notes:
                del self.notes[name]
                return HTTPStatus.NO_CONTENT, b""
            case "GET" | "DELETE":
                return HTTPStatus.NOT_FOUND, b""
        return HTTPStatus.METHOD_NOT_ALLOWED, b""


class Connection(asyncio.Protocol):
    """One client: the bytes of requests in, the bytes of answers out."""

    def __init__(self, answer, connections):
        self.answer = answer
        self.connections = connections
        self.received = bytearray()
        self.writable = True

    def connection_made(self, transport):
        self.transport = transport
        self.connections.add(self)

    def connection_lost(self, error):
        self.connections.discard(self)

    def data_received(self, data):
        self.received += data
        self.answer_requests()

    # Who does not read the answers is not read from either, nor answered, until they do.

    def pause_writing(self):
        self.writable = False
        self.transport.pause_reading()

    def resume_writing(self):
        self.writable = True
        self.transport.resume_reading()
        self.answer_requests()

    def answer_requests(self):
        """Answer the requests that are complete by now."""
        try:
            while self.writable and not self.transport.is_closing() and (request := self.next_request()):
                method, path, body, keep = request
                self.respond(*self.answer(method, path, body), keep)
        except Refused as refused:
            self.respond(refused.status, b"", keep=False)

    def next_request(self):
        """Take a request out of what was received; return None if there is no whole one yet."""
        end = self.received.find(b"\r\n\r\n")
        if max(end, len(self.received) if end < 0 else 0) > HEAD_LIMIT:
            raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if end < 0:
            return None
        try:
            first, *lines = self.received[:end].decode("latin-1").split("\r\n")
            method, path, version = first.split(" ")
            headers = dict(line.lower().split(":", 1) for line in lines)
            length = int(headers.get("content-length", "0"))
        except ValueError:
            raise Refused(HTTPStatus.BAD_REQUEST) from None
        if version != "HTTP/1.1" or length < 0:
            raise Refused(HTTPStatus.BAD_REQUEST)
        if "transfer-encoding" in headers:
            raise Refused(HTTPStatus.NOT_IMPLEMENTED)
        if length > BODY_LIMIT:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        begin = end + len(b"\r\n\r\n")
        if len(self.received) < begin + length:
            return None
        body = bytes(self.received[begin : begin + length])
        del self.received[: begin + length]
        return method, path, body, headers.get("connection", "").strip() != "close"

    def respond(self, status, body, keep):
        """Send an answer, and the end of the connection if it is the last one."""
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        if status is not HTTPStatus.NO_CONTENT:
            head += f"Content-Length: {len(body)}\r\n"
        if not keep:
            head += "Connection: close\r\n"
        self.transport.write(head.encode() + b"\r\n" + body)
        if not keep:
            self.transport.close()


async def serve(host, port):
    """Keep the service up until somebody presses Ctrl-C."""
    notes, connections = Notes(), set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(notes.answer, connections), host, port)
    try:
        for socket in server.sockets:
            address, port, *_ = socket.getsockname()
            print(f"listening on {address} port {port}", flush=True)
        await asyncio.Event().wait()
    finally:
        server.close()
        for connection in connections:
            connection.transport.close()


def main():
    """Read the arguments and start the service."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", default="127.0.0.1", help="an address to listen on (%(default)s)")
    parser.add_argument("--port", default=8000, type=int, help="a port, 0 for any (%(default)s)")
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        velodrome.run(serve(arguments.host, arguments.port))


if __name__ == "__main__":
    main()
