"""Whatever both sides of a cut do to one user, they agree afterwards, on what one side made of that user, whole."""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_store.core import commands
from cluster_store.core.cluster import ROLES, User
from cluster_store.core.conflicts import conflicts
from cluster_store.core.errors import Refused
from cluster_store.core.rules import read
from tests.core.agreement import agree, registers_of
from tests.core.builders import finished
from tests.replicas import Fleet, Machine


class Change(NamedTuple):
    """One thing that one side does."""

    side: int
    what: str
    choice: int


changes = st.lists(
    st.builds(
        Change, st.integers(0, 1), st.sampled_from(["role", "password", "rename", "delete", "add"]), st.integers(0, 2)
    ),
    max_size=6,
)


def command(fleet: Fleet, change: Change) -> commands.Command:
    """Return what is asked for; each password is another one."""
    salt, password = fleet.fresh(16), f"$argon2id${fleet.fresh(4).hex()}"
    role, name = ROLES[change.choice], ("bob", "Bob", "robert")[change.choice]
    match change.what:
        case "role":
            return commands.ChangeUser(user="bob", role=role, salt=salt)
        case "password":
            return commands.ChangePassword(user="bob", password=password, salt=salt)
        case "rename":
            return commands.ChangeUser(user="bob", rename=name, salt=salt)
        case "delete":
            return commands.DeleteUser(user="bob", salt=salt)
    return commands.AddUser(name="bob", role=role, password=password, salt=salt)


async def bob(machine: Machine) -> User | None:
    """Return the user whom both sides knew before."""
    return read(await registers_of(machine)).users.get("bob")


async def play(story: list[Change]) -> None:
    """Let both sides do things, meet, and look at what came of it."""
    fleet = Fleet()
    one, other = sides = await fleet.fleet_of("anna", "bert")
    await one.command(commands.AddUser(name="bob", role="operator", password="$argon2id$0", salt=fleet.fresh(16)))
    await fleet.pump()
    before = await bob(one)
    await fleet.cut(one, other)
    wrote = [False, False]
    for change in story:
        with suppress(Refused):
            result = await sides[change.side].command(command(fleet, change))
            wrote[change.side] |= result["changed"]
    changed = [await bob(side) for side, did in zip(sides, wrote, strict=True) if did]
    await fleet.connect(one, other)
    await fleet.pump()
    await agree(one, other)
    after = await bob(one)
    if None in changed:
        assert after is None
    elif changed:
        # Of users of one role the later change counts, which of the two that is shows in nothing else.
        assert after in changed
        assert after is not None
        assert ROLES.index(after.role) == min(ROLES.index(user.role) for user in changed if user is not None)
    else:
        assert after == before
    if len(changed) == 2 and changed[0] != changed[1]:
        assert "user/bob" in [conflict.path for conflict in conflicts(await registers_of(one))]


@settings(max_examples=60)
@given(changes)
def test_both_sides_agree_on_what_one_of_them_made(story: list[Change]) -> None:
    """Deleted before the lesser role before the later change; and where they differed, somebody is told."""
    finished(play(story))
