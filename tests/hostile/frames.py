"""Frames that are none, or that hold something else than a message should."""

from __future__ import annotations

from typing import Any

import msgspec
import zstandard
from hypothesis import strategies as st

from cluster_store.core import wire
from cluster_store.core.effects import Ack, Bye, CaughtUp, Message, Records, Twin
from cluster_store.core.limits import FRAME_BYTES_MAX, MESSAGE_RECORDS_MAX, VECTOR_LEAVES_MAX
from cluster_store.core.types import Epoch
from tests.core.builders import following, incoming, sealed
from tests.hostile.kinds import DROPPED, FRAME, IGNORED, REFUSED, TAKEN, WAITS, Kind
from tests.hostile.stage import BERT, Stage

#: In a frame that only differs a little from an honest one, anything may be left.
_ANY = frozenset((DROPPED, REFUSED, WAITS, TAKEN, IGNORED))
_ENDS = frozenset((DROPPED,))
#: What MessagePack can hold, and JSON cannot.
_plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=20),
)
_anything = st.recursive(
    _plain,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=15,
)


def _honest(stage: Stage) -> list[Message]:
    record = sealed(following(stage.first), BERT)
    return [
        stage.hello(),
        Records([incoming(record)] * 3),
        Ack(1),
        CaughtUp(),
        Twin("a" * 16, Epoch("b" * 16)),
        Bye("dropped", "why " * 200),
        Bye("removed", "out", record.data, record.seal),
    ]


_which = st.integers(0, 6)


def _cut(stage: Stage, drawn: Any) -> None:
    which, share = drawn
    frame = wire.encode(_honest(stage)[which])
    stage.frame(frame[: int(share * len(frame))])


def _damage(stage: Stage, drawn: Any) -> None:
    which, at, put, cut = drawn
    frame = wire.encode(_honest(stage)[which])
    at %= len(frame)
    stage.frame(frame[:at] + put + frame[at + cut :])


def _prolong(stage: Stage, drawn: Any) -> None:
    which, more = drawn
    stage.raw(msgspec.msgpack.encode(_honest(stage)[which]) + more)


def _mistype(stage: Stage, drawn: Any) -> None:
    """Put something else in the place of one member of a message, or beside it."""
    which, name, value = drawn
    message = msgspec.to_builtins(_honest(stage)[which], builtin_types=(bytes,))
    names = sorted(message)
    message[names[name % len(names)] if name < 20 else f"x{name}"] = value
    stage.raw(message)


def _array(head: bytes, count: int, item: bytes) -> bytes:
    return head + b"\xdd" + count.to_bytes(4) + item * count


def _flood(stage: Stage, which: int) -> None:
    """Say a megabyte or more in a few bytes."""
    records = msgspec.msgpack.encode({"type": "Records", "items": []})[:-1]
    hello = msgspec.msgpack.encode(stage.hello(vector=[], detached=[]))
    at = hello.index(b"\xa6vector") + 7
    count = FRAME_BYTES_MAX // 128
    stage.raw(
        [
            _array(records, count, b"\x92\xc4\x00\xc4\x00"),
            _array(records, MESSAGE_RECORDS_MAX + 1, b"\x92\xc4\x02{}\xc4\x00"),
            _array(records + b"\x91\x93\xc4\x02{}\xc4\x00", count, b"\x93\xa0\xc4\x00\xa0"),
            _array(hello[:at], count, b"\x94\xa0\xa0\x00\xa0") + hello[at + 1 :],
            _array(hello[:at], VECTOR_LEAVES_MAX + 1, b"\x94\xa0\xa0\x00\xa0") + hello[at + 1 :],
            records + b"\xdd\xff\xff\xff\xff",
            records + b"\x91\x92\xc6\xff\xff\xff\xff",
            b"\x91" * count,
            msgspec.msgpack.encode({"type": "Bye", "state": "x", "reason": "y" * FRAME_BYTES_MAX})[:FRAME_BYTES_MAX],
        ][which]
    )


def _bomb(stage: Stage, drawn: Any) -> None:
    """Claim another size than there is, leave it out, or ask for a window larger than anything needs."""
    which, size = drawn
    body = bytes(size)
    compressor = zstandard.ZstdCompressor(level=1)
    if which == "no size":
        stage.frame(b"\1" + compressor.compressobj().compress(body) + compressor.compressobj().flush())
    elif which == "two frames":
        stage.frame(b"\1" + compressor.compress(body) * 2)
    elif which == "window":
        long = zstandard.ZstdCompressionParameters(window_log=27, strategy=1)
        stage.frame(b"\1" + zstandard.ZstdCompressor(compression_params=long).compress(body)[:-3])
    else:
        stage.frame(b"\1\x28\xb5\x2f\xfd\xe0" + size.to_bytes(8, "little") + b"\x01\x00\x00" * 4)


FRAMES = [
    Kind(FRAME, "random bytes", st.binary(max_size=200), lambda stage, frame: stage.frame(frame), _ENDS),
    Kind(
        FRAME,
        "random bytes behind an honest first byte",
        st.tuples(st.sampled_from((b"\0", b"\1", b"\1\x28\xb5\x2f\xfd")), st.binary(max_size=200)),
        lambda stage, drawn: stage.frame(drawn[0] + drawn[1]),
        _ENDS,
    ),
    Kind(FRAME, "an honest frame, cut short", st.tuples(_which, st.floats(0, 0.99)), _cut, _ENDS),
    Kind(
        FRAME,
        "an honest frame, some bytes changed",
        st.tuples(_which, st.integers(0, 10**6), st.binary(max_size=4), st.integers(0, 4)),
        _damage,
        _ANY,
    ),
    Kind(
        FRAME,
        "an honest message with more behind it",
        st.tuples(_which, st.binary(min_size=1, max_size=40)),
        _prolong,
        _ENDS,
    ),
    Kind(FRAME, "MessagePack of anything", _anything, lambda stage, body: stage.raw(body), _ENDS),
    Kind(
        FRAME,
        "a message with a member of another type, or one more",
        st.tuples(_which, st.integers(0, 30), _anything),
        _mistype,
        _ANY,
    ),
    Kind(FRAME, "a few bytes that stand for megabytes", st.integers(0, 8), _flood, _ENDS),
    Kind(
        FRAME,
        "compressed bombs: a size that is claimed, left out or too large, a huge window",
        st.tuples(
            st.sampled_from(("no size", "two frames", "window", "claim")),
            st.integers(1, 2**40).map(lambda size: size % (1 << 22)),
        ),
        _bomb,
        _ENDS,
    ),
]
