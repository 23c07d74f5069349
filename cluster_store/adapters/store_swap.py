"""Another log, or another log and keys, in the place of a store's own: atomically, and the former ones are kept.

A log alone takes the place of the database by one rename. Keys and log together need two, so they are gathered in a
folder ``leaving-STAMP`` first. The rename that gives it this name is the decision: before it the store is what it was,
after it whoever opens the store for writing completes the exchange before anything else.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sqlite3
from pathlib import Path

from cluster_store.adapters.sqlite_errors import translated
from cluster_store.adapters.store_folder import StoreFolder, stamp, sync_folder
from cluster_store.core.errors import StoreError

_PREFIX = "leaving-"


def replace_database(folder: StoreFolder, fresh: Path, former: Path) -> None:
    """Put a log in the place of the database, which keeps a name of its own.

    Raises:
        StoreError: somebody is reading; nothing was changed.
    """
    empty_log(folder)
    with translated(folder.database):
        if not (former.exists() and former.samefile(folder.database)):
            os.link(folder.database, former)
        # In the order in which SQLite removes them: an index without its log would look like a loss.
        for beside in ("-shm", "-wal"):
            # A reader that still has the former database open keeps these two as well; the new one gets its own.
            folder.database.with_name(folder.database.name + beside).unlink(missing_ok=True)
        fresh.replace(folder.database)
        sync_folder(folder.root)


def empty_log(folder: StoreFolder) -> None:
    """Move what stands in the database's write-ahead log into the database: it must not meet another one.

    Raises:
        StoreError: somebody is reading; nothing was changed.
    """
    with (
        translated(folder.database),
        contextlib.closing(sqlite3.connect(folder.database, timeout=10.0)) as connection,
    ):
        busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise StoreError("the store is being read and cannot be replaced", "try again in a moment")


def free_stamp(folder: StoreFolder) -> str:
    """Return the time for the name of what is kept, with a number where something has that name already."""
    now = stamp()
    names = itertools.chain((now,), (f"{now}-{number}" for number in itertools.count(2)))
    # A join that was killed may have left the settings beside a database that was never put there.
    return next(name for name in names if not any(folder.root.glob(f"former-{name}.*")))


def gather(folder: StoreFolder) -> Path:
    """Return an empty folder for new keys and a new log. Raises StoreError and its kin."""
    fresh = folder.root / "leaving"
    with translated(fresh):
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
    return fresh


def exchange(folder: StoreFolder, fresh: Path, when: str) -> None:
    """Let gathered keys and log take the place of the store's own. Raises StoreError where somebody is reading."""
    empty_log(folder)
    with translated(folder.database):
        sync_folder(fresh)
        fresh.rename(folder.root / f"{_PREFIX}{when}")
        sync_folder(folder.root)
    complete(folder)


def complete(folder: StoreFolder) -> Path | None:
    """Complete an exchange that was decided, if there is one; return the file that keeps the former database then.

    The caller holds the store's lock.

    Raises:
        StoreError: somebody is reading; it is to be called again.
    """
    former = None
    for decided in sorted(folder.root.glob(f"{_PREFIX}*")):
        when = decided.name.removeprefix(_PREFIX)
        former = former_database(folder, when)
        if (decided / folder.database.name).exists():
            replace_database(folder, decided / folder.database.name, former)
        with translated(folder.keys):
            if (decided / folder.keys.name).exists():
                former_keys = folder.root / f"keys.former-{when}"
                if not former_keys.exists():
                    folder.keys.rename(former_keys)
                (decided / folder.keys.name).rename(folder.keys)
                sync_folder(folder.root)
            shutil.rmtree(decided)
            sync_folder(folder.root)
    return former


def former_database(folder: StoreFolder, when: str) -> Path:
    """Return the file that keeps what the machine was before."""
    return folder.root / f"former-{when}.db"
