"""Bits that flip on a virtual disk, how that is found out, and what can be saved of such a disk.

Everything on a disk follows from its records, so a disk is sound where the chain of its records is, and where all else
is what a replay of them comes to. What stands before the first damaged record can be saved; the rest has to be taken
back from peers, and what no peer has is lost.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

import msgspec

from cluster_store.core.admission import Run
from cluster_store.core.chain import Chain, Row
from cluster_store.core.document import Document
from cluster_store.core.errors import EngineError, StoreCorrupt
from cluster_store.core.replay import Replay, document_contents
from cluster_store.core.state import Appended
from cluster_store.core.types import MachineId
from cluster_store.simulation.disk import Disk


class Found(NamedTuple):
    """What an examination found."""

    #: Records from the beginning on that can be relied on; their last one has a seal.
    sound: int
    #: What is wrong, or ``""``.
    fault: str


# --- how it comes about ---


def flip_record(disk: Disk, dice: Random) -> None:
    """Flip a bit of a stored envelope or seal. There must be a record."""
    index = dice.randrange(len(disk.records))
    added = disk.records[index]
    part = "seal" if added.record.seal and dice.random() < 0.3 else "data"  # noqa: PLR2004
    flipped = msgspec.structs.replace(added.record, **{part: _flipped(getattr(added.record, part), dice)})
    disk.records[index] = msgspec.structs.replace(added, record=flipped)
    disk.damage.append(f"the {part} of record {added.record.id[:8]} at position {added.position}")


def flip_lane(disk: Disk, dice: Random) -> None:
    """Flip a bit of a standing value, where there is one that is text."""
    standing = [
        (path, lane)
        for path, lanes in sorted(disk.registers.items())
        for lane in lanes.values()
        if isinstance(lane.value, str) and lane.value
    ]
    if standing:
        path, lane = dice.choice(standing)
        value = _flipped(str(lane.value).encode(), dice).decode(errors="replace")
        disk.registers[path][lane.id] = msgspec.structs.replace(lane, value=value)
        disk.damage.append(f"the value of {path}")


def flip_document(disk: Disk, dice: Random) -> None:
    """Flip a bit of a saved document, where there is one."""
    if disk.saved:
        name = dice.choice(sorted(disk.saved))
        disk.saved[name] = _flipped(disk.saved[name], dice)
        disk.damage.append(f"the document {name}")


def _flipped(data: bytes, dice: Random) -> bytes:
    place = dice.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << dice.randrange(8)]) + data[place + 1 :]


# --- how it is found out ---


def examine(disk: Disk) -> Found:
    """Say whether a disk is what was written, as ``verify`` does for a store."""
    chain = Chain(disk.cluster)
    for added in disk.records:
        faults = chain.check(_row(added))
        if faults:
            return _broken(disk, added.position, faults[0].text)
    for fault in chain.finish(len(disk.records), disk.log_hash):
        return _broken(disk, fault.position or 1, fault.text)
    try:
        return Found(len(disk.records), _difference(disk, salvaged(disk, len(disk.records))))
    except StoreCorrupt as error:
        return _broken(disk, 1, error.message)


def _broken(disk: Disk, position: int, fault: str) -> Found:
    """Return that the records from a position on are not to be relied on."""
    before = disk.records[: position - 1]
    sealed = [added.position for added in before if added.record.seal]
    return Found(max(sealed, default=0), f"at position {position}: {fault}")


def _row(added: Appended) -> Row:
    record = added.record
    envelope = record.envelope
    return (
        added.position,
        bytes.fromhex(record.id),
        added.line,
        envelope.seq,
        envelope.hybrid,
        added.learnt,
        record.seal or None,
        record.data,
    )


def _difference(disk: Disk, expected: Disk) -> str:
    """Return where a disk says otherwise than its own records add up to, or ``""``."""
    for path in sorted({*disk.registers, *expected.registers}):
        stored = {lane.id: lane.value for lane in disk.registers.get(path, {}).values()}
        if stored != {lane.id: lane.value for lane in expected.registers.get(path, {}).values()}:
            return f"the value of {path} is not what was written"
    contents = document_contents((path, lanes.values()) for path, lanes in expected.registers.items())
    for name, saved in sorted(disk.saved.items()):
        try:
            document = Document.open(saved)
            document.apply(disk.tails.get(name, ()))
        except EngineError as error:
            return f"the document {name} cannot be read: {error.message}"
        if document.items() != contents.get(name, {}):
            return f"the document {name} is not what was written"
    return ""


# --- what can be saved ---


def salvaged(disk: Disk, count: int) -> Disk:
    """Return a disk that holds the first so many records of another one, and what follows from them.

    It has no feed to go on with: its machine begins a new epoch with its next record. Raises StoreCorrupt where the
    records are not what was once admitted.
    """
    replay = Replay(MachineId(""), disk.cluster)
    saved = Disk(disk.cluster)
    run = Run([], {})
    for added in disk.records[:count]:
        run.records.append(added.record)
        run.secrets[added.record.id] = disk.secrets.get(added.record.id, {})
        if added.record.seal:
            replay.admit(run, added.learnt)
            saved.commit(replay.draft)
            replay.settle()
            run = Run([], {})
    return saved
