"""What stood at an earlier time, or as another machine saw it: the lanes that a part of a log adds up to.

A lane stands exactly if no record replaces it, so a log can be folded from its end: whatever could have replaced a
write is met before the write itself. One reading of the log finds what belongs to a past and folds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from cluster_store.core.cluster import Cluster
from cluster_store.core.history import Sight, Stored, read_sight
from cluster_store.core.registers import Lane, LaneValue, Secret, Standing, lane_key
from cluster_store.core.rules import read
from cluster_store.core.state import Appended
from cluster_store.core.types import MachineId, Path, RecordId

#: Finds a secret's JSON text; None where it never came here or was erased.
FindSecret = Callable[[Path, RecordId], str | None]
#: Says whether an event belongs to a past for its own sake.
Chosen = Callable[[Stored, Sight], bool]


class Past(Standing):
    """Registers as they were, with the read model of them."""

    def __init__(self, me: MachineId, lanes: dict[Path, tuple[Lane, ...]], records: int) -> None:
        """Take what stood.

        Args:
            me: the machine that asks; it may not have been a member then.
            lanes: by path.
            records: how many records there were.
        """
        super().__init__(lanes)
        self.me = me
        self.records = records
        self._cluster = read(self)

    def cluster(self) -> Cluster:
        """Return the read model."""
        return self._cluster


def past_of(newest_first: Iterable[Stored], chosen: Chosen, me: MachineId, secret: FindSecret) -> Past:
    """Return what the chosen events, and all that they came after, add up to.

    Args:
        newest_first: the log backwards, so that each event comes before all of its past.
        chosen: says whether an event belongs to it for its own sake.
        me: the machine that asks.
        secret: finds the texts of the secrets that stood.

    Raises:
        StoreCorrupt: an event is not what was written.
    """
    wanted: set[str] = set()
    replaced: set[str] = set()
    lanes: dict[Path, list[Lane]] = {}
    count = 0
    for row in newest_first:
        sight = read_sight(row)
        record = row.id
        if record not in wanted and not chosen(row, sight):
            continue
        count += 1
        # It came after the one before it, those that it had seen, and those that it replaces.
        wanted.discard(record)
        wanted.add(sight.prev)
        wanted.update(sight.after)
        for write in sight.writes:
            path, value, others = write.path, write.value, write.replaced
            wanted.update(others)
            if row.void:
                continue
            # Those behind it in the log are read already, so nothing else can have replaced it.
            if not isinstance(value, bool) and lane_key(path, record) not in replaced:
                lanes.setdefault(path, []).append(_lane_of(row, sight, path, value, secret))
            for one in others:
                replaced.add(lane_key(path, one))
    return Past(me, {path: tuple(reversed(standing)) for path, standing in lanes.items()}, count)


class Moment(msgspec.Struct, frozen=True):
    """When: right after an event or, where that is None, at a time in milliseconds since 1970."""

    event: Appended | None
    time: int = 0


def belongs(moment: Moment | None, known_by: MachineId | None, me: MachineId) -> Chosen:
    """Return what says whether an event belongs to a past for its own sake.

    Args:
        moment: None is now.
        known_by: None is what everybody wrote; else what this machine knew. Of another machine that is what its own
            events prove that it had seen. Of this one it is known when it learnt of each. At another machine's event
            it is what it knew at the time that this event bears.
        me: the machine whose log it is.
    """
    event = moment.event if moment is not None else None
    if event is not None and known_by in (None, event.record.envelope.machine):
        position = event.position
        return lambda row, _: row.position == position
    time = None if moment is None else event.record.envelope.time if event is not None else moment.time
    if known_by == me:
        # What came into this log up to then.
        return lambda row, _: time is None or row.learnt <= time
    return lambda _, sight: (known_by is None or sight.machine == known_by) and (time is None or sight.time <= time)


def _lane_of(row: Stored, sight: Sight, path: Path, value: LaneValue, secret: FindSecret) -> Lane:
    text = secret(path, row.id) if isinstance(value, Secret) else None
    return Lane(row.id, value, sight.hybrid, sight.weak, text=text)
