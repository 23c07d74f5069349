"""Whose effective values a change alters: what each machine does now, and what it would do.

A change is one event or several that are not written yet. Whatever they touch is looked at, and nothing else; machines
to which the same happens are told of together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from cluster_store.core.cluster import Cluster
from cluster_store.core.events import Event
from cluster_store.core.history import plain
from cluster_store.core.naming import show_level
from cluster_store.core.registers import CLUSTER, Lane, Registers, Secret, Standing, split_setting
from cluster_store.core.rules import read
from cluster_store.core.settings import Value, effective, keys_under
from cluster_store.core.types import Level, MachineId, Path, RecordId
from cluster_store.core.values import unquote_part

#: Whatever is written now is later than all that stands.
_LATEST = 1 << 62


class Change(msgspec.Struct, frozen=True):
    """What a key is on a machine, and what it would be; None where it is not set."""

    key: str
    old: Value | None
    new: Value | None


class Impact(msgspec.Struct, frozen=True):
    """What changes on some machines alike: at least one machine, at least one key."""

    machines: tuple[MachineId, ...]
    changes: tuple[Change, ...]


class Foreseen:
    """Registers before and after events that nobody has written yet, each with its read model."""

    def __init__(self, registers: Registers, events: Iterable[Event]) -> None:
        """Read all registers, and put the events' writes into a copy of them."""
        now = dict(registers.under(""))
        then = dict(now)
        self.paths: dict[Path, None] = {}
        for number, event in enumerate(events):
            for write in event.writes:
                self.paths[write.path] = None
                kept = tuple(lane for lane in then.get(write.path, ()) if lane.id not in write.replaced)
                if not isinstance(write.value, bool):
                    text = event.secrets[write.path][1] if write.path in event.secrets else None
                    lane = Lane(RecordId(f"foreseen {number:05}"), write.value, _LATEST + number, weak=False, text=text)
                    kept = (*kept, lane)
                then[write.path] = kept
        self.before, self.after = Standing(now), Standing(then)
        self.cluster_before, self.cluster_after = read(self.before), read(self.after)


def impact(foreseen: Foreseen) -> list[Impact]:
    """Return whose effective values change, and how; machines that leave or come are no part of it."""
    found: dict[tuple[object, ...], Impact] = {}
    written = touched(foreseen)
    for machine in foreseen.cluster_before.machines:
        changes = _changes(foreseen, machine, written) if machine in foreseen.cluster_after.machines else []
        if changes:
            alike = tuple((one.key, _said(one.old), _said(one.new), one.new and one.new.level) for one in changes)
            others = found[alike].machines if alike in found else ()
            found[alike] = Impact((*others, machine), tuple(changes))
    return list(found.values())


def compare(
    before: tuple[Registers, Sequence[Level]], after: tuple[Registers, Sequence[Level]], keys: Iterable[str]
) -> list[Change]:
    """Return the keys that have other values with one set of registers and levels than with another one."""
    found = []
    for key in keys:
        old, new = effective(*before, key), effective(*after, key)
        if _said(old) != _said(new):
            found.append(Change(key, old, new))
    return found


def touched(foreseen: Foreseen) -> dict[Level, dict[str, None]]:
    """Return the keys that were written, by the level that they were written at."""
    found: dict[Level, dict[str, None]] = {}
    for path in foreseen.paths:
        setting = split_setting(path)
        if setting is not None:
            found.setdefault(setting[0], {})[setting[1]] = None
        elif path.startswith("kind/"):
            # Whether a key is a set is the same for all levels; everybody has the last of them.
            found.setdefault(CLUSTER, {})[unquote_part(path.partition("/")[2])] = None
    return found


def _changes(foreseen: Foreseen, machine: MachineId, written: dict[Level, dict[str, None]]) -> list[Change]:
    before = foreseen.cluster_before.levels_for(machine)
    after = foreseen.cluster_after.levels_for(machine)
    keys = {key: None for level in {**dict.fromkeys(before), **dict.fromkeys(after)} for key in written.get(level, ())}
    moved = [level for level in before if level not in after], [level for level in after if level not in before]
    keys |= dict.fromkeys(keys_under(foreseen.before, moved[0]))
    keys |= dict.fromkeys(keys_under(foreseen.after, moved[1]))
    return compare((foreseen.before, before), (foreseen.after, after), sorted(keys))


def _said(value: Value | None) -> object:
    """Return what a value says, so far as it is known: two secrets may be the same under different hashes."""
    if value is None:
        return None
    secret = isinstance(value.value, Secret)
    return (secret, value.lane.text if secret and value.lane.text is not None else value.value)


def to_json(impacts: Iterable[Impact], cluster: Cluster) -> list[dict[str, Any]]:
    """Return for scripts whose values change: ``machines``, and for each key ``old``, ``new`` and ``level``.

    Secrets are not shown. ``level`` is the one that gives the new value, None where there is none.
    """
    return [
        {
            "machines": [cluster.hostname(machine) for machine in one.machines],
            "changes": [change_to_json(change, cluster) for change in one.changes],
        }
        for one in impacts
    ]


def change_to_json(change: Change, cluster: Cluster) -> dict[str, Any]:
    """Return one key's change for scripts; ``unset`` tells a new value of null from none at all."""
    old, new = change.old, change.new
    return {
        "key": change.key,
        "old": plain(old.value) if old else None,
        "new": plain(new.value) if new else None,
        "level": show_level(new.level, cluster) if new else None,
        "unset": new is None,
    }
