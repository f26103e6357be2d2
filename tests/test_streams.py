"""Streams do what asyncio's do, piece by piece: what comes out, when, and what is left."""

import asyncio
import os

import pytest
import velodrome
from differential.compare import LOOPS
from differential.streams import ReaderScene, WriterScene, reader_scripts, writer_scripts
from differential.worlds import close
from hypothesis import HealthCheck, given, settings

SEARCH = int(os.environ.get("VELODROME_SEARCH", "0"))

common = settings(
    max_examples=SEARCH or 300,
    derandomize=not SEARCH,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class DerivedReader(velodrome.StreamReader):
    """Changes nothing, but is another class."""


class OverridingReader(velodrome.StreamReader):
    """Goes through asyncio's own code, which calls these."""

    async def readuntil(self, *arguments):
        return await super().readuntil(*arguments)

    async def _wait_for_data(self, name):
        return await super()._wait_for_data(name)


class Derived:
    StreamReader, StreamWriter = DerivedReader, velodrome.StreamWriter
    StreamReaderProtocol = velodrome.StreamReaderProtocol


class Overriding(Derived):
    StreamReader = OverridingReader


for _class in DerivedReader, OverridingReader:
    _class.__name__ = "StreamReader"

IMPLEMENTATIONS = pytest.mark.parametrize("streams", [velodrome, Derived, Overriding])
ON_LOOPS = pytest.mark.parametrize("new_loop", LOOPS, ids=["asyncio", "velodrome"])


def played(scene, new_loop, script, *arguments):
    loop = new_loop()
    loop.set_exception_handler(lambda loop, context: None)
    try:
        return scene(loop, *arguments).play(script)
    finally:
        close(loop)


@IMPLEMENTATIONS
@ON_LOOPS
@pytest.mark.timeout(600 if SEARCH else 60)
def test_a_reader_fed_by_hand_does_the_same(streams, new_loop):
    @common
    @given(reader_scripts)
    def check(scene):
        limit, transport, script = scene
        expected = played(ReaderScene, asyncio.SelectorEventLoop, script, asyncio, limit, transport)
        assert played(ReaderScene, new_loop, script, streams, limit, transport) == expected

    check()


@ON_LOOPS
@pytest.mark.timeout(600 if SEARCH else 60)
def test_a_writer_does_the_same(new_loop):
    @common
    @given(writer_scripts)
    def check(script):
        expected = played(WriterScene, asyncio.SelectorEventLoop, script, asyncio)
        assert played(WriterScene, new_loop, script, velodrome) == expected

    check()
