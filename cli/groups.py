"""``clusterconfig renamegroup``, ``deletegroup`` and ``setname``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cluster_store.core.commands import DeleteGroup, RenameGroup, SetClusterName
from cluster_store.core.errors import Refused

from . import prompts, rehearsal
from .parameters import Comment, DryRun, Yes
from .session import Session


def renamegroup(
    context: typer.Context,
    old: Annotated[str, typer.Argument(metavar="OLD", help="The group's name.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Its new name.")],
    comment: Comment = "",
) -> None:
    """Give a group another name.

    Its machines and its settings stay where they are. The first group, Main_Group, can be renamed like any other.
    """
    result = context.obj.submit(RenameGroup(group=old, name=new, comment=comment))
    context.obj.report(result, f"the group {old} is now named {new}")


def deletegroup(
    context: typer.Context,
    group: Annotated[str, typer.Argument(metavar="GROUP", help="The group to delete.")],
    to: Annotated[
        str, typer.Option("--to", metavar="GROUP", help="Who takes its machines, where it has any and several could.")
    ] = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    comment: Comment = "",
) -> None:
    """Delete a group; its machines go to another one.

    They inherit from that one from then on, and what was set at the deleted group counts for nobody. --dry-run shows
    whose effective values change, key by key. At a terminal the same is told in short, and asked.
    """
    session: Session = context.obj
    command = DeleteGroup(group=group, to=to, comment=comment)
    foreseen = rehearsal.rehearse(session, command)
    if dry_run:
        rehearsal.show(session, foreseen, f"the group {foreseen.result['name']} would go: {_moves(foreseen.result)}")
        return
    rehearsal.summarise(foreseen)
    if prompts.at_terminal() and not yes and not prompts.confirm(f"Delete {foreseen.result['name']} for good?"):
        raise Refused("the deletion was not confirmed", "nothing was done")
    result = session.submit(command)
    session.report(result, f"the group {result['name']} is deleted: {_moves(result)}")


def _moves(result: Any) -> str:
    to = result["to"]
    if not result["machines"]:
        return f"nobody is in it, and whoever is put there goes to {to}"
    return f"{rehearsal.some(result['machines'])} to {to}"


def setname(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The cluster's new name.")],
    comment: Comment = "",
) -> None:
    """Give the cluster another name."""
    context.obj.report(
        context.obj.submit(SetClusterName(name=name, comment=comment)), f"the cluster is now named {name}"
    )
