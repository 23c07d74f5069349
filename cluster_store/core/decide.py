"""A command and the cluster as it is, to an event or a refusal. Pure: the same question gets the same answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from cluster_store.core import commands, decide_settings, settings
from cluster_store.core.admission import key_path
from cluster_store.core.cluster import ADMIN, MAIN_GROUP, ROLES, Cluster, Machine, group_id
from cluster_store.core.decision import Context, Decision, replace, says, to_text, write_secret
from cluster_store.core.errors import InvalidValue, NotFound, Refused
from cluster_store.core.events import Event
from cluster_store.core.records import KEY_BYTES, machine_id
from cluster_store.core.registers import (
    CLUSTER,
    Secret,
    Secrets,
    Write,
    element_path,
    element_prefix,
    machine_level,
    setting_path,
)
from cluster_store.core.requirements import check_join, check_unique
from cluster_store.core.types import Epoch, Level, MachineId, Path
from cluster_store.core.values import check_name

#: Why a machine cannot be let in without a group's name; whoever asked can choose one and ask again.
SEVERAL_GROUPS = "the cluster has several groups"


def decide(command: commands.Command, context: Context) -> Decision:
    """Return what a command comes to. Raises Refused and its kin; then nothing changes."""
    return _DECIDERS[type(command)](command, context)


def scopes_of(command: commands.Command, cluster: Cluster, me: MachineId) -> list[Level]:
    """Return the scopes that a decision reads besides the cluster's."""
    scopes = [machine_level(me), *cluster.levels_for(me)]
    level = getattr(command, "level", None)
    if level:
        try:
            owner = cluster.level(level)
        except Refused:
            return scopes  # decide() refuses it with the same words
        scopes.append(owner)
        if owner.startswith("machine/"):
            scopes += cluster.levels_for(MachineId(owner.removeprefix("machine/")))
    return scopes


def epoch_path(machine: MachineId, epoch: Epoch) -> Path:
    """Return the register that says how one of a machine's epochs began. Nobody ever replaces it."""
    return Path(f"machine/{machine}/epoch:{epoch}")


def group_path(machine: MachineId) -> Path:
    """Return the register of a machine's group."""
    return Path(f"machine/{machine}/group")


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
    write = Write(epoch_path(context.me, context.epoch), to_text(told), ())
    return Event("EpochBegun", (write,), {"admission": min(admissions), "reason": reason})


def _initialise(command: commands.InitialiseMachine, context: Context) -> Decision:
    card = command.card
    if context.cluster.machines:
        raise Refused("this store has a machine already", "make another store with --store DIR")
    me = _identity(card)
    writes = [
        *_card_writes(me, card, context),
        Write(epoch_path(me, context.epoch), to_text({"reason": "created"}), ()),
    ]
    admin = {"name": ADMIN, "role": ROLES[-1], "password": command.password, "keys": []}
    write, secrets = write_secret(Path(f"user/{ADMIN}"), to_text(admin), command.salt, context)
    return Decision(Event("MachineInitialised", (*writes, write), {"hostname": card.hostname}, secrets))


def _identity(card: commands.Card) -> MachineId:
    """Return the id of the machine that a card is of."""
    try:
        key = bytes.fromhex(card.key)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise InvalidValue(f"{card.hostname} shows an identity key that is none", "make a new store for that machine")
    return machine_id(key)


def _card_writes(machine: MachineId, card: commands.Card, context: Context) -> list[Write]:
    check_name(card.hostname, "hostname")
    check_name(card.serial, "serial number")
    return [
        replace(context.registers, Path(f"machine/{machine}/{name}"), to_text(value))
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
    if changed.keys() & {"hostname", "serial"}:
        check_unique(context.cluster, me.id, changed.get("hostname", me.hostname), changed.get("serial", me.serial))
    if not changed:
        return Decision(None)
    writes = [
        replace(context.registers, Path(f"machine/{me.id}/{name}"), to_text(value))
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
        replace(registers, Path("cluster/name"), to_text(name)),
        replace(registers, Path("cluster/by"), to_text(command.by)),
        replace(registers, Path(f"group/{group}/created"), "true"),
        replace(registers, Path(f"group/{group}/name"), to_text(MAIN_GROUP)),
        replace(registers, group_path(context.me), to_text(group)),
    ]
    secrets: Secrets = {}
    own = machine_level(context.me)
    for key in settings.keys_under(registers, [own]):
        lane = settings.own_value(registers, own, key)
        if lane is not None and isinstance(lane.value, Secret) and lane.text is not None:
            write, beside = write_secret(setting_path(CLUSTER, key), lane.text, command.salt, context)
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
    joiner = _identity(command.card)
    if joiner in cluster.removed:
        raise Refused(f"{command.card.hostname} was removed from the cluster", "it needs a new identity to come back")
    if not command.group and len(cluster.groups) != 1:
        names = ", ".join(group.name for group in cluster.groups.values())
        raise Refused(SEVERAL_GROUPS, f"say which one with --group: {names}")
    group = cluster.group(command.group) if command.group else next(iter(cluster.groups.values()))
    check_join(cluster, context.machine, joiner, command.card)
    standing = context.registers.standing(key_path(joiner))
    if standing:
        return Decision(None, {"admission": standing[0].id})
    writes = [
        *_card_writes(joiner, command.card, context),
        replace(context.registers, group_path(joiner), to_text(group.id)),
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
        replace(context.registers, Path(f"group/{group}/name"), to_text(name)),
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
    # Where a rule or a winner alone put a machine into the group, that is written down: no later event can flip it.
    moved = [
        machine
        for machine in _named(command.machines, context.cluster)
        if not says(context.registers, group_path(machine.id), to_text(group.id))
    ]
    if not moved:
        return Decision(None)
    writes = tuple(replace(context.registers, group_path(machine.id), to_text(group.id)) for machine in moved)
    params = {"machines": [machine.hostname for machine in moved], "group": group.name}
    return Decision(Event("MachinesMoved", writes, params))


def _detach(command: commands.DetachMachines, context: Context) -> Decision:
    _require_cluster(context)
    machines = _named(command.machines, context.cluster)
    for machine in machines:
        if machine.detached:
            raise Refused(f"{machine.hostname} is already detached", "'clusterconfig reconnect' takes it back")
    told = to_text({"by": context.user, "at": context.now})
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


def _change_password(command: commands.ChangePassword, context: Context) -> Decision:
    user = next((user for user in context.cluster.users.values() if user.name == command.user), None)
    if user is None:
        raise NotFound(
            f"there is no user named '{command.user}'",
            f"known: {', '.join(user.name for user in context.cluster.users.values())}",
        )
    value = {"name": user.name, "role": user.role, "password": command.password, "keys": list(user.keys)}
    write, secrets = write_secret(Path(f"user/{user.id}"), to_text(value), command.salt, context)
    return Decision(Event("UserChanged", (write,), {"name": user.name, "changed": ["password"]}, secrets))


_DECIDERS: dict[type[commands.Command], Callable[[Any, Context], Decision]] = {
    commands.InitialiseMachine: _initialise,
    commands.ChangeMachine: _change_machine,
    commands.CreateCluster: _create,
    commands.AdmitMachine: _admit,
    commands.AddGroup: _add_group,
    commands.MoveMachines: _move,
    commands.DetachMachines: _detach,
    commands.ReconnectMachines: _reconnect,
    commands.SetSetting: decide_settings.set_setting,
    commands.UnsetSetting: decide_settings.unset_setting,
    commands.AddElements: decide_settings.add_elements,
    commands.RemoveElements: decide_settings.remove_elements,
    commands.LoadConfig: decide_settings.load_config,
    commands.ChangePassword: _change_password,
}
