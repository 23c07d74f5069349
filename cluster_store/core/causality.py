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

import msgspec

from cluster_store.core.types import Epoch, MachineId, RecordId

#: Hex digits of a head's id in a version vector: 8 bytes tell branches apart.
LEAF_HASH_DIGITS = 16


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

    machine: MachineId
    epoch: Epoch
    seq: int
    hash: str


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


def vector(lines: Iterable[Line]) -> list[Leaf]:
    """Return the version vector of a store's lines, sorted."""
    return sorted(Leaf(line.machine, line.epoch, line.seq, line.head[:LEAF_HASH_DIGITS]) for line in lines)


def cover(lines: Mapping[int, Line], line: int, seq: int, covered: dict[int, int]) -> None:
    """Note in ``covered`` (line -> number) that somebody has a record and all before it in its feed."""
    while covered.get(line, 0) < seq:
        covered[line] = seq
        parent = lines[line].parent
        if parent is None:
            return
        line, seq = parent, lines[line].forked_at


def maximal(heads: Mapping[int, int], seen: Mapping[int, Mapping[int, int]]) -> list[int]:
    """Return the lines of ``heads`` (line -> number of its head) that no other one's head has seen.

    Args:
        heads: candidates.
        seen: for each line, what its head is known to have seen: line -> number. A lower bound is enough;
            what is missing there only makes the answer longer.
    """
    return [
        line
        for line, seq in sorted(heads.items())
        if not any(other != line and seen.get(other, {}).get(line, 0) >= seq for other in heads)
    ]
