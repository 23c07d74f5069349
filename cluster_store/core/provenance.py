"""At which levels each setting is kept, where that counts, and what stands over it where it does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from cluster_store.core.cluster import Cluster
from cluster_store.core.history import plain
from cluster_store.core.naming import show_level
from cluster_store.core.registers import LaneValue, Registers, Standing, split_setting
from cluster_store.core.settings import is_kept, is_set, own_elements, own_value
from cluster_store.core.types import Level, MachineId


class Kept(msgspec.Struct, frozen=True):
    """What one level says of a key."""

    key: str
    level: Level
    #: JSON text or a secret's hash; of a set an array of the elements that the level adds.
    value: LaneValue
    #: JSON texts of the elements of a set that the level knocks out.
    knocked_out: tuple[str, ...]
    #: The machines whose effective value this is, or, of a set, is a part of.
    effective_on: tuple[MachineId, ...]
    #: The more specific levels by which it does not count, or not all of it, on some machine.
    overridden_by: tuple[Level, ...]


def provenance(
    registers: Registers, cluster: Cluster, prefix: str = "", machine: MachineId | None = None
) -> list[Kept]:
    """Return what every level keeps, sorted by key, the most general level first.

    Args:
        registers: of every scope.
        cluster: the read model of these registers.
        prefix: only keys that begin with this.
        machine: only what this one is concerned by, and as if there were no other.
    """
    standing = Standing(dict(registers.under("")))
    levels = {one: cluster.levels_for(one) for one in ([machine] if machine else cluster.machines)}
    places = list(reversed(levels[machine])) if machine is not None else _levels_in_use(standing)
    # A machine that a level is for -> its more specific levels. Machines and keys may be many, levels are few.
    heirs = {
        level: {one: above[: above.index(level)] for one, above in levels.items() if level in above} for level in places
    }
    kept: dict[str, list[Level]] = {}
    for key, level in _kept(standing, places, prefix):
        kept.setdefault(key, []).append(level)
    return [
        _look(standing, key, level, heirs[level], kept[key])
        for key in sorted(kept)
        for level in sorted(kept[key], key=places.index)
    ]


def _levels_in_use(registers: Registers) -> list[Level]:
    """Return the levels that keep anything, also those of groups and machines that are gone."""
    found: dict[Level, None] = {}
    for kind in ("setting/", "element/"):
        for path, _ in registers.under(kind):
            place = split_setting(path)
            if place is not None:
                found[place[0]] = None
    # "cluster", then "group/…", then "machine/…"
    return sorted(found)


def _kept(registers: Registers, levels: Sequence[Level], prefix: str) -> Iterator[tuple[str, Level]]:
    seen: dict[tuple[str, Level], None] = {}
    for kind in ("setting/", "element/"):
        for path, _ in registers.under(kind):
            place = split_setting(path)
            if place is not None and place[0] in levels and place[1].startswith(prefix):
                seen[place[1], place[0]] = None
    return (one for one in seen if is_kept(registers, one[1], one[0]))


def _look(
    registers: Registers, key: str, level: Level, heirs: dict[MachineId, list[Level]], kept: Sequence[Level]
) -> Kept:
    """Return what a level says of a key, which ``kept`` are all levels to do."""
    if is_set(registers, key):
        return _look_at_set(registers, key, level, heirs)
    lane = own_value(registers, level, key)
    assert lane is not None
    # The most specific one that has a value counts.
    over = {one: [other for other in above if other in kept][:1] for one, above in heirs.items()}
    return Kept(
        key,
        level,
        lane.value,
        (),
        tuple(one for one, others in over.items() if not others),
        tuple(dict.fromkeys(other for others in over.values() for other in others)),
    )


def _look_at_set(registers: Registers, key: str, level: Level, heirs: dict[MachineId, list[Level]]) -> Kept:
    own = own_elements(registers, level, key)
    present = [element for element, (there, _) in own.items() if there]
    effective_on: list[MachineId] = []
    overridden_by: dict[Level, None] = {}
    for one, above in heirs.items():
        # The most specific level that says anything of an element decides.
        said = {other: own_elements(registers, other, key) for other in above}
        hidden = {element: other for other in reversed(above) for element in own if element in said[other]}
        if len(hidden) < len(own):
            effective_on.append(one)
        overridden_by |= dict.fromkeys(
            other for element, other in hidden.items() if said[other][element][0] != own[element][0]
        )
    return Kept(
        key,
        level,
        f"[{','.join(sorted(present))}]",
        tuple(sorted(element for element, (there, _) in own.items() if not there)),
        tuple(effective_on),
        tuple(overridden_by),
    )


def to_json(kept: Kept, cluster: Cluster) -> dict[str, Any]:
    """Return what a level says of a key for scripts; ``knocked_out`` is there where a set's level does that."""
    shown: dict[str, Any] = {
        "key": kept.key,
        "level": show_level(kept.level, cluster),
        "value": plain(kept.value),
        "effective_on": [cluster.hostname(machine) for machine in kept.effective_on],
        "overridden_by": [show_level(level, cluster) for level in kept.overridden_by],
    }
    if kept.knocked_out:
        shown["knocked_out"] = [plain(element) for element in kept.knocked_out]
    return shown
