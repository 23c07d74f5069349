"""``clusterconfig join``: into another machine's cluster, after somebody has seen where that is."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cluster_store import bootstrap
from cluster_store.core.cluster import ADMIN
from cluster_store.core.errors import Refused

from . import network, prompts, rehearsal
from .parameters import DryRun, PasswordStdin
from .session import Session, note, say


def join(
    context: typer.Context,
    host: Annotated[str, typer.Argument(metavar="HOST[:PORT]", help="Any member; an IPv6 address in brackets.")],
    ssh: Annotated[bool, typer.Option("--ssh", help="Log in to that machine with a password.")] = False,
    ccs: Annotated[bool, typer.Option("--ccs", help="Be let in as a machine that was announced there.")] = False,
    user: Annotated[str, typer.Option("--user", metavar="NAME", help="Who to log in as.")] = ADMIN,
    group: Annotated[str, typer.Option("--group", metavar="G", help="Which group, where there are several.")] = "",
    fingerprint: Annotated[
        str | None, typer.Option("--fingerprint", metavar="SHA256:...", help="The host key to expect there.")
    ] = None,
    password_stdin: PasswordStdin = False,
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing but whether the host key is the right one.")] = False,
) -> None:
    """Join the cluster of another machine.

    The cluster's settings and users take the place of this machine's own; its hostname, addresses and keys stay.
    What it was before is kept in files beside the store, its settings in one that loadconfig reads. --dry-run shows
    what it would lose and gain, key by key. A host key is accepted with --fingerprint, or by somebody at a terminal.
    Without a terminal, --yes agrees to the join.
    """
    if ssh == ccs:
        context.fail("say how to join: --ssh or --ccs")
    name, port = network.host_and_port(host, network.USUAL_PORTS[ccs])
    if not (yes or dry_run or prompts.at_terminal()):
        raise Refused(
            "a join replaces this machine's settings and users, and nobody is here to agree to that",
            "add --yes to go on, or --dry-run to see what would change",
        )
    session: Session = context.obj
    accepted = fingerprint or _accepted_fingerprint(name, port)
    # Over CCS this machine comes with its own key, which somebody announced there.
    password = "" if ccs else prompts.password(f"{user} at {name}", from_stdin=password_stdin)
    invitation = {"host": name, "port": port, "user": user, "password": password, "group": group, "ccs": ccs}
    if prompts.at_terminal() and not yes and not dry_run:
        invitation = _confirmed(session, invitation, accepted)
    told = session.execute("join", invitation=invitation, fingerprint=accepted, dry_run=dry_run)
    _warn(told)
    session.show({**told, **_exact(told), "dry_run": dry_run}, lambda: _tell(told, dry_run=dry_run))


def _accepted_fingerprint(host: str, port: int) -> str:
    """Return the fingerprint of the host key shown there once somebody at the terminal has accepted it."""
    offered = bootstrap.host_fingerprint(host, port)
    if not prompts.at_terminal():
        raise Refused(
            f"{host} shows the host key {offered}, and nobody is here to accept it",
            f"if 'cluster-store status' there prints the same, give it: --fingerprint {offered}",
        )
    note(f"{host} shows the host key {offered}; 'cluster-store status' there prints its own.")
    if not prompts.confirm("Are they the same?"):
        raise Refused(f"the host key of {host} was not accepted", "nothing was done and no password was sent")
    return offered


def _confirmed(session: Session, invitation: dict[str, Any], fingerprint: str) -> dict[str, Any]:
    """Rehearse the join, show what would come of it, and return the invitation as somebody has agreed to it."""
    from cluster_store.core.decide import SEVERAL_GROUPS

    try:
        told = session.execute("join", invitation=invitation, fingerprint=fingerprint, dry_run=True)
    except Refused as error:
        if error.message != SEVERAL_GROUPS:
            raise
        note(f"{error.describe()}\nWhich group is this machine to be in?")
        invitation = {**invitation, "group": prompts.ask("[]>")}
        told = session.execute("join", invitation=invitation, fingerprint=fingerprint, dry_run=True)
    _warn(told)
    note(f"The settings and users of the cluster {told['cluster']} will take the place of this machine's own.")
    if told.get("differences"):
        note(_in_short(told["differences"]))
    if not prompts.confirm(f"Join the group {told['group']}?"):
        raise Refused("the join was not confirmed", "nothing was done")
    return invitation


def _warn(told: dict[str, Any]) -> None:
    from cluster_store.core.naming import one_line

    for warning in told.get("warnings", ()):
        note(f"warning: {one_line(warning)}")


def _in_short(differences: dict[str, Any]) -> str:
    """Return in a sentence or two what this machine would lose and gain."""
    changes = differences["settings"]
    lost = [change["key"] for change in changes if change["new"] is None]
    gained = [change["key"] for change in changes if change["old"] is None]
    other = [change["key"] for change in changes if change["old"] is not None and change["new"] is not None]
    parts = [("loses", lost), ("gains", gained), ("has another value for", other)]
    told = [f"{verb} {len(keys)} ({rehearsal.some(keys)})" for verb, keys in parts if keys]
    return f"Of its settings it {', '.join(told)}." if told else "Its settings stay as they are."


def _exact(told: dict[str, Any]) -> dict[str, Any]:
    """Return the differences with values for JSON, exactly as they are."""
    from cluster_store.core.history import plain

    differences = told.get("differences")
    if not differences:
        return {}
    changes = [
        {**change, "old": plain(change["old"]), "new": plain(change["new"]), "unset": change["new"] is None}
        for change in differences["settings"]
    ]
    return {"differences": {**differences, "settings": changes}}


def _tell(told: dict[str, Any], *, dry_run: bool) -> None:
    would = "would be" if dry_run else "is now"
    say(f"this machine {would} in the cluster {told['cluster']}, group {told['group']}, through {told['through']}")
    if not dry_run:
        say(f"what it was before is kept in {told['former']}")
        say(f"its settings then are in {told['saved']}: 'cluster-store loadconfig' reads them")
        if told["left_out"]:
            note(f"left out there, being secret: {', '.join(told['left_out'])}")
    elif told.get("differences"):
        _tell_differences(told["differences"])


def _tell_differences(differences: dict[str, Any]) -> None:
    from cluster_store.core.naming import excerpt, one_line

    from .tables import print_table

    changes = differences["settings"]
    if changes:
        rows = [
            [
                change["key"],
                excerpt(change["old"] or "") or "unset",
                excerpt(change["new"] or "") or "unset",
                change["level"] or "",
            ]
            for change in changes
        ]
        print_table(["key", "now", "then", "from"], rows)
    else:
        say("its settings stay as they are")
    if differences["left_out"]:
        say(f"and {differences['left_out']} settings of the cluster more, too many to show")
    users = differences["users"]
    for what, names in (
        ("users that go", users["lost"]),
        ("users that come", users["gained"]),
        ("users that become the cluster's, with the cluster's password and role", users["replaced"]),
    ):
        if names:
            say(one_line(f"{what}: {', '.join(names)}"))
    kept = differences["kept"]
    interfaces = ", ".join(f"{name}={address}" for name, address in kept["interfaces"].items()) or "none"
    stays = f"hostname {kept['hostname']}, serial number {kept['serial']}, interfaces {interfaces}, and its keys"
    say(one_line(f"what stays: {stays}"))
