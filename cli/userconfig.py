"""``userconfig``: the people who may log in, one table for the whole cluster."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster_store import bootstrap
from cluster_store.core import public_keys
from cluster_store.core.cluster import Cluster, User
from cluster_store.core.commands import AddUser, ChangeUser, DeleteUser
from cluster_store.core.errors import InvalidValue, NotFound, Refused
from cluster_store.core.naming import show_login

from . import prompts
from .parameters import Comment, PasswordStdin
from .session import Session, say
from .tables import print_table

#: A file of public keys holds a few lines; reading stops beyond this.
_KEY_FILE_BYTES_MAX = 64 * 1024


class Role(StrEnum):
    """What somebody may do."""

    GUEST = "guest"
    OPERATOR = "operator"
    ADMINISTRATOR = "administrator"


Name = Annotated[str, typer.Argument(metavar="NAME", help="The user's name, or id where two have one name.")]
Keys = Annotated[
    list[Path] | None,
    typer.Option("--key", metavar="FILE", help="OpenSSH public keys, one a line; repeat it for more; - is stdin."),
]


def list_(context: typer.Context) -> None:
    """Show who may log in, as what, and how."""
    with context.obj.read() as store:
        cluster = store.cluster()
    users = sorted(cluster.users.values(), key=lambda user: (user.name.casefold(), user.id))
    shown = [_shown(user, cluster) for user in users]

    def words() -> None:
        rows = [[user.name, user.role, _login(user, cluster), user.id] for user in users]
        print_table(["name", "role", "logs in with", "id"], rows)
        keys = [
            [user["name"], key["kind"], key["fingerprint"], key["comment"]] for user in shown for key in user["keys"]
        ]
        if keys:
            say("")
            print_table(["key of", "kind", "fingerprint", "comment"], keys)

    context.obj.show({"users": shown}, words)


def new(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What they log in as.")],
    role: Annotated[Role, typer.Option("--role", help="What they may do.", case_sensitive=False)],
    key: Keys = None,
    require_both: Annotated[bool, typer.Option("--require-both", help="A login takes key and password.")] = False,
    password_stdin: PasswordStdin = False,
    comment: Comment = "",
) -> None:
    """Let somebody log in.

    They can on every machine of the cluster, also on one that is cut off, as soon as the change has arrived there. At
    a terminal a password is asked for where no key is given, or where both are required.
    """
    keys = _read_keys(context, key or [], password_stdin=password_stdin)
    asked = password_stdin or (prompts.at_terminal() and (require_both or not keys))
    password = prompts.new_password(name, from_stdin=password_stdin) if asked else ""
    command = AddUser(
        name=name,
        role=role,
        password=bootstrap.hash_password(password) if password else "",
        keys=keys,
        both=require_both,
        salt=os.urandom(16),
        comment=comment,
    )
    context.obj.report(context.obj.submit(command), f"{name} may log in as {role}", user=name)
    prompts.warn_of_short(password)


def edit(
    context: typer.Context,
    name: Name,
    role: Annotated[Role | None, typer.Option("--role", help="What they may do.", case_sensitive=False)] = None,
    key: Keys = None,
    remove_key: Annotated[
        list[str] | None, typer.Option("--remove-key", metavar="FINGERPRINT", help="A key that counts no more.")
    ] = None,
    require_both: Annotated[
        bool | None, typer.Option("--require-both/--no-require-both", help="Whether a login takes key and password.")
    ] = None,
    rename: Annotated[str | None, typer.Option("--rename", metavar="NEW", help="Another name.")] = None,
    password_stdin: PasswordStdin = False,
    comment: Comment = "",
) -> None:
    """Change how somebody logs in, or as what.

    What is not given stays. Open sessions of that user end, on every machine that hears of it. What was changed on both
    sides of a cut is settled by the next change: until then the lesser role counts.
    """
    keys = _read_keys(context, key or [], password_stdin=password_stdin)
    asked = [role, rename, require_both]
    if not keys and not remove_key and not password_stdin and all(one is None for one in asked):
        context.fail("say what to change; 'passwd' asks for another password")
    password = prompts.new_password(name, from_stdin=True) if password_stdin else ""
    command = ChangeUser(
        user=name,
        rename=rename,
        role=role,
        password=bootstrap.hash_password(password) if password_stdin else None,
        add_keys=keys,
        remove_keys=tuple(remove_key or ()),
        both=require_both,
        salt=os.urandom(16),
        comment=comment,
    )
    context.obj.report(context.obj.submit(command), f"{name} is changed", user=rename or name)
    prompts.warn_of_short(password)


def delete(
    context: typer.Context,
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    comment: Comment = "",
) -> None:
    """Let somebody log in no more.

    It counts against whatever is changed of that user elsewhere at the same time, and ends their open sessions.
    """
    session: Session = context.obj
    if prompts.at_terminal() and not yes and not prompts.confirm(f"Delete the user {name} on all machines?"):
        raise Refused("the deletion was not confirmed", "nothing was done")
    command = DeleteUser(user=name, salt=os.urandom(16), comment=comment)
    session.report(session.submit(command), f"{name} can log in no more", user=name)


def _shown(user: User, cluster: Cluster) -> dict[str, Any]:
    return {
        "name": user.name,
        "id": user.id,
        "role": user.role,
        "password": bool(user.password),
        "keys": [
            {"kind": key.kind, "fingerprint": key.fingerprint, "comment": key.comment}
            for key in public_keys.of_lines(user.keys)
        ],
        "both": user.both,
        "ambiguous": len(cluster.users_named(user.name)) > 1,
    }


def _login(user: User, cluster: Cluster) -> str:
    alone = len(cluster.users_named(user.name)) == 1
    return show_login(user) if alone else "nothing: another user has the same name"


def _read_keys(context: typer.Context, files: list[Path], *, password_stdin: bool) -> tuple[str, ...]:
    """Return the lines of the keys in files. Raises NotFound and InvalidValue."""
    if password_stdin and Path("-") in files:
        context.fail("standard input is either the password or the keys")
    return tuple(line for file in files for line in _lines(file))


def _lines(file: Path) -> list[str]:
    name = "standard input" if file == Path("-") else str(file)
    try:
        if file == Path("-"):
            text = sys.stdin.buffer.read(_KEY_FILE_BYTES_MAX).decode()
        else:
            with file.open("rb") as opened:
                text = opened.read(_KEY_FILE_BYTES_MAX).decode()
    except OSError as error:
        raise NotFound(f"{name} cannot be read: {error.strerror}", "give a file of public keys") from error
    except UnicodeDecodeError as error:
        raise InvalidValue(f"{name} is no file of public keys", "give the file that ends in .pub") from error
    # Looked at here, so that a refusal is about the file that was given.
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise InvalidValue(f"{name} holds no public key", "give the file that ends in .pub")
    try:
        return [public_keys.parse(line).line for line in lines]
    except InvalidValue as error:
        raise InvalidValue(f"{name}: {error.message}", error.hint) from error
