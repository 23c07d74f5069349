"""What stands against what: registers with several values at once, and promises that merging could not keep.

Merging never loses a write, so two people who changed one thing while apart both find their change standing. A
*conflict* is a register whose standing lanes say different things. A *problem* is what no single register shows: two
groups with one name, settings that nobody inherits, a machine that lived twice. Neither stops anything; both are
shown until somebody settles them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import msgspec
import orjson

from cluster_store.core.causality import Line
from cluster_store.core.cluster import ADMIN, ROLES, Cluster
from cluster_store.core.history import FindEvent, plain, written_to_json
from cluster_store.core.naming import one_line, show_event, show_path
from cluster_store.core.registers import Lane, Registers, Secret, rank, split_setting, winner
from cluster_store.core.settings import SET_KIND
from cluster_store.core.state import Appended
from cluster_store.core.types import Epoch, MachineId, Path
from cluster_store.core.values import unquote_part

#: Why an epoch began after records of its author's own had come back from a peer.
RESTORED = "restored"


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


# --- conflicts ---


def conflicts(registers: Registers) -> list[Conflict]:
    """Return the registers that hold several values, sorted by path."""
    return [
        Conflict(path, tuple(sorted(lanes, key=lambda lane: _rank(path, lane), reverse=True)))
        for path, lanes in registers.under("")
        if len(lanes) > 1 and _can_disagree(path) and len({_said(path, lane) for lane in lanes}) > 1
    ]


def _can_disagree(path: Path) -> bool:
    """Say whether concurrent writes to a register can contradict each other.

    Additions to a set all survive, and a machine that two people removed is removed.
    """
    return not path.startswith("element/") and not (path.startswith("machine/") and path.endswith("/removed"))


def _said(path: Path, lane: Lane) -> str:
    """Return what a lane says, as far as it can contradict another."""
    if path.startswith("machine/") and path.endswith("/detached") and lane.value is not None:
        return "detached"  # by whom and when is no contradiction
    if isinstance(lane.value, Secret):
        # Equal secrets were written with different salts.
        return f"#{lane.value.secret}" if lane.text is None else f"={lane.text}"
    return "-" if lane.value is None else f"={lane.value}"


def _rank(path: Path, lane: Lane) -> tuple[bool, int, object]:
    """Order lanes as the read model does: of a user's the deleted one wins, then the lesser role, then the latest."""
    if not path.startswith("user/") or path == f"user/{ADMIN}":
        return (False, 0, rank(lane))
    user = orjson.loads(lane.text or "{}")
    role = user.get("role")
    return (user.get("deleted") is True, -ROLES.index(role) if role in ROLES else -len(ROLES), rank(lane))


def to_json(conflict: Conflict, cluster: Cluster, find: FindEvent) -> dict[str, Any]:
    """Return a conflict as ``clustercheck --json`` shows it: ``unset`` tells a value of null from none at all."""
    lanes = [
        {**written_to_json(find(lane.id), cluster), "value": plain(lane.value), "unset": lane.value is None}
        for lane in conflict.lanes
    ]
    return {
        "path": show_path(conflict.path, cluster),
        "kind": conflict.kind,
        "lanes": lanes,
        "winner": conflict.winner.id,
    }


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
        *_shared_names(cluster),
        *_ineffective(cluster, registers),
        *_plain_under_set(cluster, registers),
        *_void(cluster, voids),
        *_lived_twice(cluster, registers, lines),
    ]


def _shared_names(cluster: Cluster) -> Iterator[Problem]:
    """Two machines, or groups, that were named alike on both sides of a cut both stay."""
    machines = [(machine.hostname, machine.id) for machine in cluster.machines.values()]
    groups = [(group.name, group.id) for group in cluster.groups.values()]
    cures = {
        "machine": "change one with 'machine set --hostname'",
        "group": "commands take their ids",
    }
    for what, named in (("machine", machines), ("group", groups)):
        by_name = sorted((name.casefold(), name, owner) for name, owner in named)
        for _, same in groupby(by_name, key=lambda entry: entry[0]):
            alike = list(same)
            if len(alike) > 1:
                ids = ", ".join(owner for _, _, owner in alike)
                yield Problem(
                    f"{what}s with one name",
                    f"{len(alike)} {what}s are named {one_line(alike[0][1])} ({ids}): {cures[what]}",
                )


def _ineffective(cluster: Cluster, registers: Registers) -> Iterator[Problem]:
    """Rule 4: a setting under a deleted group or a removed machine has no effect."""
    owners: dict[tuple[str, str], list[str]] = {}
    for kind in ("group", "machine"):
        live = [*cluster.groups] if kind == "group" else [*cluster.machines]
        for prefix in (f"setting/{kind}/", f"element/{kind}/"):
            for path, lanes in registers.under(prefix):
                owner = path.split("/")[2]
                said = winner(lanes)
                if owner not in live and said is not None and said.value is not None:
                    owners.setdefault((kind, owner), []).append(_key(path))
    for (kind, owner), keys in owners.items():
        named = list(dict.fromkeys(keys))
        gone = f"the deleted group {unquote_part(owner)}"
        if kind == "machine":
            name = cluster.removed.get(MachineId(owner)) or owner
            gone = f"{one_line(name)}, which is no member,"
        yield Problem(
            "settings without effect",
            f"{len(named)} settings under {gone} have no effect, {one_line(named[0])} for one: "
            f"move or unset them at --level {kind}:{owner}",
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
            )


def _void(cluster: Cluster, voids: Iterable[Appended]) -> Iterator[Problem]:
    for added in voids:
        envelope = added.record.envelope
        shown = one_line(show_event(envelope.machine, envelope.seq, added.record.id, cluster))
        yield Problem("void record", f"{shown} counts for nothing: it {one_line(added.void)}")


def _lived_twice(cluster: Cluster, registers: Registers, lines: Iterable[Line]) -> Iterator[Problem]:
    """Name the machines whose store was restored from an earlier copy or ran in two places. Nothing is lost by it.

    It shows in three ways: a feed with branches; an epoch that began without records that the machine had written
    in the one before; records that came back to their own author from a peer.
    """
    newest: dict[tuple[MachineId, Epoch], int] = {}
    signs: dict[MachineId, list[str]] = {}
    for line in lines:
        feed = (line.machine, line.epoch)
        if feed in newest:
            signs.setdefault(line.machine, []).append(f"wrote other records from number {line.forked_at + 1} on again")
        newest[feed] = max(newest.get(feed, 0), line.seq)
    for path, lanes in registers.under("machine/"):
        _, owner, attribute = path.split("/")
        machine = MachineId(owner)
        for lane in lanes if attribute.startswith("epoch:") else ():
            reason, epoch, seq = _beginning(lane)
            more = newest.get((machine, epoch), 0) - seq
            if epoch and more > 0:
                signs.setdefault(machine, []).append(f"began a new epoch without {more} records that it had written")
            elif reason == RESTORED:
                signs.setdefault(machine, []).append("got records of its own back from a peer")
    for machine, seen in sorted(signs.items()):
        yield Problem(
            "restored or cloned machine",
            f"{one_line(cluster.hostname(machine))} was restored from an earlier copy or ran twice: it "
            f"{' and '.join(dict.fromkeys(seen))}; nothing is lost, but see that only one of it runs",
        )


def _beginning(lane: Lane) -> tuple[str, Epoch, int]:
    """Return why an epoch began, the one before and the newest number there that was known; ``""`` where not told."""
    told = orjson.loads(lane.value) if isinstance(lane.value, str) else None
    match told:
        case {"reason": str(reason), "previous": [str(epoch), int(seq)]}:
            return reason, Epoch(epoch), seq
        case {"reason": str(reason)}:
            return reason, Epoch(""), 0
    return "", Epoch(""), 0
