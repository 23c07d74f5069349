"""Whole copies of a store's file, and the few things that are done to a copy before it becomes a store."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from cluster_store.adapters.sqlite_errors import MENDING, translated
from cluster_store.adapters.sqlite_file import open_for_reading
from cluster_store.adapters.sqlite_schema import NEW_EPOCHS, transaction
from cluster_store.core.errors import StoreCorrupt

#: Pages copied between two calls of the progress.
_PAGES = 1024


def copy(source: Path, target: Path, progress: Callable[[int, int], None] = lambda *_: None) -> None:
    """Copy a store to a new file, as it is at one moment, while others go on writing to it.

    The copy stands by itself, without a write-ahead log. Writers never wait for it: it is read in one transaction of a
    reader, which only keeps the write-ahead log from being cut off meanwhile.

    Args:
        source: a store's database.
        target: where no file is.
        progress: told how many pages are copied, and how many there are.

    Raises:
        StoreError: or one of its kin: the store is damaged, or the copy cannot be written.
    """
    with closing(open_for_reading(source)) as reading, translated(target):
        target.touch(mode=0o600, exist_ok=False)
        with closing(sqlite3.connect(target, isolation_level=None)) as writing, transaction(reading, "BEGIN"):
            # The first read of a transaction decides what all of it sees; the copying then goes on from there.
            reading.execute("SELECT count FROM meta").fetchone()
            reading.backup(writing, pages=_PAGES, progress=lambda _, left, all_: progress(all_ - left, all_))


def begin_anew(database: Path, reason: str) -> None:
    """Have the next write to a store, which nobody has open, begin a new epoch.

    Args:
        database: a whole store.
        reason: one of ``NEW_EPOCHS``; written down with that epoch.
    """
    assert reason in NEW_EPOCHS
    with translated(database), closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        changed = connection.execute("UPDATE meta SET own = NULL, fingerprint = ?", (reason,)).rowcount
        if changed != 1:
            raise StoreCorrupt(f"{database} says nothing of itself", MENDING)


def secrets_without_value(database: Path) -> list[tuple[bytes, str]]:
    """Return the secrets that count but whose values are not here: record and path, sorted."""
    query = """
        SELECT lanes.id, lanes.path FROM lanes
        LEFT JOIN secrets ON secrets.record = lanes.id AND secrets.path = lanes.path
        WHERE lanes.secret AND secrets.text IS NULL ORDER BY 2, 1
    """
    with translated(database), closing(open_for_reading(database)) as connection:
        return list(connection.execute(query))
