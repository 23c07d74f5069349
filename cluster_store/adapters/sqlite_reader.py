"""Reading a store beside whoever writes to it: for commands that only look, and must answer at once.

Nothing here imports the merge engine, cryptography or asyncio. Transactions are short, because the writer cannot
move its log into the database past the oldest one: what may take long is read page by page, which is consistent
all the same where records are only ever appended.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path as FilePath
from types import TracebackType
from typing import Any, Self

import msgspec

from cluster_store.adapters.sqlite_errors import translated
from cluster_store.adapters.sqlite_file import open_for_reading
from cluster_store.adapters.sqlite_rows import SELECT_LANES, SELECT_LINES, line_of, record_blob, registers_of
from cluster_store.adapters.sqlite_schema import transaction
from cluster_store.core.causality import Line, Removals
from cluster_store.core.cluster import Cluster
from cluster_store.core.errors import NotFound, Refused
from cluster_store.core.naming import machine_ever
from cluster_store.core.registers import CLUSTER, Lane, scope_of
from cluster_store.core.rules import read
from cluster_store.core.types import Level, MachineId, Path, RecordId

#: Records read at once.
_PAGE = 64
#: Hex digits of an id that are enough to ask for it.
_PREFIX_DIGITS_MIN = 6
_ID_DIGITS = 64
#: Events named when a prefix fits several.
_CANDIDATES_MAX = 8

#: No feed will ever have more digits of records.
_NUMBERED = re.compile(r"(.+)#([0-9]{1,18})")
_PREFIX = re.compile(rf"[0-9a-f]{{{_PREFIX_DIGITS_MIN},{_ID_DIGITS}}}")

_SELECT_EVENTS = "SELECT position, id, line, seq, envelope, seal, void, learnt FROM records "
_USERS = "user/"
#: Paths are ASCII without this one, so that a path with a prefix sorts before the prefix followed by it.
_AFTER_ALL = "\x7f"


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

    def __init__(self, path: FilePath, *, secrets: bool = True) -> None:
        """Open the database at ``path``.

        Args:
            path: the file.
            secrets: whether the values of secret settings are shown. The table of users is read in any case.

        Raises:
            StoreMissing: there is none, or its making was cut short.
            StoreCorrupt: it is damaged, or its tail was cut off.
            StoreTooNew: a later version wrote it.
            StoreError: it may not be read, or an earlier version wrote it.
        """
        self.path = path
        self._secrets = secrets
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

    def removals(self) -> dict[int, Removals]:
        """Return the removals that each line's newest record came after, or tells; lines without any are left out."""
        rows = self._rows("SELECT line, known FROM removals ORDER BY line, seq")
        return {line: msgspec.msgpack.decode(known, type=Removals) for line, known in dict(rows).items()}

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
            SELECT_LANES + "WHERE scope = ? AND lanes.path = ? ORDER BY lanes.path, id", (scope_of(path), path)
        )
        return next((lanes for _, lanes in self._registers_of(rows)), ())

    def under(self, prefix: str) -> list[tuple[Path, tuple[Lane, ...]]]:
        """See ``Registers``. Reads only what it returns, unless the prefix ends inside a level's name."""
        scope = _scope_of_prefix(prefix)
        condition = "WHERE lanes.path >= ? AND lanes.path < ?"
        parameters: list[str] = [prefix, prefix + _AFTER_ALL]
        if scope is not None:
            condition += " AND scope = ?"
            parameters.append(scope)
        rows = self._rows(f"{SELECT_LANES} {condition} ORDER BY lanes.path, id", parameters)
        return list(self._registers_of(rows))

    def _registers_of(self, rows: list[tuple[Any, ...]]) -> Iterator[tuple[Path, tuple[Lane, ...]]]:
        for path, lanes in registers_of(rows):
            shown = self._secrets or path.startswith(_USERS)
            yield path, lanes if shown else tuple(msgspec.structs.replace(lane, text=None) for lane in lanes)

    def secret(self, path: Path, record: RecordId) -> str | None:
        """Return the JSON text of a secret that a record wrote; None where it never came here or was erased."""
        if not self._secrets and not path.startswith(_USERS):
            return None
        rows = self._rows("SELECT text FROM secrets WHERE record = ? AND path = ?", (record_blob(record), path))
        return str(rows[0][0]) if rows else None

    def salted(self, path: Path, record: RecordId) -> tuple[bytes, str] | None:
        """Return the salt of a secret too; see ``secret``."""
        if not self._secrets:
            return None
        rows = self._rows("SELECT salt, text FROM secrets WHERE record = ? AND path = ?", (record_blob(record), path))
        return (rows[0][0], str(rows[0][1])) if rows else None

    # --- events ------------------------------------------------------------------------------------

    def events(
        self,
        after: int = 0,
        *,
        until: int | None = None,
        newest_first: bool = False,
        limit: int | None = None,
        machine: MachineId | None = None,
    ) -> Iterator[StoredEvent]:
        """Yield events in the order of this log, or newest first, reading them as they are asked for.

        Args:
            after: leave out the records up to this position.
            until: leave out those behind this one; None for none.
            newest_first: begin at the end.
            limit: at most so many.
            machine: only what this machine wrote.
        """
        last = self.count if until is None else until
        positions: Sequence[int] = range(after + 1, last + 1)
        order = "DESC" if newest_first else "ASC"
        if machine is not None:
            found = self._positions_of(machine, after, order, -1 if limit is None or until is not None else limit)
            positions = sorted(position for position in found if position <= last)
        wanted = islice(reversed(positions) if newest_first else positions, limit)
        while page := list(islice(wanted, _PAGE)):
            if machine is None:
                condition, parameters = "BETWEEN ? AND ?", sorted((page[0], page[-1]))
            else:
                condition, parameters = f"IN ({', '.join('?' * len(page))})", page
            yield from map(
                _event_of,
                self._rows(f"{_SELECT_EVENTS} WHERE position {condition} ORDER BY position {order}", parameters),
            )

    def voids(self) -> list[StoredEvent]:
        """Return the events that count for nothing, in the order of this log."""
        return list(map(_event_of, self._rows(_SELECT_EVENTS + "WHERE void IS NOT NULL ORDER BY position")))

    def _positions_of(self, machine: MachineId, after: int, order: str, limit: int) -> Iterator[int]:
        # Line by line: within one the index has them in order, so that a few are found without looking at all.
        query = f"SELECT position FROM records WHERE line = ? AND position > ? ORDER BY seq {order} LIMIT ?"  # noqa: S608 - one of two words
        for (line,) in self._rows("SELECT number FROM lines WHERE machine = ?", (machine,)):
            yield from (position for (position,) in self._rows(query, (line, after, limit)))

    def event(self, text: str) -> StoredEvent:
        """Return the event that an operator named: an id, six or more of its first digits, or ``MACHINE#SEQ``.

        Where a machine has written that number in several epochs, the latest of them counts.

        Raises:
            NotFound: there is no such event, or no such machine.
            Refused: several events fit, or the text is neither form.
        """
        numbered = _NUMBERED.fullmatch(text)
        with self.snapshot():
            if numbered:
                return self._numbered(numbered[1], int(numbered[2]), text)
            return self._with_prefix(text.lower(), text)

    def _with_prefix(self, digits: str, text: str) -> StoredEvent:
        if not _PREFIX.fullmatch(digits):
            raise Refused(
                f"'{text}' is no event",
                f"give MACHINE#NUMBER or {_PREFIX_DIGITS_MIN} digits or more of its id; 'cluster-store log' shows both",
            )
        first, last = (bytes.fromhex(digits.ljust(_ID_DIGITS, end)) for end in "0f")
        found = self._rows(
            _SELECT_EVENTS + "WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?", (first, last, _CANDIDATES_MAX)
        )
        return _only(list(map(_event_of, found)), text)

    def _numbered(self, name: str, seq: int, text: str) -> StoredEvent:
        rows = self._rows(
            """
            SELECT epoch, records.position FROM lines JOIN records ON records.line = number AND records.seq = ?
            WHERE machine = ? ORDER BY records.hybrid DESC
            """,
            (seq, machine_ever(name, self.cluster())),
        )
        positions = [position for epoch, position in rows if epoch == rows[0][0]]
        return _only([event for position in positions for event in self._at(position)], text)

    def _at(self, position: int) -> list[StoredEvent]:
        return list(map(_event_of, self._rows(_SELECT_EVENTS + "WHERE position = ?", (position,))))

    # --- documents ---------------------------------------------------------------------------------

    def documents(self) -> Iterator[StoredDocument]:
        """Yield the documents as they are stored, sorted by name."""
        for (name,) in self._rows("SELECT name FROM documents UNION SELECT document FROM tails ORDER BY 1"):
            with self.snapshot():
                saved = self._rows("SELECT saved FROM documents WHERE name = ?", (name,))
                tail = self._rows("SELECT changes FROM tails WHERE document = ? ORDER BY position", (name,))
            yield StoredDocument(name, saved[0][0] if saved else None, tuple(changes for (changes,) in tail))


def _event_of(row: tuple[Any, ...]) -> StoredEvent:
    position, record, line, seq, envelope, seal, void, learnt = row
    # Not by ``record_of``, which would be another call for each event of the log.
    return StoredEvent(position, record.hex(), line, seq, envelope, seal or b"", void or "", learnt)


def _only(found: list[StoredEvent], text: str) -> StoredEvent:
    if len(found) == 1:
        return found[0]
    if not found:
        raise NotFound(f"there is no event {text} here", "'cluster-store log' shows the events and their ids")
    raise Refused(
        f"several events fit {text}",
        f"give the id of one: {', '.join(event.id for event in found)}",
    )


def _scope_of_prefix(prefix: str) -> Level | None:
    """Return the scope that keeps every path with this prefix, None where there may be several."""
    kind, *parts = prefix.split("/")
    if kind not in ("setting", "element"):
        return CLUSTER if parts else None
    whole = 2 if parts[:1] == ["cluster"] else 3
    return scope_of(Path(prefix)) if len(parts) >= whole else None
