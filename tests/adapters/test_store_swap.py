"""Another log and other keys in a store's place: all of it or nothing, wherever the power fails."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cluster_store.adapters import store_swap
from cluster_store.adapters.store_folder import StoreFolder
from cluster_store.core.errors import StoreError

#: What changes the disk in an exchange.
_CALLS = ((Path, "rename"), (Path, "replace"), (Path, "unlink"), (os, "link"), (shutil, "rmtree"))


class PowerFailure(BaseException):
    """Nothing after this happens; nobody can catch it."""


def database(path: Path, content: str) -> None:
    """Make a database that says which one it is."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE content (text)")
        connection.execute("INSERT INTO content VALUES (?)", (content,))


def content(path: Path) -> str:
    """Return which database a file is."""
    with closing(sqlite3.connect(path)) as connection:
        ((text,),) = connection.execute("SELECT text FROM content")
    return str(text)


def keys(folder: Path, name: str) -> None:
    """Make a folder of keys that says whose they are."""
    folder.mkdir()
    (folder / "identity").write_text(name)


def store(root: Path) -> tuple[StoreFolder, Path]:
    """Return a store, and what is to take its place, gathered."""
    root.mkdir()
    folder = StoreFolder(root)
    database(folder.database, "old")
    keys(folder.keys, "old")
    fresh = store_swap.gather(folder)
    database(fresh / folder.database.name, "new")
    keys(fresh / folder.keys.name, "new")
    return folder, fresh


def shown(folder: StoreFolder) -> tuple[str, str]:
    """Return which database and which keys a store has."""
    return content(folder.database), (folder.keys / "identity").read_text()


def test_log_and_keys_are_exchanged_and_the_former_ones_kept(tmp_path: Path) -> None:
    """What the store was can be looked at, and opened, as before."""
    folder, fresh = store(tmp_path / "store")
    store_swap.exchange(folder, fresh, "then")
    assert shown(folder) == ("new", "new")
    assert content(store_swap.former_database(folder, "then")) == "old"
    assert (folder.root / "keys.former-then" / "identity").read_text() == "old"
    assert not list(folder.root.glob("leaving*"))


def fail_after(patch: pytest.MonkeyPatch, count: int) -> None:
    """Let the power fail after so many calls to the disk."""
    made = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **named: Any) -> Any:
            nonlocal made
            made += 1
            if made > count:
                raise PowerFailure
            return real(*words, **named)

        return call

    for owner, name in _CALLS:
        patch.setattr(owner, name, counted(getattr(owner, name)))


def test_wherever_the_power_fails_the_store_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    """A reader always finds one of the two; whoever writes next finds log and keys that belong together."""
    outcomes, failed, count = [], True, 0
    while failed:
        folder, fresh = store(tmp_path / f"store{count}")
        with pytest.MonkeyPatch.context() as patch:
            fail_after(patch, count)
            try:
                store_swap.exchange(folder, fresh, "then")
                failed = False
            except PowerFailure:
                count += 1
        assert content(folder.database) in ("old", "new")
        store_swap.complete(folder)
        outcomes.append(shown(folder))
    assert set(outcomes) == {("old", "old"), ("new", "new")}
    assert outcomes == sorted(outcomes, reverse=True), "once decided, it is never undone"
    assert len(outcomes) > 5


def test_completing_may_be_cut_short_too(tmp_path: Path) -> None:
    """However often the power fails, one step further each time is enough."""
    folder, fresh = store(tmp_path / "store")
    for count in (1, 2, 1, 1, 2, 1, 3):
        with pytest.MonkeyPatch.context() as patch:
            fail_after(patch, count)
            try:
                if fresh.exists():
                    store_swap.exchange(folder, fresh, "then")
                else:
                    store_swap.complete(folder)
            except PowerFailure:
                continue
    store_swap.complete(folder)
    assert shown(folder) == ("new", "new")
    assert content(store_swap.former_database(folder, "then")) == "old"


def test_a_store_that_is_being_read_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader's database would be pulled from under it; it can be tried again."""
    folder, fresh = store(tmp_path / "store")
    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *words, **named: real(*words, **{**named, "timeout": 0.1}))
    with closing(real(folder.database)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT text FROM content").fetchall() == [("old",)]
        with closing(real(folder.database, isolation_level=None)) as writer:
            writer.execute("INSERT INTO content VALUES ('more')")
            writer.execute("DELETE FROM content WHERE text = 'more'")
            with pytest.raises(StoreError, match="is being read"):
                store_swap.exchange(folder, fresh, "then")
    assert shown(folder) == ("old", "old")
    store_swap.exchange(folder, fresh, "then")
    assert shown(folder) == ("new", "new")


def test_names_of_what_is_kept_do_not_collide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two changes in one second both keep what was before."""
    monkeypatch.setattr(store_swap, "stamp", lambda: "now")
    folder, fresh = store(tmp_path / "store")
    names = []
    for number in range(3):
        when = store_swap.free_stamp(folder)
        names.append(when)
        store_swap.exchange(folder, fresh, when)
        fresh = store_swap.gather(folder)
        database(fresh / folder.database.name, f"newer{number}")
        keys(fresh / folder.keys.name, f"newer{number}")
    assert names == ["now", "now-2", "now-3"]


def test_what_is_kept_takes_no_name_that_is_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a join that was killed in the same second left the settings, but no database."""
    monkeypatch.setattr(store_swap, "stamp", lambda: "20260101T000000Z")
    folder = StoreFolder(tmp_path)
    for kept in ("former-20260101T000000Z.json", "former-20260101T000000Z-2.db"):
        (tmp_path / kept).touch()
    assert store_swap.free_stamp(folder) == "20260101T000000Z-3"
