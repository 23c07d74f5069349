"""What stood at an earlier time, or as another machine saw it: the lanes that a part of a log adds up to.

A lane stands exactly if no record replaces it, so a log can be folded from its end: whatever could have replaced a
write is met before the write itself. One reading of the log finds what belongs to a past and folds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from cluster_store.core.cluster import Cluster
from cluster_store.core.history import came_after
from cluster_store.core.registers import Lane, Secret, Standing, Write
from cluster_store.core.rules import read
from cluster_store.core.state import Appended
from cluster_store.core.types import MachineId, Path, RecordId

#: Finds a secret's JSON text; None where it never came here or was erased.
FindSecret = Callable[[Path, RecordId], str | None]


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


def past_of(
    newest_first: Iterable[Appended], chosen: Callable[[Appended], bool], me: MachineId, secret: FindSecret
) -> Past:
    """Return what the chosen events, and all that they came after, add up to.

    Args:
        newest_first: the log backwards, so that each event comes before all of its past.
        chosen: says whether an event belongs to it for its own sake.
        me: the machine that asks.
        secret: finds the texts of the secrets that stood.
    """
    wanted: set[RecordId] = set()
    replaced: set[tuple[Path, RecordId]] = set()
    lanes: dict[Path, list[Lane]] = {}
    count = 0
    for added in newest_first:
        record = added.record
        if record.id not in wanted and not chosen(added):
            continue
        count += 1
        wanted.update(came_after(record.envelope))
        if added.void:
            continue
        for write in record.envelope.writes:
            # Those behind it in the log are read already, so nothing else can have replaced it.
            if not isinstance(write.value, bool) and (write.path, record.id) not in replaced:
                lanes.setdefault(write.path, []).append(lane_of(added, write, secret))
            replaced.update((write.path, one) for one in write.replaced)
    return Past(me, {path: tuple(reversed(standing)) for path, standing in lanes.items()}, count)


class Moment(msgspec.Struct, frozen=True):
    """When: right after an event or, where that is None, at a time in milliseconds since 1970."""

    event: Appended | None
    time: int = 0


def belongs(moment: Moment | None, known_by: MachineId | None, me: MachineId) -> Callable[[Appended], bool]:
    """Return what says whether an event belongs to a past for its own sake.

    Args:
        moment: None is now.
        known_by: None is what everybody wrote; else what this machine knew. Of another machine that is what its own
            events prove that it had seen. Of this one it is known when it learnt of each.
        me: the machine whose log it is.
    """
    event = moment.event if moment is not None else None
    if event is not None and known_by in (None, event.record.envelope.machine):
        position = event.position
        return lambda added: added.position == position
    if known_by == me:
        # What came into this log up to then.
        return lambda added: (
            moment is None or (added.position <= event.position if event is not None else added.learnt <= moment.time)
        )
    time = None if moment is None else event.record.envelope.time if event is not None else moment.time
    return lambda added: (
        (known_by is None or added.record.envelope.machine == known_by)
        and (time is None or added.record.envelope.time <= time)
    )


def lane_of(added: Appended, write: Write, secret: FindSecret) -> Lane:
    """Return the lane that an event put into a register; its write must have a value."""
    assert not isinstance(write.value, bool)
    envelope = added.record.envelope
    text = secret(write.path, added.record.id) if isinstance(write.value, Secret) else None
    return Lane(added.record.id, write.value, envelope.hybrid, envelope.weak, text=text)
