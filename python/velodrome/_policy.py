"""A policy that makes velodrome's loops, for Pythons that have policies (deprecated since 3.14)."""

from asyncio import events

from velodrome._loop import Loop

_Base = getattr(events, "BaseDefaultEventLoopPolicy", None) or events._BaseDefaultEventLoopPolicy


class EventLoopPolicy(_Base):
    """``asyncio.set_event_loop_policy(velodrome.EventLoopPolicy())`` makes every new loop velodrome's."""

    def _loop_factory(self):
        return Loop()
