"""What is to be seen to after a removal, and the commands that do it.

Each finding is there for as long as it matters: until all members have heard; until what a machine in question wrote
is taken back, or was written over by somebody who knew of it; until whom it let in is removed. What is to stay as it is
can be acknowledged, up to the newest record of these, so that whatever turns up later is told again.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence

from cluster_store.core import public_keys
from cluster_store.core.aftermath import Aftermath, Known, admitted, aftermaths
from cluster_store.core.cluster import ROLES, Cluster, User
from cluster_store.core.conflicts import Problem, acknowledged
from cluster_store.core.errors import ClusterStoreError
from cluster_store.core.history import describe
from cluster_store.core.naming import SHORT_ID_DIGITS, counted, machine_ever, one_line, show_level, show_path
from cluster_store.core.past import FindSecret
from cluster_store.core.registers import Lane, machine_level
from cluster_store.core.rollback import can_be_taken_back, plan
from cluster_store.core.rules import user_of
from cluster_store.core.state import Appended
from cluster_store.core.types import MachineId, Path, RecordId
from cluster_store.core.values import unquote_part

#: What of another machine is told by findings of their own, or is nobody's but its own.
_TOLD_ELSEWHERE = ("key", "removed", "removal", "acknowledged")
#: Kinds of events by which somebody gets a hold on the cluster, or loses it.
_HOLDS = ("MachineAdmitted", "MachineAnnounced", "MachinesRemoved", "UserAdded", "UserChanged")
#: Names in a sentence; JSON has all.
_NAMED_MAX = 8


def worth_a_look(newest_first: Iterable[Appended], me: MachineId) -> Appended | None:
    """Return the first of a machine's last events that let somebody in, kept somebody out, or changed a user.

    If the machine was in the wrong hands, whoever removed it may have known of all that, and not that it was wrong.
    When it let in the machine where that is asked, it was in no wrong hands: or there would be nobody to trust.
    """
    found = None
    for added in newest_first:
        if me in admitted(added):
            break
        if added.record.envelope.kind in _HOLDS and not added.void:
            found = added
    return found


def holds(found: Iterable[Problem]) -> bool:
    """Say whether some findings are about who is in the cluster or may log in, and not about settings only."""
    return any(problem.kind.startswith(("machines ", "users ")) for problem in found)


def findings(known: Known, secret: FindSecret) -> list[Problem]:
    """Return what is to be seen to of the machines that were removed.

    Args:
        known: the store.
        secret: finds the texts of users as they were before.
    """
    found: list[Problem] = []
    for aftermath in aftermaths(known):
        found += _unheard(aftermath, known)
        found += of_one(aftermath, known, secret)
    return found


def of_one(aftermath: Aftermath, known: Known, secret: FindSecret) -> list[Problem]:
    """Return what is to be seen to of what one machine did, and those that it let in."""
    return list(_Redress(aftermath, known, secret).problems())


def _unheard(aftermath: Aftermath, known: Known) -> Iterator[Problem]:
    gone = known.cluster.removed[aftermath.machine]
    seen = acknowledged(known.registers, gone.id, {added.record.id for added in aftermath.events})
    if not aftermath.unheard or gone.record in seen:
        return
    names = [known.cluster.hostname(member) for member in aftermath.unheard]
    those = f"{_some(names)} {'is' if len(names) == 1 else 'are'}"
    yield Problem(
        "removal not known to all",
        f"{those} not known to have heard that {_shown(gone.id, known)} was removed: until then, its links are taken "
        "there, and what it writes",
        gone.removed_at,
        show_level(machine_level(gone.id), known.cluster),
        (gone.record,),
        machine=gone.id,
        signs=(*seen, gone.record),
        names=tuple(names),
    )


class _Redress:
    """What one machine did, and what undoes it."""

    def __init__(self, aftermath: Aftermath, known: Known, secret: FindSecret) -> None:
        self._known = known
        self._secret = secret
        self._about = aftermath
        self._cluster: Cluster = known.cluster
        self._suspects = (aftermath.machine, *aftermath.let_in)
        self._is_removed = aftermath.machine in known.cluster.removed
        newest = {added.line: added.record.id for added in aftermath.events}
        seen = acknowledged(known.registers, aftermath.machine, {added.record.id for added in aftermath.events})
        self._signs = (*seen, *newest.values())
        # What was acknowledged, by itself or by a later record of its line, is told no more.
        done = {added.line: added.position for added in aftermath.events if added.record.id in seen}
        self._events = [added for added in aftermath.events if added.position > done.get(added.line, 0)]
        self._ids = {added.record.id for added in self._events}

    def problems(self) -> Iterator[Problem]:
        """Yield each thing to be seen to."""
        yield from self._settings()
        yield from self._let_in()
        yield from self._announced()
        yield from self._removed()
        for path, before in self._about.users_before.items():
            yield from self._user(path, before)
        yield from self._others()

    def _problem(
        self, kind: str, text: str, events: Sequence[Appended], *undoing: str, names: Sequence[str] = ()
    ) -> Problem:
        by = "a removed machine" if self._is_removed else "a machine in question"
        can_be_left = self._is_removed and events and not self._about.chosen
        return Problem(
            kind.format(by=by),
            one_line(text),
            max(added.learnt for added in events),
            show_level(machine_level(self._about.machine), self._cluster) if can_be_left else "",
            (self._events[-1].record.id,) if can_be_left else (),
            machine=self._about.machine,
            signs=self._signs,
            names=tuple(names),
            commands=undoing,
        )

    # --- settings ---

    def _settings(self) -> Iterator[Problem]:
        """Name all settings together: taken back one machine after the other, the former one's values would return."""
        events = list(filter(can_be_taken_back, self._events))
        ids = {added.record.id for added in events}
        if not events:
            return
        rollback = plan(
            self._known.oldest_first, lambda added: added.record.id in ids, self._known.registers, lambda *_: None
        )
        changed = [change.path for change in (*rollback.changes, *rollback.lost) if not change.path.startswith("kind/")]
        if not changed:
            return
        authors = dict.fromkeys(added.record.envelope.machine for added in events)
        machines = " ".join(f"--machine {named(machine, self._cluster)}" for machine in authors)
        commands = [f"rollbackconfig {machines} --since {moment[:SHORT_ID_DIGITS]}" for moment in self._about.since]
        yield self._problem(
            "settings of {by}",
            f"{self._whose(events)} wrote {counted(len(changed), 'setting')}, "
            f"{show_path(changed[0], self._cluster)} for one: {_quoted(commands)} takes "
            f"{'it' if len(changed) == 1 else 'them'} back",
            events,
            *commands,
        )

    # --- machines ---

    def _let_in(self) -> Iterator[Problem]:
        members = [machine for machine in self._about.let_in if machine in self._cluster.machines]
        events = [added for added in self._events if any(one in members for one in admitted(added))]
        if members and events:
            names = [named(machine, self._cluster) for machine in members]
            command = f"clusterconfig removemachine {' '.join(names)}"
            yield self._problem(
                "machines let in by {by}",
                f"{self._whose(events)} let in {_some(names)}: '{command}' removes "
                f"{'it' if len(names) == 1 else 'them'}",
                events,
                command,
                names=names,
            )

    def _announced(self) -> Iterator[Problem]:
        for one in self._cluster.announced.values():
            if events := self._standing(Path(f"announced/{one.id}")):
                command = f"clusterconfig prepjoin delete {shlex.quote(one.hostname)}"
                text = f"{self._whose(events)} announced {one.hostname}, which may join over CCS: '{command}' ends that"
                yield self._problem("machines announced by {by}", text, events, command, names=[one.hostname])

    def _removed(self) -> Iterator[Problem]:
        gone, events = [], []
        for machine in self._cluster.removed.values():
            path = Path(f"machine/{machine.id}/removed")
            lanes = self._known.registers.standing(path)
            if machine.id not in self._suspects and all(lane.id in self._ids for lane in lanes):
                gone.append(machine.hostname or machine.id)
                events += self._standing(path)
        if gone:
            yield self._problem(
                "machines removed by {by}",
                f"{self._whose(events)} removed {_some(gone)}: nothing takes that back, but what was removed can join "
                "again, under a new identity",
                events,
                names=gone,
            )

    # --- users ---

    def _user(self, path: Path, before: RecordId | None) -> Iterator[Problem]:
        events = self._standing(path)
        if not events:
            return
        key = path.partition("/")[2]
        text = self._secret(path, before) if before is not None else None
        was = user_of(key, Lane(before, None, 0, weak=False, text=text)) if before is not None and text else None
        now = self._cluster.users.get(key)
        what, commands = _user_redress(unquote_part(key), was, now, made=before is None)
        if what:
            undone = f": {_quoted(commands)}" if commands else ""
            shown = now or was
            yield self._problem(
                "users changed by {by}",
                f"{self._whose(events)} {what}{undone}",
                events,
                *commands,
                names=[shown.name if shown is not None else unquote_part(key)],
            )

    # --- whatever else ---

    def _others(self) -> Iterator[Problem]:
        events = [added for added in self._events if any(map(self._still_counts, self._other_paths(added)))]
        if events:
            name = named(self._about.machine, self._cluster)
            since = "".join(f" --since {moment[:SHORT_ID_DIGITS]}" for moment in self._about.since[:1])
            command = f"log --machine {name}{since}"
            yield self._problem(
                "other changes by {by}",
                f"{self._whose(events)} made {counted(len(events), 'other change')}, which "
                f"{'stands' if len(events) == 1 else 'stand'}, for one: {describe(events[-1], self._cluster)}; "
                f"'{command}' shows {'it' if len(events) == 1 else 'them'}",
                events,
                command,
            )

    def _other_paths(self, added: Appended) -> Iterator[Path]:
        """Yield what an event wrote that is told nowhere else, and is not about machines in question themselves."""
        for write in added.record.envelope.writes:
            kind, owner, *rest = write.path.split("/")
            attribute = rest[0] if rest else ""
            told = kind == "machine" and (owner in self._suspects or attribute in _TOLD_ELSEWHERE)
            gone = kind == "group" and owner in self._cluster.deleted_groups and attribute != "deleted"
            if kind in ("cluster", "group", "machine") and not told and not gone:
                yield write.path

    def _still_counts(self, path: Path) -> bool:
        return bool(self._standing(path))

    def _standing(self, path: Path) -> list[Appended]:
        """Return the events in question whose lanes stand in a register."""
        lanes = {lane.id for lane in self._known.registers.standing(path)} & self._ids
        return [added for added in self._events if added.record.id in lanes] if lanes else []

    # --- words ---

    def _whose(self, events: Sequence[Appended]) -> str:
        """Return the machines that wrote some events, and why that is told, unless somebody asked for it."""
        authors = dict.fromkeys(added.record.envelope.machine for added in events)
        names = " and ".join(_shown(machine, self._known) for machine in authors)
        gone = _shown(self._about.machine, self._known)
        if not self._is_removed or self._about.chosen:
            return names
        return f"{names}, unknown to whoever removed {'it' if names == gone else gone},"


def _user_redress(name: str, was: User | None, now: User | None, *, made: bool) -> tuple[str, list[str]]:
    """Return what was done to a user, and the commands that undo it; nothing where nothing is left of it."""
    if now is None:
        if made or (was is not None and was.deleted):
            return "", []
        role = was.role if was is not None else ROLES[0]
        gone = shlex.quote(was.name if was is not None else name)
        return f"deleted the user {gone}", [f"userconfig new {gone} --role {role}"]
    named = shlex.quote(now.name)
    if made:
        return f"made the user {now.name}, {now.role}", [f"userconfig delete {named}"]
    if was is None:
        return f"changed the user {now.name}, whose former state is not here", [f"passwd {named}"]
    options, told = [], []
    if was.role != now.role:
        options.append(f"--role {was.role}")
        higher = ROLES.index(now.role) > ROLES.index(was.role)
        told.append(f"{'raised' if higher else 'lowered'} the role of {now.name} from {was.role} to {now.role}")
    if was.name != now.name:
        options.append(f"--rename {shlex.quote(was.name)}")
        told.append(f"renamed {was.name} to {now.name}")
    known = public_keys.of_lines(was.keys)
    added = [key for key in public_keys.of_lines(now.keys) if not any(key.same(other) for other in known)]
    options += [f"--remove-key {key.fingerprint}" for key in added]
    told += [f"gave {now.name} a key" for _ in added[:1]]
    commands = [f"userconfig edit {named} {' '.join(options)}"] if options else []
    if was.password != now.password:
        told.append(f"changed the password of {now.name}")
        commands.append(f"passwd {named}")
    return " and ".join(told) or f"changed the user {now.name}", commands


def named(machine: MachineId, cluster: Cluster) -> str:
    """Return a machine's name for a command: its id where the name is no other's, or no plain word."""
    name = cluster.hostname(machine)
    try:
        return name if shlex.quote(name) == name and machine_ever(name, cluster) == machine else machine
    except ClusterStoreError:
        return machine


def _shown(machine: MachineId, known: Known) -> str:
    return one_line(known.cluster.hostname(machine))


def _some(names: Sequence[str]) -> str:
    told = [*names[:_NAMED_MAX], *[f"{len(names) - _NAMED_MAX} more"] * (len(names) > _NAMED_MAX)]
    return one_line(", ".join(told))


def _quoted(commands: Sequence[str]) -> str:
    return ", then ".join(f"'{command}'" for command in commands)
