"""One door for what SQLite says went wrong: each of its result codes as an error that an operator can act on."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from cluster_store.core.errors import StoreCorrupt, StoreError, StoreFull, StoreLocked, StoreMissing

#: What helps where the file is not what was written.
MENDING = "run 'cluster-store repair': it says what is lost, and how to get it back"
#: Primary result code -> error, message about a path, hint.
_CAUSES: dict[int, tuple[type[StoreError], str, str]] = {
    sqlite3.SQLITE_FULL: (StoreFull, "there is no room for {}", "make room on its disk, then try again"),
    sqlite3.SQLITE_IOERR: (
        StoreFull,
        "the disk fails under {}",
        "see the system's log for what is wrong with the disk",
    ),
    sqlite3.SQLITE_READONLY: (
        StoreFull,
        "{} cannot be written",
        "see that its disk is mounted for writing and that its files and folder belong to this user",
    ),
    sqlite3.SQLITE_CORRUPT: (StoreCorrupt, "{} is damaged", MENDING),
    sqlite3.SQLITE_NOTADB: (StoreCorrupt, "{} is not a database", MENDING),
    sqlite3.SQLITE_BUSY: (StoreLocked, "another process is writing to {}", "wait for it to finish, then try again"),
    sqlite3.SQLITE_LOCKED: (StoreLocked, "another process is writing to {}", "wait for it to finish, then try again"),
    sqlite3.SQLITE_CANTOPEN: (StoreError, "{} cannot be opened", "run this as the user that the store belongs to"),
    sqlite3.SQLITE_PERM: (StoreError, "{} cannot be opened", "run this as the user that the store belongs to"),
}


def store_error(error: sqlite3.Error, path: Path) -> StoreError:
    """Return what an error of SQLite means for a store."""
    # The extended code, where there is one, has the primary one in its low byte. Python's own errors have none.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if not code and "decode" in str(error):
        code = sqlite3.SQLITE_CORRUPT
    kind, message, hint = _CAUSES.get(code, (StoreError, "{} cannot be used as it should", MENDING))
    return kind(f"{message.format(path)}: {error}", hint)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what SQLite, the file system and the decoding of stored columns raise into errors of the tree."""
    try:
        yield
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    except OSError as error:
        raise StoreError(f"{path} cannot be used: {error.strerror}", "see to its disk and to who owns it") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreCorrupt(f"{path} is damaged: {error}", MENDING) from error


def missing(path: Path) -> StoreMissing:
    """Return why a database that is not there is not there."""
    folder = path.parent
    if (folder / "keys").is_dir():
        # The keys come first and the database last; without it nobody has ever relied on them.
        return StoreMissing(
            f"the store in {folder} is not finished: its making was cut short",
            "run 'cluster-store init --hostname NAME' again, or 'cluster-store repair' if the database was lost",
        )
    return StoreMissing(
        f"there is no store in {folder}",
        "make one with 'cluster-store init --hostname NAME', or name another folder with --store",
    )
