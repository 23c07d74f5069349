"""Decisions about groups and the cluster's name.

A group that was deleted lives on where no other is left, because both sides of a cut deleted what the other kept.
Whoever adds a group then, or renames that one, writes down that it lives: otherwise the new group would end the old
one, and take its machines.
"""

from __future__ import annotations

from cluster_store.core import commands
from cluster_store.core.cluster import Cluster, Group, group_id
from cluster_store.core.decision import Context, Decision, named, replace, require_cluster, says, to_text
from cluster_store.core.errors import Refused
from cluster_store.core.events import Event
from cluster_store.core.registers import Write
from cluster_store.core.types import GroupId, MachineId, Path
from cluster_store.core.values import check_name


def group_path(machine: MachineId) -> Path:
    """Return the register of a machine's group."""
    return Path(f"machine/{machine}/group")


def add_group(command: commands.AddGroup, context: Context) -> Decision:
    """Add an empty group. Raises Refused and its kin."""
    require_cluster(context)
    name = _free_name(command.name, context.cluster)
    used = [path.split("/")[1] for path, _ in context.registers.under("group/")]
    group = group_id(name, used)
    writes = (
        *_kept_alive(context),
        replace(context.registers, Path(f"group/{group}/created"), "true"),
        replace(context.registers, Path(f"group/{group}/name"), to_text(name)),
    )
    return Decision(Event("GroupAdded", writes, {"name": name}))


def rename_group(command: commands.RenameGroup, context: Context) -> Decision:
    """Give a group another name. Raises Refused and its kin."""
    require_cluster(context)
    group = context.cluster.group(command.group)
    name = _free_name(command.name, context.cluster, group)
    path = Path(f"group/{group.id}/name")
    writes = _kept_alive(context)
    if not says(context.registers, path, to_text(name)):
        writes.append(replace(context.registers, path, to_text(name)))
    if not writes:
        return Decision(None)
    return Decision(Event("GroupRenamed", tuple(writes), {"old": group.name, "name": name}))


def delete_group(command: commands.DeleteGroup, context: Context) -> Decision:
    """Delete a group, and move its machines to another one. Raises Refused and NotFound."""
    require_cluster(context)
    cluster, registers = context.cluster, context.registers
    group = cluster.group(command.group)
    moved = cluster.members_of(group.id)
    target = _successor(group, command.to, context, is_empty=not moved)
    writes = [replace(registers, Path(f"group/{group.id}/deleted"), to_text(target.id))]
    writes += [replace(registers, group_path(machine.id), to_text(target.id)) for machine in moved]
    told = {"name": group.name, "to": target.name, "machines": [machine.hostname for machine in moved]}
    return Decision(Event("GroupDeleted", tuple(writes), told), told)


def move_machines(command: commands.MoveMachines, context: Context) -> Decision:
    """Put machines into a group. Raises Refused and NotFound."""
    require_cluster(context)
    group = context.cluster.group(command.group)
    # Where a rule or a winner alone put a machine into the group, that is written down: no later event can flip it.
    moved = [
        machine
        for machine in named(command.machines, context.cluster)
        if not says(context.registers, group_path(machine.id), to_text(group.id))
    ]
    if not moved:
        return Decision(None)
    writes = tuple(replace(context.registers, group_path(machine.id), to_text(group.id)) for machine in moved)
    params = {"machines": [machine.hostname for machine in moved], "group": group.name}
    return Decision(Event("MachinesMoved", writes, params))


def set_cluster_name(command: commands.SetClusterName, context: Context) -> Decision:
    """Give the cluster another name. Raises Refused and InvalidValue."""
    require_cluster(context)
    name = check_name(command.name, "cluster name")
    path = Path("cluster/name")
    if says(context.registers, path, to_text(name)):
        return Decision(None)
    write = replace(context.registers, path, to_text(name))
    return Decision(Event("ClusterRenamed", (write,), {"old": context.cluster.name, "name": name}))


def _free_name(text: str, cluster: Cluster, own: Group | None = None) -> str:
    """Return a name that no other group has. Raises InvalidValue and Refused."""
    name = check_name(text, "group name")
    for group in cluster.groups.values():
        if group.name.casefold() == name.casefold() and group != own:
            raise Refused(f"there is already a group named '{name}'", "choose another name")
    return name


def _successor(group: Group, name: str, context: Context, *, is_empty: bool) -> Group:
    """Return the group that takes another one's machines. Raises Refused and NotFound.

    An empty one needs none for now: whoever is put there meanwhile goes where rule 1 would put them without one.
    """
    cluster = context.cluster
    others = [other for other in cluster.groups.values() if other.id != group.id]
    if not others:
        raise Refused(
            f"{group.name} is the only group, and a cluster has at least one",
            f"give it another name with 'clusterconfig renamegroup {group.name} NAME', or add another group first",
        )
    if not name:
        if is_empty:
            return min(others, key=lambda other: _created(other, context))
        if len(others) > 1:
            names = ", ".join(other.name for other in others)
            raise Refused(
                f"there are several groups that the machines of {group.name} could go to",
                f"say which one with --to: {names}",
            )
        return others[0]
    target = cluster.group(name)
    if target.id == group.id:
        raise Refused(f"{group.name} cannot take its own machines", "name another group with --to")
    return target


def _created(group: Group, context: Context) -> tuple[int, str]:
    """Return when a group was created, and a tie-breaker."""
    lanes = context.registers.standing(Path(f"group/{group.id}/created"))
    return min((lane.hybrid, lane.id) for lane in lanes)


def _kept_alive(context: Context) -> list[Write]:
    """Return the writes that take back the deletion of a group which lives only because no other is left."""
    groups: list[GroupId] = list(context.cluster.groups)
    paths = [Path(f"group/{group}/deleted") for group in groups]
    return [replace(context.registers, path, False) for path in paths if context.registers.standing(path)]
