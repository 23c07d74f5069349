"""What a machine did that whoever removed it did not know of, and who may not have heard of the removal.

A removal closes links, not the log: what the machine wrote without knowing of it counts, wherever a member took it that
had not heard yet. For a machine that was sold that is as it should be. Of a stolen one it is what the thief did.

What counts is causality, never a clock: a machine's claims about times are its own. A record is *in question* if it is
not in the past of a removal of its machine, and so is all that machines wrote which only such records let in. Removals
that the machine wrote itself do not count: it would hide by them what it did before. Who has written a record that came
after a removal has heard of it, and so has who acknowledged it on a link.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from cluster_store.core.causality import Line, Removals
from cluster_store.core.cluster import Cluster
from cluster_store.core.history import came_after
from cluster_store.core.registers import Registers
from cluster_store.core.state import Appended
from cluster_store.core.types import MachineId, Path, RecordId


class ReadBack(Protocol):
    """Reads a log backwards, as often as it is called."""

    def __call__(self, until: int | None = None) -> Iterable[Appended]:
        """Return the events up to a position, or all, the newest first."""


class Aftermath(msgspec.Struct, frozen=True):
    """What is in question of one machine."""

    machine: MachineId
    #: The records whose past is in no question. More than one only where removals knew of different things.
    since: tuple[RecordId, ...]
    #: Members that are not known to have heard of the removal.
    unheard: tuple[MachineId, ...]
    #: What it wrote, and those that it let in, in the order of this log.
    events: tuple[Appended, ...]
    #: The machines that only these let in, in the order in which they were.
    let_in: tuple[MachineId, ...]
    #: Register of a user that these wrote -> who else wrote it last; None where nobody did.
    users_before: dict[Path, RecordId | None]
    #: Whether somebody chose the moment: then whoever removed the machine may have known all of it.
    chosen: bool = False


class Known(msgspec.Struct, frozen=True):
    """All that is asked of a store."""

    me: MachineId
    cluster: Cluster
    #: Of every scope.
    registers: Registers
    lines: Sequence[Line]
    #: Line -> the removals that its newest record came after, or tells.
    knows: Mapping[int, Removals]
    newest_first: ReadBack
    oldest_first: Callable[[], Iterable[Appended]]
    #: Returns the place of a record in this log.
    position_of: Callable[[RecordId], int]
    #: Member -> the position up to which it acknowledged everything in this log, as far as anybody noted that.
    reached: Mapping[MachineId, int] = {}


def aftermaths(known: Known) -> list[Aftermath]:
    """Return what is in question of each machine that others removed, in the order of their ids."""
    found = []
    for machine in sorted(known.cluster.removed):
        removals = tuple(lane.id for lane in known.registers.standing(Path(f"machine/{machine}/removed")))
        search = _Search(known, machine, removals)
        by_others = [removal for removal in removals if search.authors[removal] != machine]
        if by_others:
            since, events = search.unseen(by_others)
            found.append(_with_those_let_in(known, machine, since, events, _unheard(known, removals)))
    return found


def aftermath_since(known: Known, machine: MachineId, moment: RecordId) -> Aftermath:
    """Return what is in question of a machine if only the past of one record, without itself, is in none."""
    since, events = _Search(known, machine, (moment,)).unseen([moment])
    found = _with_those_let_in(known, machine, since, events, ())
    return msgspec.structs.replace(found, chosen=True)


def _unheard(known: Known, removals: Sequence[RecordId]) -> tuple[MachineId, ...]:
    """Return the members that are not known to have heard of any of some removals."""
    heard = {known.me: None}
    for line in known.lines:
        if any(removal.record in removals for removal in sorted(known.knows.get(line.number, ()))):
            heard[line.machine] = None
    first = min(map(known.position_of, removals))
    heard |= {member: None for member, position in known.reached.items() if position >= first}
    return tuple(member for member in known.cluster.machines if member not in heard)


class _Search:
    """One reading of the log backwards: which moments had seen what a machine wrote."""

    def __init__(self, known: Known, machine: MachineId, moments: Sequence[RecordId]) -> None:
        self._bits = {record: 1 << bit for bit, record in enumerate(moments)}
        #: Moment -> the machine that wrote it.
        self.authors: dict[RecordId, MachineId] = {}
        #: What the machine wrote, the newest first, and the bits of the moments that came after each.
        self._written: list[tuple[Appended, int]] = []
        self._read(known, machine)

    def _read(self, known: Known, machine: MachineId) -> None:
        """Read as far as it takes: to the moments, and to what they had all seen of each of the machine's lines."""
        lines = {line.number: line for line in known.lines if line.machine == machine}
        # What stands behind all moments in this log came after none of them.
        last = max((line.position for line in lines.values()), default=0)
        last = max(last, *map(known.position_of, self._bits))
        told: dict[RecordId, int] = {}
        for added in known.newest_first(last):
            record, envelope = added.record, added.record.envelope
            mask = told.pop(record.id, 0)
            if record.id in self._bits:
                self.authors[record.id] = envelope.machine
            if envelope.machine == machine:
                self._written.append((added, mask))
                line = lines.get(added.line)
                if line is not None and (mask == (1 << len(self._bits)) - 1 or envelope.seq == line.forked_at + 1):
                    del lines[added.line]
            mask |= self._bits.get(record.id, 0)
            for before in came_after(envelope) if mask else ():
                told[before] = told.get(before, 0) | mask
            if not lines and len(self.authors) == len(self._bits):
                break

    def unseen(self, trusted: Sequence[RecordId]) -> tuple[list[RecordId], list[Appended]]:
        """Return what the machine wrote outside the past of any of some moments, and those that it takes to say so."""
        outside = {
            moment: [added for added, mask in self._written if not mask & self._bits[moment]] for moment in trusted
        }
        since: list[RecordId] = []
        events: dict[int, Appended] = {}
        for moment in sorted(trusted, key=lambda one: (-len(outside[one]), one)):
            fresh = {added.position: added for added in outside[moment] if added.position not in events}
            if fresh or not since:
                since.append(moment)
            events |= fresh
        return since, [events[position] for position in sorted(events) if not events[position].void]


def _with_those_let_in(
    known: Known, machine: MachineId, since: list[RecordId], events: list[Appended], unheard: tuple[MachineId, ...]
) -> Aftermath:
    """Add what the machines wrote that were let in, and by whom users were written before."""
    doubtful = {added.record.id for added in events}
    let_in = _only_let_in_by(doubtful, known) if any(map(admitted, events)) else {}
    let_in.pop(machine, None)
    users: dict[Path, RecordId | None] = {}
    if let_in or any(map(_users, events)):
        events = []
        for added in known.oldest_first():
            if added.void:
                continue
            is_doubtful = added.record.id in doubtful or added.record.envelope.machine in let_in
            events += [added] * is_doubtful
            for path in _users(added):
                users[path] = users.get(path) if is_doubtful else added.record.id
        written = {path for added in events for path in _users(added)}
        users = {path: record for path, record in users.items() if path in written}
    return Aftermath(machine, tuple(since), unheard, tuple(events), tuple(let_in), users)


def _only_let_in_by(doubtful: set[RecordId], known: Known) -> dict[MachineId, None]:
    """Return the machines that are members by doubtful records only, in the order in which they were let in.

    Whoever can be traced to the founder by other records is none of them, however often it was let in besides.
    """
    let_in: dict[MachineId, None] = {}
    hosts: dict[MachineId, list[MachineId]] = {}
    founder = None
    for added in known.oldest_first():
        author = added.record.envelope.machine
        founder = founder or author
        for machine in () if added.void else admitted(added):
            let_in[machine] = None
            if added.record.id not in doubtful:
                hosts.setdefault(author, []).append(machine)
    trusted = [founder] if founder is not None else []
    while trusted:
        host = trusted.pop()
        let_in.pop(host, None)
        trusted += [machine for machine in hosts.pop(host, ()) if machine in let_in]
    return let_in


def admitted(added: Appended) -> list[MachineId]:
    """Return the machines whose keys an event wrote."""
    paths = [write.path.split("/") for write in added.record.envelope.writes if write.path.startswith("machine/")]
    return [MachineId(owner) for _, owner, attribute in paths if attribute == "key"]


def _users(added: Appended) -> list[Path]:
    return [write.path for write in added.record.envelope.writes if write.path.startswith("user/")]
