"""What may happen to ciphertext on its way: it is changed, lost, repeated, moved, or ends anywhere.

Whatever it is, a connection ends with a clear exception or cleanly, and leaves nothing behind.
`test_tls_fallback` plays all of it again where OpenSSL is not called natively.
"""

import asyncio
import builtins
import gc
import os
import ssl
import weakref

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tls.sides import VERSIONS, BufferedRecorder, Recorder, run
from tls.wire import MESSAGES, meet, records

SEARCH = int(os.environ.get("VELODROME_SEARCH", "0"))
thorough = settings(
    max_examples=SEARCH or 100,
    derandomize=not SEARCH,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

roles = ["client", "server"]
offsets = st.one_of(st.integers(0, 60), st.integers(0, 20_000))
masks = st.integers(1, 255)
damages = st.one_of(
    st.tuples(st.just("flip"), offsets, masks),
    st.tuples(st.just("insert"), offsets, st.binary(min_size=1, max_size=100)),
    st.tuples(st.just("delete"), offsets, st.integers(1, 100)),
    st.tuples(st.just("split"), offsets),
    st.tuples(st.just("end"), offsets),
    st.tuples(st.sampled_from(["lose", "repeat", "hold", "bytewise"])),
)
#: Which record has it, the handshake's being the first ones.
plans = st.dictionaries(st.integers(0, 14), damages, min_size=1, max_size=3)


class Mangler:
    """Does to the records of a stream what a plan says for them."""

    def __init__(self, plan):
        self.plan, self.number, self.held, self.ended = plan, 0, b"", False

    def __call__(self, stream):
        for record in records(stream):
            kind, *details = self.plan.get(self.number, ["deliver"])
            self.number += 1
            yield from self.deliver(record, kind, *details)

    def deliver(self, record, kind, offset=0, detail=None):
        offset %= len(record)
        pieces = [record]
        match kind:
            case "flip":
                pieces = [record[:offset] + bytes([record[offset] ^ detail]) + record[offset + 1 :]]
            case "insert":
                pieces = [record[:offset] + detail + record[offset:]]
            case "delete":
                pieces = [record[:offset] + record[offset + detail :]]
            case "split":
                pieces = [record[:offset], record[offset:]]
            case "lose":
                pieces = []
            case "repeat":
                pieces = [record, record]
            case "bytewise":
                pieces = [record[i : i + 1] for i in range(min(len(record), 200))] + [record[200:]]
            case "hold":
                # The one that comes next is there before it.
                self.held, pieces = record, []
            case "end":
                pieces = [record[:offset]]
        if self.held and kind != "hold":
            pieces.append(self.held)
            self.held = b""
        if not self.ended:
            yield from filter(None, pieces)
        self.ended |= kind == "end"


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def assert_ended_well(outcome):
    """Check that what ended the connection is an exception of TLS or of the connection, or none."""
    *_, last = outcome
    if isinstance(last, int):
        reason = dict(entry for entry in outcome[:-1] if len(entry) == 2)["lost"]
    else:
        reason = last
    if reason is not None:
        name = reason[0]
        kind = getattr(ssl, name, None) or getattr(builtins, name)
        assert issubclass(kind, (ssl.SSLError, ConnectionError)), reason


@pytest.mark.timeout(600 if SEARCH else 60)
@thorough
@given(st.sampled_from(roles), st.sampled_from(list(VERSIONS)), st.booleans(), plans)
@example("client", "1.3", False, {3: ("hold",)})
@example("server", "1.2", True, {4: ("repeat",)})
def test_mangled_ciphertext(role, version, buffered, plan):
    before = descriptors()
    protocol = BufferedRecorder if buffered else Recorder
    (outcome, descriptor, recorder), told = run(
        "velodrome", lambda: meet(role, version, Mangler(plan), protocol)
    )
    assert_ended_well(outcome)
    assert told == []
    assert descriptor == -1
    assert descriptors() == before
    # What is delivered is what was sent, up to where it went wrong.
    assert b"".join(MESSAGES).startswith(bytes(recorder.data))
    left = weakref.ref(recorder.transport._ssl_protocol) if hasattr(recorder, "transport") else None
    remains = weakref.ref(recorder)
    del recorder
    gc.collect()
    assert remains() is None
    assert left is None or left() is None


@pytest.mark.parametrize("role", roles)
@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_not_mangled_arrives(role, version):
    """Otherwise the tests above would be about nothing."""
    (outcome, _, recorder), told = run("velodrome", lambda: meet(role, version, Mangler({})))
    assert outcome == [("made",), ("eof",), ("lost", None), sum(map(len, MESSAGES))]
    assert told == []


class EndIn:
    """Ends the stream in a record, so many bytes before that one's end; notes how long records are."""

    def __init__(self, number=None, missing=0):
        self.number, self.missing, self.lengths = number, missing, []

    def __call__(self, stream):
        for record in records(stream):
            if self.number is None or len(self.lengths) < self.number:
                yield record
            elif len(self.lengths) == self.number and len(record) > self.missing:
                yield record[: len(record) - self.missing]
            self.lengths.append(len(record))


def all_places(length):
    return range(length + 1)


def some_places(length):
    """All around what begins and ends in a record, and every now and then between."""
    return sorted({*range(min(7, length)), *range(7, length - 7, 23), *range(max(0, length - 7), length + 1)})


@pytest.mark.timeout(240)
@pytest.mark.parametrize("places", [some_places, pytest.param(all_places, marks=pytest.mark.slow)])
@pytest.mark.parametrize("role", roles)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_stream_that_ends_at_any_byte(role, version, places):
    """Of a handshake, and of what announces the end; what became of it is what asyncio makes of it.

    Records are counted from their ends, since signatures differ in length.
    """

    def play(loop, number, length):
        """Return what becomes of streams that end in this record."""

        async def main():
            outcomes, missing = [], places(length)
            for first in range(0, len(missing), 50):
                ends = [EndIn(number, count) for count in missing[first : first + 50]]
                outcomes += await asyncio.gather(*(meet(role, version, end, messages=[]) for end in ends))
            return outcomes

        outcomes, told = run(loop, main, 120)
        assert {descriptor for _, descriptor, _ in outcomes} == {-1}
        return [outcome for outcome, _, _ in outcomes], told

    whole = EndIn()
    run("velodrome", lambda: meet(role, version, whole, messages=[]))
    assert sum(whole.lengths) > 200
    for number, length in enumerate(whole.lengths):
        assert play("velodrome", number, length) == play("asyncio", number, length), number
