"""The naive twin of a state: what the records of one disk put, replaced and removed, kept up with its log.

It is the most naive fold there is: a lane stands exactly if some record put it and none replaced it, and what a record
knew of removals is all that was told by anything that it came after.
"""

from __future__ import annotations

from collections.abc import Iterator

from cluster_store.core.admission import removals_told
from cluster_store.core.causality import NO_REMOVALS, Removals, is_removed
from cluster_store.core.records import record_id
from cluster_store.core.registers import LaneValue
from cluster_store.core.state import Appended
from cluster_store.core.types import Path, RecordId
from cluster_store.simulation.disk import Disk
from cluster_store.simulation.faulty import MARK


def is_faulty(added: Appended) -> bool:
    """Say whether a record was made to count for nothing. Whether it does is for the core to say."""
    return added.record.envelope.comment.startswith(MARK)


class Fold:
    """Of one disk."""

    def __init__(self, disk: Disk) -> None:
        """Begin with nothing taken in."""
        self.disk = disk
        self.seen: list[RecordId] = []
        self.put: dict[tuple[Path, RecordId], LaneValue] = {}
        self.replaced: set[tuple[Path, RecordId]] = set()
        #: Record -> its number in its feed; of all, and of those that none follows.
        self.numbers: dict[RecordId, int] = {}
        self.leaves: dict[RecordId, int] = {}
        #: Record -> the removals that whoever comes after it knows of.
        self._removals: dict[RecordId, Removals] = {}

    def follow(self) -> Iterator[tuple[int, str]]:
        """Take in what was appended since; yield what is wrong with it: the invariant's number, and words."""
        stored = [added.record.id for added in self.disk.records[: len(self.seen)]]
        if stored != self.seen:
            yield 2, f"{len(self.seen)} records were seen, and are not the first {len(stored)} any more"
        for added in self.disk.records[len(self.seen) :]:
            yield from self._check(added)
            self._take(added)

    def _check(self, added: Appended) -> Iterator[tuple[int, str]]:
        envelope, own = added.record.envelope, added.record.id
        name = f"{envelope.machine}#{envelope.seq}"
        if own != record_id(added.record.data, added.record.seal):
            yield 2, f"record {own} holds other bytes than it was"
        if added.void and not is_faulty(added):
            yield 16, f"{name} counts for nothing: {added.void}"
        if is_faulty(added) and not added.void:
            yield 16, f"{name} counts, and must not"
        before = self.numbers.get(RecordId(envelope.prev)) if envelope.prev else 0
        if before != envelope.seq - 1:
            yield 3, f"{name} comes after {before}"
        if is_removed(envelope.machine, self._past(added)):
            yield 10, f"{name} came after the removal of its author"

    def _past(self, added: Appended) -> Removals:
        """Return what a record can know of removals."""
        envelope = added.record.envelope
        before = {RecordId(envelope.prev), *envelope.after}
        before.update(gone for write in envelope.writes for gone in write.replaced)
        return NO_REMOVALS.union(*(self._removals.get(record, NO_REMOVALS) for record in sorted(before)))

    def _take(self, added: Appended) -> None:
        envelope, own = added.record.envelope, added.record.id
        # Only the first of those that share a prev finds it among the leaves.
        self.leaves.pop(RecordId(envelope.prev), None)
        self.leaves[own] = self.numbers[own] = envelope.seq
        self.seen.append(own)
        faulty = is_faulty(added)
        told = [] if faulty else removals_told(added.record)
        if known := self._past(added).union(told):
            self._removals[own] = known
        for write in () if faulty else envelope.writes:
            if not isinstance(write.value, bool):
                self.put[write.path, own] = write.value
            self.replaced.update((write.path, gone) for gone in write.replaced)

    def standing(self) -> dict[tuple[Path, RecordId], LaneValue]:
        """Return what stands."""
        return {lane: value for lane, value in self.put.items() if lane not in self.replaced}
