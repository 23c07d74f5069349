"""``clusterconfig join``: into another machine's cluster, after somebody has seen where that is."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cluster_store import bootstrap
from cluster_store.core.cluster import ADMIN
from cluster_store.core.errors import Refused

from . import network, prompts
from .parameters import PasswordStdin
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only try whether this machine would be let in.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing but whether the host key is the right one.")] = False,
) -> None:
    """Join the cluster of another machine.

    The cluster's settings and users take the place of this machine's own; its hostname, addresses and keys stay.
    What it was before is kept in a file beside the store. A host key is accepted with --fingerprint, or by
    somebody at a terminal.
    """
    if ssh == ccs:
        context.fail("say how to join: --ssh or --ccs")
    name, port = network.host_and_port(host)
    if ccs:
        raise Refused("joining over CCS is not yet in this version", "join over SSH: --ssh")
    session: Session = context.obj
    accepted = fingerprint or _accepted_fingerprint(name, port)
    password = prompts.password(f"{user} at {name}", from_stdin=password_stdin)
    invitation = {"host": name, "port": port, "user": user, "password": password, "group": group}
    if prompts.at_terminal() and not yes and not dry_run:
        invitation = _confirmed(session, invitation, accepted)
    told = session.execute("join", invitation=invitation, fingerprint=accepted, dry_run=dry_run)
    session.show({**told, "dry_run": dry_run}, lambda: _tell(told, dry_run=dry_run))


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
        note(error.describe())
        invitation = {**invitation, "group": prompts.ask("Which group?")}
        told = session.execute("join", invitation=invitation, fingerprint=fingerprint, dry_run=True)
    note(f"The settings and users of the cluster {told['cluster']} will take the place of this machine's own.")
    if not prompts.confirm(f"Join the group {told['group']}?"):
        raise Refused("the join was not confirmed", "nothing was done")
    return invitation


def _tell(told: dict[str, Any], *, dry_run: bool) -> None:
    would = "would be" if dry_run else "is now"
    say(f"this machine {would} in the cluster {told['cluster']}, group {told['group']}, through {told['through']}")
    if not dry_run:
        say(f"what it was before is kept in {told['former']}")
