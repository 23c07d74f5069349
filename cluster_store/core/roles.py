"""Which role may do what. Asked for everybody who logs in, wherever that is; the owner of a store's files may do all.

A guest reads, and changes their own password. An operator changes settings too. An administrator may do everything.
What is named nowhere here is for administrators, so that a new command is safe before anybody thinks of it.
"""

from __future__ import annotations

import msgspec

from cluster_store.core.cluster import ROLES
from cluster_store.core.commands import (
    ChangePassword,
    Command,
    CommitConfig,
    ConfirmConfig,
    RollBackConfig,
    SettingCommand,
    SettleSettings,
)
from cluster_store.core.errors import Refused

GUEST, OPERATOR, ADMINISTRATOR = ROLES

#: Operations of the daemon that change nothing.
_READING = ("status", "connstatus", "whoami")
#: Operations that bring a command, which is looked at by itself.
_BRINGING = ("submit", "stage", "commit")
#: Operations on whoever's own draft it is.
_DRAFTING = ("unstage",)
#: The commands of operators.
_SETTINGS = (SettingCommand, CommitConfig, ConfirmConfig, RollBackConfig, SettleSettings)


class Caller(msgspec.Struct, frozen=True):
    """Somebody who asks for something, known to be who they are."""

    #: As the log names them: a user of the cluster, or ``os:NAME``.
    user: str
    role: str = ADMINISTRATOR
    #: How that is known: ``local``, ``password``, ``key``, ``key+password``.
    auth: str = "local"
    #: Token of the login that they speak through, empty for the owner of the store's files.
    login: str = ""


def check_operation(operation: str, caller: Caller) -> None:
    """Raise Refused where a role may not ask for an operation of the daemon."""
    if operation in _DRAFTING:
        require(OPERATOR, caller, f"'{operation}'")
    elif operation not in (*_READING, *_BRINGING):
        require(ADMINISTRATOR, caller, f"'{operation}'")


def check_command(command: Command, caller: Caller) -> None:
    """Raise Refused where a role may not have a command carried out."""
    if isinstance(command, ChangePassword) and command.user.casefold() == caller.user.casefold():
        return
    require(role_for(type(command)), caller, "that")


def role_for(kind: type[Command]) -> str:
    """Return the least role that may have any command of a kind carried out."""
    return OPERATOR if issubclass(kind, _SETTINGS) else ADMINISTRATOR


def sees_secrets(role: str) -> bool:
    """Say whether a role is shown the values of secrets."""
    return role == ADMINISTRATOR


def require(role: str, caller: Caller, what: str) -> None:
    """Raise Refused where somebody is less than a role that something takes."""
    if ROLES.index(caller.role) < ROLES.index(role):
        article = "an" if caller.role[0] in "aeiou" else "a"
        raise Refused(
            f"{caller.user} is {article} {caller.role} and may not do {what}: it takes an {role}",
            "'userconfig list' shows who is what" if role == ADMINISTRATOR else "ask an operator or an administrator",
        )
