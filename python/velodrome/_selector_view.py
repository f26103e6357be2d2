"""The engine, as asyncio's own transports see a loop: its selector and its table of transports."""

from types import SimpleNamespace


class SelectorView:
    """What is watched, in the words of the selectors module; it can only be asked."""

    def __init__(self, loop):
        self._loop = loop

    def get_key(self, fileobj):
        """Return the events that are watched of a file or a descriptor; KeyError if there are none."""
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        events = self._loop._watched(fd)
        if not events:
            raise KeyError(fileobj)
        return SimpleNamespace(fileobj=fileobj, fd=fd, events=events, data=None)


class TransportTable:
    """Which transport has which descriptor; asyncio's transports enter themselves."""

    def __init__(self, loop):
        self._loop = loop

    def __setitem__(self, fd, transport):
        self._loop._take_descriptor_back(transport)
