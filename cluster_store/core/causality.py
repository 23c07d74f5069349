"""Who had seen whom: lines of records, version vectors, and what was known of removals.

A *feed* is what one machine wrote in one epoch. It is a chain unless the machine was rolled back or
cloned; then two records share one ``prev`` and the feed is a tree. A *line* is one branch of that tree
as this machine stores it: the records that extend each other in the order they arrived. Line numbers,
and which branch kept the trunk's line, are local; the tree and its leaves are the same everywhere.

Invariants kept here:

1. Two stores hold the same records exactly if their vectors, sorted, are equal.
2. A vector covers whole pasts: who has a leaf has every record before it, in its line and in the lines
   that it branched off from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

import msgspec

from cluster_store.core.limits import VECTOR_LEAVES_MAX
from cluster_store.core.types import Epoch, MachineId, RecordId

#: Hex digits of a head's id in a version vector. 16 bytes tell branches apart also where a member makes records until
#: two of them begin alike: for 8 bytes that takes an afternoon, and then two stores that differ would seem equal.
LEAF_HASH_DIGITS = 32


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One branch of a feed and its newest record."""

    number: int
    machine: MachineId
    epoch: Epoch
    #: The line this one branched off, and the number of the last record they share; 0 for a trunk.
    parent: int | None = None
    forked_at: int = 0
    seq: int
    head: RecordId
    hybrid: int
    #: The head's position in this machine's log.
    position: int
    #: This line's actor in every Automerge document.
    actor: bytes


class Leaf(msgspec.Struct, frozen=True, array_like=True, order=True, forbid_unknown_fields=True):
    """One entry of a version vector."""

    machine: Annotated[MachineId, msgspec.Meta(min_length=32, max_length=32)]
    epoch: Annotated[Epoch, msgspec.Meta(min_length=16, max_length=16)]
    seq: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    hash: Annotated[str, msgspec.Meta(min_length=LEAF_HASH_DIGITS, max_length=LEAF_HASH_DIGITS)]


class Removal(msgspec.Struct, frozen=True, array_like=True, order=True):
    """One machine's removal, as a record tells it."""

    machine: MachineId
    hybrid: int
    record: RecordId
    #: The members that its author knew would be left.
    left: tuple[MachineId, ...]


#: The removals in a record's causal past.
Removals = frozenset[Removal]
NO_REMOVALS: Removals = frozenset()


def is_removed(machine: MachineId, removals: Removals) -> bool:
    """Say whether a machine has left, given the removals of one causal past.

    If nobody would be left, the machine that was removed last stays, or a cluster whose halves removed
    each other could never be written to again.
    """
    gone = {removal.machine for removal in removals}
    if machine not in gone:
        return False
    if any(member not in gone for removal in removals for member in removal.left):
        return True
    # One record can remove several machines, so the machine's id has the last word.
    last = max(sorted(removals), key=lambda removal: (removal.hybrid, removal.record, removal.machine))
    return last.machine != machine


def leaf_of(line: Line, seq: int, record: RecordId) -> Leaf:
    """Return how a record of a line stands in a version vector."""
    return Leaf(line.machine, line.epoch, seq, record[:LEAF_HASH_DIGITS])


def vector(lines: Iterable[Line]) -> list[Leaf]:
    """Return the version vector of a store's lines, sorted."""
    return sorted(leaf_of(line, line.seq, line.head) for line in lines)


def told(lines: Iterable[Line]) -> list[Leaf]:
    """Return the version vector as a peer is told it: of too many lines, those that were written to last.

    A peer may then send what this machine has already, which does no harm.
    """
    return vector(sorted(lines, key=lambda line: line.position)[-VECTOR_LEAVES_MAX:])


def cover(lines: Mapping[int, Line], line: int, seq: int, covered: dict[int, int]) -> None:
    """Note in ``covered`` (line -> number) that somebody has a record and all before it in its feed."""
    while covered.get(line, 0) < seq:
        covered[line] = seq
        parent = lines[line].parent
        if parent is None:
            return
        line, seq = parent, lines[line].forked_at
