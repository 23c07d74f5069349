"""Stores that somebody or something has damaged."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.cli.stores import Store

#: What keeps the records from being changed by anybody who uses SQLite.
GUARDS = ("records_are_not_changed", "records_are_not_deleted")


def worked_with(root: Path) -> Store:
    """Return the store of a cluster's only machine that has been worked with."""
    store = Store(root).init()
    store.do("clusterconfig", "create", "americas", "--by", "ip")
    for number in range(12):
        store.do("set", f"key.{number % 5}", f"value {number}", "-m", "so it goes")
    store.do("set", "secret", "--secret", "--password-stdin", "-m", "hush", typed="geheim")
    store.do("set", "large", '"' + "x" * 30_000 + '"', "-m", "pages of its own")
    store.do("add", "hosts", "one", "two", "-m", "a set")
    return store


def copied(store: Store, root: Path) -> Store:
    """Return a copy of a store."""
    shutil.copytree(store.root, root)
    return Store(root)


def killed(store: Store, root: Path) -> Store:
    """Return a store as a killed process leaves it, with four changes that are in the write-ahead log alone."""
    original = copied(store, root.with_name(root.name + "-original"))
    with closing(sqlite3.connect(original.root / "cluster.db")) as connection:
        # Whoever has it open keeps the log from being moved into the database.
        connection.execute("SELECT count FROM meta").fetchall()
        for number in range(4):
            original.do("set", f"late.{number}", str(number), "-m", "late")
        return copied(original, root)


def log_of(store: Store) -> Path:
    """Return a store's write-ahead log."""
    return store.root / "cluster.db-wal"


def flip(path: Path, place: int) -> None:
    """Change a bit of a byte; negative places count from the end."""
    data = bytearray(path.read_bytes())
    data[place] ^= 8
    path.write_bytes(data)


def cut(path: Path, size: int) -> None:
    """Cut a file off."""
    with path.open("r+b") as file:
        file.truncate(size)


def statements(*told: str) -> Callable[[Store], None]:
    """Return what changes a store behind the program's back."""

    def change(store: Store) -> None:
        with closing(sqlite3.connect(store.root / "cluster.db", isolation_level=None)) as connection:
            for guard in GUARDS:
                definition = connection.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (guard,)).fetchone()
                connection.execute(f"DROP TRIGGER {guard}")
                connection.execute("BEGIN")
                for statement in told if guard == GUARDS[-1] else ():
                    connection.execute(statement)
                connection.execute("COMMIT")
                if guard == GUARDS[-1]:
                    connection.execute(definition[0])

    return change


def state_of(store: Store) -> tuple[object, list[str]]:
    """Return a store's digests and the ids of its events, in order."""
    events = [line.split()[0] for line in store.do("log").splitlines()]
    status = store.ask("status")
    return (status["digest"], status["lanes_digest"], status["records"]), events
