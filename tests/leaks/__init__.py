"""Scenarios: functions that make and end many things of a kind, so that what they leave can be measured.

`scenarios` has the list of them, `measuring` runs one; every other module adds those of its kind to the list.
"""

from . import futures, handles, loops, tasks, transports

__all__ = ["futures", "handles", "loops", "tasks", "transports"]
