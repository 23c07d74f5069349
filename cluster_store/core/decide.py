"""A command and the cluster as it is, to an event or a refusal. Pure: the same question gets the same answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from cluster_store.core import (
    commands,
    decide_commit,
    decide_communication,
    decide_conflicts,
    decide_groups,
    decide_removal,
    decide_rollback,
    decide_timers,
    decide_users,
    settings,
)
from cluster_store.core.admission import key_path
from cluster_store.core.cluster import ADMIN, MAIN_GROUP, ROLES, TRANSPORTS, Cluster, Machine, group_id
from cluster_store.core.decide_groups import group_path
from cluster_store.core.decision import Context, Decision, named, replace, require_cluster, says, to_text, write_secret
from cluster_store.core.errors import InvalidValue, Refused
from cluster_store.core.events import Event
from cluster_store.core.records import KEY_BYTES, machine_id
from cluster_store.core.registers import (
    CLUSTER,
    Secret,
    Secrets,
    Write,
    element_path,
    element_prefix,
    epoch_path,
    machine_level,
    scope_of,
    setting_path,
    valid_path,
)
from cluster_store.core.requirements import (
    check_feature_key,
    check_feature_key_text,
    check_join,
    check_reconnect,
    check_unique,
)
from cluster_store.core.types import Epoch, Level, MachineId, Path
from cluster_store.core.values import check_name

#: Why a machine cannot be let in without a group's name; whoever asked can choose one and ask again.
SEVERAL_GROUPS = "the cluster has several groups"


def decide(command: commands.Command, context: Context) -> Decision:
    """Return what a command comes to. Raises Refused and its kin; then nothing changes."""
    decision = _DECIDERS[type(command)](command, context)
    event = decision.event
    if event is None:
        return decision
    if isinstance(command, commands.SettingCommand) and command.lasts is not None:
        event = decide_timers.for_a_while(event, {write.path: command.lasts for write in event.writes}, context)
        decision = msgspec.structs.replace(decision, result={**decision.result, "until": context.now + command.lasts})
    if isinstance(command, commands.RollBackConfig):
        event = decide_timers.ending_all(event, command.events, context)
    return msgspec.structs.replace(decision, event=decide_timers.ending(event, context))


def scopes_of(command: commands.Command, cluster: Cluster, me: MachineId) -> list[Level]:
    """Return the scopes that a decision reads besides the cluster's."""
    scopes = [machine_level(me), *cluster.levels_for(me)]
    scopes += [scope_of(Path(path)) for path in getattr(command, "paths", ()) if valid_path(path)]
    for one in getattr(command, "staged", ()):
        scopes += scopes_of(one.command, cluster, me)
    for level in filter(None, (getattr(command, "level", None), getattr(command, "target", None))):
        try:
            owner = cluster.level(level)
        except Refused:
            return scopes  # decide() refuses it with the same words
        scopes.append(owner)
        if owner.startswith("machine/"):
            scopes += cluster.levels_for(MachineId(owner.removeprefix("machine/")))
    return scopes


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
    write, secrets = write_secret(decide_users.user_path(ADMIN), to_text(admin), command.salt, context)
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
    said = msgspec.to_builtins(card)
    if not card.feature_key and not context.registers.standing(Path(f"machine/{machine}/feature_key")):
        del said["feature_key"]
    return [
        replace(context.registers, Path(f"machine/{machine}/{name}"), to_text(value))
        for name, value in sorted(said.items())
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
    if command.feature_key is not None:
        check_feature_key_text(command.feature_key)
    if changed.keys() & {"hostname", "serial"}:
        check_unique(context.cluster, me.id, changed.get("hostname", me.hostname), changed.get("serial", me.serial))
    if not changed:
        return Decision(None)
    moved = me
    for name in [name for name in TRANSPORTS.values() if name in changed]:
        moved = decide_communication.with_port(moved, name, changed[name])
    if moved.former_ports != me.former_ports:
        changed["former_ports"] = moved.former_ports
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
    decide_timers.check_nothing_pending(context)
    check_feature_key(context.machine.hostname, context.machine.version, context.machine.feature_key)
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


def _admit(command: commands.AdmitMachine, context: Context) -> Decision:
    require_cluster(context)
    cluster = context.cluster
    joiner = _identity(command.card)
    if joiner in cluster.removed:
        raise Refused(f"{command.card.hostname} was removed from the cluster", "it needs a new identity to come back")
    if not command.group and len(cluster.groups) != 1:
        names = ", ".join(group.name for group in cluster.groups.values())
        raise Refused(SEVERAL_GROUPS, f"say which one with --group: {names}")
    group = cluster.group(command.group) if command.group else next(iter(cluster.groups.values()))
    check_join(cluster, context.machine, joiner, command.card)
    writes = [
        *_card_writes(joiner, command.card, context),
        replace(context.registers, group_path(joiner), to_text(group.id)),
        *decide_communication.fulfilled(command.card, context),
    ]
    params = {"hostname": command.card.hostname, "group": group.name}
    standing = context.registers.standing(key_path(joiner))
    if not standing:
        return Decision(Event("MachineAdmitted", tuple(writes), params))
    # It was let in before and tries again. What it says otherwise by now is written, unless it can write that itself.
    known = cluster.machines.get(joiner)
    fresh = [write for write in writes if known is not None and not known.joined and _is_news(write, context)]
    event = Event("MachineAdmitted", tuple(fresh), params) if fresh else None
    return Decision(event, {"admission": standing[0].id})


def _is_news(write: Write, context: Context) -> bool:
    return not (isinstance(write.value, str) and says(context.registers, write.path, write.value))


def _detach(command: commands.DetachMachines, context: Context) -> Decision:
    require_cluster(context)
    machines = named(command.machines, context.cluster)
    for machine in machines:
        if machine.detached:
            raise Refused(f"{machine.hostname} is already detached", "'clusterconfig reconnect' takes it back")
    told = to_text({"by": context.user, "at": context.now})
    return _detached(machines, told, "MachinesDetached", context)


def _reconnect(command: commands.ReconnectMachines, context: Context) -> Decision:
    require_cluster(context)
    machines = named(command.machines, context.cluster)
    for machine in machines:
        if not machine.detached:
            raise Refused(f"{machine.hostname} is not detached", "'clusterconfig connstatus' shows its link")
        check_reconnect(machine, context.machine, context.heard)
    return _detached(machines, None, "MachinesReconnected", context)


def _detached(machines: Sequence[Machine], value: str | None, kind: str, context: Context) -> Decision:
    writes = tuple(replace(context.registers, Path(f"machine/{machine.id}/detached"), value) for machine in machines)
    return Decision(Event(kind, writes, {"machines": [machine.hostname for machine in machines]}))


_DECIDERS: dict[type[commands.Command], Callable[[Any, Context], Decision]] = {
    commands.InitialiseMachine: _initialise,
    commands.ChangeMachine: _change_machine,
    commands.CreateCluster: _create,
    commands.AdmitMachine: _admit,
    commands.AnnounceMachine: decide_communication.announce,
    commands.WithdrawAnnouncement: decide_communication.withdraw,
    commands.ChangeCommunication: decide_communication.change,
    commands.AddGroup: decide_groups.add_group,
    commands.RenameGroup: decide_groups.rename_group,
    commands.DeleteGroup: decide_groups.delete_group,
    commands.SetClusterName: decide_groups.set_cluster_name,
    commands.MoveMachines: decide_groups.move_machines,
    commands.DetachMachines: _detach,
    commands.ReconnectMachines: _reconnect,
    commands.RemoveMachines: decide_removal.remove_machines,
    **decide_commit.DECIDERS,
    commands.CommitConfig: decide_commit.commit_config,
    commands.ConfirmConfig: decide_timers.confirm,
    commands.TakeBack: decide_timers.take_back,
    commands.RollBackConfig: decide_rollback.roll_back,
    commands.SettleConflicts: decide_conflicts.settle,
    commands.SettleSettings: decide_conflicts.settle_settings,
    commands.AddUser: decide_users.add_user,
    commands.ChangeUser: decide_users.change_user,
    commands.ChangePassword: decide_users.change_password,
    commands.DeleteUser: decide_users.delete_user,
}
