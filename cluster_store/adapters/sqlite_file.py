"""The store's file: how it is made, opened and recognised.

Everything that opens ``cluster.db`` comes through here. Light to import, because every quick command does.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cluster_store.adapters.sqlite_errors import MENDING, missing, store_error, translated
from cluster_store.adapters.sqlite_schema import SCHEMA_VERSION, create_tables, schema_version
from cluster_store.adapters.store_folder import sync_folder
from cluster_store.core.errors import Refused, StoreCorrupt, StoreError
from cluster_store.core.types import MachineId

#: How long to wait for a lock, seconds. In WAL mode only recovery and a second writer ever hold one.
_BUSY_TIMEOUT_S = 5.0
#: Identifies the host, where the host says so.
HOST_ID_FILE = Path("/etc/machine-id")

#: These only take effect while the file is empty.
_CREATING = ("page_size = 8192", "journal_mode = WAL")
_READING = ("trusted_schema = OFF", "cell_size_check = ON", "query_only = ON")
_WRITING = (
    "trusted_schema = OFF",
    "cell_size_check = ON",
    # What was acknowledged survives a power failure.
    "synchronous = FULL",
    # Erased secrets are overwritten, not only unlinked.
    "secure_delete = ON",
    # Pages: 8 MiB of log before it is moved into the database, and not much more kept on the disk.
    "wal_autocheckpoint = 1000",
    "journal_size_limit = 16777216",
    # KiB, negative as SQLite wants it.
    "cache_size = -8192",
)


def create(path: Path, me: MachineId, cluster: str) -> sqlite3.Connection:
    """Make an empty database where no file is, and return it, open for writing.

    Raises:
        Refused: there is a file already.
        StoreError: or one of its kin: the file cannot be made.
    """
    try:
        # Open to its owner only, before anything is in it: the folder is too, but files get copied.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        sync_folder(path.parent)
    except FileExistsError as error:
        raise Refused(f"there is a file already: {path}", "use it, or choose another folder with --store") from error
    except OSError as error:
        raise StoreError(
            f"{path} cannot be made: {error.strerror}", "see that its folder is there and belongs to this user"
        ) from error
    connection = _connect(path, "rw")
    with _closing_on_error(connection, path):
        _set_pragmas(connection, _CREATING + _WRITING)
        create_tables(connection, me, cluster, fingerprint(path))
    return connection


def open_for_writing(path: Path) -> tuple[sqlite3.Connection, int]:
    """Open a store; return also its schema's version, which may be an earlier one.

    Raises StoreMissing, StoreCorrupt, StoreTooNew, StoreLocked, StoreError.
    """
    connection = _connect(path, "rw")
    with _closing_on_error(connection, path):
        version = schema_version(connection, path)
        _set_pragmas(connection, _WRITING)
    return connection, version


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open a store beside whoever writes to it. Raises as ``open_for_writing``."""
    connection = _connect(path, "ro")
    with _closing_on_error(connection, path):
        version = schema_version(connection, path)
        if version < SCHEMA_VERSION:
            raise StoreError(
                f"{path} was written by an earlier version: it has schema {version}, not {SCHEMA_VERSION}",
                "start 'cluster-store serve', or change something: that brings it up to date",
            )
        _set_pragmas(connection, _READING)
        check_tail(connection, path)
    return connection


def check_tail(connection: sqlite3.Connection, path: Path) -> None:
    """Raise StoreCorrupt where the newest records have been cut off. Costs the same however long the log is."""
    ends = connection.execute(
        """
        SELECT meta.count, records.position, records.id, lines.head
        FROM meta
        LEFT JOIN records ON records.position = (SELECT max(position) FROM records)
        LEFT JOIN lines ON lines.number = records.line AND lines.position = records.position
        """
    ).fetchone()
    count, position, record, head = ends or (None, None, None, None)
    if count != (position or 0) or record != head:
        raise StoreCorrupt(
            f"{path} should hold {count} records and ends at {position or 0}: its tail was cut off", MENDING
        )


def fingerprint(path: Path) -> str:
    """Return what tells this file on this host from any copy of it."""
    status = path.stat()
    host = ""
    with suppress(OSError):
        host = HOST_ID_FILE.read_text(encoding="ascii", errors="replace").strip()
    return f"{status.st_dev}:{status.st_ino}:{host}"


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    try:
        path.stat()
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None
        )
    except (FileNotFoundError, NotADirectoryError):
        raise missing(path) from None
    except OSError as error:
        raise StoreError(
            f"{path} cannot be read: {error.strerror}", "run this as the user that the store belongs to"
        ) from error
    except sqlite3.Error as error:
        raise store_error(error, path) from error


@contextmanager
def _closing_on_error(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    try:
        with translated(path):
            yield
    except BaseException:
        connection.close()
        raise


def _set_pragmas(connection: sqlite3.Connection, pragmas: tuple[str, ...]) -> None:
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}")
