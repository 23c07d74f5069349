"""What machines of a situation remember, take back and settle, and what waits for somebody to settle it.

> anna: rollback last N [force]          the last changes of settings
> anna: rollback by MACHINE [force]      all that a machine wrote
> anna: redress                        does what the findings after a removal say
> anna: settle PATH MACHINE...           with what that machine wrote there, or wrote that it hides
> anna: acknowledge MACHINE              what shows that it lived twice
> inbox [MACHINE...]                     what is open on every machine, or on these
> mark WORD                              this moment gets a name
> recall WORD KEY [MACHINE]              what a key was at the cluster level then, or what that machine knew of it
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from itertools import islice

from cluster_store.core import commands
from cluster_store.core.history import with_past
from cluster_store.core.inbox import Inbox, inbox, resolve
from cluster_store.core.naming import machine_ever, show_path
from cluster_store.core.past import Moment, belongs, past_of
from cluster_store.core.registers import CLUSTER, Registers, Secret, Standing
from cluster_store.core.rollback import Change, Rollback, can_be_taken_back, plan, value_of
from cluster_store.core.rules import read
from cluster_store.core.settings import effective
from cluster_store.core.types import Path, RecordId
from tests.core.agreement import known_to, log_of, registers_of
from tests.core.builders import rows_of
from tests.replicas import Machine

_ID = re.compile(r"\b[0-9a-f]{10}\b")


async def roll_back(machine: Machine, what: str, which: str, *force: str) -> list[str]:
    """Take events back; return what was, and what was kept."""
    log = log_of(machine)
    back = [added for added in reversed(log.records) if can_be_taken_back(added)]
    if what == "last":
        ids = {added.record.id for added in islice(back, int(which))}
    else:
        ids = {added.record.id for added in back if machine.cluster.hostname(added.record.envelope.machine) == which}
    return await _taken_back(machine, ids, force=bool(force))


async def _taken_back(machine: Machine, ids: set[RecordId], *, force: bool = False) -> list[str]:
    log = log_of(machine)
    registers = await _all(machine)

    def salted(path: Path, record: RecordId) -> tuple[bytes, str] | None:
        return log.secrets.get(record, {}).get(path)

    rollback = plan(lambda: log.records, lambda added: added.record.id in ids, registers, salted, force=force)
    command = commands.RollBackConfig(
        events=tuple(added.record.id for added in rollback.events), restorations=rollback.restorations
    )
    await machine.command(command)
    return _told(machine, rollback)


async def redress(machine: Machine) -> list[str]:
    """Give each command that the findings after a removal name; return these, and what was taken back."""
    _, found = await _inbox(machine)
    said = []
    for words in [shlex.split(command) for problem in found.problems for command in problem.commands]:
        said.append(f"does: {_ID.sub('EVENT', ' '.join(words))}")
        match words:
            case ["rollbackconfig", *named, "--since", since]:
                said += await _taken_back(machine, _written_since(machine, named[1::2], since))
            case ["clusterconfig", "removemachine", *names]:
                await machine.command(commands.RemoveMachines(machines=tuple(names)))
            case ["clusterconfig", "prepjoin", "delete", name]:
                await machine.command(commands.WithdrawAnnouncement(hostname=name))
            case ["userconfig", "delete", name]:
                await machine.command(commands.DeleteUser(user=name, salt=machine.fleet.fresh(16)))
            case ["userconfig", "edit", name, "--role", role]:
                await machine.command(commands.ChangeUser(user=name, role=role, salt=machine.fleet.fresh(16)))
            case _:
                said[-1] = said[-1].replace("does: ", "leaves to a person: ")
    return said


def _written_since(machine: Machine, names: Sequence[str], since: str) -> set[RecordId]:
    """Return what machines wrote that an event had not seen."""
    authors = [machine_ever(name, machine.cluster) for name in names]
    records = log_of(machine).records
    seen = with_past(reversed(records), lambda added: added.record.id.startswith(since))
    return {added.record.id for added in records if added.record.envelope.machine in authors} - seen


def _told(machine: Machine, rollback: Rollback) -> list[str]:
    said = [("takes back", one) for one in rollback.changes] + [("keeps", one) for one in rollback.kept]
    said = [(word, one) for word, one in said if not one.path.startswith("kind/")]
    return [f"{word} {_change(one, machine, word == 'takes back')}" for word, one in said] or ["nothing to take back"]


def _change(change: Change, machine: Machine, changes: bool) -> str:  # noqa: FBT001 - one of two words
    now, then = (_text(value_of(lane)) for lane in (change.now, change.then))
    path = show_path(change.path, machine.cluster)
    return f"{path}: {now} -> {then}" if changes else f"{path}: {now}, which was {then} before"


def _text(value: object) -> str:
    return "unset" if value is None else "secret" if isinstance(value, Secret) else str(value)


async def settle(machine: Machine, *words: str) -> None:
    """Settle what is open at a path with what a machine wrote, pair by pair."""
    registers, found = await _inbox(machine)
    choices = []
    for path, writer in zip(words[::2], words[1::2], strict=True):
        known = [
            lane.id for one in found.conflicts if show_path(one.path, machine.cluster) == path for lane in one.lanes
        ]
        known += [event for one in found.problems if one.path == path for event in one.events]
        choices.append((path, next(event for event in known if _author(machine, event) == writer)))
    await machine.command(_resolved(machine, choices, found, registers))


async def acknowledge(machine: Machine, name: str) -> None:
    """Say that one has looked into what a machine did."""
    registers, found = await _inbox(machine)
    (problem,) = [one for one in found.problems if one.path == f"machine:{name}" and len(one.events) == 1]
    await machine.command(_resolved(machine, [(problem.path, problem.events[0])], found, registers))


def _resolved(
    machine: Machine, choices: list[tuple[str, RecordId]], found: Inbox, registers: Registers
) -> commands.SettleConflicts:
    return resolve(choices, found, machine.cluster, registers, machine.fleet.fresh(16))


def _author(machine: Machine, event: RecordId) -> str:
    added = next(added for added in log_of(machine).records if added.record.id == event)
    return machine.cluster.hostname(added.record.envelope.machine)


async def open_on(machine: Machine) -> list[str]:
    """Return what is open on a machine, events without their ids."""
    registers, found = await _inbox(machine)
    cluster = read(registers)
    told = [
        f"conflict: {show_path(one.path, cluster)} = {' or '.join(_text(lane.value) for lane in one.lanes)}"
        for one in found.conflicts
    ]
    return told + [f"{one.kind}: {_ID.sub('EVENT', one.text)}" for one in found.problems]


async def _inbox(machine: Machine) -> tuple[Registers, Inbox]:
    registers = await _all(machine)
    records = log_of(machine).records
    voids = [added for added in records if added.void]
    known = known_to(log_of(machine), machine.state, registers, machine.replica.reached)
    return registers, inbox(known, voids, lambda path, record: _secret(machine, path, record))


def _secret(machine: Machine, path: Path, record: RecordId) -> str | None:
    found = log_of(machine).secrets.get(record, {}).get(path)
    return found[1] if found is not None else None


async def _all(machine: Machine) -> Registers:
    return Standing(dict((await registers_of(machine)).under("")))


def recalled(machine: Machine, time: int, key: str, known_by: Machine | None) -> str:
    """Return what a key was at a time, as a machine's own log tells it."""
    records = log_of(machine).records
    wanted = belongs(Moment(None, time), known_by.id if known_by is not None else None, machine.id)
    past = past_of(rows_of(reversed(records)), wanted, machine.id, lambda *_: None)
    found = effective(past, [CLUSTER], key)
    return _text(found.value if found is not None else None)
