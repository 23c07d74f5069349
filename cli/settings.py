"""``set``, ``unset``, ``add`` and ``remove``: one setting at one level."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from cluster_store.core.commands import AddElements, RemoveElements, SetSetting, UnsetSetting
from cluster_store.core.naming import iso_time
from cluster_store.core.values import from_python, parse_argument

from . import prompts
from .parameters import Elements, Key, Lasting, Level, PasswordStdin, Reason, duration
from .session import Session

OnKey = SetSetting | UnsetSetting | AddElements | RemoveElements


def set_(
    context: typer.Context,
    key: Key,
    value: Annotated[
        str | None, typer.Argument(metavar="VALUE", help="JSON; a bare word is a string. Left out with --secret.")
    ] = None,
    level: Level = None,
    secret: Annotated[
        bool, typer.Option("--secret", help="Ask for the value, a string, and keep it out of logs and files.")
    ] = False,
    password_stdin: PasswordStdin = False,
    lasting: Lasting = None,
    comment: Reason = None,
) -> None:
    """Give a key a value at a level.

    Without -m it is staged: nothing changes before 'commit'. A secret's value is never an argument, because other users
    of the host can see those. With --for it goes back by itself, also where this machine is cut off or was restarted
    meanwhile; whoever sets the key again before ends that.
    """
    if secret and value is not None:
        context.fail("a secret is asked for, or read with --password-stdin: leave VALUE out")
    if not secret and value is None:
        context.fail("VALUE is missing")
    if password_stdin and not secret:
        context.fail("--password-stdin reads a secret: add --secret")
    if value is None:
        text = from_python(prompts.secret(key, from_stdin=password_stdin), "the value")
    else:
        text = parse_argument(value)
    lasts = duration(context, lasting, "--for")
    command = SetSetting(key=key, value=text, level=level, secret=secret, lasts=lasts, salt=os.urandom(16))
    _carry_out(context.obj, command, comment, "set", "staged")


def unset(
    context: typer.Context, key: Key, level: Level = None, lasting: Lasting = None, comment: Reason = None
) -> None:
    """Take a key's value away at a level.

    What a less specific level says of it is effective again. Without -m it is staged.
    """
    command = UnsetSetting(key=key, level=level, lasts=duration(context, lasting, "--for"))
    _carry_out(context.obj, command, comment, "unset", "unset staged")


def add(
    context: typer.Context,
    key: Key,
    elements: Elements,
    level: Level = None,
    lasting: Lasting = None,
    comment: Reason = None,
) -> None:
    """Add elements to a set-valued key.

    What others add at the same time on other machines stays too. A key that has never had a value becomes a set.
    Without -m it is staged.
    """
    lasts = duration(context, lasting, "--for")
    command = AddElements(key=key, elements=tuple(map(parse_argument, elements)), level=level, lasts=lasts)
    _carry_out(context.obj, command, comment, "elements added", "elements to add staged")


def remove(
    context: typer.Context,
    key: Key,
    elements: Elements,
    level: Level = None,
    lasting: Lasting = None,
    comment: Reason = None,
) -> None:
    """Remove elements from a set-valued key.

    An element that a less specific level has is left out from this level on. Without -m it is staged.
    """
    lasts = duration(context, lasting, "--for")
    command = RemoveElements(key=key, elements=tuple(map(parse_argument, elements)), level=level, lasts=lasts)
    _carry_out(context.obj, command, comment, "elements removed", "elements to remove staged")


def _carry_out(session: Session, command: OnKey, comment: str | None, done: str, staged: str) -> None:
    """Commit a command at once where it has a comment, else stage it; say what came of it, and at which level."""
    result = session.change(command, comment)
    key, level = command.key, result["level"]
    until = f" until {iso_time(result['until'])}" if result["changed"] and command.lasts else ""
    result |= {"until": iso_time(result["until"])} if until else {}
    session.report(
        result,
        f"{key}: {done} at {level}{until}",
        f"{key}: nothing to change at {level}",
        f"{key}: {staged} at {level}",
        key=key,
    )
    if until:
        from .confirm import tell_unwatched

        tell_unwatched(session)
