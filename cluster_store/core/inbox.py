"""All that waits for somebody to settle it, and what settles it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from cluster_store.core.aftermath import Known
from cluster_store.core.cluster import Cluster
from cluster_store.core.commands import Acknowledgement, SettleConflicts, Settlement, SettleSettings
from cluster_store.core.conflicts import Conflict, Problem, conflicts, problems
from cluster_store.core.decide_conflicts import SETTINGS
from cluster_store.core.errors import NotFound, Refused
from cluster_store.core.hidden import Override, hidden_values, problem_of
from cluster_store.core.naming import SHORT_ID_DIGITS, iso_time, one_line, show_path
from cluster_store.core.past import FindSecret
from cluster_store.core.redress import findings
from cluster_store.core.registers import Registers, machine_level
from cluster_store.core.state import Appended
from cluster_store.core.types import MachineId, RecordId

#: How long after its time nobody wonders that a change has not gone back: its machine may be cut off, milliseconds.
_OVERDUE_MS = 3600 * 1000


class Inbox(msgspec.Struct, frozen=True):
    """What is open."""

    conflicts: list[Conflict]
    problems: list[Problem]
    #: Override -> its problem is among the ones above.
    overrides: list[Override]


def inbox(known: Known, voids: Iterable[Appended], secret: FindSecret) -> Inbox:
    """Return what waits for somebody to settle it.

    Args:
        known: the store.
        voids: the records that count for nothing.
        secret: finds the texts of users as they were before.
    """
    cluster, registers = known.cluster, known.registers
    overrides = hidden_values(cluster, registers, known.newest_first())
    found = [
        *problems(cluster, registers, known.lines, voids),
        *(problem_of(one, cluster) for one in overrides),
        *findings(known, secret),
    ]
    return Inbox(conflicts(registers), found, overrides)


def overdue(cluster: Cluster, now: int) -> list[Problem]:
    """Return the changes that should have gone back by themselves: their machines are gone, or were not heard of since.

    Args:
        cluster: with its timers.
        now: this machine's clock, milliseconds.
    """
    found = []
    for timer in cluster.timers.standing:
        gone = timer.machine not in cluster.machines
        if gone or now > timer.told.until + _OVERDUE_MS:
            event, name = timer.event[:SHORT_ID_DIGITS], one_line(cluster.hostname(timer.machine))
            who = f"{name}, which is no member any more," if gone else name
            text = (
                f"{who} was to take {event} back, and nothing was heard of that: 'confirm {event}' lets it stay, "
                f"'rollbackconfig {event}' takes it back from here"
            )
            found.append(
                Problem(
                    "overdue timer", text, timer.told.until, commands=(f"confirm {event}", f"rollbackconfig {event}")
                )
            )
    return found


def problem_to_json(problem: Problem) -> dict[str, Any]:
    """Return a problem as ``clustercheck --json`` shows it."""
    return {
        "kind": problem.kind,
        "text": problem.text,
        "since": iso_time(problem.since) if problem.since is not None else None,
        "path": problem.path or None,
        "events": list(problem.events),
        "names": list(problem.names),
        "commands": list(problem.commands),
    }


def resolve(
    choices: Sequence[tuple[str, RecordId]],
    found: Inbox,
    cluster: Cluster,
    registers: Registers,
    salt: bytes,
) -> SettleConflicts:
    """Return the command that settles what was named, by its path as printed and the event that is to count.

    Raises:
        NotFound: nothing is open there.
        Refused: the event is none of those to choose from, or one thing was named twice.
    """
    settlements: dict[str, Settlement] = {}
    noted: dict[MachineId, tuple[str, ...]] = {}
    for path, event in choices:
        settlement = _settlement(path, event, found, cluster, registers)
        if settlement is None:
            machine, signs = _looked_into(path, event, found)
            noted[machine] = (*noted.get(machine, ()), *signs)
        elif settlement.path in settlements:
            raise Refused(f"{path} was named twice", "name each once")
        else:
            settlements[settlement.path] = settlement
    of_settings = not noted and all(path.startswith(SETTINGS) for path in settlements)
    kind = SettleSettings if of_settings else SettleConflicts
    seen = tuple(Acknowledgement(machine=machine, signs=signs) for machine, signs in noted.items())
    return kind(settlements=tuple(settlements.values()), acknowledged=seen, salt=salt)


def _settlement(path: str, event: RecordId, found: Inbox, cluster: Cluster, registers: Registers) -> Settlement | None:
    """Return what settles a conflict or an override, None where nothing of these is open there."""
    for conflict in found.conflicts:
        if path in (conflict.path, show_path(conflict.path, cluster)):
            _check(path, event, tuple(lane.id for lane in conflict.lanes))
            standing = tuple(lane.id for lane in registers.standing(conflict.path))
            return Settlement(path=conflict.path, event=event, standing=standing)
    for override in found.overrides:
        if path in (override.path, show_path(override.path, cluster)):
            _check(path, event, (override.lane.id, override.hidden.id))
            standing = tuple(lane.id for lane in registers.standing(override.path))
            keep = event if event == override.lane.id else ""
            return Settlement(path=override.path, event=keep, standing=standing)
    return None


def _looked_into(path: str, event: RecordId, found: Inbox) -> tuple[MachineId, tuple[str, ...]]:
    """Return of which machine what is acknowledged. Raises NotFound and Refused."""
    there = [one for one in found.problems if one.signs and path in (one.path, machine_level(one.machine))]
    if not there:
        raise NotFound(f"nothing is open at {path}", "'clustercheck' shows what is, and under which path")
    _check(path, event, list(dict.fromkeys(known for one in there for known in one.events)))
    problem = next(one for one in there if event in one.events)
    return problem.machine, problem.signs


def _check(path: str, event: RecordId, known: Sequence[RecordId]) -> None:
    if event not in known:
        ids = ", ".join(one[:SHORT_ID_DIGITS] for one in known)
        raise Refused(f"the event {event[:SHORT_ID_DIGITS]} is none of those at {path}", f"choose one of {ids}")
