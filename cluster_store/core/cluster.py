"""The read model: what the standing lanes say about machines, groups, users and the cluster.

Merging never fails, so registers can disagree with what a cluster promises. Each promise has one named
rule here that makes every reader see the same answer (docs/ARCHITECTURE.md, "Rules").
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Annotated, TypeVar

import msgspec
import orjson

from cluster_store.core.causality import Removal, is_removed
from cluster_store.core.errors import NotFound, Refused
from cluster_store.core.limits import TIME_MAX
from cluster_store.core.registers import CLUSTER, Lane, Registers, group_level, machine_level, rank, winner
from cluster_store.core.types import GroupId, Level, MachineId, Path, RecordId
from cluster_store.core.values import quote_part

#: The group that every cluster begins with.
MAIN_GROUP = "Main_Group"
#: Roles of users, least powerful first.
ROLES = ("guest", "operator", "administrator")
ADMIN = "admin"


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """One member, as the registers describe it."""

    id: MachineId
    hostname: str = ""
    serial: str = ""
    #: Effective group; empty while standalone.
    group: GroupId = GroupId("")
    #: IP interface names and their addresses; the first one's address is what peers dial by IP.
    interfaces: dict[str, str] = {}
    version: str = ""
    ssh_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 22
    ccs_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 2222
    listen: str = ""
    #: Where peers dial it, where that is neither its hostname nor its first interface.
    address: str = ""
    host_key: str = ""
    client_key: str = ""
    #: False until its own first record: let in, but not heard of.
    joined: bool = False
    #: Id of the standing record that detached it, and who wrote it when (milliseconds).
    detached: RecordId | None = None
    detached_by: str = ""
    detached_at: int = 0


class _Detachment(msgspec.Struct, frozen=True):
    """What the register of a machine's detachment holds."""

    by: str
    at: Annotated[int, msgspec.Meta(ge=0, le=TIME_MAX)]


#: Name, type and default of what a machine says of itself in registers of the same names.
_ATTRIBUTES = [
    (field.name, field.type, field.default_factory() if field.default is msgspec.NODEFAULT else field.default)
    for field in msgspec.structs.fields(Machine)
    if field.name not in ("id", "group", "joined", "detached", "detached_by", "detached_at")
]


class Group(msgspec.Struct, frozen=True):
    """One live group."""

    id: GroupId
    name: str


class User(msgspec.Struct, frozen=True, kw_only=True):
    """One person who may log in, on every machine."""

    id: str
    name: str
    role: str
    #: argon2id hash, empty when there is no password.
    password: str = ""
    #: OpenSSH public key lines.
    keys: tuple[str, ...] = ()
    deleted: bool = False


class Cluster(msgspec.Struct):
    """Everything but the settings."""

    #: Empty while the machine stands alone.
    name: str = ""
    #: How members name each other: ``hostname`` or ``ip``.
    by: str = "hostname"
    #: Live groups, in the order of their names.
    groups: dict[GroupId, Group] = {}
    #: Members, in the order of their hostnames.
    machines: dict[MachineId, Machine] = {}
    #: Machines that were removed, with the last hostname they had.
    removed: dict[MachineId, str] = {}
    users: dict[str, User] = {}

    def machine(self, name: str) -> Machine:
        """Return a member by hostname (any case) or id. Raises NotFound or Refused (ambiguous)."""
        found = [machine for machine in self.machines.values() if _same(machine.hostname, name) or machine.id == name]
        return _only(found, "machine", name, [machine.hostname for machine in self.machines.values()])

    def group(self, name: str) -> Group:
        """Return a live group by name (any case) or id. Raises NotFound or Refused (ambiguous)."""
        found = [group for group in self.groups.values() if _same(group.name, name)]
        found = found or [group for group in self.groups.values() if group.id == name]
        return _only(found, "group", name, [group.name for group in self.groups.values()])

    def members_of(self, group: GroupId) -> list[Machine]:
        """Return the machines of a group."""
        return [machine for machine in self.machines.values() if machine.group == group]

    def levels_for(self, machine: MachineId) -> list[Level]:
        """Return the levels that a machine inherits from, the most specific first."""
        levels = [machine_level(machine)]
        if machine in self.machines and self.machines[machine].group:
            levels.append(group_level(self.machines[machine].group))
        if self.name:
            levels.append(CLUSTER)
        return levels

    def level(self, text: str) -> Level:
        """Return the level that an operator wrote: ``cluster``, ``group:NAME`` or ``machine:NAME``.

        An id also works for a group or machine that is gone. Raises Refused or NotFound.
        """
        kind, _, name = text.partition(":")
        if kind.lower() == "cluster" and not name:
            if not self.name:
                raise Refused(
                    "this machine is not in a cluster, so it has no cluster level",
                    "leave --level out, or run 'clusterconfig create' first",
                )
            return CLUSTER
        if kind.lower() == "group" and name:
            return group_level(self.group(name).id)
        if kind.lower() == "machine" and name:
            if name in self.removed:
                return machine_level(MachineId(name))
            return machine_level(self.machine(name).id)
        raise Refused(f"'{text}' is no level", "a level is cluster, group:NAME or machine:NAME")

    def show_level(self, level: Level) -> str:
        """Return a level as an operator writes it."""
        kind, _, owner = level.partition("/")
        if kind == "group":
            group = self.groups.get(GroupId(owner))
            return f"group:{group.name if group else owner}"
        if kind == "machine":
            machine = self.machines.get(MachineId(owner))
            return f"machine:{machine.hostname if machine else owner}"
        return "cluster"

    def hostname(self, machine: MachineId) -> str:
        """Return a machine's name for people, its id where it has none."""
        if machine in self.machines:
            return self.machines[machine].hostname
        return self.removed.get(machine) or machine


def _same(one: str, two: str) -> bool:
    return one.casefold() == two.casefold()


_Named = TypeVar("_Named", Machine, Group)
_Kind = TypeVar("_Kind")
_Default = TypeVar("_Default")


def _only(found: list[_Named], what: str, name: str, known: list[str]) -> _Named:
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(sorted(thing.id for thing in found))
        raise Refused(f"there are {len(found)} {what}s named '{name}'", f"use the id instead: {ids}")
    raise NotFound(
        f"there is no {what} named '{name}'",
        f"known: {', '.join(known)}" if known else f"there are no {what}s yet: create or join a cluster first",
    )


def read(registers: Registers) -> Cluster:
    """Build the read model from the registers of the cluster scope."""
    about = dict(_winners(registers, "cluster/"))
    groups, successors, created = _groups(registers)
    removals = _removals(registers)
    machines, removed = {}, {}
    for machine, attributes in _attributes(registers, "machine/").items():
        key = MachineId(machine)
        if is_removed(key, removals):
            removed[key] = _value(attributes.get("hostname"), str, "")
        else:
            group = group_of(attributes.get("group"), groups, successors, created)
            machines[key] = _machine(key, group, attributes)
    return Cluster(
        name=_value(about.get(Path("cluster/name")), str, ""),
        by=_value(about.get(Path("cluster/by")), str, "hostname"),
        groups=groups,
        machines=dict(sorted(machines.items(), key=lambda item: (item[1].hostname.casefold(), item[0]))),
        removed=removed,
        users=_users(registers),
    )


def group_id(name: str, used: Iterable[str]) -> GroupId:
    """Return the id of a new group: the same name gives the same on both sides of a cut, a used one a fresh one."""
    base = quote_part(unicodedata.normalize("NFC", name.casefold()))
    taken = set(used)
    count = 1
    candidate = base
    while candidate in taken:
        count += 1
        candidate = f"{base}~{count}"
    return GroupId(candidate)


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
) -> tuple[dict[GroupId, Group], dict[GroupId, GroupId], dict[GroupId, tuple[int, RecordId]]]:
    """Rule 2: deletion is final for a group's id; if no group is left, the one deleted last lives on."""
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
    return ordered, {group: GroupId(_value(lane, str, "")) for group, lane in deleted.items()}, created


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
    values = {name: _value(attributes.get(name), kind, default) for name, kind, default in _ATTRIBUTES}
    return Machine(
        id=machine,
        group=group,
        joined=any(name.startswith("epoch:") for name in attributes),
        detached=lane.id if lane is not None and told is not None else None,
        detached_by=told.by if told is not None else "",
        detached_at=told.at if told is not None else 0,
        **values,
    )


def _users(registers: Registers) -> dict[str, User]:
    """Rule: of concurrent lanes of a user the deleted one wins, then the lesser role, then the latest.

    ``admin`` can be neither deleted nor demoted.
    """
    users = {}
    for path, lanes in registers.under("user/"):
        key = path.split("/")[1]
        known = [(user, lane) for lane in lanes if (user := _user(key, lane)) is not None]
        if not known:
            continue
        if key == ADMIN:
            chosen = max(known, key=lambda pair: rank(pair[1]))[0]
            users[key] = msgspec.structs.replace(chosen, role=ROLES[-1], deleted=False)
            continue
        chosen = max(known, key=lambda pair: (pair[0].deleted, -ROLES.index(pair[0].role), rank(pair[1])))[0]
        if not chosen.deleted:
            users[key] = chosen
    return users


def _user(key: str, lane: Lane) -> User | None:
    if lane.text is None:
        return None
    try:
        user = msgspec.convert({**orjson.loads(lane.text), "id": key}, User)
    except (msgspec.ValidationError, TypeError, ValueError):
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
