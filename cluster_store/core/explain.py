"""Where a key's value comes from: the level that gives it, what that overrides, and which concurrent writes it beat."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from cluster_store.core.cluster import Cluster
from cluster_store.core.history import FindEvent, plain, timer_to_json, written_to_json
from cluster_store.core.naming import show_level
from cluster_store.core.registers import (
    Lane,
    LaneValue,
    Registers,
    differing,
    element_prefix,
    rank,
    setting_path,
    split_setting,
    winner,
)
from cluster_store.core.settings import KNOCKED_OUT, PRESENT, effective, element_lane, is_set
from cluster_store.core.timers import Timer, Timers, hiding
from cluster_store.core.types import Level, MachineId, Path


class Beaten(msgspec.Struct, frozen=True):
    """A concurrent write that still stands, says something else and is not the value."""

    lane: Lane
    why: str


class Source(msgspec.Struct, frozen=True):
    """What one level says of a key, or of one element of it."""

    level: Level
    #: The lane that counts there; its value is None where the key was unset.
    lane: Lane
    beaten: tuple[Beaten, ...]
    #: What takes it back, unless somebody says otherwise; None where it stays.
    timer: Timer | None = None
    #: What stands there again then.
    covers: tuple[Lane, ...] = ()

    @property
    def value(self) -> LaneValue:
        """What it says."""
        return self.lane.value


class Story(msgspec.Struct, frozen=True):
    """All that the levels say of one register's key or element, the most specific first."""

    #: JSON text of an element of a set; None where it is about a plain key.
    element: str | None
    sources: tuple[Source, ...]

    @property
    def effective(self) -> Source | None:
        """The level that gives the value, None where it is unset at all of them."""
        return next((source for source in self.sources if source.value is not None), None)

    @property
    def overridden(self) -> tuple[Source, ...]:
        """The less specific levels that would give another value if that one did not."""
        valued = [source for source in self.sources if source.value is not None]
        return tuple(valued[1:])


class Explanation(msgspec.Struct, frozen=True):
    """Why a key has its value on a machine."""

    key: str
    machine: MachineId
    #: JSON text, a secret's hash, or None where it is unset.
    value: LaneValue
    #: Whether the key is a set, with a story for each element; else there is one story, or none.
    is_set: bool
    stories: tuple[Story, ...]


def explain(registers: Registers, cluster: Cluster, machine: MachineId, key: str) -> Explanation:
    """Return why a key has its value on a machine, or why it has none."""
    levels = cluster.levels_for(machine)
    value = effective(registers, levels, key)
    elements = is_set(registers, key)
    timers = cluster.timers
    stories = _element_stories(registers, levels, key, timers) if elements else [_story(registers, levels, key, timers)]
    told = tuple(story for story in stories if story.sources)
    return Explanation(key, machine, value.value if value else None, elements, told)


def _story(registers: Registers, levels: Sequence[Level], key: str, timers: Timers) -> Story:
    found = [(level, path := setting_path(level, key), registers.standing(path)) for level in levels]
    return Story(None, tuple(_source(level, path, lanes, timers) for level, path, lanes in found if lanes))


def _element_stories(registers: Registers, levels: Sequence[Level], key: str, timers: Timers) -> Iterator[Story]:
    stories: dict[str, list[Source]] = {}
    for level in levels:
        for path, lanes in registers.under(element_prefix(level, key)):
            parts = split_setting(path)
            if parts is not None and parts[2] is not None and lanes:
                stories.setdefault(parts[2], []).append(_source(level, path, lanes, timers))
    for element, sources in sorted(stories.items()):
        yield Story(element, tuple(sources))


def _source(level: Level, path: Path, lanes: tuple[Lane, ...], timers: Timers) -> Source:
    seen = timers.seen(path, lanes)
    is_element = path.startswith("element/")
    lane = element_lane(seen) if is_element else winner(seen)
    assert lane is not None
    candidates = tuple(one for one in seen if one.value == PRESENT) if is_element and lane.value == PRESENT else seen
    others = [one for one in seen if one.id != lane.id and hiding(one) is None and differing((lane, one))]
    beaten = tuple(Beaten(one, _why(lane, one, candidates)) for one in sorted(others, key=rank, reverse=True))
    timer = timers.of(lane.id, path)
    covers = [one for one in lanes if timer is not None and one.id in timers.over.get(lane.id, ())]
    return Source(level, lane, beaten, timer, tuple(sorted(covers, key=rank, reverse=True)))


def _why(lane: Lane, other: Lane, candidates: tuple[Lane, ...]) -> str:
    """Return why one lane is the value and not another."""
    if other not in candidates:
        return "an addition to a set survives a removal that did not know of it"
    if other.weak and not lane.weak:
        return "a person's change goes before a timer's"
    if lane.hybrid > other.hybrid:
        return "it was written later"
    return "both were written at the same time, and its id is the greater"


# --- for scripts ---


def to_json(explanation: Explanation, cluster: Cluster, find: FindEvent) -> dict[str, Any]:
    """Return what ``explain --json`` says.

    For a plain key: ``level``, ``written``, ``overrides`` and ``beat``; for a set the same for each of its
    ``elements``. ``unset`` holds the more specific levels at which the key was unset; ``newer`` tells that what is
    overridden was written later than what overrides it.
    """
    shown: dict[str, Any] = {
        "key": explanation.key,
        "machine": cluster.hostname(explanation.machine),
        "set": explanation.is_set,
        "value": plain(explanation.value),
    }
    stories = [_story_to_json(story, cluster, find) for story in explanation.stories]
    if explanation.is_set:
        return shown | {"elements": stories}
    return shown | (stories[0] if stories else {})


def _story_to_json(story: Story, cluster: Cluster, find: FindEvent) -> dict[str, Any]:
    source = story.effective
    shown: dict[str, Any] = {"level": None, "written": None, "beat": []}
    if source is not None:
        shown = source_to_json(source, cluster, find)
        shown.pop("value")
    if story.element is not None:
        present = source is not None and source.value != KNOCKED_OUT
        shown = {"element": plain(story.element), "present": present, **shown}
    return shown | {
        "overrides": [_overridden_to_json(other, source, cluster, find) for other in story.overridden],
        "unset": [source_to_json(other, cluster, find) for other in story.sources if other.value is None],
    }


def _overridden_to_json(other: Source, source: Source | None, cluster: Cluster, find: FindEvent) -> dict[str, Any]:
    newer = source is not None and other.lane.hybrid > source.lane.hybrid
    return {**source_to_json(other, cluster, find), "newer": newer}


def source_to_json(source: Source, cluster: Cluster, find: FindEvent) -> dict[str, Any]:
    """Return what a level says, by whom, and what that beat; if it goes back by itself, when, and to what."""
    shown = {
        "level": show_level(source.level, cluster),
        "value": plain(source.value),
        "written": written_to_json(find(source.lane.id), cluster),
        "beat": [
            {"value": plain(beaten.lane.value), "why": beaten.why, **written_to_json(find(beaten.lane.id), cluster)}
            for beaten in source.beaten
        ],
    }
    if source.timer is None:
        return shown
    covers = [{"value": plain(lane.value), **written_to_json(find(lane.id), cluster)} for lane in source.covers]
    return {**shown, "timer": timer_to_json(source.timer, cluster), "covers": covers}
