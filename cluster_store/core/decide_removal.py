"""The decision that machines leave for good.

A removal names the members that its author knew would be left. So two halves of a cut that remove each other leave
the machine that was removed last, while a cluster whose machines all were to go, because its last one removes itself
or somebody removes them all at once, is dissolved (``causality.is_removed``, ``Cluster.dissolved``).
"""

from __future__ import annotations

from cluster_store.core import commands
from cluster_store.core.decision import Context, Decision, named, replace, require_cluster, to_text
from cluster_store.core.events import Event
from cluster_store.core.registers import Write
from cluster_store.core.types import Path


def remove_machines(command: commands.RemoveMachines, context: Context) -> Decision:
    """Remove machines from the cluster, this one too if it is named. Raises Refused and NotFound."""
    require_cluster(context)
    gone = named(command.machines, context.cluster)
    ids = [machine.id for machine in gone]
    left = [machine for machine in context.cluster.machines.values() if machine.id not in ids]
    members = to_text([machine.id for machine in left])
    told = to_text({"by": context.user, "on": context.cluster.hostname(context.me), "at": context.now})
    writes = []
    for machine in ids:
        # A removal is never taken back, so it replaces nothing, also where a rule kept a machine that had one.
        writes.append(Write(Path(f"machine/{machine}/removed"), members, ()))
        writes.append(replace(context.registers, Path(f"machine/{machine}/removal"), told))
    names = [machine.hostname for machine in gone]
    return Decision(
        Event("MachinesRemoved", tuple(writes), {"machines": names}),
        {"machines": names, "left": [machine.hostname for machine in left]},
    )
