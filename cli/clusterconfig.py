"""``clusterconfig``: the operations on a cluster, but for ``join``, which has a module of its own."""

from __future__ import annotations

import os
import socket
from typing import Annotated, Any

import typer

from cluster_store import bootstrap
from cluster_store.core.cluster import Cluster
from cluster_store.core.commands import (
    AddGroup,
    Command,
    CreateCluster,
    DetachMachines,
    MoveMachines,
    ReconnectMachines,
    RemoveMachines,
)
from cluster_store.core.errors import Refused
from cluster_store.core.naming import machine_ever
from cluster_store.core.types import MachineId

from . import prompts, rehearsal
from .clustercheck import lead, show_lead
from .parameters import By, ByOption, Comment, Machines
from .session import Session, note
from .tables import print_facts, print_table, print_tree


def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The cluster's name.")],
    by: ByOption = None,
    comment: Comment = "",
) -> None:
    """Make a cluster, with this machine as its first member.

    What is set on this machine becomes the cluster's. Without --by, members dial each other by hostname where this
    machine's own can be looked up, else by the address of the first interface.
    """
    session: Session = context.obj
    chosen, why = _way_to_dial(session, by)
    result = session.submit(CreateCluster(name=name, by=chosen, salt=os.urandom(16), comment=comment))
    session.report(result, f"the cluster {name} is made; its members dial each other by {chosen}{why}")


def _way_to_dial(session: Session, wanted: By | None) -> tuple[By, str]:
    """Return how members are to dial each other, and why, or what will be in the way."""
    if wanted == By.IP:
        return wanted, ""
    with session.read() as store:
        machine = store.cluster().machines.get(store.me)
    if machine is None:
        return By.HOSTNAME, ""  # the command itself is refused
    try:
        socket.getaddrinfo(machine.hostname, None)
    except (OSError, UnicodeError):
        unknown = f"{machine.hostname} cannot be looked up here"
        if wanted == By.HOSTNAME:
            return wanted, f", though {unknown}: a machine that cannot look it up either is not let in"
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
    _perform(context.obj, command, f"{_named(moved)}: now in the group {group}")


def disconnect(context: typer.Context, machines: Machines, comment: Comment = "") -> None:
    """Detach machines for a while; they stay members.

    A detached machine can be read and changed; all of it comes together when it is taken back.
    """
    command = DetachMachines(machines=tuple(machines), comment=comment)
    them = "them" if len(machines) > 1 else "it"
    with context.obj.read() as store:
        cluster, me = store.cluster(), store.me
    _perform(context.obj, command, f"{_named(machines)}: detached; 'clusterconfig reconnect' takes {them} back")
    if any(cluster.machine(name).id == me for name in machines):
        note("that is the machine you are on: what is changed on the others does not come here, nor theirs from here,")
        note("until 'clusterconfig reconnect' is given here, or on a member that this one can reach")


def reconnect(context: typer.Context, machines: Machines, comment: Comment = "") -> None:
    """Take detached machines back."""
    command = ReconnectMachines(machines=tuple(machines), comment=comment)
    _perform(context.obj, command, f"{_named(machines)}: taken back")


def _named(machines: list[str]) -> str:
    """Return machines for a sentence, each once."""
    return ", ".join(dict.fromkeys(machines))


def removemachine(
    context: typer.Context,
    machines: Machines,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    comment: Comment = "",
) -> None:
    """Remove machines from the cluster for good.

    A removed machine stands alone and goes on doing what it did: what it inherited becomes its own. Its keys are
    refused from then on; one that cannot be reached now is told so at its next contact. Removing all machines
    dissolves the cluster. A machine can always remove itself, also while it is cut off.
    """
    session: Session = context.obj
    if prompts.at_terminal() and not yes and not _agreed(session, machines):
        raise Refused("the removal was not confirmed", "nothing was done")
    linked, knowing = _linked(session)
    result = session.submit(RemoveMachines(machines=tuple(machines), comment=comment))
    names = result["machines"]
    unheard = [] if "former" in result else _not_linked(session, result["left"], linked)
    session.report(result, f"{', '.join(names)}: removed from the cluster", unheard=unheard)
    if "former" in result:
        note(f"this machine stands alone now; what it was before is kept in {result['former']}")
        if result["left"] and not knowing.intersection(result["left"]):
            note(f"no member has heard of it: remove {', '.join(names)} on one of {', '.join(result['left'])} too")
        if result["lost"]:
            note(f"could not be taken along, and must be set again: {', '.join(result['lost'])}")
    elif away := [name for name in names if name not in linked]:
        note(f"{', '.join(away)}: not linked to this machine now, and told so at the next contact")
    if "former" not in result:
        _say_where_to_look(session, names)
    if unheard:
        they = f"{rehearsal.some(unheard)}: not linked to this machine now, and may not have heard yet"
        note(f"{they}; 'clustercheck' lists who, and what {', '.join(names)} did unknown to this machine")


def _say_where_to_look(session: Session, names: list[str]) -> None:
    """Say how to find out what machines did that were in the wrong hands, also if that was known here."""
    with session.read() as store, store.snapshot():
        leads = [lead(store, machine_ever(name, store.cluster())) for name in names]
    for found in leads:
        if found is not None:
            note(show_lead(found))


def _not_linked(session: Session, left: list[str], linked: set[str]) -> list[str]:
    """Return the members among those left that this machine tells nothing at once."""
    with session.read() as store:
        own = store.cluster().hostname(store.me)
    return [name for name in left if name != own and name not in linked]


def _agreed(session: Session, names: list[str]) -> bool:
    """Show what a removal comes to; say whether somebody wants it."""
    with session.read() as store:
        cluster = store.cluster()
        me = store.me
    gone = [cluster.machine(name) for name in names]
    if len({machine.id for machine in gone}) == len(cluster.machines):
        note(f"These are all machines of the cluster {cluster.name}: it is dissolved.")
    if any(machine.id == me for machine in gone):
        note("This machine is one of them: it stands alone then, with the settings that it has.")
    return prompts.confirm(f"Remove {', '.join(machine.hostname for machine in gone)} for good?")


def _linked(session: Session) -> tuple[set[str], set[str]]:
    """Return the hostnames of the members that this machine has a link to, and of those that will know if it leaves."""
    status = bootstrap.ask_daemon(session.root, "connstatus") or {"machines": []}
    met = [machine for machine in status["machines"] if machine["last_contact"] is not None]
    linked = {machine["hostname"] for machine in met if machine["state"] == "connected"}
    # Those have removed it themselves.
    return linked, linked | {machine["hostname"] for machine in met if machine["state"] == "removed"}


def _perform(session: Session, command: Command, done: str) -> None:
    session.report(session.submit(command), done)


def list_(context: typer.Context) -> None:
    """Show the cluster: its groups, and the machines in each."""
    with context.obj.read() as store:
        cluster, me = store.cluster(), store.me
    if not cluster.name:
        raise Refused(
            "this machine is not in a cluster",
            "run 'clusterconfig create NAME', or 'clusterconfig join HOST --ssh'",
        )
    daemon = bootstrap.ask_daemon(context.obj.root, "status")
    dismissed = daemon["dismissed"] if daemon is not None else None
    tree = _tree(cluster, me if dismissed else None)
    context.obj.show(tree, lambda: _print_tree(tree))
    if dismissed:
        note(dismissed)


def _tree(cluster: Cluster, gone: MachineId | None) -> dict[str, Any]:
    """Return a cluster for scripts; ``gone`` was removed by a record that is not here."""
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
                        "removed": machine.id == gone,
                    }
                    for machine in cluster.members_of(group.id)
                ],
            }
            for group in cluster.groups.values()
        ],
    }


def _print_tree(tree: dict[str, Any]) -> None:
    names = [group["name"].casefold() for group in tree["groups"]]
    branches = {
        f"Group {group['name']}" + f" ({group['id']})" * (names.count(group["name"].casefold()) > 1): [
            f"{machine['hostname']} (serial number {machine['serial']})"
            + ", detached" * machine["detached"]
            + ", not heard of yet" * machine["pending"]
            + ", removed" * machine["removed"]
            for machine in group["machines"]
        ]
        for group in tree["groups"]
    }
    print_tree(f"Cluster {tree['cluster']}", branches)


_LINK_COLUMNS = ("hostname", "state", "reason", "since", "last contact", "behind", "ahead", "clock")


#: What a clock has to be off for a table to show it; a message may have been on its way for some of that time.
_SKEW_MS_MIN = 1000


def _link_row(told: dict[str, Any]) -> list[str]:
    """Return what a table shows of a machine: times to the second, ``~`` before numbers of the last contact."""
    times = [(told[name] or "").partition(".")[0] for name in ("since", "last_contact")]
    mark = "~" if told["as_of"] else ""
    counts = ["" if told[name] is None else f"{mark}{told[name]}" for name in ("behind", "ahead")]
    skew = told["clock_skew_ms"] or 0
    clock = f"{skew / 1000:+.1f} s" if abs(skew) >= _SKEW_MS_MIN else ""
    stamps = [f"{time.removesuffix('Z')}Z" if time else "" for time in times]
    return [told["hostname"], told["state"], told["reason"], *stamps, *counts, clock]


def connstatus(
    context: typer.Context,
    machine: Annotated[str | None, typer.Argument(metavar="[MACHINE]", help="Everything about this one.")] = None,
) -> None:
    """Show the link to each machine, and why one is down."""
    status = context.obj.execute("connstatus")
    if machine is not None:
        with context.obj.read() as store:
            wanted = store.cluster().machine(machine).id
        status["machines"] = [told for told in status["machines"] if told["id"] == wanted]

    def words() -> None:
        if machine is not None:
            (told,) = status["machines"]
            told["epoch"] = " since ".join(filter(None, told["epoch"].values()))
            print_facts({name.replace("_", " "): "" if fact is None else str(fact) for name, fact in told.items()})
            return
        print_table(_LINK_COLUMNS, map(_link_row, status["machines"]))

    context.obj.show(status, words)
