"""What every HTTP server must stand, whatever it is written with: tests of the `address`."""

from apps import clients

__all__ = [
    "test_hundreds_of_requests_at_once",
    "test_clients_that_stall_hold_nobody_up",
    "test_clients_that_reset_leave_nothing_behind",
    "test_clients_that_send_a_byte_at_a_time",
    "test_large_answer_arrives_whole",
]


def test_hundreds_of_requests_at_once(address):
    clients.crowd(address, 300, 4)


def test_clients_that_stall_hold_nobody_up(address):
    before = clients.how_many_open(address)
    with clients.stalled(address, 60):
        clients.crowd(address, 50, 3)
    clients.wait_until_open(address, before)


def test_clients_that_reset_leave_nothing_behind(address):
    before = clients.how_many_open(address)
    clients.resets(address, 180)
    clients.wait_until_open(address, before)
    assert clients.ask(address, clients.GET % b"/") == (200, b"hello")


def test_clients_that_send_a_byte_at_a_time(address):
    clients.byte_at_a_time(address, clients.GET % b"/", b"hello")
    clients.byte_at_a_time(address, clients.POST % (300, clients.BODY[:300]), clients.BODY[:300])


def test_large_answer_arrives_whole(address):
    assert clients.ask(address, clients.GET % b"/large") == (200, bytes(64 * 65536))
