"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Key = Annotated[str, typer.Argument(metavar="KEY", help="Dotted parts, for example smtp.banner.")]
Elements = Annotated[list[str], typer.Argument(metavar="ELEMENT...", help="JSON; a bare word is a string.")]
Machines = Annotated[list[str], typer.Argument(metavar="MACHINE...", help="Hostnames or ids.")]

Level = Annotated[
    str | None,
    typer.Option(
        "--level",
        metavar="LEVEL",
        help="cluster, group:NAME or machine:NAME; otherwise the cluster, or this machine while it is in none.",
    ),
]
Machine = Annotated[
    str | None, typer.Option("--machine", metavar="NAME", help="The effective values on this machine instead of here.")
]
ViewedLevel = Annotated[
    str | None, typer.Option("--level", metavar="LEVEL", help="What this level keeps, instead of what is effective.")
]
Comment = Annotated[str, typer.Option("-m", "--comment", metavar="TEXT", help="Why, for the audit log.")]
Prefix = Annotated[str, typer.Option("--prefix", metavar="P", help="Only keys that begin with this.")]
PasswordStdin = Annotated[bool, typer.Option("--password-stdin", help="Read it from standard input.")]


def refuse_both(machine: str | None, level: str | None) -> None:
    """Raise BadParameter where both --machine and --level were given: they answer different questions."""
    if machine is not None and level is not None:
        raise typer.BadParameter("--machine shows what is effective and --level what is kept: give one of them")
