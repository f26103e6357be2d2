"""A mail server by aiosmtpd, and the clients of the standard library, which ask it from threads."""

import asyncio
import smtplib
import sys
from email.message import EmailMessage

import ways
from aiosmtpd.smtp import SMTP


class Letters:
    """Keeps what comes."""

    def __init__(self):
        self.received = {}

    async def handle_RCPT(self, server, session, envelope, address, options):
        await asyncio.sleep(0)
        if address.startswith("nobody"):
            return "550 there is no such person"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        self.received[envelope.mail_from] = envelope.rcpt_tos, envelope.content
        return "250 OK"


def send(port, number):
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        for part in range(5):
            letter = EmailMessage()
            letter["From"] = f"{number}.{part}@there.invalid"
            letter["To"] = "somebody@here.invalid, nobody@here.invalid"
            letter.set_content(f"{number} {part}\n" * 2000)
            assert list(client.send_message(letter)) == ["nobody@here.invalid"]


async def main():
    loop = asyncio.get_running_loop()
    letters = Letters()
    server = await loop.create_server(
        lambda: SMTP(letters, hostname="here.invalid", loop=loop), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    await asyncio.gather(*[asyncio.to_thread(send, port, number) for number in range(40)])
    assert len(letters.received) == 200
    for sender, (recipients, content) in letters.received.items():
        number, part = sender.partition("@")[0].split(".")
        assert recipients == ["somebody@here.invalid"]
        assert content.endswith(f"{number} {part}\r\n".encode() * 2000)
    server.close()
    await server.wait_closed()
    await loop.shutdown_default_executor()


(how,) = sys.argv[1:]
ways.run(main(), how)
