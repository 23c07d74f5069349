"""Arguments and options that several commands share."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

import typer


class By(StrEnum):
    """How the members of a cluster name each other."""

    HOSTNAME = "hostname"
    IP = "ip"


Key = Annotated[str, typer.Argument(metavar="KEY", help="Dotted parts, for example smtp.banner.")]
Elements = Annotated[list[str], typer.Argument(metavar="ELEMENT", help="JSON; a bare word is a string.")]
Machines = Annotated[list[str], typer.Argument(metavar="MACHINE", help="Hostnames or ids.")]

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
ByOption = Annotated[By | None, typer.Option("--by", help="How members dial each other.", case_sensitive=False)]
Comment = Annotated[str, typer.Option("-m", "--comment", metavar="TEXT", help="Why, for the audit log.")]
Reason = Annotated[
    str | None,
    typer.Option(
        "-m", "--comment", metavar="TEXT", help="Commit it at once, and why, for the audit log; otherwise it is staged."
    ),
]
Lasting = Annotated[
    str | None,
    typer.Option("--for", metavar="TIME", help="It goes back by itself after this time: 90s, 10m, 4h, 2d."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would come of it, and change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Prefix = Annotated[str, typer.Option("--prefix", metavar="P", help="Only keys that begin with this.")]
PasswordStdin = Annotated[bool, typer.Option("--password-stdin", help="Read it from standard input.")]

Interfaces = Annotated[
    list[str] | None,
    typer.Option("--interface", metavar="NAME=ADDRESS", help="An IP interface; repeat it for each, the first first."),
]
PlatformVersion = Annotated[
    str | None,
    typer.Option("--platform-version", metavar="V", help="What all members must share; by default this program's."),
]
SshPort = Annotated[
    int | None,
    typer.Option("--ssh-port", metavar="N", min=0, max=65535, help="Where it listens for SSH; 0 takes a free one."),
]
CcsPort = Annotated[
    int | None,
    typer.Option("--ccs-port", metavar="N", min=0, max=65535, help="Where it listens for CCS; 0 takes a free one."),
]
Listen = Annotated[
    str | None,
    typer.Option("--listen", metavar="ADDRESS", help="Listen at this address; otherwise at the first interface's."),
]


def refuse_both(context: typer.Context, machine: str | None, level: str | None) -> None:
    """Fail where both --machine and --level were given: they answer different questions."""
    if machine is not None and level is not None:
        context.fail("--machine shows what is effective and --level what is kept: give one of them")


_DURATION = re.compile(r"([0-9]{1,6})(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def duration(context: typer.Context, text: str | None, option: str) -> int | None:
    """Return a time as people write it, ``90s``, ``10m``, ``4h`` or ``2d``, in milliseconds; None for none.

    Raises:
        Refused: it is more than a change can wait.
    """
    if text is None:
        return None
    found = _DURATION.fullmatch(text)
    if found is None or not int(found[1]):
        context.fail(f"'{text}' is no time for {option}: give 90s, 10m, 4h or 2d")
    from cluster_store.core.decide_timers import check_window

    window = int(found[1]) * _SECONDS[found[2]] * 1000
    check_window(window)
    return window


def lasting_text(milliseconds: int) -> str:
    """Return a time as ``duration`` takes it."""
    seconds = milliseconds // 1000
    unit = next(one for one in reversed(_SECONDS) if not seconds % _SECONDS[one])
    return f"{seconds // _SECONDS[unit]}{unit}"
