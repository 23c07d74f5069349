"""``passwd``: a user's password, which is the same on every machine of the cluster."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from cluster_store import bootstrap
from cluster_store.core.cluster import ADMIN
from cluster_store.core.commands import ChangePassword
from cluster_store.core.errors import Refused

from . import prompts
from .parameters import PasswordStdin


def passwd(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The user; otherwise whoever is logged in, or admin.")
    ] = None,
    password_stdin: PasswordStdin = False,
) -> None:
    """Give a user another password.

    It counts on every machine of the cluster as soon as the change arrives there.
    """
    login = context.obj.login
    name = name or (login.user if login else ADMIN)
    password = prompts.new_password(name, from_stdin=password_stdin)
    if not password:
        raise Refused("an empty password is no password", "give one of some length")
    command = ChangePassword(user=name, password=bootstrap.hash_password(password), salt=os.urandom(16))
    context.obj.report(context.obj.submit(command), f"the password of {name} is changed", user=name)
    prompts.warn_of_short(password)
