"""The sleeps to compare."""

import asyncio

import pytest
import velodrome

SLEEPS = [pytest.param(asyncio.sleep, id="asyncio"), pytest.param(velodrome.sleep, id="velodrome")]
either_sleep = pytest.mark.parametrize("sleep", SLEEPS)
