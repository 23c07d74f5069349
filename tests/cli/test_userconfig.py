"""``userconfig`` and ``passwd``: what is never shown, and what is asked. Every form and refusal is in a transcript."""

from __future__ import annotations

import json

from tests.cli.stores import Store
from tests.cli.terminal import Terminal


def test_no_hash_and_no_password_is_ever_shown(store: Store) -> None:
    """Neither in JSON nor in the log, however a user was made."""
    store.do("userconfig", "new", "bob", "--role", "guest", "--password-stdin", typed="geheim\n")
    store.do("userconfig", "edit", "bob", "--password-stdin", typed="geheimer\n")
    store.do("passwd", "bob", "--password-stdin", typed="am geheimsten\n")
    shown = [store.do(*words) for words in (("userconfig", "list", "--json"), ("log", "--json"), ("log",))]
    assert all("geheim" not in text and "$argon2" not in text for text in shown)
    users = {user["name"]: user["password"] for user in json.loads(shown[0])["users"]}
    assert users == {"admin": False, "bob": True}


def test_a_short_password_is_spoken_of(store: Store) -> None:
    """It is taken all the same: what it has to be is not this program's to say."""
    new = ["userconfig", "new", "ana", "--role", "guest", "--password-stdin"]
    assert "that password is short" in store.run(*new, typed="1234567").expect(0).err
    assert "short" not in store.run("passwd", "ana", "--password-stdin", typed="12345678").expect(0).err
    assert "that password is short" in store.run("passwd", "ana", "--password-stdin", typed="1").expect(0).err
    edit = ["userconfig", "edit", "ana", "--password-stdin"]
    assert "that password is short" in store.run(*edit, typed="1").expect(0).err
    assert "short" not in store.run("userconfig", "edit", "ana", "--role", "operator").expect(0).err


def test_an_edit_without_a_change_is_a_wrong_use(store: Store) -> None:
    """It says how a password is changed at a terminal."""
    outcome = store.run("userconfig", "edit", "admin").expect(2)
    assert "'passwd' asks for another password" in outcome.err


def test_at_a_terminal_it_asks(store: Store) -> None:
    """For a password, twice and unseen; and whether somebody is really to be deleted, where anything but yes is no."""
    terminal = Terminal(store, "userconfig", "new", "gus", "--role", "guest")
    terminal.types("New password of gus: ", "geheim")
    terminal.types("The same again: ", "geheim")
    assert terminal.end() == 0
    assert "geheim" not in terminal.screen
    for answer, status in (("", 1), ("y", 0)):
        terminal = Terminal(store, "userconfig", "delete", "gus")
        terminal.types("Delete the user gus on all machines? [y/N]", answer)
        assert terminal.end() == status
    assert [user["name"] for user in store.ask("userconfig", "list")["users"]] == ["admin"]
