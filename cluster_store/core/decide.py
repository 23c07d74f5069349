"""A command and the cluster as it is, to an event or a refusal. Pure: the same question gets the same answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

import msgspec
import orjson

from cluster_store.core import commands, settings
from cluster_store.core.admission import key_path
from cluster_store.core.cluster import ADMIN, MAIN_GROUP, ROLES, Cluster, Machine, group_id
from cluster_store.core.errors import NotFound, Refused
from cluster_store.core.events import Event
from cluster_store.core.records import machine_id, secret_hash
from cluster_store.core.registers import (
    CLUSTER,
    Registers,
    Secret,
    Secrets,
    Write,
    WriteValue,
    element_path,
    element_prefix,
    kind_path,
    machine_level,
    setting_path,
)
from cluster_store.core.requirements import check_join, check_unique
from cluster_store.core.types import Epoch, Level, MachineId, Path
from cluster_store.core.values import check_key, check_name


class Context(msgspec.Struct, frozen=True):
    """What a decision may depend on besides the command."""

    registers: Registers
    cluster: Cluster
    me: MachineId
    user: str
    #: Wall clock, milliseconds. Only written down, never compared.
    now: int
    epoch: Epoch

    @property
    def machine(self) -> Machine:
        """This machine."""
        return self.cluster.machines[self.me]


class Decision(msgspec.Struct, frozen=True):
    """An event to record (None where nothing has to change) and what to tell the caller."""

    event: Event | None
    result: dict[str, Any] = {}


def decide(command: commands.Command, context: Context) -> Decision:
    """Return what a command comes to. Raises Refused and its kin; then nothing changes."""
    return _DECIDERS[type(command)](command, context)


def scopes_of(command: commands.Command, cluster: Cluster, me: MachineId) -> list[Level]:
    """Return the scopes that a decision reads besides the cluster's."""
    scopes = [machine_level(me), *cluster.levels_for(me)]
    level = getattr(command, "level", None)
    if level:
        try:
            scopes.append(cluster.level(level))
        except Refused:
            return scopes  # decide() refuses it with the same words
    return scopes


def replace(registers: Registers, path: Path, value: WriteValue) -> Write:
    """Return the write that puts a value into a register and replaces every lane that stands there."""
    return Write(path, value, tuple(lane.id for lane in registers.standing(path)))


def epoch_path(machine: MachineId, epoch: Epoch) -> Path:
    """Return the register that says how one of a machine's epochs began. Nobody ever replaces it."""
    return Path(f"machine/{machine}/epoch:{epoch}")


def begin_epoch(context: Context, reason: str, previous: tuple[Epoch, int] | None) -> Event:
    """Return the first event of a new epoch: after a join, or where the store may have a twin.

    Args:
        context: the machine and the new epoch.
        reason: ``joined``, ``restored``, ``moved`` …
        previous: the machine's epoch before and its newest record there. If more of it turns up later, the
            machine was restored from a backup or cloned.
    """
    admissions = [lane.id for lane in context.registers.standing(key_path(context.me))]
    if not admissions:
        raise Refused("this machine is not a member of the cluster in its store", "join the cluster again")
    told = {"reason": reason, "previous": previous}
    write = Write(epoch_path(context.me, context.epoch), _json(told), ())
    return Event("EpochBegun", (write,), {"admission": min(admissions), "reason": reason})


def _initialise(command: commands.InitialiseMachine, context: Context) -> Decision:
    card = command.card
    if context.cluster.machines:
        raise Refused("this store has a machine already", "make another store with --store DIR")
    me = machine_id(bytes.fromhex(card.key))
    writes = [*_card_writes(me, card, context), Write(epoch_path(me, context.epoch), _json({"reason": "created"}), ())]
    admin = {"name": ADMIN, "role": ROLES[-1], "password": command.password, "keys": []}
    write, secrets = _secret(Path(f"user/{ADMIN}"), _json(admin), command.salt, context)
    return Decision(Event("MachineInitialised", (*writes, write), {"hostname": card.hostname}, secrets))


def _card_writes(machine: MachineId, card: commands.Card, context: Context) -> list[Write]:
    check_name(card.hostname, "hostname")
    check_name(card.serial, "serial number")
    return [
        replace(context.registers, Path(f"machine/{machine}/{name}"), _json(value))
        for name, value in sorted(msgspec.to_builtins(card).items())
    ]


def _change_machine(command: commands.ChangeMachine, context: Context) -> Decision:
    me = context.machine
    changed = {
        name: value
        for name, value in msgspec.to_builtins(command).items()
        if name not in ("type", "comment") and value is not None and value != getattr(me, name)
    }
    if "hostname" in changed:
        check_name(changed["hostname"], "hostname")
    if "serial" in changed:
        check_name(changed["serial"], "serial number")
    check_unique(context.cluster, me.id, changed.get("hostname", me.hostname), changed.get("serial", me.serial))
    if not changed:
        return Decision(None)
    writes = [
        replace(context.registers, Path(f"machine/{me.id}/{name}"), _json(value))
        for name, value in sorted(changed.items())
    ]
    return Decision(Event("MachineChanged", tuple(writes)))


def _create(command: commands.CreateCluster, context: Context) -> Decision:
    if context.cluster.name:
        raise Refused(
            f"this machine is already in the cluster {context.cluster.name}",
            "a machine is in one cluster at a time",
        )
    name = check_name(command.name, "cluster name")
    if command.by not in ("hostname", "ip"):
        raise Refused(f"'{command.by}' is no way to name machines", "use hostname or ip")
    registers = context.registers
    group = group_id(MAIN_GROUP, [])
    writes = [
        replace(registers, Path("cluster/name"), _json(name)),
        replace(registers, Path("cluster/by"), _json(command.by)),
        replace(registers, Path(f"group/{group}/created"), "true"),
        replace(registers, Path(f"group/{group}/name"), _json(MAIN_GROUP)),
        replace(registers, Path(f"machine/{context.me}/group"), _json(group)),
    ]
    secrets: Secrets = {}
    own = machine_level(context.me)
    for key in settings.keys_under(registers, [own]):
        lane = settings.own_value(registers, own, key)
        if lane is not None and isinstance(lane.value, Secret) and lane.text is not None:
            write, beside = _secret(setting_path(CLUSTER, key), lane.text, command.salt, context)
            writes.append(write)
            secrets |= beside
        elif lane is not None:
            writes.append(replace(registers, setting_path(CLUSTER, key), lane.value))
        for element, (present, _) in settings.own_elements(registers, own, key).items():
            if present:
                writes.append(replace(registers, element_path(CLUSTER, key, element), settings.PRESENT))
        for path, lanes in [
            (setting_path(own, key), registers.standing(setting_path(own, key))),
            *registers.under(element_prefix(own, key)),
        ]:
            if lanes:
                writes.append(replace(registers, path, False))
    return Decision(Event("ClusterCreated", tuple(writes), {"name": name, "by": command.by}, secrets))


def _require_cluster(context: Context) -> None:
    if not context.cluster.name:
        raise Refused(
            "this machine is not in a cluster",
            "run 'clusterconfig create NAME', or 'clusterconfig join HOST --ssh'",
        )


def _admit(command: commands.AdmitMachine, context: Context) -> Decision:
    _require_cluster(context)
    cluster = context.cluster
    joiner = machine_id(bytes.fromhex(command.card.key))
    if joiner in cluster.removed:
        raise Refused(f"{command.card.hostname} was removed from the cluster", "it needs a new identity to come back")
    if not command.group and len(cluster.groups) > 1:
        names = ", ".join(group.name for group in cluster.groups.values())
        raise Refused("the cluster has several groups", f"say which one with --group: {names}")
    group = cluster.group(command.group) if command.group else next(iter(cluster.groups.values()))
    check_join(cluster, context.machine, joiner, command.card)
    standing = context.registers.standing(key_path(joiner))
    if standing:
        return Decision(None, {"admission": standing[0].id})
    writes = [
        *_card_writes(joiner, command.card, context),
        replace(context.registers, Path(f"machine/{joiner}/group"), _json(group.id)),
    ]
    return Decision(
        Event("MachineAdmitted", tuple(writes), {"hostname": command.card.hostname, "group": group.name}),
    )


def _add_group(command: commands.AddGroup, context: Context) -> Decision:
    _require_cluster(context)
    name = check_name(command.name, "group name")
    if any(group.name.casefold() == name.casefold() for group in context.cluster.groups.values()):
        raise Refused(f"there is already a group named '{name}'", "choose another name")
    used = [path.split("/")[1] for path, _ in context.registers.under("group/")]
    group = group_id(name, used)
    writes = (
        replace(context.registers, Path(f"group/{group}/created"), "true"),
        replace(context.registers, Path(f"group/{group}/name"), _json(name)),
    )
    return Decision(Event("GroupAdded", writes, {"name": name}))


def _named(names: Sequence[str], cluster: Cluster) -> list[Machine]:
    if not names:
        raise Refused("no machine was named", "name at least one")
    found = {machine.id: machine for machine in map(cluster.machine, names)}
    return list(found.values())


def _move(command: commands.MoveMachines, context: Context) -> Decision:
    _require_cluster(context)
    group = context.cluster.group(command.group)
    moved = [machine for machine in _named(command.machines, context.cluster) if machine.group != group.id]
    if not moved:
        return Decision(None)
    writes = tuple(
        replace(context.registers, Path(f"machine/{machine.id}/group"), _json(group.id)) for machine in moved
    )
    params = {"machines": [machine.hostname for machine in moved], "group": group.name}
    return Decision(Event("MachinesMoved", writes, params))


def _detach(command: commands.DetachMachines, context: Context) -> Decision:
    _require_cluster(context)
    machines = _named(command.machines, context.cluster)
    for machine in machines:
        if machine.detached:
            raise Refused(f"{machine.hostname} is already detached", "'clusterconfig reconnect' takes it back")
    told = _json({"by": context.user, "at": context.now})
    return _detached(machines, told, "MachinesDetached", context)


def _reconnect(command: commands.ReconnectMachines, context: Context) -> Decision:
    _require_cluster(context)
    machines = _named(command.machines, context.cluster)
    for machine in machines:
        if not machine.detached:
            raise Refused(f"{machine.hostname} is not detached", "'clusterconfig connstatus' shows its link")
    return _detached(machines, None, "MachinesReconnected", context)


def _detached(machines: Sequence[Machine], value: str | None, kind: str, context: Context) -> Decision:
    writes = tuple(replace(context.registers, Path(f"machine/{machine.id}/detached"), value) for machine in machines)
    return Decision(Event(kind, writes, {"machines": [machine.hostname for machine in machines]}))


def _level(command: commands.SettingCommand, keys: Sequence[str], context: Context) -> Level:
    """Return the level to work on; refuse a default that a more specific value would hide from this machine."""
    cluster = context.cluster
    if command.level is not None:
        return cluster.level(command.level)
    if not cluster.name:
        return machine_level(context.me)
    for level in cluster.levels_for(context.me)[:-1]:
        for key in keys:
            if settings.own_value(context.registers, level, key) or settings.own_elements(
                context.registers, level, key
            ):
                shown = cluster.show_level(level)
                raise Refused(
                    f"{key} is set at {shown} for this machine, which hides the cluster's value here",
                    f"say which level you mean: --level {shown} or --level cluster",
                )
    return CLUSTER


def _set(command: commands.SetSetting, context: Context) -> Decision:
    key = check_key(command.key)
    level = _level(command, [key], context)
    writes, secrets = _assign(context, level, key, command.value, command.salt, secret=command.secret)
    return _settings_decision("SettingSet", writes, secrets, level, context)


def _load(command: commands.LoadConfig, context: Context) -> Decision:
    if not command.settings:
        raise Refused(f"{command.source} has no settings", "give a file with at least one")
    keys = [check_key(key) for key in command.settings]
    level = _level(command, keys, context)
    writes: list[Write] = []
    secrets: Secrets = {}
    for key, value in sorted(command.settings.items()):
        some, beside = _assign(context, level, key, value, command.salt, secret=False)
        writes += some
        secrets |= beside
    params = {"source": command.source, "keys": len(keys)}
    return _settings_decision("ConfigLoaded", writes, secrets, level, context, params)


def _assign(
    context: Context, level: Level, key: str, value: str, salt: bytes, *, secret: bool
) -> tuple[list[Write], Secrets]:
    """Return the writes that give a key a value; none where it has that value already."""
    registers = context.registers
    if settings.is_set(registers, key):
        return _assign_set(registers, level, key, value), {}
    path = setting_path(level, key)
    lanes = registers.standing(path)
    if secret or any(isinstance(lane.value, Secret) for lane in lanes):
        if len(lanes) == 1 and lanes[0].text == value:
            return [], {}
        write, secrets = _secret(path, value, salt, context)
        return [write], secrets
    if len(lanes) == 1 and lanes[0].value == value:
        return [], {}
    return [replace(registers, path, value)], {}


def _assign_set(registers: Registers, level: Level, key: str, value: str) -> list[Write]:
    try:
        wanted = msgspec.json.decode(value, type=list[msgspec.Raw])
    except msgspec.DecodeError as error:
        raise Refused(
            f"{key} is a set of values and cannot become {value[:60]}",
            "give a JSON array, or use 'add' and 'remove'",
        ) from error
    elements = {bytes(element).decode() for element in wanted}
    own = settings.own_elements(registers, level, key)
    writes = [
        replace(registers, element_path(level, key, element), settings.PRESENT)
        for element in sorted(elements)
        if not own.get(element, (False, None))[0]
    ]
    writes += [replace(registers, element_path(level, key, gone), False) for gone in sorted(own.keys() - elements)]
    return writes


def _unset(command: commands.UnsetSetting, context: Context) -> Decision:
    key = check_key(command.key)
    level = _level(command, [key], context)
    registers = context.registers
    if settings.is_set(registers, key):
        writes = [
            replace(registers, path, False) for path, lanes in registers.under(element_prefix(level, key)) if lanes
        ]
    elif settings.own_value(registers, level, key):
        writes = [replace(registers, setting_path(level, key), None)]
    else:
        writes = []
    if not writes:
        raise NotFound(
            f"{key} is not set at {context.cluster.show_level(level)}",
            f"'explain {key}' shows where its value comes from",
        )
    return _settings_decision("SettingUnset", writes, {}, level, context)


def _add(command: commands.AddElements, context: Context) -> Decision:
    key = check_key(command.key)
    level = _level_of_set(command, context)
    registers = context.registers
    writes = []
    if not settings.is_set(registers, key):
        for other in {level: None, **dict.fromkeys(context.cluster.levels_for(context.me))}:
            if settings.own_value(registers, other, key):
                raise Refused(
                    f"{key} has a plain value at {context.cluster.show_level(other)}, so nothing can be added to it",
                    f"'unset {key}' first, or use 'set'",
                )
        writes.append(replace(registers, kind_path(key), settings.SET_KIND))
    for element in dict.fromkeys(command.elements):
        lanes = registers.standing(element_path(level, key, element))
        if not any(lane.value == settings.PRESENT for lane in lanes):
            writes.append(replace(registers, element_path(level, key, element), settings.PRESENT))
    return _settings_decision("ElementsAdded", writes, {}, level, context)


def _remove(command: commands.RemoveElements, context: Context) -> Decision:
    key = check_key(command.key)
    level = _level_of_set(command, context)
    registers = context.registers
    if not settings.is_set(registers, key):
        raise Refused(f"{key} is not a set of values", f"'unset {key}' takes a plain value away")
    own = settings.own_elements(registers, level, key)
    inherited = _inherited_elements(context, level, key)
    writes = []
    for element in dict.fromkeys(command.elements):
        if element in inherited:
            writes.append(replace(registers, element_path(level, key, element), settings.KNOCKED_OUT))
        elif own.get(element, (False, None))[0]:
            writes.append(replace(registers, element_path(level, key, element), False))
        else:
            raise NotFound(
                f"{element} is not in {key} at {context.cluster.show_level(level)}",
                f"'get {key}' shows its elements",
            )
    return _settings_decision("ElementsRemoved", writes, {}, level, context)


def _level_of_set(command: commands.SettingCommand, context: Context) -> Level:
    # Elements of all levels add up, so a value at a more specific level hides nothing.
    if command.level is None:
        return CLUSTER if context.cluster.name else machine_level(context.me)
    return context.cluster.level(command.level)


def _inherited_elements(context: Context, level: Level, key: str) -> set[str]:
    kind, _, owner = level.partition("/")
    if kind == "machine":
        above = context.cluster.levels_for(MachineId(owner))[1:]
    else:
        above = [CLUSTER] if kind == "group" else []
    value = settings.effective_set(context.registers, above, key)
    return (
        {bytes(raw).decode() for raw in msgspec.json.decode(str(value.value), type=list[msgspec.Raw])}
        if value
        else set()
    )


def _settings_decision(
    kind: str,
    writes: Sequence[Write],
    secrets: Secrets,
    level: Level,
    context: Context,
    params: dict[str, Any] | None = None,
) -> Decision:
    result = {"level": context.cluster.show_level(level), "writes": len(writes)}
    if not writes:
        return Decision(None, result)
    return Decision(Event(kind, tuple(writes), params or {}, secrets), result)


def _change_password(command: commands.ChangePassword, context: Context) -> Decision:
    user = next((user for user in context.cluster.users.values() if user.name == command.user), None)
    if user is None:
        raise NotFound(f"there is no user named '{command.user}'", "'userconfig list' shows them")
    value = {"name": user.name, "role": user.role, "password": command.password, "keys": list(user.keys)}
    write, secrets = _secret(Path(f"user/{user.id}"), _json(value), command.salt, context)
    return Decision(Event("UserChanged", (write,), {"name": user.name, "changed": ["password"]}, secrets))


def _secret(path: Path, text: str, salt: bytes, context: Context) -> tuple[Write, Secrets]:
    # One command brings one salt; the path makes it differ from value to value.
    own_salt = sha256(salt + path.encode()).digest()[:16]
    write = replace(context.registers, path, Secret(secret_hash(own_salt, text)))
    return write, {path: (own_salt, text)}


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


_DECIDERS: dict[type[commands.Command], Callable[[Any, Context], Decision]] = {
    commands.InitialiseMachine: _initialise,
    commands.ChangeMachine: _change_machine,
    commands.CreateCluster: _create,
    commands.AdmitMachine: _admit,
    commands.AddGroup: _add_group,
    commands.MoveMachines: _move,
    commands.DetachMachines: _detach,
    commands.ReconnectMachines: _reconnect,
    commands.SetSetting: _set,
    commands.UnsetSetting: _unset,
    commands.AddElements: _add,
    commands.RemoveElements: _remove,
    commands.LoadConfig: _load,
    commands.ChangePassword: _change_password,
}
