"""Reading a store beside whoever writes to it: for commands that only look, and must answer at once.

Nothing here imports the merge engine, cryptography or asyncio. Transactions are short, because the writer cannot
move its log into the database past the oldest one: what may take long is read page by page, which is consistent
all the same where records are only ever appended.
"""

from __future__ import annotations

import heapq
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path as FilePath
from types import TracebackType
from typing import Any, Self

import msgspec

from cluster_store.adapters.sqlite_rows import SELECT_LINES, line_of, record_blob, record_of, registers_of
from cluster_store.adapters.sqlite_schema import open_for_reading, transaction, translated
from cluster_store.core.causality import Line
from cluster_store.core.cluster import Cluster, read
from cluster_store.core.errors import NotFound, Refused
from cluster_store.core.registers import CLUSTER, Lane, scope_of
from cluster_store.core.types import Level, MachineId, Path, RecordId

#: Records read at once.
_PAGE = 128
#: Hex digits of an id that are enough to ask for it.
_PREFIX_DIGITS_MIN = 6
_ID_DIGITS = 64
#: Events named when a prefix fits several.
_CANDIDATES_MAX = 8

_PREFIX = re.compile(rf"[0-9a-f]{{{_PREFIX_DIGITS_MIN},{_ID_DIGITS}}}")

_SELECT_EVENT = "SELECT position, id, line, seq, envelope, seal, void, learnt FROM records"


class StoredEvent(msgspec.Struct, frozen=True, gc=False):
    """One row of the log, nothing of it checked."""

    position: int
    id: RecordId
    line: int
    seq: int
    envelope: bytes
    #: Empty where a later record of its line is sealed.
    seal: bytes
    #: Why it counts for nothing, or ``""``.
    void: str
    #: When this machine learnt of it, milliseconds since 1970.
    learnt: int


class StoredDocument(msgspec.Struct, frozen=True):
    """A document as the store keeps it: what was saved, and a row of changes for each append since."""

    name: str
    saved: bytes | None
    #: For ``sqlite_projection.changes_of``.
    tail: tuple[bytes, ...]


class StoreReader:
    """A view of a store; ``Registers`` over its lanes. For one thread.

    Each call sees what is durable when it is made. Within ``snapshot`` all calls see the same state.
    """

    def __init__(self, path: FilePath) -> None:
        """Open the database at ``path``.

        Raises:
            StoreMissing: there is none, or its making was cut short.
            StoreCorrupt: it is damaged, or its tail was cut off.
            StoreTooNew: a later version wrote it.
            StoreError: it may not be read, or an earlier version wrote it.
        """
        self.path = path
        self._connection = open_for_reading(path)
        self._cluster: Cluster | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the store go; may be called twice."""
        self._connection.close()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let everything inside see one state. May be nested."""
        if self._connection.in_transaction:
            yield
            return
        try:
            with translated(self.path), transaction(self._connection, "BEGIN"):
                yield
        finally:
            self._cluster = None

    def _rows(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with translated(self.path):
            return self._connection.execute(query, parameters).fetchall()

    # --- facts -------------------------------------------------------------------------------------

    @property
    def me(self) -> MachineId:
        """The machine whose store it is."""
        return MachineId(self._rows("SELECT me FROM meta")[0][0])

    @property
    def cluster_id(self) -> str:
        """Id of the cluster's first record."""
        return str(self._rows("SELECT cluster FROM meta")[0][0])

    @property
    def count(self) -> int:
        """How many records there are; the newest one's position."""
        return int(self._rows("SELECT count FROM meta")[0][0])

    def lines(self) -> list[Line]:
        """Return the lines, in the order of their numbers."""
        return [line_of(row) for row in self._rows(SELECT_LINES)]

    def cluster(self) -> Cluster:
        """Return the read model; within a snapshot it is built once."""
        if self._cluster is not None:
            return self._cluster
        with self.snapshot():
            self._cluster = cluster = read(self)
        return cluster

    # --- registers ---------------------------------------------------------------------------------

    def standing(self, path: Path) -> tuple[Lane, ...]:
        """See ``Registers``."""
        rows = self._rows(
            """
            SELECT lanes.path, id, hybrid, weak, secret, value, text
            FROM lanes LEFT JOIN secrets ON lanes.secret AND secrets.record = lanes.id AND secrets.path = lanes.path
            WHERE scope = ? AND lanes.path = ? ORDER BY id
            """,
            (scope_of(path), path),
        )
        return next((lanes for _, lanes in registers_of(rows)), ())

    def under(self, prefix: str) -> list[tuple[Path, tuple[Lane, ...]]]:
        """See ``Registers``. Reads only what it returns where the prefix names a level or a kind of register."""
        scopes = [_scope_of_prefix(prefix)] if prefix else []
        ...
