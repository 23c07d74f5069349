"""``set``, ``unset``, ``add`` and ``remove``: one setting at one level."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from cluster_store.core.commands import AddElements, RemoveElements, SetSetting, UnsetSetting
from cluster_store.core.values import from_python, parse_argument

from . import prompts
from .parameters import Comment, Elements, Key, Level, PasswordStdin
from .session import Session


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
    comment: Comment = "",
) -> None:
    """Give a key a value at a level.

    A secret's value is never an argument, because other users of the host can see those.
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
    command = SetSetting(key=key, value=text, level=level, secret=secret, salt=os.urandom(16), comment=comment)
    _report(context.obj, key, "set", context.obj.submit(command))


def unset(context: typer.Context, key: Key, level: Level = None, comment: Comment = "") -> None:
    """Take a key's value away at a level.

    What a less specific level says of it is effective again.
    """
    _report(context.obj, key, "unset", context.obj.submit(UnsetSetting(key=key, level=level, comment=comment)))


def add(context: typer.Context, key: Key, elements: Elements, level: Level = None, comment: Comment = "") -> None:
    """Add elements to a set-valued key.

    What others add at the same time on other machines stays too. A key that has never had a value becomes a set.
    """
    parsed = tuple(map(parse_argument, elements))
    _report(
        context.obj,
        key,
        "elements added",
        context.obj.submit(AddElements(key=key, elements=parsed, level=level, comment=comment)),
    )


def remove(context: typer.Context, key: Key, elements: Elements, level: Level = None, comment: Comment = "") -> None:
    """Remove elements from a set-valued key.

    An element that a less specific level has is left out from this level on.
    """
    parsed = tuple(map(parse_argument, elements))
    _report(
        context.obj,
        key,
        "elements removed",
        context.obj.submit(RemoveElements(key=key, elements=parsed, level=level, comment=comment)),
    )


def _report(session: Session, key: str, done: str, result: dict[str, Any]) -> None:
    """Say what came of a command, and at which level."""
    level = result["level"]
    session.report(result, f"{key}: {done} at {level}", f"{key}: nothing to change at {level}", key=key)
