"""The read model: what the standing lanes say about machines, groups, users and the cluster.

Merging never fails, so registers can disagree with what a cluster promises. Each promise has one named
rule here that makes every reader see the same answer (docs/ARCHITECTURE.md, "Rules").
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, TypeVar

import msgspec
import orjson

from cluster_store.core.causality import Removal, is_removed
from cluster_store.core.errors import NotFound, Refused
from cluster_store.core.limits import TIME_MAX
from cluster_store.core.registers import CLUSTER, Lane, Registers, group_level, machine_level, rank, winner
from cluster_store.core.types import HYBRID_LOGICAL_BITS, GroupId, Level, MachineId, Path, RecordId
from cluster_store.core.values import quote_part

#: The group that every cluster begins with.
MAIN_GROUP = "Main_Group"
#: Roles of users, least powerful first.
ROLES = ("guest", "operator", "administrator")
ADMIN = "admin"
#: How members talk to each other: the name of a transport -> the attribute of a machine that holds its port.
TRANSPORTS = {"ssh": "ssh_port", "ccs": "ccs_port"}


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
    #: Ports that it had before, of either kind, the latest first.
    former_ports: tuple[Annotated[int, msgspec.Meta(ge=0, le=65535)], ...] = ()
    listen: str = ""
    #: Where peers dial it, where that is neither its hostname nor its first interface.
    address: str = ""
    host_key: str = ""
    client_key: str = ""
    #: What makes clusters possible on old platform versions; empty for none.
    feature_key: str = ""
    #: False until its own first record: let in, but not heard of.
    joined: bool = False
    #: Why its newest epoch began, ``restored`` or ``repaired`` for two, and when, milliseconds.
    epoch_reason: str = ""
    epoch_begun: int = 0
    #: Id of the standing record that detached it, and who wrote it when (milliseconds).
    detached: RecordId | None = None
    detached_by: str = ""
    detached_at: int = 0


class Removed(Machine, frozen=True, kw_only=True):
    """A machine that was removed, as it was last, and who removed it."""

    #: Id of the record that removed it: the latest of several.
    record: RecordId = RecordId("")
    removed_by: str = ""
    #: Hostname of the machine where that was written.
    removed_on: str = ""
    #: When, by that machine's clock, milliseconds.
    removed_at: int = 0


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
    #: Whether a login takes a key and the password, instead of either.
    both: bool = False
    deleted: bool = False


class Announced(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that may join over CCS."""

    id: str
    hostname: str
    serial: str
    #: Its OpenSSH client key line.
    key: str


class Cluster(msgspec.Struct):
    """Everything but the settings."""

    #: Empty while the machine stands alone.
    name: str = ""
    #: How members name each other: ``hostname`` or ``ip``.
    by: str = "hostname"
    #: How members talk to each other: ``ssh`` or ``ccs``.
    over: str = "ssh"
    #: Live groups, in the order of their names.
    groups: dict[GroupId, Group] = {}
    #: Groups that were deleted, by their ids.
    deleted_groups: dict[GroupId, Group] = {}
    #: Members, in the order of their hostnames.
    machines: dict[MachineId, Machine] = {}
    removed: dict[MachineId, Removed] = {}
    #: The only member, where it was removed by a record that was to leave nobody: the cluster was dissolved.
    dissolved: Removed | None = None
    users: dict[str, User] = {}
    #: Machines that are awaited over CCS, in the order of their hostnames.
    announced: dict[str, Announced] = {}

    def machine(self, name: str) -> Machine:
        """Return a member by hostname (any case) or id. Raises NotFound or Refused (ambiguous)."""
        found = [machine for machine in self.machines.values() if _same(machine.hostname, name) or machine.id == name]
        return _only(found, "machine", name, [machine.hostname for machine in self.machines.values()])

    def group(self, name: str) -> Group:
        """Return a live group by name (any case) or id. Raises NotFound or Refused (ambiguous)."""
        found = [group for group in self.groups.values() if _same(group.name, name)]
        found = found or [group for group in self.groups.values() if name in (group.id, f"{group.id}{_FIRST}")]
        known = [group.name for group in self.groups.values()]
        return _only(found, "group", name, known, lambda group: self.group_address(group.id))

    def group_address(self, group: GroupId) -> str:
        """Return the id of a group as commands take it: with ``~1`` behind it where it is another one's name."""
        names = [other.name for other in self.groups.values() if other.id != group]
        return f"{group}{_FIRST}" if any(_same(name, group) for name in names) else group

    def user(self, name: str) -> User:
        """Return a user by name (any case), or by id where several have the name. Raises NotFound or Refused."""
        # An id is what somebody was called once: whoever goes by another name now is not meant by it.
        meant = [user for user in self.users.values() if user.id == name and len(self.users_named(user.name)) > 1]
        found = self.users_named(name) or meant
        return _only(found, "user", name, [user.name for user in self.users.values()])

    def users_named(self, name: str) -> list[User]:
        """Return the users of a name (any case). One that several have cannot log in until that is settled."""
        return [user for user in self.users.values() if _same(user.name, name)]

    def machine_or_removed(self, machine: MachineId) -> Machine | None:
        """Return a member, or a machine that was removed as it was last; None for a stranger."""
        return self.machines.get(machine) or self.removed.get(machine)

    def departure(self, machine: MachineId) -> Removed | None:
        """Return how a machine left that is to go on alone: it was removed, or the cluster was dissolved."""
        if self.dissolved is not None and self.dissolved.id == machine:
            return self.dissolved
        return self.removed.get(machine)

    def members_of(self, group: GroupId) -> list[Machine]:
        """Return the machines of a group."""
        return [machine for machine in self.machines.values() if machine.group == group]

    def levels_for(self, machine: MachineId) -> list[Level]:
        """Return the levels that a machine inherits from, or did when it was removed, the most specific first."""
        levels = [machine_level(machine)]
        known = self.machine_or_removed(machine)
        if known is not None and known.group:
            levels.append(group_level(known.group))
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
            gone = GroupId(name.removesuffix(_FIRST))
            if gone in self.deleted_groups and not any(_same(group.name, name) for group in self.groups.values()):
                return group_level(gone)
            return group_level(self.group(name).id)
        if kind.lower() == "machine" and name:
            if name in self.removed:
                return machine_level(MachineId(name))
            return machine_level(self.machine(name).id)
        raise Refused(f"'{text}' is no level", "a level is cluster, group:NAME or machine:NAME")

    def show_level(self, level: Level) -> str:
        """Return a level as an operator writes it, with the id where a name is ambiguous or its owner is gone."""
        if level == CLUSTER:
            return level
        kind, _, owner = level.partition("/")
        names: dict[str, str] = {machine.id: machine.hostname for machine in self.machines.values()}
        if kind == "group":
            names = {group.id: group.name for group in self.groups.values()}
            owner = self.group_address(GroupId(owner))
        name = names.get(level.partition("/")[2], "")
        return f"{kind}:{name if name and sum(_same(other, name) for other in names.values()) == 1 else owner}"

    def hostname(self, machine: MachineId) -> str:
        """Return a machine's name for people, its id where it has none."""
        known = self.machine_or_removed(machine)
        return (known.hostname if known else "") or machine


#: Behind the id of a group that was the first of its name, where the bare id would be taken for a name: no name has it.
_FIRST = "~1"


def _same(one: str, two: str) -> bool:
    return one.casefold() == two.casefold()


_Named = TypeVar("_Named", Machine, Group, User)
_Kind = TypeVar("_Kind")
_Default = TypeVar("_Default")


def _only(
    found: list[_Named], what: str, name: str, known: list[str], address: Callable[[_Named], str] = lambda one: one.id
) -> _Named:
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(sorted(map(address, found)))
        raise Refused(f"there are {len(found)} {what}s named '{name}'", f"use the id instead: {ids}")
    raise NotFound(
        f"there is no {what} named '{name}'",
        f"known: {', '.join(known)}" if known else f"there are no {what}s yet: create or join a cluster first",
    )


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
    )


def group_id(name: str, used: Iterable[str]) -> GroupId:
    """Return the id of a new group; see ``id_of_name``."""
    return GroupId(id_of_name(name, used))


def id_of_name(name: str, used: Iterable[str]) -> str:
    """Return the id of what is new: the same name gives the same on both sides of a cut, a used one a fresh one."""
    base = quote_part(unicodedata.normalize("NFC", name.casefold()))
    taken = set(used)
    count = 1
    candidate = base
    while candidate in taken:
        count += 1
        candidate = f"{base}~{count}"
    return candidate


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
