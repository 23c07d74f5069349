"""What the records add up to, as tables: written beside each append, looked up, rebuilt from the log alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import msgspec

from cluster_store.adapters.sqlite_errors import MENDING
from cluster_store.adapters.sqlite_rows import (
    lane_row,
    line_row,
    record_blob,
    record_of,
    registers_of,
)
from cluster_store.core.admission import removals_told
from cluster_store.core.derivation import Tip
from cluster_store.core.document import Change
from cluster_store.core.errors import Malformed, StoreCorrupt
from cluster_store.core.records import Record, decode
from cluster_store.core.registers import scope_of
from cluster_store.core.state import Draft, Fact, Facts, Needs, ScopeFacts, State
from cluster_store.core.types import Level, MachineId, RecordId

#: Records folded at once while rebuilding.
_REBUILD_RECORDS = 500

_encode = msgspec.msgpack.Encoder().encode
_changes = msgspec.msgpack.Decoder(list[Change])


def changes_of(tail: bytes) -> list[Change]:
    """Return the changes of one row of a document's tail."""
    return _changes.decode(tail)


# --- writing ---


def write(connection: sqlite3.Connection, draft: Draft) -> None:
    """Bring the tables up to a draft, inside the caller's transaction.

    Raises StoreCorrupt where a lane that the draft takes away is not there.
    """
    connection.executemany(
        "INSERT OR REPLACE INTO lines VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", map(line_row, draft.lines.values())
    )
    if draft.removals:
        connection.executemany(
            "INSERT OR REPLACE INTO removals VALUES (?, ?, ?)",
            [
                (line, seq, msgspec.msgpack.encode(sorted(known, key=lambda one: (one.machine, one.record))))
                for line, steps in draft.removals.items()
                for seq, known in steps
            ],
        )
    _write_lanes(connection, draft)
    connection.executemany(
        "INSERT OR REPLACE INTO tips VALUES (?, ?, ?, ?, ?)",
        [(document, actor, tip.seq, tip.change, tip.last_op) for (document, actor), tip in draft.tips.items()],
    )
    connection.executemany(
        "INSERT INTO tails VALUES (?, ?, ?)",
        [(document, draft.position, _encode(changes)) for document, changes in draft.changes.items()],
    )


def _write_lanes(connection: sqlite3.Connection, draft: Draft) -> None:
    taken = [(scope_of(path), path, bytes.fromhex(record)) for path, record in draft.taken]
    if taken:
        deleted = connection.executemany("DELETE FROM lanes WHERE scope = ? AND path = ? AND id = ?", taken)
        if deleted.rowcount != len(taken):
            raise StoreCorrupt("a lane that is to be replaced is not in the store", MENDING)
    if draft.secrets_taken:
        now = draft.records[-1].learnt
        connection.executemany(
            "UPDATE secrets SET replaced = ? WHERE record = ? AND path = ? AND replaced IS NULL",
            [(now, bytes.fromhex(record), path) for path, record in draft.secrets_taken],
        )
    connection.executemany(
        "INSERT INTO lanes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [lane_row(scope_of(path), path, lane) for (path, _), lane in draft.put.items()],
    )


# --- looking up ---


def look_up(connection: sqlite3.Connection, needs: Needs) -> Facts:
    """Answer ``needs``; see ``EventLog.lookup``."""
    return Facts(
        {scope: _scope(connection, scope) for scope in needs.scopes},
        {record: _fact(connection, record) for record in needs.records},
        {step: record for step in needs.steps if (record := _step(connection, *step)) is not None},
    )


def _scope(connection: sqlite3.Connection, scope: Level) -> ScopeFacts:
    lanes = connection.execute(
        """
        SELECT lanes.path, id, hybrid, weak, secret, value, text, actor, op, change, last_op
        FROM lanes LEFT JOIN secrets ON lanes.secret AND secrets.record = lanes.id AND secrets.path = lanes.path
        WHERE scope = ? ORDER BY lanes.path, id
        """,
        (scope,),
    )
    # A document's name is its scope, '#' and its shard; '$' is the character after '#'.
    tips = connection.execute(
        "SELECT document, actor, seq, change, last_op FROM tips WHERE document > ? AND document < ?",
        (f"{scope}#", f"{scope}$"),
    )
    return ScopeFacts(
        dict(registers_of(lanes)),
        {(document, actor): Tip(seq, change, last_op) for document, actor, seq, change, last_op in tips},
    )


def _fact(connection: sqlite3.Connection, record: RecordId) -> Fact | None:
    query = "SELECT line, seq, CASE WHEN void IS NULL THEN hybrid ELSE 0 END, position FROM records WHERE id = ?"
    row = connection.execute(query, (record_blob(record),)).fetchone()
    return Fact(*row) if row else None


def _step(connection: sqlite3.Connection, line: int, seq: int) -> RecordId | None:
    row = connection.execute("SELECT id FROM records WHERE line = ? AND seq = ?", (line, seq)).fetchone()
    return record_of(row[0]) if row else None


# --- rebuilding ---


def rebuild(connection: sqlite3.Connection, me: MachineId) -> None:
    """Fold all records anew, inside the caller's transaction.

    Saved documents go; what they were saved from is in their tails again.

    Raises:
        StoreCorrupt: a record is not what was written, or stands where it cannot.
    """
    for table in ("lines", "removals", "lanes", "tips", "documents", "tails"):
        connection.execute(f"DELETE FROM {table}")  # noqa: S608 - the names are the ones above
    cluster, log_hash = connection.execute("SELECT cluster, log_hash FROM meta").fetchone()
    state = State(me, cluster)
    while (draft := _next_draft(connection, state)).records:
        write(connection, draft)
        state.absorb(draft)
    if state.log_hash != log_hash:
        raise StoreCorrupt("the records are not those that were written", MENDING)


def _next_draft(connection: sqlite3.Connection, state: State) -> Draft:
    draft = Draft(state)
    for line, learnt, void, record in _records(connection, state.position):
        envelope = record.envelope
        if not void:
            # Nothing of a scope stands that is not in the state already.
            state.scopes.update(scope_of(write.path) for write in envelope.writes)
        past = Needs(records={RecordId(envelope.prev), *envelope.after})
        state.learn(look_up(connection, state.missing(past)))
        draft.add(
            record,
            draft.fact(RecordId(envelope.prev)),
            learnt=learnt,
            void=void or "",
            removal=() if void else removals_told(record),
        )
        if draft.records[-1].line != line:
            raise StoreCorrupt(f"record {record.id} stands in a line that is not its own", MENDING)
    return draft


def _records(connection: sqlite3.Connection, after: int) -> Iterator[tuple[int, int, str | None, Record]]:
    rows = connection.execute(
        """
        SELECT id, line, learnt, void, envelope, seal FROM records WHERE position > ? ORDER BY position LIMIT ?
        """,
        (after, _REBUILD_RECORDS),
    )
    for record_id, line, learnt, void, envelope, seal in rows:
        try:
            record = decode(envelope, seal or b"")
        except Malformed as error:
            raise StoreCorrupt(f"record {record_id.hex()} is damaged: {error}", MENDING) from error
        if record.id != record_id.hex():
            raise StoreCorrupt(f"record {record_id.hex()} is not what was written", MENDING)
        yield line, learnt, void, record
