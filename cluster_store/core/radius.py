"""The blast radius of a change: whose effective values it alters, and what keeps it from counting.

Beside the machines that will do otherwise there are those that a change was meant for and does not reach, because a
more specific level hides it there; keys on which two people disagree already; and machines that nobody has heard of
for a while, whose own changes may meet this one later. Which machines these are is not known here, only which of them
a change is about.
"""

from __future__ import annotations

from typing import Any

import msgspec

from cluster_store.core.cluster import Cluster
from cluster_store.core.conflicts import conflicts
from cluster_store.core.history import plain
from cluster_store.core.impact import Foreseen, Impact, impact, touched
from cluster_store.core.impact import to_json as impact_to_json
from cluster_store.core.naming import show_level, show_path
from cluster_store.core.registers import Lane, Registers, split_setting
from cluster_store.core.settings import own_elements, own_value
from cluster_store.core.types import Level, MachineId, Path
from cluster_store.core.values import unquote_part


class Shadow(msgspec.Struct, frozen=True):
    """A key that changes at a level, which some machines do not see because a more specific level hides it."""

    key: str
    level: Level
    hidden_by: Level
    machines: tuple[MachineId, ...]


class Disputed(msgspec.Struct, frozen=True):
    """A register of a key that changes, with several values that stand before the change."""

    path: Path
    lanes: tuple[Lane, ...]
    #: Whether one value stands there after the change.
    settled: bool


class Radius(msgspec.Struct, frozen=True):
    """What whoever makes a change should know of it."""

    impact: tuple[Impact, ...]
    shadows: tuple[Shadow, ...]
    disputed: tuple[Disputed, ...]
    #: The machines that the change is about: whose values change, or that inherit from a level which it touches.
    concerned: tuple[MachineId, ...]


def radius(foreseen: Foreseen) -> Radius:
    """Return the blast radius of a change."""
    impacts = tuple(impact(foreseen))
    altered = {machine: None for one in impacts for machine in one.machines}
    levels = touched(foreseen)
    cluster = foreseen.cluster_after
    inheriting = {one: None for one in cluster.machines if any(level in levels for level in cluster.levels_for(one))}
    concerned = tuple(one for one in cluster.machines if one in altered or one in inheriting)
    return Radius(impacts, tuple(_shadows(foreseen, levels)), tuple(_disputed(foreseen)), concerned)


def _shadows(foreseen: Foreseen, levels: dict[Level, dict[str, None]]) -> list[Shadow]:
    found: dict[tuple[str, Level, Level], list[MachineId]] = {}
    elements: dict[tuple[Level, str], list[str]] = {}
    for path in foreseen.paths:
        setting = split_setting(path)
        if setting is not None and setting[2] is not None:
            elements.setdefault(setting[:2], []).append(setting[2])
    for machine in foreseen.cluster_after.machines:
        inherited = foreseen.cluster_after.levels_for(machine)
        for place, level in enumerate(inherited):
            for key in levels.get(level, ()):
                over = [other for other in inherited[:place] if key not in levels.get(other, ())]
                changed = elements.get((level, key), [])
                hiding = next((other for other in over if _hides(foreseen.after, other, key, changed)), None)
                if hiding is not None:
                    found.setdefault((key, level, hiding), []).append(machine)
    return [Shadow(*what, tuple(machines)) for what, machines in sorted(found.items())]


def _hides(registers: Registers, level: Level, key: str, elements: list[str]) -> bool:
    """Say whether a level's own word on a key, or on one of the elements that change, counts in the place of others."""
    if elements:
        own = own_elements(registers, level, key)
        return any(element in own for element in elements)
    return own_value(registers, level, key) is not None


def _disputed(foreseen: Foreseen) -> list[Disputed]:
    keys = {key: None for path in foreseen.paths if (key := _key(path)) is not None}
    left = {one.path: None for one in conflicts(foreseen.after)} if keys else {}
    return [
        Disputed(one.path, one.lanes, one.path not in left)
        for one in (conflicts(foreseen.before) if keys else ())
        if _key(one.path) in keys
    ]


def _key(path: Path) -> str | None:
    setting = split_setting(path)
    if setting is not None:
        return setting[1]
    return unquote_part(path.partition("/")[2]) if path.startswith("kind/") else None


def to_json(found: Radius, cluster: Cluster) -> dict[str, Any]:
    """Return for scripts ``impact``, ``shadowed`` and ``conflicts``. Secrets are not shown."""
    return {
        "impact": impact_to_json(found.impact, cluster),
        "shadowed": [
            {
                "key": one.key,
                "level": show_level(one.level, cluster),
                "hidden_by": show_level(one.hidden_by, cluster),
                "machines": [cluster.hostname(machine) for machine in one.machines],
            }
            for one in found.shadows
        ],
        "conflicts": [
            {
                "path": show_path(one.path, cluster),
                "values": [plain(lane.value) for lane in one.lanes],
                "settled": one.settled,
            }
            for one in found.disputed
        ],
    }
