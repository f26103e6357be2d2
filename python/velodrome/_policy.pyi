import sys
from asyncio import events
from typing import Any

if sys.version_info >= (3, 14):
    class EventLoopPolicy(events._BaseDefaultEventLoopPolicy): ...

else:
    class EventLoopPolicy(events.BaseDefaultEventLoopPolicy):
        # The base's, which raise NotImplementedError: subprocesses of these loops need no watcher.
        get_child_watcher: Any
        set_child_watcher: Any
