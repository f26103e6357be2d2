"""A client for test_tcp_load: `client.py PORT CONNECTIONS SECONDS`.

It opens all connections, has every one send and expect its own messages for so many seconds and once at
least, and prints how many messages came back. It is one thread around epoll.
"""

import select
import socket
import sys
import time

SIZES = [1, 64, 1024, 200, 4096, 17]


class Talk:
    """One connection's conversation: its own messages, each of which must come back whole."""

    def __init__(self, number, port):
        self.number, self.round = number, 0
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)

    def say(self):
        size = SIZES[(self.number + self.round) % len(SIZES)]
        self.message = (b"%08d.%08d|" % (self.number, self.round) * (size // 18 + 1))[:size]
        self.received = b""
        self.socket.sendall(self.message)

    def hear(self):
        """Read what is there; return whether the message is complete."""
        data = self.socket.recv(65536)
        self.received += data
        if not data or not self.message.startswith(self.received):
            sys.exit(f"connection {self.number}: {self.message[:40]} became {self.received[:40]}")
        return len(self.received) == len(self.message)


def main():
    port, count, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    talks = [Talk(number, port) for number in range(count)]
    print("connected", flush=True)
    poll = select.epoll(count)
    by_number = {}
    for talk in talks:
        by_number[talk.socket.fileno()] = talk
        poll.register(talk.socket, select.EPOLLIN)
    end = time.monotonic() + seconds
    for talk in talks:
        talk.say()
    messages, talking = 0, count
    while talking:
        for number, _ in poll.poll(30) or sys.exit("nothing comes back any more"):
            talk = by_number[number]
            if not talk.hear():
                continue
            messages += 1
            talk.round += 1
            if time.monotonic() < end:
                talk.say()
            else:
                poll.unregister(number)
                talking -= 1
    assert all(talk.round for talk in talks)
    print(messages, flush=True)
    sys.stdin.readline()  # the connections stay open until then


main()
