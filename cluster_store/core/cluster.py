"""The read model: machines, groups, users and the cluster, as ``rules.read`` finds them in the registers."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Annotated, TypeVar

import msgspec

from cluster_store.core.errors import NotFound, Refused
from cluster_store.core.registers import CLUSTER, group_level, machine_level
from cluster_store.core.timers import Timers
from cluster_store.core.types import GroupId, Level, MachineId, RecordId
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


class Cluster(msgspec.Struct, dict=True):
    """Everything but the settings. Machines are looked up by their names so often that those are kept sorted."""

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
    #: What goes back by itself.
    timers: Timers = Timers()

    def machine(self, name: str) -> Machine:
        """Return a member by hostname (any case) or id. Raises NotFound or Refused (ambiguous)."""
        found = list(self._machines_named.get(name.casefold(), ()))
        known = self.machines.get(MachineId(name))
        if known is not None and known not in found:
            found.append(known)
        if len(found) == 1:
            return found[0]
        return _only(found, "machine", name, [machine.hostname for machine in self.machines.values()])

    @cached_property
    def _machines_named(self) -> dict[str, list[Machine]]:
        named: dict[str, list[Machine]] = {}
        for machine in self.machines.values():
            named.setdefault(machine.hostname.casefold(), []).append(machine)
        return named

    @cached_property
    def detachments(self) -> tuple[RecordId, ...]:
        """The records that detached members, of those that are detached."""
        return tuple(machine.detached for machine in self.machines.values() if machine.detached)

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
        if kind == "group":
            group = self.groups.get(GroupId(owner))
            alone = group is not None and sum(_same(other.name, group.name) for other in self.groups.values()) == 1
            return f"group:{group.name if group and group.name and alone else self.group_address(GroupId(owner))}"
        machine = self.machines.get(MachineId(owner))
        name = machine.hostname if machine else ""
        return f"machine:{name if name and len(self._machines_named[name.casefold()]) == 1 else owner}"

    @staticmethod
    def address(level: Level) -> str:
        """Return a level as commands take it, by its owner's id: whatever is renamed, it stays the same one."""
        kind, _, owner = level.partition("/")
        return f"group:{owner}{_FIRST}" if kind == "group" else f"{kind}:{owner}" if owner else level

    def hostname(self, machine: MachineId) -> str:
        """Return a machine's name for people, its id where it has none."""
        known = self.machine_or_removed(machine)
        return (known.hostname if known else "") or machine


#: Behind the id of a group that was the first of its name, where the bare id would be taken for a name: no name has it.
_FIRST = "~1"


def _same(one: str, two: str) -> bool:
    return one.casefold() == two.casefold()


_Named = TypeVar("_Named", Machine, Group, User)


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
