"""``clusterset``, ``clustershow`` and ``clustermode``: what each level keeps, and the level that commands are about."""

from __future__ import annotations

import os
from typing import Annotated, Any

import msgspec
import typer

from cluster_store.core.commands import CopySettings, DeleteSettings, LevelCommand, MoveSettings
from cluster_store.core.errors import Refused

from . import modes, prompts, rehearsal
from .parameters import DryRun, Machine, Reason, Yes
from .session import Session, note, say
from .views import AsKnownBy, At, view

Keys = Annotated[
    list[str],
    typer.Argument(metavar="KEY...", help="Keys; one that ends with a dot means all that begin so."),
]
From = Annotated[
    str | None, typer.Option("--from", metavar="LEVEL", help="Where they are kept; otherwise at the cluster.")
]
To = Annotated[str | None, typer.Option("--to", metavar="LEVEL", help="Where they go; otherwise to the cluster.")]


def copy(
    context: typer.Context,
    keys: Keys,
    from_: From = None,
    to: To = None,
    dry_run: DryRun = False,
    comment: Reason = None,
) -> None:
    """Let another level say the same of some keys.

    The copy is independent: what the source says later does not change it. A secret goes as one. --dry-run shows
    whose effective values change. Without -m it is staged.
    """
    command = CopySettings(keys=tuple(keys), level=from_, target=to, salt=os.urandom(16))
    _carry_out(context.obj, command, comment, ("copied", "Copy"), dry_run=dry_run, yes=True)


def move(
    context: typer.Context,
    keys: Keys,
    from_: From = None,
    to: To = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    comment: Reason = None,
) -> None:
    """Let another level say what one says, which then says nothing of it.

    Whose effective values change by it is told, key by key with --dry-run, and at a terminal asked about first. Without
    -m it is staged.
    """
    command = MoveSettings(keys=tuple(keys), level=from_, target=to, salt=os.urandom(16))
    _carry_out(context.obj, command, comment, ("moved", "Move"), dry_run=dry_run, yes=yes)


def delete(
    context: typer.Context,
    keys: Keys,
    from_: From = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    comment: Reason = None,
) -> None:
    """Let a level say nothing of some keys any more.

    What a less specific level says of them is effective again. Whose effective values change is told, key by key with
    --dry-run, and at a terminal asked about first. Without -m it is staged.
    """
    command = DeleteSettings(keys=tuple(keys), level=from_)
    _carry_out(context.obj, command, comment, ("deleted", "Delete"), dry_run=dry_run, yes=yes)


def _carry_out(
    session: Session, command: LevelCommand, comment: str | None, words: tuple[str, str], *, dry_run: bool, yes: bool
) -> None:
    """Do it, stage it, or show what it would come to; ask first where machines would do otherwise at once."""
    done, imperative = words
    if dry_run:
        foreseen = rehearsal.rehearse(session, command)
        rehearsal.show(session, foreseen, f"{_named(foreseen.result)} would be {done}{_ways(foreseen.result)}")
        return
    if comment is not None:
        foreseen = rehearsal.rehearse(session, command)
        rehearsal.summarise(foreseen)
        question = f"{imperative} {_named(foreseen.result)}{_ways(foreseen.result)}?"
        if foreseen.impact and prompts.at_terminal() and not yes and not prompts.confirm(question):
            raise Refused("it was not confirmed", "nothing was done")
    result = session.change(command, comment)
    session.report(
        result,
        f"{_named(result)}: {done}{_ways(result)}",
        f"{_named(result)}: the same is there already",
        f"{_named(result)}: staged to be {done}{_ways(result)}",
    )


def _named(result: Any) -> str:
    return rehearsal.some(result["keys"])


def _ways(result: Any) -> str:
    return f" from {result['from']}" + (f" to {result['to']}" if "to" in result else "")


def clustershow(
    context: typer.Context,
    prefix: Annotated[str, typer.Argument(metavar="PREFIX", help="Only keys that begin with this.")] = "",
    machine: Machine = None,
    at: At = None,
    as_known_by: AsKnownBy = None,
) -> None:
    """Show at which levels each setting is kept, and where that counts.

    A level's value is effective on some machines; on others a more specific level overrides it. With --machine only
    what concerns that one is shown.
    """
    from cluster_store.core.provenance import provenance, to_json

    with view(context.obj, at, as_known_by) as store:
        cluster = store.cluster()
        about = cluster.machine(machine).id if machine else None
        told = [to_json(kept, cluster) for kept in provenance(store, cluster, prefix, about)]
    members = 1 if machine else len(cluster.machines)
    context.obj.show(told, lambda: _tell(told, members))


def _tell(told: list[dict[str, Any]], members: int) -> None:
    from .tables import print_table

    if not told:
        note("nothing is set")
        return
    rows = [
        [
            kept["key"],
            kept["level"],
            _value(kept),
            "all" if len(kept["effective_on"]) == members > 1 else rehearsal.some(kept["effective_on"]) or "none",
            rehearsal.some(kept["overridden_by"]),
        ]
        for kept in told
    ]
    print_table(["key", "level", "value", "effective on", "overridden by"], rows)


def _value(kept: dict[str, Any]) -> str:
    from cluster_store.core.naming import excerpt

    value = kept["value"]
    shown = excerpt(value if isinstance(value, str) else msgspec.json.encode(value).decode())
    if "knocked_out" in kept:
        shown += f" without {excerpt(msgspec.json.encode(kept['knocked_out']).decode())}"
    return shown


def clustermode(
    context: typer.Context,
    level: Annotated[
        str | None, typer.Argument(metavar="LEVEL", help="cluster, group:NAME or machine:NAME; without, it is shown.")
    ] = None,
) -> None:
    """Show or change the mode: the level that commands are about which name none.

    In a shell it is that shell's. Given outside of one it is where the same person's shells on this machine begin from
    then on; without it they begin at the cluster. Outside a shell a command without --level is about the cluster,
    whatever the mode.
    """
    session: Session = context.obj
    with session.read() as store:
        cluster, me = store.cluster(), store.me
    if level is not None:
        mode = modes.checked(level, cluster)
        if session.mode is not None:
            session.mode = mode
        else:
            modes.remember(session.root, session.user, mode)
            note(f"shells of {session.user} on this machine begin in this mode until 'clustermode' changes it;")
            note("here a command without --level is about the cluster")
    else:
        mode = session.mode or modes.beginning(session.root, session.user, cluster, me)
        modes.refuse_gone(mode, cluster)
    shown = cluster.show_level(mode)
    session.show({"mode": shown}, lambda: say(shown))
