"""``clusterconfig``: the operations on a cluster, but for ``join``, which has a module of its own."""

from __future__ import annotations

import os
import socket
from enum import StrEnum
from typing import Annotated, Any

import typer

from cluster_store.core.cluster import Cluster
from cluster_store.core.commands import (
    AddGroup,
    Command,
    CreateCluster,
    DetachMachines,
    MoveMachines,
    ReconnectMachines,
)
from cluster_store.core.errors import Refused

from .parameters import Comment, Machines
from .session import Session
from .tables import print_table, print_tree


class By(StrEnum):
    """How the members of a cluster name each other."""

    HOSTNAME = "hostname"
    IP = "ip"


def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The cluster's name.")],
    by: Annotated[By | None, typer.Option("--by", help="How members dial each other.", case_sensitive=False)] = None,
    comment: Comment = "",
) -> None:
    """Make a cluster, with this machine as its first member.

    What is set on this machine becomes the cluster's. Without --by, members dial each other by hostname where this
    machine's own can be looked up, else by the address of the first interface.
    """
    session: Session = context.obj
    chosen, why = (by, "") if by else _way_to_dial(session)
    result = session.submit(CreateCluster(name=name, by=chosen, salt=os.urandom(16), comment=comment))
    session.report(result, f"the cluster {name} is made; its members dial each other by {chosen}{why}")


def _way_to_dial(session: Session) -> tuple[By, str]:
    """Return how members are to dial each other, and why."""
    with session.read() as store:
        machine = store.cluster().machines[store.me]
    try:
        socket.getaddrinfo(machine.hostname, None)
    except (OSError, UnicodeError):
        unknown = f"{machine.hostname} cannot be looked up here"
        if machine.interfaces or machine.listen:
            return By.IP, f", because {unknown}"
        return By.HOSTNAME, f", though {unknown}: it has no interface's address"
    return By.HOSTNAME, ""


def addgroup(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The group's name.")],
    comment: Comment = "",
) -> None:
    """Add an empty group."""
    _perform(context.obj, AddGroup(name=name, comment=comment), f"the group {name} is added")


def setgroup(
    context: typer.Context,
    machines: Annotated[list[str], typer.Argument(metavar="MACHINE... GROUP", help="Machines, then their new group.")],
    comment: Comment = "",
) -> None:
    """Put machines into a group; they inherit its settings."""
    *moved, group = machines
    if not moved:
        context.fail("give at least one machine, and then the group")
    command = MoveMachines(machines=tuple(moved), group=group, comment=comment)
    _perform(context.obj, command, f"{', '.join(moved)}: now in the group {group}")


def disconnect(context: typer.Context, machines: Machines, comment: Comment = "") -> None:
    """Detach machines for a while; they stay members.

    A detached machine can be read and changed; all of it comes together when it is taken back.
    """
    command = DetachMachines(machines=tuple(machines), comment=comment)
    _perform(context.obj, command, f"{', '.join(machines)}: detached; 'clusterconfig reconnect' takes them back")


def reconnect(context: typer.Context, machines: Machines, comment: Comment = "") -> None:
    """Take detached machines back."""
    command = ReconnectMachines(machines=tuple(machines), comment=comment)
    _perform(context.obj, command, f"{', '.join(machines)}: taken back")


def _perform(session: Session, command: Command, done: str) -> None:
    session.report(session.submit(command), done)


def list_(context: typer.Context) -> None:
    """Show the cluster: its groups, and the machines in each."""
    with context.obj.read() as store:
        cluster = store.cluster()
    if not cluster.name:
        raise Refused(
            "this machine is not in a cluster",
            "run 'clusterconfig create NAME', or 'clusterconfig join HOST --ssh'",
        )
    tree = _tree(cluster)
    context.obj.show(tree, lambda: _print_tree(tree))


def _tree(cluster: Cluster) -> dict[str, Any]:
    return {
        "cluster": cluster.name,
        "by": cluster.by,
        "groups": [
            {
                "name": group.name,
                "id": group.id,
                "machines": [
                    {
                        "hostname": machine.hostname,
                        "serial": machine.serial,
                        "id": machine.id,
                        "detached": machine.detached is not None,
                        "pending": not machine.joined,
                    }
                    for machine in cluster.members_of(group.id)
                ],
            }
            for group in cluster.groups.values()
        ],
    }


def _print_tree(tree: dict[str, Any]) -> None:
    branches = {
        f"Group {group['name']}": [
            f"{machine['hostname']} (serial number {machine['serial']})"
            + ", detached" * machine["detached"]
            + ", not heard of yet" * machine["pending"]
            for machine in group["machines"]
        ]
        for group in tree["groups"]
    }
    print_tree(f"Cluster {tree['cluster']}", branches)


def connstatus(context: typer.Context) -> None:
    """Show the link to each machine, and why one is down."""
    status = context.obj.execute("connstatus")
    names = ("hostname", "group", "state", "reason", "last_contact", "behind", "ahead")

    def words() -> None:
        facts = (map(machine.get, names) for machine in status["machines"])
        rows = (["" if fact is None else str(fact) for fact in row] for row in facts)
        print_table([name.replace("_", " ") for name in names], rows)

    context.obj.show(status, words)
