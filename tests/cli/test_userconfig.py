"""``userconfig`` and ``passwd``: every form and every refusal, as a transcript.

In ``transcripts/*.txt`` a line that begins with ``$ `` is a command, with what is typed behind ``<``; below it stands
what it prints, standard error behind ``| ``, and its exit status in brackets where that is not 0. What differs from run
to run is left out. With ``CLUSTER_STORE_REWRITE=1`` in the environment the files are written anew.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path

import pytest

from tests.cli.stores import Store
from tests.cli.test_menus import Terminal
from tests.core.keyring import key_line

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))
_EVENT = re.compile(r"(?<=event )[0-9a-f]{10}")


def play(text: str, store: Store, folder: Path) -> str:
    """Run a transcript's commands; return it with what they come to now."""
    for name in ("alice", "bob"):
        (folder / f"{name}.pub").write_text(key_line(name, f"{name} at home") + "\n")
    (folder / "private").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    (folder / "empty").write_text("# no key\n")
    (folder / "binary").write_bytes(b"\xff\xfe")
    told: list[str] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            command, _, typed = line.removeprefix("$ ").partition(" < ")
            words = [re.sub(r"^FOLDER", str(folder), word) for word in shlex.split(command)]
            outcome = store.run(*words, typed=f"{typed}\n" if typed else "")
            told += [line, *outcome.out.splitlines(), *(f"| {said}" for said in outcome.err.splitlines())]
            told += [f"[{outcome.status}]"] if outcome.status else []
        elif line.startswith("# "):
            told += ["", line] if told else [line]
    shown = "\n".join(line.rstrip() for line in told).replace(str(folder), "FOLDER")
    return _EVENT.sub("0123456789", shown) + "\n"


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_transcript_comes_to_what_it_came_to_before(transcript: Path, store: Store, tmp_path: Path) -> None:
    """Every output, refusal and exit status is as recorded."""
    recorded = transcript.read_text(encoding="utf-8")
    told = play(recorded, store, tmp_path)
    if os.environ.get("CLUSTER_STORE_REWRITE") == "1":
        transcript.write_text(told, encoding="utf-8")
    else:
        assert told == recorded


def test_a_changed_outcome_is_noticed(store: Store, tmp_path: Path) -> None:
    """The comparison can fail."""
    assert play("$ userconfig list\nnobody\n", store, tmp_path) != "$ userconfig list\nnobody\n"


def test_no_hash_and_no_password_is_ever_shown(store: Store) -> None:
    """Neither in JSON nor in the log, however a user was made."""
    store.do("userconfig", "new", "bob", "--role", "guest", "--password-stdin", typed="geheim\n")
    store.do("userconfig", "edit", "bob", "--password-stdin", typed="geheimer\n")
    store.do("passwd", "bob", "--password-stdin", typed="am geheimsten\n")
    shown = [store.do(*words) for words in (("userconfig", "list", "--json"), ("log", "--json"), ("log",))]
    assert all("geheim" not in text and "$argon2" not in text for text in shown)
    users = {user["name"]: user["password"] for user in json.loads(shown[0])["users"]}
    assert users == {"admin": False, "bob": True}


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
