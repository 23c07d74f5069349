"""Overrides that hide a newer value from those who set it without knowing of the override.

Somebody overrides the cluster's value on a machine that is cut off; somebody else then changes the cluster's value, for
all machines as far as they know. After the merge the older override still hides it there, and nobody ever decided that
it should.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from cluster_store.core.cluster import Cluster
from cluster_store.core.conflicts import Problem
from cluster_store.core.history import came_after, plain
from cluster_store.core.naming import excerpt, one_line, show_level, show_path
from cluster_store.core.registers import (
    CLUSTER,
    Lane,
    Registers,
    group_level,
    kind_path,
    machine_level,
    setting_path,
    split_setting,
    winner,
)
from cluster_store.core.settings import SET_KIND
from cluster_store.core.state import Appended
from cluster_store.core.types import HYBRID_LOGICAL_BITS, Level, Path, RecordId


class Override(msgspec.Struct, frozen=True):
    """A level's value of a plain key, and a newer one of a less specific level that it hides."""

    key: str
    level: Level
    lane: Lane
    hidden_level: Level
    hidden: Lane

    @property
    def path(self) -> Path:
        """The register that hides the other one."""
        return setting_path(self.level, self.key)


def hidden_values(cluster: Cluster, registers: Registers, newest_first: Iterable[Appended]) -> list[Override]:
    """Return the overrides that hide newer values whose authors did not know of them, sorted by path.

    Args:
        cluster: the read model of these registers.
        registers: of every scope.
        newest_first: the log backwards; read only as far as it takes, and not at all where no override is older.
    """
    found = list(_older_overrides(cluster, registers))
    if not found:
        return []
    bits = {record: 1 << bit for bit, record in enumerate(dict.fromkeys(one.hidden.id for one in found))}
    overriding = {one.lane.id for one in found}
    #: Event -> which of the newer values' authors knew of it, a bit for each.
    known: dict[RecordId, int] = {}
    told: dict[RecordId, int] = {}
    for added in newest_first:
        record = added.record
        mask = known.pop(record.id, 0) | bits.get(record.id, 0)
        if record.id in overriding:
            told[record.id] = mask
            if len(told) == len(overriding):
                break
        if mask:
            for before in came_after(record.envelope):
                known[before] = known.get(before, 0) | mask
    return [one for one in found if not told.get(one.lane.id, 0) & bits[one.hidden.id]]


def _older_overrides(cluster: Cluster, registers: Registers) -> Iterator[Override]:
    """Yield the overrides of plain keys that hide values which were written later."""
    above: dict[Level, list[Level]] = {group_level(group): [CLUSTER] for group in cluster.groups}
    above |= {machine_level(machine): cluster.levels_for(machine)[1:] for machine in cluster.machines}
    for path, lanes in registers.under("setting/"):
        parts, lane = split_setting(path), winner(lanes)
        if parts is None or lane is None or lane.value is None or parts[0] not in above:
            continue
        level, key, _ = parts
        for other in above[level]:
            hidden = winner(registers.standing(setting_path(other, key)))
            if hidden is not None and hidden.value is not None:
                if hidden.hybrid > lane.hybrid and hidden.value != lane.value and not _is_set(registers, key):
                    yield Override(key, level, lane, other, hidden)
                # What that one hides is no matter of this one.
                break


def _is_set(registers: Registers, key: str) -> bool:
    kind = winner(registers.standing(kind_path(key)))
    return kind is not None and kind.value == SET_KIND


def problem_of(override: Override, cluster: Cluster) -> Problem:
    """Return an override as ``clustercheck`` names it."""
    path = show_path(override.path, cluster)
    hidden = show_level(override.hidden_level, cluster)
    return Problem(
        "override hides a newer value",
        one_line(
            f"{path} is {_text(override.lane)} and hides a newer value at {hidden}, {_text(override.hidden)}, that was "
            f"set without knowing of it: keep it with the event {override.lane.id[:10]}, or let the newer value count "
            f"with {override.hidden.id[:10]}"
        ),
        override.hidden.hybrid >> HYBRID_LOGICAL_BITS,
        path,
        (override.lane.id, override.hidden.id),
    )


def _text(lane: Lane) -> str:
    value = plain(lane.value)
    return excerpt(value if isinstance(value, str) else msgspec.json.encode(value).decode())
