"""The event log in SQLite: records, projection and documents in one file, one transaction for each append.

What waits for the disk, or may take long, runs in aiosqlite's thread; all else on the event loop's own. A hop there
and back costs as much as a whole small commit, and SQLite lets go of the interpreter at each of its steps: a thread
that has to get it back from a busy loop, once for every row, takes fifty times as long. So an append's statements run
here, and its COMMIT in the thread only where the disk is slow. Everything that belongs together is one function.

A machine's epoch ends when the store's file or host is not the one that it was last written under, because
somebody else may be extending the feed in the original. So each append notes the fingerprint together with the
own line, and ``load`` returns no own line where the fingerprint differs (docs/ARCHITECTURE.md, "Forks").
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Concatenate, ParamSpec, Self, TypeVar

import aiosqlite
import msgspec

from cluster_store.adapters import sqlite_file, sqlite_migration, sqlite_projection
from cluster_store.adapters.sqlite_errors import MENDING, translated
from cluster_store.adapters.sqlite_file import BUSY_TIMEOUT_S
from cluster_store.adapters.sqlite_projection import changes_of, look_up
from cluster_store.adapters.sqlite_rows import SELECT_LINES, line_of
from cluster_store.adapters.sqlite_schema import NEW_EPOCHS, begun, commit, transaction
from cluster_store.core.admission import Incoming
from cluster_store.core.causality import Removals
from cluster_store.core.effects import LogRow
from cluster_store.core.errors import StoreCorrupt, StoreError, StoreFull, StoreLocked
from cluster_store.core.state import Draft, Facts, Needs, Stored
from cluster_store.core.types import MachineId
from cluster_store.ports import SavedDocument

P = ParamSpec("P")
T = TypeVar("T")

_removals = msgspec.msgpack.Decoder(Removals)

#: A disk that takes longer than this to commit, in seconds, would hold the event loop up, and a hop is but a small
#: part of it.
_QUICK_S = 0.002
#: How much the newest commit counts for how long they take.
_NEWEST = 1 / 8


class _Connection(aiosqlite.Connection):
    """A connection that runs a whole function in its thread, where aiosqlite itself offers single statements."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connect, iter_chunk_size=1)
        # A process that fails ends, whether or not it came to closing its store: nothing is lost by that.
        self._thread.daemon = True
        # How much the thread was given, and how much it has finished: the one counts here, the other there.
        self._given = 0
        self._finished = 0

    async def open(self) -> None:
        try:
            _ = await self
        except BaseException:
            # aiosqlite lets its thread end by itself, and report that to an event loop that may be closed by then.
            await asyncio.to_thread(self._thread.join)
            raise

    async def run(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        self._given += 1
        result: T = await self._execute(self._work, work, *args, **kwargs)  # type: ignore[no-untyped-call]
        return result

    def _work(self, work: Callable[Concatenate[sqlite3.Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        connection = self._conn
        try:
            # Only here is there time to wait for somebody else's lock.
            connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000:.0f}")
            return work(connection, *args, **kwargs)
        finally:
            self._finished += 1
            connection.execute("PRAGMA busy_timeout = 0")

    @property
    def is_idle(self) -> bool:
        """Whether the thread has nothing to do, so that nobody else is in the middle of a transaction."""
        return self._given == self._finished

    def run_here(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        assert self.is_idle
        return work(self._conn, *args, **kwargs)


class SqliteLog:
    """See ``EventLog``. Made by ``create`` or ``open``; only one process may have it open."""

    def __init__(self, connection: _Connection, path: Path, me: MachineId) -> None:
        self.path = path
        #: The machine whose log it is.
        self.me = me
        self._connection = connection
        self._fingerprint = sqlite_file.fingerprint(path)
        self._closed = False
        #: Whether its disk has been full since it was opened.
        self._is_cramped = False
        #: How long commits take lately, in seconds.
        self._commit_s = 0.0

    @classmethod
    async def create(cls, path: Path, me: MachineId, cluster: str = "") -> Self:
        """Make an empty store.

        Args:
            path: where the database is to be; its folder is there.
            me: the machine whose log it will be.
            cluster: id of the first record that it is to receive, empty where this machine is to write it.

        Raises:
            Refused: there is a store with records already.
            StoreError: or one of its kin.
        """
        return await cls._start(path, partial(sqlite_file.create, path, me, cluster))

    @classmethod
    async def open(cls, path: Path, me: MachineId | None = None) -> Self:
        """Open a store, and bring it up to this version's schema.

        Args:
            path: its database.
            me: the machine whose store it must be; None for any.

        Raises StoreMissing, StoreCorrupt (its tail was cut off, for one), StoreTooNew, StoreLocked, StoreFull,
        StoreError.
        """
        return await cls._start(path, partial(_open, path, me))

    @classmethod
    async def _start(cls, path: Path, connect: Callable[[], sqlite3.Connection]) -> Self:
        connection = _Connection(connect)
        await connection.open()
        try:
            with translated(path):
                return cls(connection, path, await connection.run(_me))
        except BaseException:
            await connection.close()
            raise

    async def _run(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        with self._open():
            return await self._connection.run(work, *args, **kwargs)

    async def _run_briefly(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        with self._open():
            if self._connection.is_idle:
                return self._connection.run_here(work, *args, **kwargs)
            return await self._connection.run(work, *args, **kwargs)

    @contextmanager
    def _open(self) -> Iterator[None]:
        if self._closed:
            raise StoreError(f"{self.path} is closed", "open the store again")
        try:
            with translated(self.path):
                yield
        except (AttributeError, TypeError, ValueError) as error:
            # Rows hold what this module writes, unless the file is damaged.
            raise StoreCorrupt(f"{self.path} is damaged: {error}", MENDING) from error

    async def load(self) -> Stored:
        """See ``EventLog``. Raises StoreCorrupt where the newest record was changed."""
        return await self._run(_load, self.path, self._fingerprint)

    async def lookup(self, needs: Needs) -> Facts:
        """See ``EventLog``."""
        return await self._run_briefly(look_up, needs)

    async def append(self, draft: Draft) -> None:
        """See ``EventLog``. Raises StoreLocked where another process has appended meanwhile.

        A caller that is cancelled while it waits does not know whether the draft became durable.
        """
        if self._is_cramped:
            # The file's own log would take all room that is made, and leave none for the database to grow. What is
            # moved into the database is written over next, so that the log stays as it is.
            with suppress(StoreLocked):
                await self._run(_checkpoint)
        try:
            with self._open():
                await self._append(draft)
        except StoreFull:
            self._is_cramped = True
            raise

    async def _append(self, draft: Draft) -> None:
        connection = self._connection
        if not connection.is_idle or not self._write_here(draft):
            # Somebody is in the middle of a transaction: one after the other.
            await connection.run(_append, draft, self._fingerprint)
            return
        began = perf_counter()
        if self._commit_s < _QUICK_S:
            connection.run_here(commit)
        else:
            await connection.run(commit)
        self._commit_s += (perf_counter() - began - self._commit_s) * _NEWEST

    def _write_here(self, draft: Draft) -> bool:
        """Write a draft without its COMMIT; return False where another process holds the file's lock."""
        try:
            self._connection.run_here(_write, draft, self._fingerprint)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            return False
        return True

    async def first_missing(self, covered: Mapping[int, int]) -> int:
        """See ``EventLog``."""
        return await self._run_briefly(_first_missing, covered)

    async def read(self, after: int, records: int, size: int) -> list[LogRow]:
        """See ``EventLog``."""
        return await self._run_briefly(_read, self.path, after, records, size)

    async def load_document(self, document: str) -> SavedDocument:
        """See ``EventLog``."""
        return await self._run_briefly(_load_document, document)

    async def save_documents(self, documents: Mapping[str, bytes]) -> None:
        """See ``EventLog``."""
        if documents:
            await self._run(_save_documents, documents)

    async def erase_secrets(self, before: int) -> int:
        """Erase the values of secrets whose lanes were replaced here before a time, milliseconds since 1970.

        Their bytes are overwritten, in the file's log too unless a reader holds on to it just now. Returns how many
        there were.
        """
        return await self._run(_erase_secrets, before)

    async def close(self) -> None:
        """See ``EventLog``."""
        if not self._closed:
            self._closed = True
            with translated(self.path):
                await self._connection.close()


def _open(path: Path, me: MachineId | None) -> sqlite3.Connection:
    connection, version = sqlite_file.open_for_writing(path, me)
    try:
        with translated(path):
            sqlite_migration.migrate(connection, path, version, sqlite_migration.STEPS)
    except BaseException:
        connection.close()
        raise
    return connection


def _me(connection: sqlite3.Connection) -> MachineId:
    return MachineId(connection.execute("SELECT me FROM meta").fetchone()[0])


def _load(connection: sqlite3.Connection, path: Path, where: str) -> Stored:
    with transaction(connection, "BEGIN"):
        cluster, own, count, log_hash, last_where = connection.execute(
            "SELECT cluster, own, count, log_hash, fingerprint FROM meta"
        ).fetchone()
        for record, envelope, seal in connection.execute(
            "SELECT id, CAST(envelope AS BLOB), CAST(seal AS BLOB) FROM records WHERE position = ?", (count,)
        ):
            if sha256(envelope + (seal or b"")).digest() != record:
                raise StoreCorrupt(f"the newest record of {path}, {record.hex()}, is damaged", MENDING)
        lines = [line_of(row) for row in connection.execute(SELECT_LINES)]
        removals: dict[int, tuple[tuple[int, Removals], ...]] = {}
        for line, seq, known in connection.execute("SELECT line, seq, known FROM removals ORDER BY line, seq"):
            removals[line] = (*removals.get(line, ()), (seq, _removals.decode(known)))
    reason = last_where if last_where in NEW_EPOCHS else ""
    return Stored(cluster, count, log_hash, lines, removals, own if last_where == where else None, reason)


def _checkpoint(connection: sqlite3.Connection) -> None:
    # Without waiting for readers: what one of them holds on to is moved another time.
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


def _append(connection: sqlite3.Connection, draft: Draft, where: str) -> None:
    _write(connection, draft, where)
    commit(connection)


def _write(connection: sqlite3.Connection, draft: Draft, where: str) -> None:
    """Write a draft in a transaction that is left open for ``commit``; where that fails there is none."""
    with begun(connection):
        updated = connection.execute(
            "UPDATE meta SET cluster = ?, own = ?, count = ?, log_hash = ?, fingerprint = ? WHERE count = ?",
            (draft.cluster, draft.own, draft.position, draft.log_hash, where, draft.position - len(draft.records)),
        )
        if not updated.rowcount:
            raise StoreLocked("another process has written to the store", "stop it: a store has one writer")
        connection.executemany(
            "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    added.position,
                    bytes.fromhex(added.record.id),
                    added.line,
                    added.record.envelope.seq,
                    added.record.envelope.hybrid,
                    added.learnt,
                    added.void or None,
                    added.record.seal or None,
                    added.record.data,
                )
                for added in draft.records
            ],
        )
        if draft.secrets:
            now = draft.records[-1].learnt
            connection.executemany(
                "INSERT INTO secrets VALUES (?, ?, ?, ?, ?)",
                [
                    # A lane that the same draft took away again never stands.
                    (bytes.fromhex(record), path, salt, text, None if (path, record) in draft.put else now)
                    for record, secrets in draft.secrets.items()
                    for path, (salt, text) in secrets.items()
                ],
            )
        sqlite_projection.write(connection, draft)


def _first_missing(connection: sqlite3.Connection, covered: Mapping[int, int]) -> int:
    (count,) = connection.execute("SELECT count FROM meta").fetchone()
    first = int(count) + 1
    for line, seq in connection.execute("SELECT number, seq FROM lines").fetchall():
        known = covered.get(line, 0)
        if known < seq:
            (position,) = connection.execute(
                "SELECT position FROM records WHERE line = ? AND seq > ? ORDER BY seq LIMIT 1", (line, known)
            ).fetchone()
            first = min(first, position)
    return first - 1


def _read(connection: sqlite3.Connection, path: Path, after: int, records: int, size: int) -> list[LogRow]:
    rows = connection.execute(
        """
        SELECT position, id, line, seq, envelope, seal, EXISTS (SELECT 1 FROM secrets WHERE record = id)
        FROM records WHERE position > ? ORDER BY position
        """,
        (after,),
    )
    found: list[LogRow] = []
    taken = 0
    for position, record, line, seq, envelope, seal, has_secrets in rows:
        if sha256(envelope + (seal or b"")).digest() != record:
            # A peer would refuse it, and take this machine for a hostile one.
            raise StoreCorrupt(f"record {position} of {path} is damaged", MENDING)
        item = Incoming(envelope, seal or b"", _secrets_of(connection, record) if has_secrets else ())
        found.append(LogRow(position, line, seq, item))
        taken += item.size
        if seal and (len(found) >= records or taken >= size):
            break
    # A statement that is not finished would keep its read transaction, and with it the file's log, for ever.
    rows.close()
    return found


def _secrets_of(connection: sqlite3.Connection, record: bytes) -> tuple[tuple[str, bytes, str], ...]:
    query = "SELECT path, salt, text FROM secrets WHERE record = ? ORDER BY path"
    return tuple(connection.execute(query, (record,)).fetchall())


def _load_document(connection: sqlite3.Connection, document: str) -> SavedDocument:
    with transaction(connection, "BEGIN"):
        saved = connection.execute("SELECT saved FROM documents WHERE name = ?", (document,)).fetchone()
        tail = connection.execute("SELECT changes FROM tails WHERE document = ? ORDER BY position", (document,))
        changes = [change for (row,) in tail for change in changes_of(row)]
    return SavedDocument(saved[0] if saved else None, changes)


def _save_documents(connection: sqlite3.Connection, documents: Mapping[str, bytes]) -> None:
    with transaction(connection):
        connection.executemany("INSERT OR REPLACE INTO documents VALUES (?, ?)", documents.items())
        connection.executemany("DELETE FROM tails WHERE document = ?", [(document,) for document in documents])


def _erase_secrets(connection: sqlite3.Connection, before: int) -> int:
    with transaction(connection):
        erased = connection.execute("DELETE FROM secrets WHERE replaced < ?", (before,)).rowcount
    if erased:
        # The pages as they were are still in the file's log until it is moved into the database and cut.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return erased
