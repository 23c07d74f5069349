"""What stands against what: registers with several values at once, and promises that merging could not keep.

Merging never loses a write, so two people who changed one thing while apart both find their change standing. A
*conflict* is a register whose standing lanes say different things. A *problem* is what no single register shows: two
groups with one name, settings that nobody inherits, a machine that lived twice. Neither stops anything; both are
shown until somebody settles them.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from itertools import groupby
from typing import Any

import msgspec

from cluster_store.core.causality import Line
from cluster_store.core.cluster import Cluster
from cluster_store.core.history import FindEvent, plain, written_to_json
from cluster_store.core.naming import counted, iso_time, one_line, show_event, show_level, show_path, show_user
from cluster_store.core.registers import (
    Lane,
    Registers,
    Secret,
    group_level,
    kind_path,
    machine_level,
    rank,
    split_setting,
    winner,
)
from cluster_store.core.requirements import unmet
from cluster_store.core.rules import user_of, user_rank
from cluster_store.core.settings import SET_KIND
from cluster_store.core.state import Appended
from cluster_store.core.timers import read_timers
from cluster_store.core.types import HYBRID_LOGICAL_BITS, Epoch, GroupId, Level, MachineId, Path, RecordId
from cluster_store.core.values import to_python, unquote_part

#: Why an epoch began after records of its author's own had come back from a peer.
RESTORED = "restored"
#: The problem of a machine that was restored or cloned.
TWO_LIVES = "restored or cloned machine"


class Conflict(msgspec.Struct, frozen=True):
    """A register with standing lanes that differ."""

    path: Path
    #: At least two: the one that is the value, then the others, the latest first.
    lanes: tuple[Lane, ...]

    @property
    def kind(self) -> str:
        """What it is about: ``setting``, ``cluster``, ``group``, ``machine``, ``user``, ``kind`` or ``announced``."""
        return self.path.partition("/")[0]

    @property
    def winner(self) -> Lane:
        """The lane that is the register's value until somebody settles it."""
        return self.lanes[0]


class Problem(msgspec.Struct, frozen=True):
    """Something that an operator should put right: a word for scripts and a sentence for people."""

    kind: str
    text: str
    #: When the last of what it takes was written, milliseconds since 1970; None where nothing tells.
    since: int | None = None
    #: What ``--resolve`` calls it and the events that can be named there; empty where it is put right otherwise.
    path: str = ""
    events: tuple[RecordId, ...] = ()
    #: What ``--resolve`` writes down where it only notes that somebody has looked: of which machine, and signs.
    machine: MachineId = MachineId("")
    signs: tuple[str, ...] = ()
    #: For scripts: whom it is about, and the commands that put it right, one after the other.
    names: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


# --- conflicts ---


def conflicts(registers: Registers) -> list[Conflict]:
    """Return the registers that hold several values, sorted by path.

    What a change with a timer covers is no value beside its own.
    """
    timers = read_timers(registers)
    several = ((path, lanes) for path, lanes in registers.under("") if len(lanes) > 1 and _can_disagree(path))
    seen = ((path, timers.seen(path, lanes)) for path, lanes in several)
    return [
        Conflict(path, tuple(sorted(lanes, key=lambda lane: _rank(path, lane), reverse=True)))
        for path, lanes in seen
        if len({_said(path, lane) for lane in lanes}) > 1
    ]


def _can_disagree(path: Path) -> bool:
    """Say whether concurrent writes to a register can contradict each other.

    Additions to a set all survive, a machine that two people removed is removed, and a group that two people deleted is
    deleted: where its machines were put tells whether that is a contradiction. What either of two acknowledged is that,
    and each timer is one of its own.
    """
    return not (
        path.startswith(("element/", "timer/"))
        or (path.startswith("machine/") and path.endswith(("/removed", "/removal", "/acknowledged")))
        or (path.startswith("group/") and path.endswith("/deleted"))
    )


def _said(path: Path, lane: Lane) -> str:
    """Return what a lane says, as far as it can contradict another."""
    if path.startswith("machine/") and path.endswith("/detached") and lane.value is not None:
        return "detached"  # by whom and when is no contradiction
    if isinstance(lane.value, Secret):
        # Equal secrets were written with different salts.
        return f"#{lane.value.secret}" if lane.text is None else f"={lane.text}"
    return "-" if lane.value is None else f"={lane.value}"


def _rank(path: Path, lane: Lane) -> tuple[object, ...]:
    """Order lanes as the read model does."""
    kind, _, owner = path.partition("/")
    return user_rank(owner, lane) if kind == "user" else rank(lane)


def to_json(conflict: Conflict, cluster: Cluster, find: FindEvent) -> dict[str, Any]:
    """Return a conflict as ``clustercheck --json`` shows it: ``unset`` tells a value of null from none at all."""
    events = [(lane, find(lane.id)) for lane in conflict.lanes]
    lanes = [
        {**written_to_json(event, cluster), "value": _shown(conflict.path, lane), "unset": lane.value is None}
        for lane, event in events
    ]
    return {
        "path": show_path(conflict.path, cluster),
        "kind": conflict.kind,
        "since": iso_time(_met(conflict.path, events)),
        "lanes": lanes,
        "winner": conflict.winner.id,
    }


def _shown(path: Path, lane: Lane) -> Any:
    """Return what a lane says, of a user what an operator may see of one: no hash."""
    kind, _, owner = path.partition("/")
    user = user_of(owner, lane) if kind == "user" else None
    return plain(lane.value) if user is None else show_user(user)


def _met(path: Path, events: Iterable[tuple[Lane, Appended]]) -> int:
    """Return when this machine first knew of two writes that contradict each other."""
    first, *others = sorted(events, key=lambda one: one[1].learnt)
    against = [event.learnt for lane, event in others if _said(path, lane) != _said(path, first[0])]
    return against[0]


# --- problems ---


def problems(cluster: Cluster, registers: Registers, lines: Iterable[Line], voids: Iterable[Appended]) -> list[Problem]:
    """Return what should be put right, apart from conflicts.

    Args:
        cluster: the read model of these registers.
        registers: of every scope.
        lines: all that the log holds.
        voids: the records that count for nothing.
    """
    return [
        *_shared_names(cluster, registers),
        *_stood_in(cluster, registers),
        *_unmet(cluster, registers),
        *_ineffective(cluster, registers),
        *_plain_under_set(cluster, registers),
        *_void(cluster, voids),
        *_lived_twice(cluster, registers, lines),
    ]


#: What has a name -> the register that keeps it.
_NAMED_BY = {"machine": "machine/{}/hostname", "group": "group/{}/name", "user": "user/{}"}


def written_at(registers: Registers, *paths: str) -> int | None:
    """Return when the last write that stands in any of some registers was made, by its author's hybrid time."""
    times = [lane.hybrid >> HYBRID_LOGICAL_BITS for path in paths for lane in registers.standing(Path(path))]
    return max(times, default=None)


#: What members do not keep -> the attributes that say so.
_DEMANDED = {
    "interface names differ": ("interfaces",),
    "versions differ": ("version",),
    "machines with one serial number": ("serial",),
    "hostnames and addresses mixed": ("hostname", "interfaces", "address"),
}


def _unmet(cluster: Cluster, registers: Registers) -> Iterator[Problem]:
    for kind, text in unmet(cluster):
        paths = [f"machine/{machine}/{name}" for machine in cluster.machines for name in _DEMANDED.get(kind, ())]
        yield Problem(kind, one_line(text), written_at(registers, "cluster/by", *paths))


def _shared_names(cluster: Cluster, registers: Registers) -> Iterator[Problem]:
    """Two machines, groups or users that were named alike on both sides of a cut both stay."""
    machines = [(machine.hostname, machine.id) for machine in cluster.machines.values()]
    groups = [(group.name, group.id) for group in cluster.groups.values()]
    users = [(user.name, user.id) for user in cluster.users.values()]
    cures = {
        "machine": "change one with 'machine set --hostname'",
        "group": "commands take their ids",
        "user": "none of them can log in until one is renamed, with 'userconfig edit ID --rename NAME'",
    }
    for what, named in (("machine", machines), ("group", groups), ("user", users)):
        by_name = sorted((name.casefold(), name, owner) for name, owner in named)
        for _, same in groupby(by_name, key=lambda entry: entry[0]):
            alike = list(same)
            if len(alike) > 1:
                owners = (cluster.group_address(GroupId(owner)) if what == "group" else owner for _, _, owner in alike)
                ids = ", ".join(owners)
                yield Problem(
                    f"{what}s with one name",
                    f"{len(alike)} {what}s are named {one_line(alike[0][1])} ({ids}): {cures[what]}",
                    written_at(registers, *(_NAMED_BY[what].format(owner) for _, _, owner in alike)),
                )


def _stood_in(cluster: Cluster, registers: Registers) -> Iterator[Problem]:
    """Rules 1 and 2: name the groups and machines for which a rule decides, because both sides of a cut wrote."""
    for group in cluster.groups.values():
        if registers.standing(Path(f"group/{group.id}/deleted")):
            yield Problem(
                "deleted group that lives on",
                f"the last groups were deleted at the same time, and {one_line(group.name)} was the last of them, so "
                f"it lives on: 'clusterconfig renamegroup {_word(group_level(group.id), cluster)} NAME', with any "
                "name, or another group makes that final",
                written_at(registers, f"group/{group.id}/deleted"),
            )
    for machine in cluster.machines.values():
        said = winner(registers.standing(Path(f"machine/{machine.id}/group")))
        written = to_python(said.value) if said is not None and isinstance(said.value, str) else None
        deleted = cluster.deleted_groups.get(GroupId(written)) if isinstance(written, str) else None
        if deleted is not None and machine.group in cluster.groups:
            name, group_name = one_line(machine.hostname), one_line(cluster.groups[machine.group].name)
            words = f"{_word(machine_level(machine.id), cluster)} {_word(group_level(machine.group), cluster)}"
            yield Problem(
                "machine of a deleted group",
                f"{name} was put into {one_line(deleted.name)}, which was deleted meanwhile, so it is in {group_name}: "
                f"'clusterconfig setgroup {words}' makes that final",
                written_at(registers, f"machine/{machine.id}/group", f"group/{deleted.id}/deleted"),
            )


def _word(level: Level, cluster: Cluster) -> str:
    """Return what a command calls a group or machine: its name, or its id where that is another one's name too."""
    return one_line(cluster.show_level(level).partition(":")[2])


def _ineffective(cluster: Cluster, registers: Registers) -> Iterator[Problem]:
    """Rule 4: a setting under a deleted group or a removed machine has no effect."""
    owners: dict[tuple[str, str], list[Path]] = {}
    for kind in ("group", "machine"):
        live = [*cluster.groups] if kind == "group" else [*cluster.machines]
        for prefix in (f"setting/{kind}/", f"element/{kind}/"):
            for path, lanes in registers.under(prefix):
                owner = path.split("/")[2]
                said = winner(lanes)
                if owner not in live and said is not None and said.value is not None:
                    owners.setdefault((kind, owner), []).append(path)
    for (kind, owner), paths in owners.items():
        named = list(dict.fromkeys(map(_key, paths)))
        gone = f"{one_line(cluster.hostname(MachineId(owner)))}, which is no member,"
        if kind == "group":
            known = cluster.deleted_groups.get(GroupId(owner))
            gone = f"the deleted group {one_line(known.name if known else unquote_part(owner))}"
        yield Problem(
            "settings without effect",
            f"{counted(len(named), 'setting')} under {gone} {'has' if len(named) == 1 else 'have'} no effect, "
            f"{one_line(named[0])} for one: move or unset at --level {cluster.show_level(Level(f'{kind}/{owner}'))}",
            written_at(registers, f"{kind}/{owner}/deleted", f"{kind}/{owner}/removed", *paths),
        )


def _key(path: Path) -> str:
    setting = split_setting(path)
    return setting[1] if setting else path


def _plain_under_set(cluster: Cluster, registers: Registers) -> Iterator[Problem]:
    """A key that one side made a set while the other gave it a plain value is a set; the plain value is not seen."""
    kinds = ((path, winner(lanes)) for path, lanes in registers.under("kind/"))
    sets = {unquote_part(path.split("/")[1]) for path, lane in kinds if lane is not None and lane.value == SET_KIND}
    if not sets:
        return
    for path, lanes in registers.under("setting/"):
        said = winner(lanes)
        if said is not None and said.value is not None and _key(path) in sets:
            shown = one_line(show_path(path, cluster))
            yield Problem(
                "plain value under a set",
                f"{shown} has a plain value, which is not seen since the key is a set: add what it holds, if it is "
                "still wanted, with 'add'",
                written_at(registers, path, kind_path(_key(path))),
            )


def _void(cluster: Cluster, voids: Iterable[Appended]) -> Iterator[Problem]:
    for added in voids:
        envelope = added.record.envelope
        shown = one_line(show_event(envelope.machine, envelope.seq, added.record.id, cluster))
        yield Problem("void record", f"{shown} counts for nothing: it {one_line(added.void)}", envelope.time)


def _lived_twice(cluster: Cluster, registers: Registers, lines: Iterable[Line]) -> Iterator[Problem]:
    """Name the machines whose store was restored from an earlier copy or ran in two places. Nothing is lost by it.

    It shows in three ways: a feed with branches; an epoch that began without records that the machine had written
    in the one before; records that came back to their own author from a peer.
    """
    for machine, seen in sorted(signs_of_two_lives(registers, lines).items()):
        fresh = {sign: words for sign, words in seen.items() if sign not in acknowledged(registers, machine)}
        if fresh:
            began = [lane for path, lanes in registers.under(f"machine/{machine}/epoch:") for lane in lanes]
            last = winner(began)
            yield Problem(
                TWO_LIVES,
                f"{one_line(cluster.hostname(machine))} was restored from an earlier copy or ran twice: it "
                f"{' and '.join(dict.fromkeys(fresh.values()))}; what other machines have of it came back; see that "
                "only one of it runs",
                last.hybrid >> HYBRID_LOGICAL_BITS if last is not None else None,
                show_level(machine_level(machine), cluster),
                (last.id,) if last is not None else (),
                machine=machine,
                # Records are acknowledged by those who know which of these are in question.
                signs=(*(sign for sign in acknowledged(registers, machine) if " " in sign or ":" in sign), *seen),
            )


def signs_of_two_lives(registers: Registers, lines: Iterable[Line]) -> dict[MachineId, dict[str, str]]:
    """Return what shows that machines lived twice: a word for each sign, the same on every machine, and a sentence."""
    newest: dict[tuple[MachineId, Epoch], int] = {}
    branches: dict[tuple[MachineId, Epoch], int] = {}
    signs: dict[MachineId, dict[str, str]] = {}
    for line in lines:
        feed = (line.machine, line.epoch)
        branches[feed] = branches.get(feed, 0) + 1
        if feed in newest:
            sign = f"{line.epoch} branch {branches[feed]}"
            told = f"wrote other records from number {line.forked_at + 1} on again"
            signs.setdefault(line.machine, {})[sign] = told
        newest[feed] = max(newest.get(feed, 0), line.seq)
    for path, lanes in registers.under("machine/"):
        _, owner, attribute = path.split("/")
        machine = MachineId(owner)
        for lane in lanes if attribute.startswith("epoch:") else ():
            reason, epoch, seq = _beginning(lane)
            more = newest.get((machine, epoch), 0) - seq
            if epoch and more > 0:
                told = f"began a new epoch without {more} records that it had written"
                signs.setdefault(machine, {})[f"{epoch} number {newest[machine, epoch]}"] = told
            elif reason == RESTORED:
                signs.setdefault(machine, {})[attribute] = "got records of its own back from a peer"
    return signs


def acknowledged_path(machine: MachineId) -> Path:
    """Return the register that holds which signs of two lives somebody has looked into: a list of texts."""
    return Path(f"machine/{machine}/acknowledged")


def acknowledged(registers: Registers, machine: MachineId, doubtful: Container[RecordId] = ()) -> dict[str, None]:
    """Return what of a machine somebody has looked into: signs of two lives, records of one that was removed.

    What ``doubtful`` records say of that does not count: a thief would acknowledge its own.
    """
    found: dict[str, None] = {}
    for lane in registers.standing(acknowledged_path(machine)):
        if lane.id in doubtful:
            continue
        try:
            found |= dict.fromkeys(
                msgspec.json.decode(lane.value if isinstance(lane.value, str) else "[]", type=list[str])
            )
        except msgspec.DecodeError:
            continue  # a member may write anything anywhere
    return found


def _beginning(lane: Lane) -> tuple[str, Epoch, int]:
    """Return why an epoch began, the one before and the newest number there that was known; ``""`` where not told."""
    told = to_python(lane.value) if isinstance(lane.value, str) else None
    match told:
        case {"reason": str(reason), "previous": [str(epoch), int(seq)]}:
            return reason, Epoch(epoch), seq
        case {"reason": str(reason)}:
            return reason, Epoch(""), 0
    return "", Epoch(""), 0
