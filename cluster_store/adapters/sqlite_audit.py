"""A store's file read without trusting it: every row as it is, and each table against what it should hold.

``sqlite_reader`` gives the commands what they rely on; this gives ``verify`` what is really there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path as FilePath
from typing import Any, Self

import msgspec

from cluster_store.adapters import sqlite_wal
from cluster_store.adapters.sqlite_errors import MENDING, missing, translated
from cluster_store.adapters.sqlite_file import check_file
from cluster_store.adapters.sqlite_projection import changes_of
from cluster_store.adapters.sqlite_rows import SELECT_LINES, lane_row, line_row
from cluster_store.adapters.sqlite_schema import APPLICATION_ID, SCHEMA_VERSION, definitions
from cluster_store.core.causality import Removals
from cluster_store.core.chain import Fault, Meta, Row
from cluster_store.core.document import Change
from cluster_store.core.errors import StoreCorrupt
from cluster_store.core.records import secret_hash
from cluster_store.core.registers import Secret, scope_of
from cluster_store.core.state import State
from cluster_store.core.types import MachineId, Path, RecordId

#: Complaints about its pages that SQLite is asked for.
_COMPLAINTS_MAX = 100

_removals = msgspec.msgpack.Decoder(Removals)


class SqliteAudit:
    """See ``verify.Audited``. Made by ``open``; all of it sees the store as it was then."""

    def __init__(self, connection: sqlite3.Connection, path: FilePath) -> None:
        self.path = path
        self._connection = connection

    @classmethod
    @contextmanager
    def open(cls, path: FilePath) -> Iterator[Self]:
        """Open a store's database, whatever is in it. Raises StoreMissing, or StoreError where it cannot be read."""
        if not path.exists():
            raise missing(path)
        # Opened in the usual way SQLite would make the write-ahead log anew, and nothing would show what is missing.
        with translated(path):
            untouched = "&immutable=1" if sqlite_wal.loss(path) or sqlite_wal.read(path).damaged else ""
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro{untouched}", uri=True, isolation_level=None
            )
        with closing(connection):
            # Damaged text is shown, not stumbled over.
            connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
            audit = cls(connection, path)
            with audit._door():
                for statement in ("PRAGMA trusted_schema = OFF", "PRAGMA cell_size_check = ON", "BEGIN"):
                    connection.execute(statement)
            yield audit

    @contextmanager
    def _door(self) -> Iterator[None]:
        """Turn whatever damaged pages cause into StoreError: lengths read from them may be of any size."""
        try:
            with translated(self.path):
                yield
        except (MemoryError, OverflowError, ValueError) as error:
            raise StoreCorrupt(f"{self.path} is damaged: {error}", MENDING) from error

    def _rows(self, query: str, parameters: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        with self._door():
            yield from self._connection.execute(query, parameters)

    # --- the log -----------------------------------------------------------------------------------

    def damage(self) -> list[str]:
        """Return what is wrong with the file's header, and what SQLite finds wrong with its pages and indexes."""
        try:
            check_file(self.path)
            found = []
        except StoreCorrupt as error:
            found = [error.message]
        with self._door():
            if sqlite_wal.read(self.path).damaged:
                found.append("its write-ahead log is damaged: changes in it would be lost")
        for pragma, expected in (("application_id", APPLICATION_ID), ("user_version", SCHEMA_VERSION)):
            ((value,),) = self._rows(f"PRAGMA {pragma}")
            if value != expected:
                found.append(f"the file's header has {pragma} {value}, not {expected}")
        written = definitions()
        for name, sql in self._rows("SELECT name, sql FROM sqlite_schema"):
            if sql != written.get(name):
                found.append(f"the definition of {str(name)[:80]!r} is not what was written")
        complaints = self._rows(f"PRAGMA integrity_check({_COMPLAINTS_MAX})")
        return [*found, *(str(text) for (text,) in complaints if text != "ok")]

    def meta(self) -> Meta:
        """Return what the store says of itself."""
        rows = list(self._rows("SELECT me, cluster, own, count, log_hash FROM meta"))
        try:
            (row,) = rows
            return msgspec.convert(dict(zip(Meta.__struct_fields__, row, strict=True)), Meta)
        except (ValueError, msgspec.ValidationError) as error:
            raise StoreCorrupt(f"what {self.path} says of itself is damaged: {error}", MENDING) from error

    def authors(self) -> Mapping[int, MachineId]:
        """Return what the store says of who wrote each line."""
        return {
            number: MachineId(machine)
            for number, machine in self._rows("SELECT number, machine FROM lines")
            if isinstance(machine, str)
        }

    def ends(self) -> Mapping[int, int]:
        """Return what the store says of the number of each line's newest record."""
        return {
            number: seq
            for number, seq in self._rows("SELECT number, seq FROM lines")
            if type(number) is type(seq) is int
        }

    def rows(self) -> Iterator[tuple[Row, Any]]:
        """Yield the log's rows, each with its verdict."""
        query = "SELECT position, id, line, seq, hybrid, learnt, seal, envelope, void FROM records ORDER BY position"
        for row in self._rows(query):
            yield row[:-1], row[-1]

    # --- what follows from it ----------------------------------------------------------------------

    def differences(self, state: State) -> Iterator[Fault]:
        """Yield what the tables say otherwise than a state."""
        yield from self._compare(
            "lines", SELECT_LINES, 1, {(line.number,): line_row(line) for line in state.lines.values()}
        )
        yield from self._compare(
            "tips",
            "SELECT document, actor, seq, change, last_op FROM tips",
            2,
            {
                (document, actor): (document, actor, tip.seq, tip.change, tip.last_op)
                for (document, actor), tip in state.tips.items()
            },
        )
        yield from self._compare_removals(state)
        yield from self._compare_lanes(state)

    def _compare(
        self, table: str, query: str, key_columns: int, expected: dict[tuple[Any, ...], tuple[Any, ...]]
    ) -> Iterator[Fault]:
        """Yield a fault for each row that is not expected as it is, and for each that is missing."""
        for row in self._rows(query):
            if expected.pop(row[:key_columns], None) != row:
                yield Fault(kind="table", text=f"a row of {table}, {row[:key_columns]}, is not what the records say")
        for key in expected:
            yield Fault(kind="table", text=f"a row of {table}, {key}, is missing")

    def _compare_removals(self, state: State) -> Iterator[Fault]:
        expected = {(line, seq): known for line, steps in state.removals.items() for seq, known in steps}
        for line, seq, known in self._rows("SELECT line, seq, known FROM removals"):
            with self._door():
                told = _removals.decode(known) if isinstance(known, bytes) else None
            if told is None or expected.pop((line, seq), None) != told:
                yield Fault(kind="table", text=f"a row of removals, {(line, seq)}, is not what the records say")
        for key in expected:
            yield Fault(kind="table", text=f"a row of removals, {key}, is missing")

    def _compare_lanes(self, state: State) -> Iterator[Fault]:
        expected = {
            (scope_of(path), path, bytes.fromhex(lane.id)): (path, lane)
            for path, lanes in state.lanes.items()
            for lane in lanes
        }
        query = "SELECT scope, path, id, hybrid, weak, secret, value, actor, op, change, last_op FROM lanes"
        for row in self._rows(query):
            scope, path, record, *_ = row
            found = expected.pop((scope, path, record), None)
            if found is None:
                yield self._lane_fault(state, path, record, "a lane stands in {} that no record put there")
            elif lane_row(scope, *found) != row:
                yield self._lane_fault(state, path, record, "a lane of {} is not what its record wrote")
        for _, path, record in expected:
            yield self._lane_fault(state, path, record, "a lane of {} is missing")

    @staticmethod
    def _lane_fault(state: State, path: Any, record: Any, text: str) -> Fault:
        name = RecordId(record.hex() if isinstance(record, bytes) else "")
        fact = state.fact(name)
        return Fault(
            kind="table",
            text=text.format(path),
            position=fact.position if fact else None,
            record=name,
            machine=state.lines[fact.line].machine if fact else MachineId(""),
            seq=fact.seq if fact else None,
        )

    def secrets(self, state: State, written: Mapping[tuple[RecordId, Path], str]) -> Iterator[Fault]:
        """Yield what is wrong with the values of secrets."""
        standing = {
            (lane.id, path) for path, lanes in state.lanes.items() for lane in lanes if isinstance(lane.value, Secret)
        }
        missing_values = dict.fromkeys(sorted(standing))
        for record, path, salt, text, replaced in self._rows("SELECT record, path, salt, text, replaced FROM secrets"):
            key = (RecordId(record.hex() if isinstance(record, bytes) else ""), path)
            missing_values.pop(key, None)
            if not _is_secret(salt, text, written.get(key)):
                yield self._lane_fault(state, path, record, "the secret value of {} is not what its record wrote")
            elif (replaced is None) != (key in standing):
                yield self._lane_fault(state, path, record, "the secret value of {} is kept wrongly: its lane's end")
        for name, path in missing_values:
            yield self._lane_fault(state, path, bytes.fromhex(name), "the secret value of {} is missing")

    # --- documents ---------------------------------------------------------------------------------

    def document_names(self) -> list[str]:
        """Return the documents that are stored."""
        return [str(name) for (name,) in self._rows("SELECT name FROM documents UNION SELECT document FROM tails")]

    def document(self, name: str) -> tuple[bytes | None, list[Change]]:
        """Return a document's saved form and the changes behind it."""
        saved = [row[0] for row in self._rows("SELECT saved FROM documents WHERE name = ?", (name,))]
        tails = [
            row[0] for row in self._rows("SELECT changes FROM tails WHERE document = ? ORDER BY position", (name,))
        ]
        if not all(isinstance(blob, bytes) for blob in (*saved, *tails)):
            raise StoreCorrupt("what is stored of it is of another type than was written", MENDING)
        with self._door():
            return saved[0] if saved else None, [change for tail in tails for change in changes_of(tail)]


def _is_secret(salt: Any, text: Any, expected: str | None) -> bool:
    try:
        return expected is not None and secret_hash(salt, text) == expected
    except (TypeError, UnicodeError):
        return False
