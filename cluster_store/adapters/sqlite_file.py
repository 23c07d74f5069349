"""The store's file: how it is made, opened and recognised.

Everything that opens ``cluster.db`` comes through here. Light to import, because every quick command does.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from cluster_store.adapters import sqlite_wal
from cluster_store.adapters.sqlite_errors import MENDING, missing, store_error, translated
from cluster_store.adapters.sqlite_schema import PAGE_BYTES, SCHEMA_VERSION, create_tables, schema_version
from cluster_store.adapters.store_folder import sync_folder
from cluster_store.core.errors import Refused, StoreCorrupt, StoreError
from cluster_store.core.types import MachineId

#: How long to wait for a lock, seconds. In WAL mode only recovery and a second writer ever hold one.
BUSY_TIMEOUT_S = 5.0
#: Identifies the host, where the host says so.
HOST_ID_FILE = Path("/etc/machine-id")

#: SQLite's own header, and where in it the size of pages and their number stand.
_HEADER_BYTES = 100
_PAGE_SIZE, _PAGE_COUNT = slice(16, 18), slice(28, 32)

#: These only take effect while the file is empty.
_CREATING = (f"page_size = {PAGE_BYTES}", "journal_mode = WAL")
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


def open_for_writing(path: Path, me: MachineId | None = None) -> tuple[sqlite3.Connection, int]:
    """Open a store; return also its schema's version, which may be an earlier one.

    Args:
        path: its database.
        me: the machine whose store it must be; None for any.

    Raises StoreMissing, StoreCorrupt, StoreTooNew, StoreLocked, StoreError.
    """
    _look(path, me)
    connection = _connect(path, "rw")
    with _closing_on_error(connection, path):
        version = schema_version(connection, path)
        _set_pragmas(connection, _WRITING)
    return connection, version


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open a store beside whoever writes to it. Raises as ``open_for_writing``."""
    check_file(path)
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


def _look(path: Path, me: MachineId | None) -> None:
    """See that a file and its write-ahead log are one store, before SQLite may move the one into the other.

    A connection that only reads never does that, so what is damaged here is not made worse. Raises StoreCorrupt.
    """
    check_file(path)
    with translated(path):
        if sqlite_wal.read(path).damaged:
            raise StoreCorrupt(f"{sqlite_wal.path_beside(path)} is damaged: changes in it would be lost", MENDING)
    with closing(_connect(path, "ro")) as connection, translated(path):
        if schema_version(connection, path) < SCHEMA_VERSION:
            return
        check_tail(connection, path)
        ((whose,),) = connection.execute("SELECT me FROM meta")
        if me not in (None, whose):
            raise StoreCorrupt(f"{path} is the store of another machine than its keys", MENDING)
        ((missing_rows,),) = connection.execute("SELECT count - (SELECT count(*) FROM records) FROM meta")
        if missing_rows:
            raise StoreCorrupt(f"{path} lacks {missing_rows} of its records", MENDING)


def check_file(path: Path) -> None:
    """Raise StoreCorrupt where a file is no store's by its size alone, or has lost its write-ahead log. Quick."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except OSError:
        return  # opening it tells more
    if not size:
        raise StoreCorrupt(f"{path} is empty", MENDING)
    if lost := sqlite_wal.loss(path):
        raise StoreCorrupt(f"{path} {lost}, and with it the newest changes", MENDING)
    pages = int.from_bytes(header[_PAGE_COUNT]) if int.from_bytes(header[_PAGE_SIZE]) == PAGE_BYTES else 0
    # While a write-ahead log is there, what is missing at the end may be in that.
    if size < pages * PAGE_BYTES and not sqlite_wal.size_beside(path):
        raise StoreCorrupt(f"{path} was cut off: it has {size} of {pages * PAGE_BYTES} bytes", MENDING)


def check_tail(connection: sqlite3.Connection, path: Path) -> None:
    """Raise StoreCorrupt where the newest records have been cut off, or pages are of two stores.

    Costs the same however long the log is.
    """
    ends = connection.execute(
        """
        SELECT
            meta.count, records.position, records.id, lines.head,
            meta.cluster, (SELECT lower(hex(id)) FROM records WHERE position = 1),
            (SELECT again.position FROM records AS again INDEXED BY records_by_id WHERE again.id = records.id)
        FROM meta
        LEFT JOIN records ON records.position = (SELECT max(position) FROM records)
        LEFT JOIN lines ON lines.number = records.line AND lines.position = records.position
        """
    ).fetchone()
    count, position, record, head, cluster, first, indexed = ends or (None,) * 7
    if count != (position or 0) or record != head:
        raise StoreCorrupt(
            f"{path} should hold {count} records and ends at {position or 0}: its tail was cut off", MENDING
        )
    if position is not None and (first != cluster or indexed != position):
        raise StoreCorrupt(f"{path} is of two stores: a write-ahead log that is not its own, most likely", MENDING)


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
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,
            # Small appends run on another thread than all else; see ``SqliteLog``.
            check_same_thread=False,
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
