"""Effective settings: what a machine is to do, key by key, from its own level, its group's and the cluster's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from cluster_store.core.registers import (
    Lane,
    LaneValue,
    Registers,
    element_prefix,
    kind_path,
    setting_path,
    split_setting,
    winner,
)
from cluster_store.core.timers import hiding
from cluster_store.core.types import Level, Path
from cluster_store.core.values import unquote_part

#: JSON text of the register that makes a key a set.
SET_KIND = '"set"'
PRESENT = "true"
KNOCKED_OUT = "false"


class Value(msgspec.Struct, frozen=True):
    """A key's value somewhere: JSON text or a secret's hash, the level it comes from and the lane that says it.

    A set's value is a JSON array; its level is the most specific one that contributes.
    """

    value: LaneValue
    level: Level
    lane: Lane


def is_set(registers: Registers, key: str) -> bool:
    """Say whether a key is set-valued."""
    lane = winner(registers.standing(kind_path(key)))
    return lane is not None and lane.value == SET_KIND


def own_value(registers: Registers, level: Level, key: str) -> Lane | None:
    """Return the lane that gives a plain key its value at one level, None where it is not set there."""
    lane = winner(registers.standing(setting_path(level, key)))
    return lane if lane is not None and lane.value is not None else None


def own_elements(registers: Registers, level: Level, key: str) -> dict[str, tuple[bool, Lane]]:
    """Return what a level says of a set: element (JSON text) -> (present, the lane that says so).

    Of concurrent lanes one that adds wins over one that knocks out: no addition is ever lost.
    """
    elements = {}
    for path, lanes in registers.under(element_prefix(level, key)):
        parts = split_setting(path)
        chosen = element_lane(lanes)
        if parts is not None and parts[2] is not None and chosen is not None and chosen.value is not None:
            elements[parts[2]] = (chosen.value == PRESENT, chosen)
    return elements


def element_paths(registers: Registers, level: Level, key: str) -> list[Path]:
    """Return the registers of elements of a set of which a level keeps anything, sorted by element."""
    found = [path for path, lanes in registers.under(element_prefix(level, key)) if lanes]
    return sorted(found, key=lambda path: unquote_part(path.rpartition("/")[2]))


def element_lane(lanes: Iterable[Lane]) -> Lane | None:
    """Return the lane of an element's register that counts: of those that none of the others hides one that adds.

    Of a lane that hides others the value is what it says itself: that the element is left out, or nothing.
    """
    standing = tuple(lanes)
    hidden = {event for lane in standing if (known := hiding(lane)) is not None for event in known.hides}
    seen = [lane for lane in standing if lane.id not in hidden]
    chosen = winner([lane for lane in seen if lane.value == PRESENT] or seen)
    known = hiding(chosen) if chosen is not None else None
    if chosen is None or known is None:
        return chosen
    return msgspec.structs.replace(chosen, value=KNOCKED_OUT if known.knocks_out else None)


def is_kept(registers: Registers, level: Level, key: str) -> bool:
    """Say whether a level says anything of a key: a value, or elements of a set."""
    if is_set(registers, key):
        return bool(own_elements(registers, level, key))
    return own_value(registers, level, key) is not None


def effective(registers: Registers, levels: Sequence[Level], key: str) -> Value | None:
    """Return a key's value for a machine with these levels (most specific first), None where it is unset."""
    if is_set(registers, key):
        return effective_set(registers, levels, key)
    for level in levels:
        lane = own_value(registers, level, key)
        if lane is not None:
            return Value(lane.value, level, lane)
    return None


def effective_set(registers: Registers, levels: Sequence[Level], key: str) -> Value | None:
    """Return the union of the levels' elements without those knocked out at a more specific level."""
    union: dict[str, None] = {}
    source: Value | None = None
    for level in reversed(levels):
        for element, (present, lane) in sorted(own_elements(registers, level, key).items()):
            if present:
                union[element] = None
            else:
                union.pop(element, None)
            source = Value(None, level, lane)
    if source is None:
        return None
    return msgspec.structs.replace(source, value=f"[{','.join(sorted(union))}]")


def keys_under(registers: Registers, levels: Iterable[Level], prefix: str = "") -> list[str]:
    """Return the keys that are set at any of these levels and begin with a prefix, sorted."""
    keys = set()
    for level in levels:
        for kind in ("setting", "element"):
            for path, lanes in registers.under(f"{kind}/{level}/"):
                parts = split_setting(path)
                if lanes and parts is not None and parts[0] == level and parts[1].startswith(prefix):
                    keys.add(parts[1])
    return sorted(keys)


def settings_at(registers: Registers, level: Level, prefix: str = "") -> dict[str, Value]:
    """Return what is kept at one level: key -> value, sorted by key; a set as a JSON array of its own elements."""
    found = {}
    for key in keys_under(registers, [level], prefix):
        value = effective(registers, [level], key)
        if value is not None and not (value.value == "[]" and is_set(registers, key)):
            found[key] = value
    return found


def effective_settings(registers: Registers, levels: Sequence[Level], prefix: str = "") -> dict[str, Value]:
    """Return all of a machine's effective settings: key -> value, sorted by key."""
    values = ((key, effective(registers, levels, key)) for key in keys_under(registers, levels, prefix))
    return {key: value for key, value in values if value is not None}
