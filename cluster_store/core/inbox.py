"""All that waits for somebody to settle it, and what settles it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from cluster_store.core.causality import Line
from cluster_store.core.cluster import Cluster
from cluster_store.core.commands import Acknowledgement, SettleConflicts, Settlement, SettleSettings
from cluster_store.core.conflicts import (
    TWO_LIVES,
    Conflict,
    Problem,
    acknowledged,
    conflicts,
    problems,
    signs_of_two_lives,
)
from cluster_store.core.decide_conflicts import SETTINGS
from cluster_store.core.errors import NotFound, Refused
from cluster_store.core.hidden import Override, hidden_values, problem_of
from cluster_store.core.naming import SHORT_ID_DIGITS, iso_time, show_level, show_path
from cluster_store.core.registers import Registers, machine_level
from cluster_store.core.state import Appended
from cluster_store.core.types import RecordId


class Inbox(msgspec.Struct, frozen=True):
    """What is open."""

    conflicts: list[Conflict]
    problems: list[Problem]
    #: Override -> its problem is among the ones above.
    overrides: list[Override]


def inbox(
    cluster: Cluster,
    registers: Registers,
    lines: Iterable[Line],
    voids: Iterable[Appended],
    newest_first: Callable[[], Iterable[Appended]],
) -> Inbox:
    """Return what waits for somebody to settle it.

    Args:
        cluster: the read model of these registers.
        registers: of every scope.
        lines: all that the log holds.
        voids: the records that count for nothing.
        newest_first: reads the log backwards.
    """
    overrides = hidden_values(cluster, registers, newest_first())
    found = problems(cluster, registers, lines, voids)
    return Inbox(conflicts(registers), found + [problem_of(one, cluster) for one in overrides], overrides)


def problem_to_json(problem: Problem) -> dict[str, Any]:
    """Return a problem as ``clustercheck --json`` shows it."""
    return {
        "kind": problem.kind,
        "text": problem.text,
        "since": iso_time(problem.since) if problem.since is not None else None,
        "path": problem.path or None,
        "events": list(problem.events),
    }


def resolve(
    choices: Sequence[tuple[str, RecordId]],
    found: Inbox,
    cluster: Cluster,
    registers: Registers,
    lines: Iterable[Line],
    salt: bytes,
) -> SettleConflicts:
    """Return the command that settles what was named, by its path as printed and the event that is to count.

    Raises:
        NotFound: nothing is open there.
        Refused: the event is none of those to choose from, or one thing was named twice.
    """
    settlements: dict[str, Settlement] = {}
    noted: list[Acknowledgement] = []
    kept = list(lines)
    for path, event in choices:
        settlement = _settlement(path, event, found, cluster, registers)
        if settlement is None:
            noted.append(_acknowledgement(path, event, found, cluster, registers, kept))
        elif settlement.path in settlements:
            raise Refused(f"{path} was named twice", "name each once")
        else:
            settlements[settlement.path] = settlement
    of_settings = not noted and all(path.startswith(SETTINGS) for path in settlements)
    kind = SettleSettings if of_settings else SettleConflicts
    return kind(settlements=tuple(settlements.values()), acknowledged=tuple(noted), salt=salt)


def _settlement(path: str, event: RecordId, found: Inbox, cluster: Cluster, registers: Registers) -> Settlement | None:
    """Return what settles a conflict or an override, None where nothing of these is open there."""
    for conflict in found.conflicts:
        if path in (conflict.path, show_path(conflict.path, cluster)):
            standing = tuple(lane.id for lane in conflict.lanes)
            _check(path, event, standing)
            return Settlement(path=conflict.path, event=event, standing=standing)
    for override in found.overrides:
        if path in (override.path, show_path(override.path, cluster)):
            _check(path, event, (override.lane.id, override.hidden.id))
            standing = tuple(lane.id for lane in registers.standing(override.path))
            keep = event if event == override.lane.id else ""
            return Settlement(path=override.path, event=keep, standing=standing)
    return None


def _acknowledgement(
    path: str, event: RecordId, found: Inbox, cluster: Cluster, registers: Registers, lines: Iterable[Line]
) -> Acknowledgement:
    for machine, signs in signs_of_two_lives(registers, lines).items():
        shown = show_level(machine_level(machine), cluster)
        problem = next((one for one in found.problems if one.kind == TWO_LIVES and one.path == shown), None)
        if problem is not None and path in (shown, machine_level(machine)):
            _check(path, event, problem.events)
            return Acknowledgement(machine=machine, signs=(*acknowledged(registers, machine), *signs))
    raise NotFound(f"nothing is open at {path}", "'clustercheck' shows what is, and under which path")


def _check(path: str, event: RecordId, known: Sequence[RecordId]) -> None:
    if event not in known:
        ids = ", ".join(one[:SHORT_ID_DIGITS] for one in known)
        raise Refused(f"the event {event[:SHORT_ID_DIGITS]} is none of those at {path}", f"choose one of {ids}")
