"""The conversation with a hostile member, driven by a fuzzer that learns from what it reaches.

    pip install atheris
    python -m tests.hostile.fuzz_session [-max_total_time=600] [CORPUS]

The first byte of an input says whether an honest hello comes first; the rest are frames, each behind its length in two
bytes. Every input has to leave the store as tests/hostile/stage.py insists on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from cluster_store.core import wire
from cluster_store.core.effects import Ack, CaughtUp, Records
from tests.core.builders import following, incoming, sealed
from tests.hostile.stage import BERT, Stage, watch_encoder


class _ForGood:
    """Patches what stays patched: the process ends with the fuzzing."""

    def setattr(self, target: object, name: str, value: object) -> None:
        setattr(target, name, value)


def frames(data: bytes) -> Iterator[bytes]:
    """Yield the frames of an input; the last one may be short."""
    at = 1
    while at + 2 <= len(data):
        size = int.from_bytes(data[at : at + 2])
        yield data[at + 2 : at + 2 + size]
        at += 2 + size


def pack(greeted: bool, *parts: bytes) -> bytes:  # noqa: FBT001 - it is the first byte
    """Return the input that stands for frames."""
    return bytes([greeted]) + b"".join(len(part).to_bytes(2) + part for part in parts)


def seeds() -> list[bytes]:
    """Return honest inputs to begin with."""
    stage = Stage()
    record = sealed(following(stage.first), BERT)
    honest = [wire.encode(said) for said in (stage.hello(), Records([incoming(record)]), Ack(1), CaughtUp())]
    return [pack(False, *honest), pack(True, *honest[1:])]


def one_input(data: bytes) -> None:
    """Play one input."""
    stage = Stage(greeted=bool(data[:1] > b"\0"))
    for frame in frames(data):
        stage.frame(frame)
    stage.outcome()


def main() -> None:
    """Fuzz until told to stop."""
    import atheris  # type: ignore[import-untyped] # noqa: PLC0415 - the one place that needs it

    watch_encoder(_ForGood())
    atheris.instrument_all()
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
