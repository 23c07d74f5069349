"""Stores in memory to tamper with, and what ``verify`` says of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from cluster_store.adapters.sqlite_audit import SqliteAudit
from cluster_store.core.records import Record, decode
from cluster_store.verify import Report, verify

#: The triggers that a tamperer has to get rid of first.
TRIGGERS = ("records_are_not_changed", "records_are_not_deleted", "records_are_appended")


class Copy:
    """A copy of a store's database in memory, without its guards."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.connection = connection
        self.path = path

    def do(self, statement: str, *parameters: Any) -> int:
        """Execute a statement; return how many rows it changed."""
        return self.connection.execute(statement, parameters).rowcount

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Return rows."""
        return self.connection.execute(query, parameters).fetchall()

    def verify(self, *, every_signature: bool = False) -> Report:
        """Return what ``verify`` finds."""
        return verify(SqliteAudit(self.connection, self.path), every_signature=every_signature)

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Take back whatever is done inside."""
        self.do("BEGIN")
        try:
            yield
        finally:
            self.do("ROLLBACK")


@contextmanager
def copied(path: Path) -> Iterator[Copy]:
    """Give a copy of the database at a path."""
    with (
        closing(sqlite3.connect(path)) as source,
        closing(sqlite3.connect(":memory:", isolation_level=None)) as connection,
    ):
        source.backup(connection)
        for trigger in TRIGGERS:
            connection.execute(f"DROP TRIGGER {trigger}")
        yield Copy(connection, path)


def texts(report: Report) -> str:
    """Return all that was found, a line each."""
    return "\n".join(f"{fault.kind}: {report.name(fault)}: {fault.text}" for fault in report.faults)


def last_of(copy: Copy) -> tuple[int, int, Record]:
    """Return position, line and record of the last row."""
    position, line, envelope, seal = copy.rows(
        "SELECT position, line, envelope, seal FROM records ORDER BY position DESC LIMIT 1"
    )[0]
    return position, line, decode(envelope, seal)
