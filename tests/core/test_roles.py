"""Who may do what: every command and every operation of the daemon, for every role."""

from __future__ import annotations

from typing import get_args

import pytest

from cluster_store.core import commands
from cluster_store.core.commands import (
    ChangePassword,
    CommitConfig,
    ConfirmConfig,
    RollBackConfig,
    SetSetting,
    SettingCommand,
    SettleSettings,
)
from cluster_store.core.errors import Refused
from cluster_store.core.roles import ADMINISTRATOR, GUEST, OPERATOR, Caller, check_command, check_operation, role_for

SALT = b"0123456789abcdef"
EVERY_COMMAND = get_args(commands.AnyCommand)
ABOUT_SETTINGS = (SettingCommand, CommitConfig, ConfirmConfig, RollBackConfig, SettleSettings)


def password(user: str) -> ChangePassword:
    """Return the command that changes somebody's password."""
    return ChangePassword(user=user, password="", salt=SALT)


def may(command: commands.Command, role: str) -> bool:
    """Say whether eve may give a command."""
    try:
        check_command(command, Caller("eve", role, "key"))
    except Refused:
        return False
    return True


@pytest.mark.parametrize("kind", EVERY_COMMAND, ids=lambda kind: kind.__name__)
def test_each_command_takes_its_role(kind: type[commands.Command]) -> None:
    """Settings take an operator, all else an administrator; a guest may change nothing."""
    assert role_for(kind) == (OPERATOR if issubclass(kind, ABOUT_SETTINGS) else ADMINISTRATOR)


def test_everybody_may_change_their_own_password() -> None:
    """And nobody else's but an administrator. What an operator may do, a guest may not."""
    setting = SetSetting(key="a", value="1", salt=SALT)
    assert [may(setting, role) for role in (GUEST, OPERATOR, ADMINISTRATOR)] == [False, True, True]
    assert may(password("Eve"), GUEST)
    assert not may(password("bob"), OPERATOR)
    assert may(password("bob"), ADMINISTRATOR)


@pytest.mark.parametrize("operation", ["join", "passwd", "anything", ""])
def test_operations_that_nobody_thought_of_are_for_administrators(operation: str) -> None:
    """What only looks, and what brings a command that is looked at itself, is for everybody."""
    with pytest.raises(Refused, match="eve is an operator"):
        check_operation(operation, Caller("eve", OPERATOR, "key"))
    check_operation(operation, Caller("eve", ADMINISTRATOR, "key"))
    for known in ("status", "connstatus", "whoami", "submit", "stage", "commit"):
        check_operation(known, Caller("eve", GUEST, "key"))
    check_operation("unstage", Caller("eve", OPERATOR, "key"))
    with pytest.raises(Refused, match="eve is a guest"):
        check_operation("unstage", Caller("eve", GUEST, "key"))


def test_a_refusal_says_who_is_what_and_what_it_takes() -> None:
    """So that whoever reads it knows whom to ask."""
    with pytest.raises(Refused) as caught:
        check_command(SetSetting(key="a", value="1", salt=SALT), Caller("eve", GUEST, "password"))
    assert caught.value.describe() == (
        "eve is a guest and may not do that: it takes an operator\nask an operator or an administrator"
    )
