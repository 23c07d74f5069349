"""Which writes of a run collided: what stood beside another value for a while, also where somebody settled it later."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from cluster_store.core.conflicts import Conflict, conflicts
from cluster_store.core.registers import Lane, Secret, Standing
from cluster_store.core.state import Appended
from cluster_store.core.timers import PREFIX
from cluster_store.core.types import Path, RecordId
from cluster_store.simulation.disk import Disk


class Collision(NamedTuple):
    """A register that two machines wrote without knowing of each other."""

    #: With the most values that stood beside each other.
    conflict: Conflict
    #: The record that brought a second value to one that stood already.
    record: RecordId
    #: Whether a later write has replaced all of them.
    settled: bool


class Collided(msgspec.Struct, frozen=True):
    """A register that would be in conflict, as people write it."""

    path: str
    #: Whether a later change of the rehearsal settled it.
    settled: bool
    #: The values that stood beside each other, each with the machine that wrote it; the one that counts first.
    lanes: tuple[tuple[str, str], ...]


def collisions(disks: Sequence[Disk], before: Container[RecordId] = ()) -> list[Collision]:
    """Return what collided in the records of some disks, in the order in which that could first be seen.

    Args:
        disks: together they hold all records.
        before: leave out what had collided in these already.
    """
    lanes: dict[Path, dict[RecordId, Lane]] = {}
    found: dict[tuple[Path, RecordId], Collision] = {}
    #: Register -> which collision it is in.
    now: dict[Path, tuple[Path, RecordId]] = {}
    for added, disk in _records(disks):
        for write in () if added.void else added.record.envelope.writes:
            standing = lanes.setdefault(write.path, {})
            for gone in write.replaced:
                standing.pop(gone, None)
            if not isinstance(write.value, bool):
                standing[added.record.id] = _lane(added, write.path, write.value, disk)
            conflict = next(iter(conflicts(_beside_timers(lanes, write.path))), None)
            known = now.pop(write.path, None)
            if conflict is None:
                if known in found:
                    found[known] = found[known]._replace(settled=True)
                continue
            key = now[write.path] = known or (write.path, added.record.id)
            largest = found[key].conflict.lanes if key in found else ()
            if len(conflict.lanes) >= len(largest) and any(lane.id not in before for lane in conflict.lanes):
                found[key] = Collision(conflict, key[1], settled=False)
    return list(found.values())


def collided(some: Iterable[Collision]) -> set[RecordId]:
    """Return the records that wrote the values."""
    return {lane.id for one in some for lane in one.conflict.lanes}


def _beside_timers(lanes: Mapping[Path, Mapping[RecordId, Lane]], path: Path) -> Standing:
    """Return one register, and what tells which of its lanes others cover for a while."""
    paths = [path, *(other for other in lanes if other.startswith(PREFIX))]
    return Standing({one: tuple(lanes[one].values()) for one in paths})


def _records(disks: Sequence[Disk]) -> Iterable[tuple[Appended, Disk]]:
    """Yield every record once, each behind all that it came after."""
    seen: set[RecordId] = set()
    for disk in disks:
        for added in disk.records:
            if added.record.id not in seen:
                seen.add(added.record.id)
                yield added, disk


def _lane(added: Appended, path: Path, value: str | Secret | None, disk: Disk) -> Lane:
    envelope, record = added.record.envelope, added.record.id
    _, text = disk.secrets.get(record, {}).get(path, (b"", None))
    return Lane(record, value, envelope.hybrid, envelope.weak, text=text)
