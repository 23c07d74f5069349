"""From a record to the Automerge changes that put it into the documents.

A change that a peer made could hold writes that its envelope does not declare, and nothing available from
Python can tell. So no peer's change is ever applied: each machine derives the change from the envelope,
with its own encoder. One change for each record and document:

* its actor is the line's, numbered 1, 2, 3 … in that document;
* it puts the record's own lanes under keys that were never used, and deletes the lanes that the record
  replaces and that still stand here (a lane that two records replaced at once goes with the first);
* it depends on the line's previous change in that document and on the changes that put what it deletes.
  Those are its real dependencies: all that it needs to mean the same anywhere. Naming every head that its
  author had seen would make changes of many kilobytes in a fleet, and needs history on the hot path.

What two machines' documents *say* is therefore equal when their records are; their hashes need not be.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from hashlib import sha256

import msgspec

from cluster_store.core.document import Change, Delete, Operation, Put, encode_change
from cluster_store.core.registers import Lane, LaneValue, Place, Secret, Write, document_of, lane_key
from cluster_store.core.types import Epoch, MachineId, Path, RecordId


class Tip(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An actor's last change in a document."""

    seq: int
    change: bytes
    last_op: int


class Derived(msgspec.Struct, frozen=True):
    """What a record does to the documents and to the registers."""

    changes: dict[str, Change]
    tips: dict[str, Tip]
    #: Register -> the lanes that stand in it from now on.
    lanes: dict[Path, tuple[Lane, ...]]
    #: The lanes among those that this record put.
    put: list[tuple[Path, Lane]]
    #: The lanes that it took away.
    taken: list[tuple[Path, RecordId]]
    #: Those among them that are of secrets.
    secrets_taken: list[tuple[Path, RecordId]]


def actor_of(machine: MachineId, epoch: Epoch, branch: RecordId | str = "") -> bytes:
    """Return the 16-byte Automerge actor of a line; ``branch`` is the first record of one that forked off."""
    return sha256(f"{machine}/{epoch}/{branch}".encode()).digest()[:16]


def lane_text(value: LaneValue) -> str:
    """Return how a lane's value stands in its document: ``=`` and JSON text, ``-`` unset, ``#`` and a secret's hash."""
    if value is None:
        return "-"
    return f"#{value.secret}" if isinstance(value, Secret) else f"={value}"


def derive(
    record: RecordId,
    hybrid: int,
    actor: bytes,
    writes: Sequence[Write],
    standing: Callable[[Path], tuple[Lane, ...]],
    tip: Callable[[str], Tip | None],
    *,
    weak: bool,
) -> Derived:
    """Return what a record does, given the lanes that stand and its line's last change in each document."""
    #: Document -> its operations, and the places of what they delete.
    parts: dict[str, tuple[list[Operation], list[Place]]] = {}
    taken: list[tuple[Path, RecordId]] = []
    secrets_taken: list[tuple[Path, RecordId]] = []
    remaining: dict[Path, tuple[Lane, ...]] = {}
    puts: list[tuple[Path, LaneValue, str, int]] = []
    for write in writes:
        path, value = write.path, write.value
        document = document_of(path)
        steps, sources = parts.setdefault(document, ([], []))
        lanes = standing(path)
        if value is not True and value is not False:
            # The put comes first: the encoder is fastest at a put, and at a put and one delete.
            puts.append((path, value, document, len(steps)))
            steps.append(Put(lane_key(path, record), lane_text(value)))
        if lanes and write.replaced:
            replaced = write.replaced if len(write.replaced) == 1 else dict.fromkeys(write.replaced)
            for lane in _taken(lanes, replaced):
                steps.append(Delete(lane_key(path, lane.id), lane.place.op, lane.place.actor))
                sources.append(lane.place)
                taken.append((path, lane.id))
                if isinstance(lane.value, Secret):
                    secrets_taken.append((path, lane.id))
            lanes = tuple([lane for lane in lanes if lane.id not in replaced])
        remaining[path] = lanes
    changes, tips, firsts = {}, {}, {}
    for document, (steps, sources) in parts.items():
        if steps:
            seq, first, deps = _next(tip(document), sources)
            changes[document] = change = encode_change(actor, seq, first, deps, steps)
            tips[document] = Tip(seq, change.hash, first + len(steps) - 1)
            firsts[document] = first
    put = []
    for path, value, document, index in puts:
        place = Place(actor, firsts[document] + index, changes[document].hash, tips[document].last_op)
        lane = Lane(record, value, hybrid, weak, place)
        remaining[path] = (*remaining[path], lane)
        put.append((path, lane))
    return Derived(changes, tips, remaining, put, taken, secrets_taken)


def _taken(lanes: Sequence[Lane], replaced: Collection[RecordId]) -> Sequence[Lane]:
    """Return the lanes that are taken away, in the order in which the record names them.

    In which order lanes are held differs from one process to another, and what is derived must not.
    """
    if len(lanes) == 1:
        return lanes if lanes[0].id in replaced else ()
    known = {lane.id: lane for lane in lanes}
    return [known[gone] for gone in replaced if gone in known]


def _next(before: Tip | None, sources: Sequence[Place]) -> tuple[int, int, list[bytes]]:
    """Return a change's number, that of its first operation, and what it depends on."""
    seq, last, deps = (1, 0, []) if before is None else (before.seq + 1, before.last_op, [before.change])
    for place in sources:
        last = max(last, place.last_op)
        deps.append(place.change)
    return seq, last + 1, deps
