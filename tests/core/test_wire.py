"""Messages come back from their frames, and nothing but one error comes from bytes that are none."""

from __future__ import annotations

from contextlib import suppress

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from cluster_store.core import wire
from cluster_store.core.admission import Incoming
from cluster_store.core.causality import Leaf
from cluster_store.core.effects import Ack, Bye, CaughtUp, Hello, Message, Records, Standing
from cluster_store.core.errors import Malformed
from cluster_store.core.limits import FRAME_BYTES_MAX
from cluster_store.core.types import Epoch, MachineId, RecordId

MACHINE, RECORD = MachineId("a" * 32), RecordId("b" * 64)
LEAF = Leaf(MACHINE, Epoch("c" * 16), 7, "d" * 32)
HELLO = Hello(
    protocol=1,
    cluster="e" * 64,
    machine=MACHINE,
    instance="f" * 16,
    epoch=Epoch("e" * 16),
    version="9.0",
    time=5,
    vector=[LEAF],
    detached=[Standing(MACHINE, RECORD)],
)
RECORDS = Records([Incoming(b"{}", bytes(64), (("setting/cluster/a", b"0123456789abcdef", '"x"'),))])
MESSAGES = [HELLO, RECORDS, Records([]), Ack(3), CaughtUp(), Bye("dropped", "x" * 1000)]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_back_from_its_frame(message: Message) -> None:
    """Small ones are plain, large ones compressed; the first byte tells."""
    frame = wire.encode(message)
    assert wire.decode(frame) == message
    assert len(frame) < 1000


def test_the_form_of_a_frame_is_fixed() -> None:
    """A released protocol never changes."""
    assert wire.encode(Ack(3)) == b"\0\x82\xa4type\xa3Ack\xa5count\x03"


@given(st.sampled_from(MESSAGES), st.integers(0, 10**6), st.binary(max_size=4), st.integers(0, 4))
def test_a_damaged_frame_is_malformed_or_another_message(message: Message, at: int, bytes_put: bytes, cut: int) -> None:
    """Whatever was changed, only one error comes out."""
    frame = wire.encode(message)
    at %= len(frame)
    with suppress(Malformed):
        wire.decode(frame[:at] + bytes_put + frame[at + cut :])


@given(st.binary(max_size=40), st.sampled_from([b"", b"\0", b"\1"]))
def test_random_bytes_are_malformed(body: bytes, kind: bytes) -> None:
    """So they are when they claim to be compressed."""
    with suppress(Malformed):
        wire.decode(kind + body)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\0",
        b"\1",
        b"\2x",
        wire.encode(Ack(3))[:-1],
        wire.encode(Ack(3)) + b"x",
        wire.encode(Bye("AAAA", "")).replace(b"AAAA", b"\xff\xfe\xfd\xfc"),
        b"\0" + b"\x91" * 100_000,
        b"\1" + zstandard.ZstdCompressor().compress(b"no message"),
        b"\1" + zstandard.ZstdCompressor().compress(b""),
        b"\1" + zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 1000),
    ],
    ids=[
        "empty",
        "a kind alone",
        "compressed nothing",
        "a kind of its own",
        "cut",
        "too long",
        "no text",
        "too deep",
        "compressed garbage",
        "compressed emptiness",
        "of unknown size",
    ],
)
def test_a_frame_that_is_no_message_is_malformed(frame: bytes) -> None:
    """The peer is to blame, and the link is closed over it."""
    with pytest.raises(Malformed):
        wire.decode(frame)


def test_a_small_frame_that_unpacks_to_a_huge_one_is_refused_unopened() -> None:
    """Its size is known before it is unpacked."""
    bomb = zstandard.ZstdCompressor().compress(bytes(FRAME_BYTES_MAX + 1))
    assert len(bomb) < 10_000
    with pytest.raises(Malformed, match=f"would unpack to {FRAME_BYTES_MAX + 1} bytes"):
        wire.decode(b"\1" + bomb)
