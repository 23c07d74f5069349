"""What the standing lanes say about machines, groups, users and the cluster.

Merging never fails, so registers can disagree with what a cluster promises. Each promise has one named
rule here that makes every reader see the same answer (docs/ARCHITECTURE.md, "Rules").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, TypeVar

import msgspec

from cluster_store.core.causality import Removal, is_removed
from cluster_store.core.cluster import ADMIN, ROLES, TRANSPORTS, Announced, Cluster, Group, Machine, Removed, User
from cluster_store.core.limits import TIME_MAX
from cluster_store.core.registers import Lane, Registers, rank, winner
from cluster_store.core.timers import read_timers
from cluster_store.core.types import HYBRID_LOGICAL_BITS, GroupId, MachineId, Path, RecordId

_Kind = TypeVar("_Kind")
_Default = TypeVar("_Default")


class _Farewell(msgspec.Struct, frozen=True):
    """What a register beside a machine's removal says of it, for people."""

    by: str
    on: str
    at: Annotated[int, msgspec.Meta(ge=0, le=TIME_MAX)]


class _Beginning(msgspec.Struct, frozen=True):
    """What the register of an epoch holds, as far as it is read here."""

    reason: str


class _Announcement(msgspec.Struct, frozen=True):
    """What the register of an announced machine holds."""

    hostname: str
    serial: str
    key: str


class _Detachment(msgspec.Struct, frozen=True):
    """What the register of a machine's detachment holds."""

    by: str
    at: Annotated[int, msgspec.Meta(ge=0, le=TIME_MAX)]


#: Name, type and default of what a machine says of itself in registers of the same names.
_ATTRIBUTES = [
    (field.name, field.type, field.default_factory() if field.default is msgspec.NODEFAULT else field.default)
    for field in msgspec.structs.fields(Machine)
    if field.name
    not in ("id", "group", "joined", "epoch_reason", "epoch_begun", "detached", "detached_by", "detached_at")
]


def read(registers: Registers) -> Cluster:
    """Build the read model from the registers of the cluster scope."""
    about = dict(_winners(registers, "cluster/"))
    over = _value(about.get(Path("cluster/over")), str, "ssh")
    groups, deleted, successors, created = _groups(registers)
    removals = _removals(registers)
    machines, removed = {}, {}
    dissolved = None
    for owner, attributes in _attributes(registers, "machine/").items():
        key = MachineId(owner)
        group = group_of(attributes.get("group"), groups, successors, created)
        machine = _machine(key, group, attributes)
        if is_removed(key, removals):
            removed[key] = _removed(machine, attributes)
        else:
            machines[key] = machine
            if any(gone.machine == key and not gone.left for gone in removals):
                dissolved = _removed(machine, attributes)
    return Cluster(
        name=_value(about.get(Path("cluster/name")), str, ""),
        by=_value(about.get(Path("cluster/by")), str, "hostname"),
        over=over if over in TRANSPORTS else "ssh",
        groups=groups,
        deleted_groups=deleted,
        machines=dict(sorted(machines.items(), key=lambda item: (item[1].hostname.casefold(), item[0]))),
        removed=removed,
        dissolved=dissolved if len(machines) == 1 else None,
        users=_users(registers),
        announced=_announced(registers),
        timers=read_timers(registers),
    )


def group_of(
    lane: Lane | None,
    live: Mapping[GroupId, Group],
    successors: Mapping[GroupId, GroupId],
    created: Mapping[GroupId, tuple[int, RecordId]],
) -> GroupId:
    """Rule 1: a machine is in exactly one live group.

    If its group was deleted meanwhile, follow the deleted groups' successors; on a dead end or a circle,
    take the live group that was created first.
    """
    group = GroupId(_value(lane, str, ""))
    passed: set[GroupId] = set()
    while group not in live and group in successors and group not in passed:
        passed.add(group)
        group = successors[group]
    if group in live:
        return group
    return min(live, key=lambda candidate: (created[candidate], candidate), default=GroupId(""))


def _groups(
    registers: Registers,
) -> tuple[dict[GroupId, Group], dict[GroupId, Group], dict[GroupId, GroupId], dict[GroupId, tuple[int, RecordId]]]:
    """Rule 2: deletion is final for a group's id; if no group is left, the one deleted last lives on.

    Returns the live groups, the deleted ones, the deleted ones' successors, and when each was created.
    """
    names: dict[GroupId, str] = {}
    deleted: dict[GroupId, Lane] = {}
    created: dict[GroupId, tuple[int, RecordId]] = {}
    for path, lanes in registers.under("group/"):
        _, group, attribute = path.split("/")
        chosen = winner(lanes)
        if chosen is None:
            continue
        key = GroupId(group)
        if attribute == "name":
            names[key] = _value(chosen, str, group)
        elif attribute == "created":
            created[key] = min((lane.hybrid, lane.id) for lane in lanes)
        elif attribute == "deleted":
            deleted[key] = chosen
    known = {group: Group(group, names.get(group, group)) for group in created}
    live = {group: known[group] for group in known if group not in deleted}
    if known and not live:
        last = max(known, key=lambda group: rank(deleted[group]))
        live = {last: known[last]}
    ordered = dict(sorted(live.items(), key=lambda item: (item[1].name.casefold(), item[0])))
    gone = {group: known[group] for group in known if group not in live}
    return ordered, gone, {group: GroupId(_value(lane, str, "")) for group, lane in deleted.items()}, created


def _announced(registers: Registers) -> dict[str, Announced]:
    found = []
    for path, lane in _winners(registers, "announced/"):
        told = _value(lane, _Announcement, None)
        if told is not None:
            found.append(Announced(id=path.split("/")[1], hostname=told.hostname, serial=told.serial, key=told.key))
    return {one.id: one for one in sorted(found, key=lambda one: (one.hostname.casefold(), one.id))}


def _removals(registers: Registers) -> frozenset[Removal]:
    return frozenset(
        Removal(MachineId(path.split("/")[1]), lane.hybrid, lane.id, tuple(_value(lane, list[MachineId], [])))
        for path, lanes in registers.under("machine/")
        if path.endswith("/removed")
        for lane in lanes
    )


def _attributes(registers: Registers, prefix: str) -> dict[str, dict[str, Lane]]:
    found: dict[str, dict[str, Lane]] = {}
    for path, lane in _winners(registers, prefix):
        _, owner, attribute = path.split("/")
        found.setdefault(owner, {})[attribute] = lane
    return {owner: attributes for owner, attributes in found.items() if "key" in attributes}


def _machine(machine: MachineId, group: GroupId, attributes: Mapping[str, Lane]) -> Machine:
    lane = attributes.get("detached")
    told = _value(lane, _Detachment, None)
    epochs = [lane for name, lane in attributes.items() if name.startswith("epoch:")]
    newest = max(epochs, key=rank, default=None)
    began = _value(newest, _Beginning, None)
    values = {name: _value(attributes.get(name), kind, default) for name, kind, default in _ATTRIBUTES}
    return Machine(
        id=machine,
        group=group,
        joined=newest is not None,
        epoch_reason=began.reason if began is not None else "",
        epoch_begun=min(newest.hybrid >> HYBRID_LOGICAL_BITS, TIME_MAX) if newest is not None else 0,
        detached=lane.id if lane is not None and told is not None else None,
        detached_by=told.by if told is not None else "",
        detached_at=told.at if told is not None else 0,
        **values,
    )


def _removed(machine: Machine, attributes: Mapping[str, Lane]) -> Removed:
    told = _value(attributes.get("removal"), _Farewell, _Farewell("", "", 0))
    values = {field.name: getattr(machine, field.name) for field in msgspec.structs.fields(machine)}
    record = attributes["removed"].id
    return Removed(**values, record=record, removed_by=told.by, removed_on=told.on, removed_at=told.at)


def user_rank(user: str, lane: Lane) -> tuple[object, ...]:
    """Order lanes of a user: the deleted one wins, then the lesser role, then the latest.

    What is no description of a user comes last. ``admin`` can be neither deleted nor demoted: the latest wins.
    """
    found = user_of(user, lane)
    if found is None or user == ADMIN:
        return (found is not None, False, 0, rank(lane))
    return (True, found.deleted, -ROLES.index(found.role), rank(lane))


def _users(registers: Registers) -> dict[str, User]:
    """Return those who may log in; see ``user_rank``."""
    users = {}
    for path, lanes in registers.under("user/"):
        key = path.split("/")[1]
        chosen = user_of(key, max(lanes, key=lambda lane: user_rank(key, lane)))
        if chosen is not None and key == ADMIN:
            users[key] = msgspec.structs.replace(chosen, role=ROLES[-1], deleted=False)
        elif chosen is not None and not chosen.deleted:
            users[key] = chosen
    return users


def user_of(key: str, lane: Lane) -> User | None:
    """Return the user that a lane describes, None where it describes none, or its text is not here."""
    if lane.text is None:
        return None
    try:
        user = msgspec.convert({**msgspec.json.decode(lane.text), "id": key}, User)
    except (msgspec.DecodeError, TypeError, ValueError):
        return None
    return user if user.role in ROLES else None


def _winners(registers: Registers, prefix: str) -> Iterable[tuple[Path, Lane]]:
    for path, lanes in registers.under(prefix):
        lane = winner(lanes)
        if lane is not None:
            yield path, lane


def _value(lane: Lane | None, kind: type[_Kind], default: _Default) -> _Kind | _Default:
    """Return what a lane says if it has the right shape, else the default: a member can write anything anywhere."""
    if lane is None or not isinstance(lane.value, str):
        return default
    try:
        return msgspec.json.decode(lane.value, type=kind)
    except msgspec.DecodeError:
        return default
