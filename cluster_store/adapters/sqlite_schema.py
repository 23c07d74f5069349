"""The store's tables, and which version of them a file has.

Invariants that the tables keep by themselves, whoever writes to the file:

1. A record that is in is never changed, replaced or deleted.
2. Positions are 1, 2, 3 … without a gap.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from cluster_store.core.errors import StoreCorrupt, StoreTooNew
from cluster_store.core.types import MachineId

#: Version of the tables below. ``sqlite_migration`` has a step from each earlier one.
SCHEMA_VERSION = 1
#: Bytes of every page of the file.
PAGE_BYTES = 8192
#: "clst", in the file's header: tells ``file`` and us whose database it is.
APPLICATION_ID = 0x636C7374
#: Why the next write begins a new epoch, where that is known: stands in the place of the fingerprint until then.
NEW_EPOCHS = ("restored", "repaired")

SCHEMA = """
CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    me TEXT NOT NULL,               -- this machine's id
    cluster TEXT NOT NULL,          -- id of the cluster's first record, or ''
    own INTEGER,                    -- the line that this machine goes on writing
    count INTEGER NOT NULL,         -- number of records, so that a cut tail shows
    log_hash BLOB NOT NULL,         -- running hash over their ids
    fingerprint TEXT NOT NULL       -- the file and host that were last written under, or one of NEW_EPOCHS
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


def create_tables(connection: sqlite3.Connection, me: MachineId, cluster: str, where: str) -> None:
    """Make the tables of an empty file, all or nothing."""
    with transaction(connection):
        for statement in _statements(SCHEMA):
            connection.execute(statement)
        connection.execute("INSERT INTO meta VALUES (1, ?, ?, NULL, 0, x'', ?)", (me, cluster, where))
        # Both are part of the header page, so they come and go with the transaction.
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def definitions() -> dict[str, str | None]:
    """Return what a store's file says of its own tables, indexes and triggers, by their names."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        return dict(connection.execute("SELECT name, sql FROM sqlite_schema"))


def _statements(script: str) -> Iterator[str]:
    """Cut a script into statements: ``executescript`` would commit before it begins."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def schema_version(connection: sqlite3.Connection, path: Path) -> int:
    """Return the version of a file's schema. Raises StoreTooNew, and StoreCorrupt where it is no store at all."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise StoreCorrupt(
            f"{path} is empty or another program's database",
            "name the store's folder with --store, or run 'cluster-store repair' if it was a store",
        )
    if version > SCHEMA_VERSION:
        raise StoreTooNew(
            f"{path} was written by a later version: it has schema {version}, this version knows {SCHEMA_VERSION}",
            "install that version of cluster-store again",
        )
    return int(version)


@contextmanager
def transaction(connection: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """Do everything inside or nothing of it."""
    with begun(connection, begin):
        yield
    commit(connection)


@contextmanager
def begun(connection: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """Begin a transaction that is left open for ``commit``, and take it back where something inside fails."""
    connection.execute(begin)
    try:
        yield
    except BaseException:
        roll_back(connection)
        raise


def commit(connection: sqlite3.Connection) -> None:
    """End a transaction: all of it is durable, or it is taken back and the error raised."""
    try:
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise


def roll_back(connection: sqlite3.Connection) -> None:
    """Take a transaction back. A full disk or a failing one may have ended it already."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")
