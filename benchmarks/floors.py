"""What the work costs at least: the same bytes by the standard library's SQLite and by the merge engine alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from automerge import core
from automerge.core import Document

_NO_ACTOR = b"\x00"
_SYNC_MESSAGE = b"\x42\x00\x00\x00"


@contextmanager
def table_of_records(path: Path) -> Iterator[sqlite3.Connection]:
    """Make a database with one table, as durable as a store: WAL, a full sync at every commit."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE records (position INTEGER PRIMARY KEY, envelope BLOB, seal BLOB)")
        yield connection


def insert_each(connection: sqlite3.Connection, records: Sequence[tuple[bytes, bytes]]) -> None:
    """Insert records, each in a transaction of its own."""
    for record in records:
        connection.execute("INSERT INTO records (envelope, seal) VALUES (?, ?)", record)


def insert_together(connection: sqlite3.Connection, records: Sequence[tuple[bytes, bytes]]) -> None:
    """Insert records in one transaction."""
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO records (envelope, seal) VALUES (?, ?)", records)
    connection.execute("COMMIT")


def inserted(connection: sqlite3.Connection) -> list[tuple[bytes, bytes]]:
    """Return all records, in order."""
    return connection.execute("SELECT envelope, seal FROM records ORDER BY position").fetchall()


def document(saved: bytes | None) -> Document:
    """Return the engine's own document, as it was saved."""
    if saved is None:
        return Document(_NO_ACTOR)
    loaded = Document.load(saved)
    loaded.set_actor(_NO_ACTOR)
    return loaded


def message(changes: Sequence[bytes]) -> bytes:
    """Return the engine's sync message that holds these changes."""
    parts = [_SYNC_MESSAGE, _leb128(len(changes))]
    for change in changes:
        parts += (_leb128(len(change)), change)
    return b"".join(parts)


def apply(to: Document, changes: bytes) -> None:
    """Have a document take the changes of a message."""
    to.receive_sync_message(core.SyncState(), core.Message.decode(changes))


def texts_in(one: Document) -> Iterator[tuple[str, str]]:
    """Yield a document's keys and strings."""
    values = one.values(core.ROOT)
    for key, (value, _) in zip(one.keys(core.ROOT), values, strict=True):
        assert isinstance(value, tuple)
        yield key, str(value[1])


def _leb128(number: int) -> bytes:
    if number < 128:
        return bytes((number,))
    return bytes((number & 127 | 128,)) + _leb128(number >> 7)
