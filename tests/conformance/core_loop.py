"""The stdlib's own loop without what later storeys of Velodrome bring.

It keeps the selection `core` honest: the tests of its groups that fail on this loop are those that need a
later storey, so all of `core` must pass on it, and what selections.json leaves out must fail.
"""

import asyncio

LATER = """
connect_accepted_socket connect_read_pipe connect_write_pipe create_connection create_datagram_endpoint
create_server create_unix_connection create_unix_server sendfile sock_accept sock_connect sock_recv
sock_recv_into sock_recvfrom sock_recvfrom_into sock_sendall sock_sendfile sock_sendto start_tls
subprocess_exec subprocess_shell
""".split()


class CoreLoop(asyncio.SelectorEventLoop):
    pass


def _later(name):
    async def method(self, *args, **kwargs):
        raise NotImplementedError(f"{name} belongs to a later storey")

    return method


for _name in LATER:
    setattr(CoreLoop, _name, _later(_name))


def new_event_loop():
    return CoreLoop()
