"""``passwd``: a user's password, which is the same on every machine of the cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from cluster_store.core.cluster import ADMIN

from . import prompts
from .parameters import PasswordStdin


def passwd(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The user.")] = ADMIN,
    password_stdin: PasswordStdin = False,
) -> None:
    """Give a user another password.

    It counts on every machine of the cluster as soon as the change arrives there.
    """
    password = prompts.new_password(name, from_stdin=password_stdin)
    result = context.obj.execute("passwd", user=name, password=password)
    context.obj.report(result, f"the password of {name} is changed", user=name)
