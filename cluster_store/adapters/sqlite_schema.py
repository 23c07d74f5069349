"""The store's file: its tables, how it is opened, which version it is, and one door for SQLite's errors.

Light to import, because every quick command reads a store through here.

Invariants that the schema keeps by itself, whoever writes to the file:

1. A record that is in is never changed, replaced or deleted.
2. Positions are 1, 2, 3 … without a gap.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from cluster_store.core.errors import (
    Refused,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreMissing,
    StoreTooNew,
)
from cluster_store.core.types import MachineId

#: The name of the database in a store's folder.
DATABASE = "cluster.db"
#: Version of the tables below. ``sqlite_migration`` has a step from each earlier one.
SCHEMA_VERSION = 1
#: "clst", in the file's header: tells ``file`` and us whose database it is.
APPLICATION_ID = 0x636C7374
#: How long to wait for a lock, seconds. In WAL mode only recovery and a second writer ever hold one.
_BUSY_TIMEOUT_S = 5.0
#: Identifies the host, where the host says so.
HOST_ID_FILE = Path("/etc/machine-id")

SCHEMA = """
CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    me TEXT NOT NULL,               -- this machine's id
    cluster TEXT NOT NULL,          -- id of the cluster's first record, or ''
    own INTEGER,                    -- the line that this machine goes on writing
    count INTEGER NOT NULL,         -- number of records, so that a cut tail shows
    log_hash BLOB NOT NULL,         -- running hash over their ids
    fingerprint TEXT NOT NULL       -- the file and host that were last written under
);

CREATE TABLE records (
    position INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    line INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    hybrid INTEGER NOT NULL,
    learnt INTEGER NOT NULL,        -- milliseconds since 1970, by this machine's clock
    void TEXT,                      -- why it counts for nothing
    seal BLOB,
    envelope BLOB NOT NULL
);
CREATE UNIQUE INDEX records_by_id ON records (id);
CREATE UNIQUE INDEX records_by_line ON records (line, seq);
CREATE TRIGGER records_are_not_changed BEFORE UPDATE ON records
    BEGIN SELECT RAISE(ABORT, 'records are never changed'); END;
CREATE TRIGGER records_are_not_deleted BEFORE DELETE ON records
    BEGIN SELECT RAISE(ABORT, 'records are never deleted'); END;
-- INSERT OR REPLACE deletes what is in its way without asking the trigger above.
CREATE TRIGGER records_are_appended BEFORE INSERT ON records
    WHEN new.position <> (SELECT coalesce(max(position), 0) + 1 FROM records)
        OR EXISTS (SELECT 1 FROM records WHERE id = new.id)
        OR EXISTS (SELECT 1 FROM records WHERE line = new.line AND seq = new.seq)
    BEGIN SELECT RAISE(ABORT, 'records are only appended'); END;

CREATE TABLE lines (
    number INTEGER PRIMARY KEY,
    machine TEXT NOT NULL,
    epoch TEXT NOT NULL,
    parent INTEGER,
    forked_at INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    head BLOB NOT NULL,
    hybrid INTEGER NOT NULL,
    position INTEGER NOT NULL,
    actor BLOB NOT NULL
);
CREATE TABLE removals (
    line INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    known BLOB NOT NULL,            -- MessagePack: the removals known from this record on
    PRIMARY KEY (line, seq)
) WITHOUT ROWID;

CREATE TABLE lanes (
    scope TEXT NOT NULL,
    path TEXT NOT NULL,
    id BLOB NOT NULL,
    hybrid INTEGER NOT NULL,
    weak INTEGER NOT NULL,
    secret INTEGER NOT NULL,        -- whether the value is a secret's hash
    value TEXT,                     -- JSON text or a hash; NULL is "unset"
    actor BLOB NOT NULL,
    op INTEGER NOT NULL,
    change BLOB NOT NULL,
    last_op INTEGER NOT NULL,
    PRIMARY KEY (scope, path, id)
) WITHOUT ROWID;
CREATE TABLE secrets (
    record BLOB NOT NULL,
    path TEXT NOT NULL,
    salt BLOB NOT NULL,
    text TEXT NOT NULL,
    replaced INTEGER,               -- when its lane was taken away here, milliseconds since 1970
    PRIMARY KEY (record, path)
) WITHOUT ROWID;

CREATE TABLE tips (
    document TEXT NOT NULL,
    actor BLOB NOT NULL,
    seq INTEGER NOT NULL,
    change BLOB NOT NULL,
    last_op INTEGER NOT NULL,
    PRIMARY KEY (document, actor)
) WITHOUT ROWID;
CREATE TABLE documents (
    name TEXT PRIMARY KEY,
    saved BLOB NOT NULL
);
CREATE TABLE tails (
    document TEXT NOT NULL,
    position INTEGER NOT NULL,      -- of the last record of the append
    changes BLOB NOT NULL,          -- MessagePack: its changes to the document
    PRIMARY KEY (document, position)
) WITHOUT ROWID;
"""

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

_NEVER_WRITTEN = "restore the store from a backup, or run 'cluster-store repair'"
#: Primary result code -> error, message about a path, hint.
_CAUSES: dict[int, tuple[type[StoreError], str, str]] = {
    sqlite3.SQLITE_FULL: (StoreFull, "there is no room for {}", "make room on its disk, then try again"),
    sqlite3.SQLITE_IOERR: (StoreFull, "the disk fails under {}", "see the system's log for what is wrong with the disk"),
    sqlite3.SQLITE_READONLY: (
        StoreFull,
        "{} cannot be written",
        "see that its disk is mounted for writing and that its files and folder belong to this user",
    ),
    sqlite3.SQLITE_CORRUPT: (StoreCorrupt, "{} is damaged", _NEVER_WRITTEN),
    sqlite3.SQLITE_NOTADB: (StoreCorrupt, "{} is not a database", _NEVER_WRITTEN),
    sqlite3.SQLITE_BUSY: (StoreLocked, "another process is writing to {}", "wait for it to finish, then try again"),
    sqlite3.SQLITE_LOCKED: (StoreLocked, "another process is writing to {}", "wait for it to finish, then try again"),
    sqlite3.SQLITE_CANTOPEN: (StoreError, "{} cannot be opened", "run this as the user that the store belongs to"),
    sqlite3.SQLITE_PERM: (StoreError, "{} cannot be opened", "run this as the user that the store belongs to"),
}


# --- errors ---


def store_error(error: sqlite3.Error, path: Path) -> StoreError:
    """Return what an error of SQLite means for a store."""
    # The extended code, where there is one, has the primary one in its low byte. Python's own errors have none.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if not code and "decode" in str(error):
        code = sqlite3.SQLITE_CORRUPT
    kind, message, hint = _CAUSES.get(
        code, (StoreError, "{} cannot be used as it should", "run 'cluster-store verify' to see what is wrong with it")
    )
    return kind(f"{message.format(path)}: {error}", hint)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what SQLite and the decoding of stored columns raise into errors of the tree."""
    try:
        yield
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    except msgspec.DecodeError as error:
        raise StoreCorrupt(f"{path} is damaged: {error}", _NEVER_WRITTEN) from error


def _missing(path: Path) -> StoreError:
    """Return why a database that is not there is not there."""
    folder = path.parent
    try:
        unfinished = folder.is_dir() and any(folder.iterdir())
    except PermissionError:
        return StoreError(f"the store {folder} cannot be read", "run this as the user that the store belongs to")
    if unfinished:
        return _unfinished(path)
    return StoreMissing(
        f"there is no store in {folder}",
        "make one with 'cluster-store init --hostname NAME', or name another folder with --store",
    )


def _unfinished(path: Path) -> StoreMissing:
    return StoreMissing(
        f"the store in {path.parent} is not finished: its making was cut short",
        "run 'cluster-store init --hostname NAME' again",
    )


# --- transactions ---


@contextmanager
def transaction(connection: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """Do everything inside or nothing of it."""
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A full disk or a failing one may have ended the transaction already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


# --- opening ---


def create(path: Path, me: MachineId, cluster: str) -> sqlite3.Connection:
    """Make an empty database and return it, open for writing; go on where an earlier attempt was cut short.

    Raises:
        Refused: there is a store with records already.
        StoreError: or one of its kin: the file cannot be made, or is something else.
    """
    try:
        # Open to its owner only, before anything is in it; the folder is too, but folders get copied.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        _sync_folder(path.parent)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be made: {error.strerror}", "see that its folder is there and belongs to this user"
        ) from error
    connection = _connect(path, "rw")
    with _closing_on_error(connection, path):
        if _version(connection, path) == 0:
            connection.execute("PRAGMA page_size = 8192")
            _set_pragmas(connection, ("journal_mode = WAL", *_WRITING))
            _create_tables(connection, me, cluster, fingerprint(path))
        else:
            _set_pragmas(connection, _WRITING)
            with transaction(connection):
                facts = (me, cluster, fingerprint(path))
                changed = connection.execute(
                    "UPDATE meta SET me = ?, cluster = ?, fingerprint = ? WHERE count = 0", facts
                )
                if not changed.rowcount:
                    raise Refused(
                        f"there is a store in {path.parent} already", "use it, or name another folder with --store"
                    )
    return connection


def _create_tables(connection: sqlite3.Connection, me: MachineId, cluster: str, where: str) -> None:
    with transaction(connection):
        for statement in _statements(SCHEMA):
            connection.execute(statement)
        connection.execute("INSERT INTO meta VALUES (1, ?, ?, NULL, 0, x'', ?)", (me, cluster, where))
        # Both are part of the header page, so they come and go with the transaction.
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _statements(script: str) -> Iterator[str]:
    """Cut a script into statements: ``executescript`` would commit before it begins."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def open_for_writing(path: Path) -> tuple[sqlite3.Connection, int]:
    """Open a store; return also its schema's version, which may be an earlier one.

    Raises StoreMissing, StoreCorrupt, StoreTooNew, StoreLocked, StoreError.
    """
    connection = _connect(path, "rw")
    with _closing_on_error(connection, path):
        version = _finished_version(connection, path)
        _set_pragmas(connection, _WRITING)
    return connection, version


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open a store beside whoever writes to it. Raises as ``open_for_writing``."""
    connection = _connect(path, "ro")
    with _closing_on_error(connection, path):
        version = _finished_version(connection, path)
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
    count, position, record, head = connection.execute(
        """
        SELECT meta.count, records.position, records.id, lines.head
        FROM meta
        LEFT JOIN records ON records.position = (SELECT max(position) FROM records)
        LEFT JOIN lines ON lines.number = records.line AND lines.position = records.position
        """
    ).fetchone()
    if count != (position or 0) or record != head:
        raise StoreCorrupt(
            f"{path} should hold {count} records and ends at {position or 0}: its tail was cut off", _NEVER_WRITTEN
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
        raise _missing(path) from None
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


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """Return the version of the file's schema, 0 where nothing has been made yet. Raises StoreTooNew, StoreCorrupt."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (application or version or tables):
        raise StoreCorrupt(f"{path} is a database of another program", "name the store's folder with --store")
    if version > SCHEMA_VERSION:
        raise StoreTooNew(
            f"{path} was written by a later version: it has schema {version}, this version knows {SCHEMA_VERSION}",
            "install that version of cluster-store again",
        )
    return int(version)


def _finished_version(connection: sqlite3.Connection, path: Path) -> int:
    version = _version(connection, path)
    if version == 0 or connection.execute("SELECT 1 FROM meta WHERE count = 0 AND cluster = ''").fetchone():
        raise _unfinished(path)
    return version


def _sync_folder(folder: Path) -> None:
    """Make a new file's name survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
