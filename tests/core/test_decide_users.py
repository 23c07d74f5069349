"""Who may log in: the events that changes of users come to, and every refusal."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cluster_store.core import commands, public_keys
from cluster_store.core.cluster import User
from cluster_store.core.conflicts import problems
from cluster_store.core.limits import KEYS_PER_USER_MAX
from cluster_store.core.registers import Secret
from tests.core.desk import SALT, Desk, card
from tests.core.keyring import key_line

HASH, OTHER_HASH = "$argon2id$v=19$one", "$argon2id$v=19$other"
ALICE = key_line("alice", "alice at home")


@pytest.fixture
def desk() -> Desk:
    """A machine that stands alone, with ``admin``."""
    desk = Desk("mx")
    desk.do(commands.InitialiseMachine(card=card("mx"), password=HASH, salt=SALT))
    return desk


def add(name: str = "bob", role: str = "operator", **more: Any) -> commands.AddUser:
    """Return the command that adds a user, with a password unless told otherwise."""
    return commands.AddUser(name=name, role=role, salt=SALT, **{"password": HASH, **more})


def change(user: str = "bob", **more: Any) -> commands.ChangeUser:
    """Return the command that changes a user."""
    return commands.ChangeUser(user=user, salt=SALT, **more)


def delete(user: str = "bob") -> commands.DeleteUser:
    """Return the command that deletes a user."""
    return commands.DeleteUser(user=user, salt=SALT)


def user(desk: Desk, name: str = "bob") -> User:
    """Return a user as everybody reads them."""
    return desk.cluster.user(name)


# --- adding -----------------------------------------------------------------------------------------------


def test_a_user_is_one_secret_register(desk: Desk) -> None:
    """Name, role, hash and keys are written together, and none of it stands in the log but name and role."""
    event = desk.do(add(keys=(ALICE,)))
    assert event is not None
    assert (event.kind, event.params["name"], event.params["role"]) == ("UserAdded", "bob", "operator")
    (write,) = event.writes
    assert write.path == "user/bob"
    assert isinstance(write.value, Secret)
    told = json.loads(event.secrets[write.path][1])
    assert told == {"name": "bob", "role": "operator", "password": HASH, "keys": [ALICE]}
    assert user(desk) == User(id="bob", name="bob", role="operator", password=HASH, keys=(ALICE,))


def test_the_same_name_is_the_same_user_on_both_sides_of_a_cut(desk: Desk) -> None:
    """Its id is its name in one case; once that is used up, also by somebody who is gone, another one."""
    desk.do(add("Zoë"))
    assert user(desk, "ZOË").id == "zo%C3%AB"
    desk.do(delete("zoë"))
    desk.do(add("Zoë"))
    assert user(desk, "zoë").id == "zo%C3%AB~2"


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (add("Admin"), "there is already a user named 'admin'"),
        (add("machine"), "'machine' is what machines log in as"),
        (add(""), "a user name is empty"),
        (add("os:root"), "holds :"),
        (add("bob smith"), "holds a blank or an @"),
        (add("bob@mx"), "holds a blank or an @"),
        (add("\ufb01na"), "would not arrive as it is over SSH"),
        (add("-bob"), "would be taken for something else"),
        (add(role="root"), "'root' is no role"),
        (add(password=""), "bob could not log in"),
        (add(password="hunter2"), "did not arrive as an argon2id hash"),
        (add(keys=("ssh-rsa AAAA",)), "the ssh-rsa key"),
        (add(both=True), "has no public key"),
        (add(both=True, password="", keys=(ALICE,)), "has no password"),
        (add(keys=tuple(map(key_line, map(str, range(KEYS_PER_USER_MAX + 1))))), "at most 32 keys"),
    ],
)
def test_who_cannot_be_added(desk: Desk, command: commands.Command, why: str) -> None:
    """A refusal says why, and adds nobody."""
    assert why in desk.refusal(command)


# --- changing -----------------------------------------------------------------------------------------------


def test_what_is_not_given_stays(desk: Desk) -> None:
    """Each of a user's properties changes alone, and the event says which did."""
    desk.do(add())
    before = user(desk)
    for command, changed in (
        (change(rename="robert"), {"name": "robert"}),
        (change("robert", role="guest"), {"role": "guest"}),
        (change("robert", password=OTHER_HASH), {"password": OTHER_HASH}),
        (change("robert", add_keys=(ALICE,)), {"keys": (ALICE,)}),
        (change("robert", both=True), {"both": True}),
    ):
        event = desk.do(command)
        assert event is not None
        assert event.params["changed"] == list(changed)
        after = user(desk, "robert")
        told = {name: getattr(after, name) for name in ("id", "name", "role", "password", "keys", "both")}
        assert told == {**{name: getattr(before, name) for name in told}, **changed}
        before = after


def test_keys_come_and_go_by_what_they_are(desk: Desk) -> None:
    """The same key with another comment takes the place of the first; a fingerprint takes it away."""
    desk.do(add(keys=(ALICE, key_line("bob"))))
    desk.do(change(add_keys=(key_line("alice", "at work"),)))
    assert user(desk).keys == (key_line("bob"), key_line("alice", "at work"))
    desk.do(change(remove_keys=(public_keys.parse(ALICE).fingerprint,)))
    assert user(desk).keys == (key_line("bob"),)


def test_nothing_is_written_where_nothing_changes(desk: Desk) -> None:
    """Neither for what is so already, nor for a key that is there."""
    desk.do(add(keys=(ALICE,)))
    assert desk.do(change(role="operator", add_keys=(ALICE,), both=False)) is None


def test_writing_down_what_counts_settles_a_conflict(desk: Desk) -> None:
    """Where both sides of a cut changed a user, the same words make the one that counts the only one."""
    desk.do(add())
    for role in ("guest", "administrator"):
        text = json.dumps({"name": "bob", "role": role, "password": HASH, "keys": []})
        desk.registers.put("user/bob", Secret("a" * 64), desk.now, text=text)
    assert user(desk).role == "guest"
    event = desk.do(change(role="guest"))
    assert event is not None
    assert (event.params["changed"], len(event.writes[0].replaced)) == ([], 3)
    assert len(desk.registers.standing(desk.path("user/bob"))) == 1


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (change("nobody"), "there is no user named 'nobody'"),
        (change("admin", role="guest"), "admin keeps its name and its role"),
        (change("admin", rename="root"), "admin keeps its name and its role"),
        (change(rename="ADMIN"), "there is already a user named 'admin'"),
        (change(role="king"), "'king' is no role"),
        (change(password="plain"), "did not arrive as an argon2id hash"),
        (change(remove_keys=("SHA256:x",)), "bob has no key SHA256:x"),
        (change(both=True), "has no public key"),
        (delete("admin"), "admin cannot be deleted"),
        (delete("nobody"), "there is no user named 'nobody'"),
        (commands.ChangePassword(user="bob", password="", salt=SALT), "an empty password is no password"),
        (commands.ChangePassword(user="nobody", password=HASH, salt=SALT), "there is no user named 'nobody'"),
    ],
)
def test_what_cannot_be_changed(desk: Desk, command: commands.Command, why: str) -> None:
    """A refusal says why."""
    desk.do(add())
    assert why in desk.refusal(command)


def test_a_name_may_change_its_case(desk: Desk) -> None:
    """A user's own name stands in nobody's way."""
    desk.do(add())
    desk.do(change(rename="Bob"))
    assert user(desk).name == "Bob"


def test_the_last_key_of_a_two_factor_login_stays(desk: Desk) -> None:
    """Nobody is locked out by a change of half of what they need."""
    desk.do(add(keys=(ALICE,), both=True))
    command = change(remove_keys=(public_keys.parse(ALICE).fingerprint,))
    assert "bob is to log in with key and password, and has no public key" in desk.refusal(command)


# --- deleting, and two of one name ----------------------------------------------------------------------


def test_nothing_of_a_deleted_user_is_kept(desk: Desk) -> None:
    """Neither hash nor keys stand in the register any more."""
    desk.do(add(keys=(ALICE,)))
    event = desk.do(delete())
    assert event is not None
    told = json.loads(event.secrets[desk.path("user/bob")][1])
    assert told == {"name": "bob", "role": "operator", "password": "", "keys": [], "deleted": True}
    assert "there is no user named 'bob'" in desk.refusal(delete())


def test_two_users_of_one_name_are_named_and_addressed_by_their_ids(desk: Desk) -> None:
    """Commands refuse the name, ``clustercheck`` tells of it, and renaming one by its id settles it."""
    desk.do(add())
    desk.do(add("carol"))
    text = json.dumps({"name": "BOB", "role": "guest", "password": HASH, "keys": []})
    desk.registers.lanes[desk.path("user/carol")].clear()
    desk.registers.put("user/carol", Secret("a" * 64), desk.now, text=text)
    assert "there are 2 users named 'bob'" in desk.refusal(delete())
    (problem,) = problems(desk.cluster, desk.registers, [], [])
    assert problem.kind == "users with one name"
    desk.do(change("carol", rename="carol"))
    assert not problems(desk.cluster, desk.registers, [], [])
    assert user(desk).id == "bob"
