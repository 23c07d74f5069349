"""``verify`` against everything that can be done to a store: whatever is changed is found, and named."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_store.adapters.memory_log import MemoryLog
from cluster_store.adapters.sqlite_audit import SqliteAudit
from cluster_store.adapters.sqlite_log import SqliteLog
from cluster_store.adapters.sqlite_projection import changes_of
from cluster_store.core.document import Change, Document, Put, encode_change
from cluster_store.core.errors import StoreError, StoreMissing
from cluster_store.core.records import Record, decode, encode, seal_record
from cluster_store.core.state import Draft
from cluster_store.documents import Documents
from cluster_store.verify import Report, verify
from tests.collisions import stored_collision, stored_pair
from tests.core.builders import Store, identity, sealed
from tests.core.histories import History, Step, step_lists
from tests.tampering import Copy, copied


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two machines that were apart: secrets, conflicts, sets, documents with saved forms and tails."""
    folder = tmp_path_factory.mktemp("stores")
    asyncio.run(stored_collision(folder, save=True))
    return folder / "mx1" / "cluster.db"


@pytest.fixture(scope="module")
def small_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a few records of two machines."""
    folder = tmp_path_factory.mktemp("small")
    asyncio.run(stored_pair(folder))
    return folder / "mx1" / "cluster.db"


@pytest.fixture
def small(small_database: Path) -> Iterator[Copy]:
    """A copy of the small store to tamper with."""
    with copied(small_database) as found:
        yield found


@pytest.fixture
def copy(database: Path) -> Iterator[Copy]:
    """A copy of that store to tamper with."""
    with copied(database) as found:
        yield found


def texts(report: Report) -> str:
    """Return all that was found, a line each."""
    return "\n".join(f"{fault.kind}: {report.name(fault)}: {fault.text}" for fault in report.faults)


# --- stores that are as they were written -------------------------------------------------------------


def test_an_untouched_store_passes(copy: Copy) -> None:
    """Nothing is found where nothing was done; each feed's last seal is checked, or every one."""
    report = copy.verify()
    assert texts(report) == ""
    assert report.trustworthy() == "everything"
    assert (report.records, report.signatures) == (copy.rows("SELECT count(*) FROM records")[0][0], 2)
    assert report.documents > 3
    seals = copy.rows("SELECT count(*) FROM records WHERE seal IS NOT NULL")[0][0]
    assert copy.verify(every_signature=True).signatures == seals > 2


class Recorder(MemoryLog):
    """A log in memory that keeps what it was given, for another log."""

    def __init__(self, cluster: str) -> None:
        super().__init__(cluster)
        self.drafts: list[Draft] = []

    async def append(self, draft: Draft) -> None:
        """See ``EventLog``."""
        self.drafts.append(draft)
        await super().append(draft)


def drafts_of(history: History) -> list[Draft]:
    """Return what a store appends when it is offered a history."""
    store = Store(history.cluster)
    store.log = recorder = Recorder(history.cluster)
    for run in history.runs:
        if not run.dropped:
            store.offer(run.items)
    return recorder.drafts


async def write_store(path: Path, drafts: Sequence[Draft], *, saved: int) -> None:
    """Append drafts to a new store, and save its documents after some of them."""
    log = await SqliteLog.create(path, drafts[0].state.me, drafts[0].cluster)
    documents = Documents(log)
    for number, draft in enumerate(drafts):
        if number == saved:
            await documents.save()
        await log.append(draft)
        await documents.apply(draft.changes)
    await log.close()


@settings(max_examples=15)
@given(steps=step_lists(), saved=st.integers(-1, 20))
def test_what_a_store_writes_passes(tmp_path_factory: pytest.TempPathFactory, steps: list[Step], saved: int) -> None:
    """Branches, void records, removals, new epochs and secrets are no damage, with saved documents or without."""
    path = tmp_path_factory.mktemp("history") / "cluster.db"
    asyncio.run(write_store(path, drafts_of(History().play(steps)), saved=saved))
    with SqliteAudit.open(path) as audit:
        report = verify(audit, every_signature=True)
    assert texts(report) == ""
    assert report.found == 0


# --- records ------------------------------------------------------------------------------------------


def flips(value: Any) -> Iterator[Any]:
    """Yield a column's value with each of its bytes changed in turn."""
    if isinstance(value, int):
        for place in range(8):
            changed = value ^ (1 << 8 * place)
            yield changed - (1 << 64) if changed >= 1 << 63 else changed
    elif isinstance(value, bytes):
        for place in range(len(value)):
            yield value[:place] + bytes((value[place] ^ 1,)) + value[place + 1 :]


@pytest.mark.parametrize("column", ["id", "line", "seq", "hybrid", "seal", "envelope"])
def test_one_changed_byte_anywhere_in_a_record_is_named(small: Copy, column: str) -> None:
    """Each byte of each record's columns, changed alone, is found, and its record is the first that is named.

    When a record was learnt is this machine's own note, which no hash covers.
    """
    records = small.rows(f"SELECT position, {column}, id FROM records ORDER BY position")  # noqa: S608 - named above
    machines = dict(small.rows("SELECT records.position, machine FROM records JOIN lines ON number = line"))
    count = 0
    for position, value, record in records:
        for changed in flips(value):
            with small.undone():
                try:
                    small.do(f"UPDATE records SET {column} = ? WHERE position = ?", changed, position)  # noqa: S608
                except sqlite3.IntegrityError:
                    continue  # the index refuses what another record has
                report = small.verify()
                first = report.first
                assert first is not None, (column, position, changed)
                assert first.position == position
                if column != "line":
                    assert first.machine == machines[position]
                if column != "id":
                    assert first.record == record.hex()
                assert f"up to position {position - 1}" in report.trustworthy()
            count += 1
    assert count > len(records)


def test_a_changed_position_is_found(small: Copy) -> None:
    """A record that stands somewhere else in the log than it was appended is noticed."""
    for (position,) in small.rows("SELECT position FROM records"):
        for changed in flips(position):
            with small.undone():
                try:
                    small.do("UPDATE records SET position = ? WHERE position = ?", changed, position)
                except sqlite3.IntegrityError:
                    continue
                assert small.verify().found, (position, changed)


@pytest.mark.parametrize("column", ["id", "line", "seq", "hybrid", "learnt", "seal", "envelope", "void"])
@pytest.mark.parametrize("value", [b"\xff\xfe", "text", 1.5, -(2**63), b"", "\x1b[2J"])
def test_a_column_of_another_type_is_named(copy: Copy, column: str, value: Any) -> None:
    """Columns that hold what was never written are findings, never failures."""
    copy.do(f"UPDATE records SET {column} = ? WHERE position = 4", value)  # noqa: S608 - named above
    if column == "learnt" and isinstance(value, int):
        return
    first = copy.verify().first
    assert first is not None
    assert first.position == 4


def test_an_envelope_of_any_bytes_is_named(copy: Copy) -> None:
    """Envelopes that are huge, deep or no JSON at all are findings, also under an id that fits them."""
    dice = Random(5)
    for envelope in (b"", b"[" * 100_000, b"{}", b"null", b"\x00" * (9 << 20), dice.randbytes(500), b'{"v":99}'):
        with copy.undone():
            identity_of = sha256(envelope + copy.rows("SELECT seal FROM records WHERE position = 5")[0][0]).digest()
            copy.do("UPDATE records SET envelope = ?, id = ? WHERE position = 5", envelope, identity_of)
            first = copy.verify(every_signature=True).first
            assert first is not None
            assert first.position == 5


def test_a_removed_record_is_named(copy: Copy) -> None:
    """A record that was taken out shows where it was, also when the others were moved up to hide the gap."""
    for (position,) in copy.rows("SELECT position FROM records WHERE position < (SELECT count FROM meta)"):
        with copy.undone():
            copy.do("DELETE FROM records WHERE position = ?", position)
            first = copy.verify().first
            assert first is not None
            assert first.position == position + 1
            assert f"the records {position} to {position} are missing before it" in texts(copy.verify())
            copy.do("UPDATE records SET position = -position WHERE position > ?", position)
            copy.do("UPDATE records SET position = -position - 1 WHERE position < 0")
            copy.do("UPDATE meta SET count = count - 1")
            assert copy.verify().found


def swap(copy: Copy, one: int, other: int) -> None:
    """Let two records change places."""
    for before, after in ((one, -1), (other, one), (-1, other)):
        copy.do("UPDATE records SET position = ? WHERE position = ?", after, before)


def test_a_reordered_feed_is_named(copy: Copy) -> None:
    """Two records of one feed that changed places break its chain."""
    one, other = (row[0] for row in copy.rows("SELECT position FROM records WHERE line = 1 ORDER BY seq LIMIT 2, 2"))
    swap(copy, one, other)
    first = copy.verify().first
    assert first is not None
    assert first.position == min(one, other)


def test_reordered_feeds_are_found(copy: Copy) -> None:
    """Two concurrent records that changed places break no chain, but the running hash of the log."""
    pairs = copy.rows(
        """
        SELECT one.position FROM records one JOIN records other ON other.position = one.position + 1
        WHERE one.line <> other.line AND one.position > 8
        """
    )
    assert pairs
    for (position,) in pairs:
        with copy.undone():
            swap(copy, position, position + 1)
            assert "the running hash of the log is another one" in texts(copy.verify())


def test_a_cut_tail_is_found(copy: Copy) -> None:
    """The newest records cannot be taken away unnoticed, also where the count is lowered with them."""
    copy.do("DELETE FROM records WHERE position = (SELECT count FROM meta)")
    assert "its tail was cut off" in texts(copy.verify())
    copy.do("UPDATE meta SET count = count - 1")
    report = copy.verify()
    assert "the running hash of the log is another one" in texts(report)
    assert "in the order in which they were appended" in report.trustworthy()
    ids = copy.rows("SELECT id FROM records ORDER BY position")
    copy.do("UPDATE meta SET log_hash = ?", running_hash(ids))
    assert "a row of lines" in texts(copy.verify()), "the tables still tell"


def test_an_added_record_is_found(copy: Copy) -> None:
    """A record at the end that was never appended shows, though it is a true one of its feed."""
    row = copy.rows("SELECT * FROM records WHERE position = (SELECT count FROM meta)")[0]
    copy.do("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row[0] + 1, bytes(32), *row[2:3], 99, *row[4:])
    assert copy.verify().found


def running_hash(ids: list[tuple[bytes]]) -> bytes:
    """Return the log's running hash over ids."""
    total = b""
    for (record,) in ids:
        total = sha256(total + record).digest()
    return total


def last_of(copy: Copy) -> tuple[int, int, Record]:
    """Return position, line and record of the last row."""
    position, line, envelope, seal = copy.rows(
        "SELECT position, line, envelope, seal FROM records ORDER BY position DESC LIMIT 1"
    )[0]
    return position, line, decode(envelope, seal)


def replace_last(copy: Copy, forged: Record) -> None:
    """Put another record in the place of the last one, and set right all that says which one it is."""
    position, line, _ = last_of(copy)
    record = bytes.fromhex(forged.id)
    copy.do(
        "UPDATE records SET id = ?, envelope = ?, seal = ? WHERE position = ?",
        record,
        forged.data,
        forged.seal,
        position,
    )
    copy.do("UPDATE lines SET head = ? WHERE number = ?", record, line)
    copy.do("UPDATE meta SET log_hash = ?", running_hash(copy.rows("SELECT id FROM records ORDER BY position")))


@pytest.mark.parametrize("every_signature", [False, True])
def test_an_envelope_that_another_key_signed_is_named(copy: Copy, *, every_signature: bool) -> None:
    """Whoever rewrites a record with every hash set right still lacks its machine's key."""
    position, _, record = last_of(copy)
    (changed,) = record.envelope.writes
    forged = msgspec.structs.replace(
        record.envelope, writes=(msgspec.structs.replace(changed, value='"203.0.113.66"'),)
    )
    data = encode(forged)
    replace_last(copy, seal_record(Record(forged, data, b"", record.id), identity("mallory").sign))
    report = copy.verify(every_signature=every_signature)
    assert report.first is not None
    assert (report.first.kind, report.first.position) == ("seal", position)
    assert report.name(report.first).startswith("mx1#")
    assert f"up to position {position - 1}" in report.trustworthy()


def test_a_record_whose_seal_was_taken_away_is_named(copy: Copy) -> None:
    """A record at the end that nothing vouches for is found, though every hash fits."""
    position, _, record = last_of(copy)
    bare = Record(record.envelope, record.data, b"", record.id)
    unsealed = sha256(record.data).hexdigest()
    replace_last(copy, msgspec.structs.replace(bare, id=unsealed))
    copy.do("UPDATE records SET seal = NULL WHERE position = ?", position)
    first = copy.verify().first
    assert first is not None
    assert (first.position, first.text) == (position, "no seal vouches for it")


def test_a_seal_in_the_middle_is_checked_when_asked_for(copy: Copy) -> None:
    """A false seal shows, though the feed that went on from it is vouched for by later ones."""
    rows = copy.rows("SELECT position, envelope, seal FROM records WHERE line = 1 AND seal IS NOT NULL ORDER BY seq")
    position, envelope, seal = rows[1]
    record = decode(envelope, seal)
    forged = seal_record(Record(record.envelope, record.data, b"", record.id), identity("mallory").sign)
    copy.do("UPDATE records SET id = ?, seal = ? WHERE position = ?", bytes.fromhex(forged.id), forged.seal, position)
    for every_signature in (False, True):
        report = copy.verify(every_signature=every_signature)
        assert report.first is not None
        assert report.first.position in (position, rows[2][0])
    assert any(fault.kind == "seal" and fault.position == position for fault in report.faults)


def test_a_record_that_a_stranger_wrote_is_named(copy: Copy) -> None:
    """A feed of a machine that nobody let in is not vouched for, however well it is sealed."""
    mallory = identity("mallory")
    position, _, record = last_of(copy)
    forged = sealed(msgspec.structs.replace(record.envelope, machine=mallory.id), mallory)
    replace_last(copy, forged)
    report = copy.verify()
    assert report.first is not None
    assert report.first.position == position


def test_a_verdict_that_was_changed_is_named(copy: Copy) -> None:
    """A record cannot be made to count for nothing, nor for something, by its row."""
    copy.do("UPDATE records SET void = 'is not wanted' WHERE position = 6")
    first = copy.verify().first
    assert first is not None
    assert first.position == 6
    assert "should be for ''" in first.text


# --- what follows from the records ---------------------------------------------------------------------


def other_value(value: Any) -> Any:
    """Return a value of the same type that is another one."""
    if value is None:
        return "x"
    if isinstance(value, bytes):
        return bytes((value[0] ^ 1,)) + value[1:] if value else b"x"
    return value + 1000 if isinstance(value, int) else value + "x"


@pytest.mark.parametrize("table", ["lines", "lanes", "tips", "secrets", "documents", "tails"])
def test_every_changed_column_of_a_table_is_found(copy: Copy, table: str) -> None:
    """Each column of a dozen rows that follow from the records, changed alone, is found."""
    columns = [row[1] for row in copy.rows(f"PRAGMA table_info({table})")]
    keys = [row[1] for row in copy.rows(f"PRAGMA table_info({table})") if row[5]]
    named = " AND ".join(f"{key} IS ?" for key in keys)
    count = 0
    rows = copy.rows(f"SELECT * FROM {table}")  # noqa: S608 - the tables named above
    for row in rows[:: max(1, len(rows) // 12)]:
        values = dict(zip(columns, row, strict=True))
        for column in columns:
            if (table, column) == ("tails", "position"):
                continue  # only their order means something
            with copy.undone():
                where = [values[key] for key in keys]
                new = other_value(values[column])
                if (table, column) == ("secrets", "replaced") and values[column] is not None:
                    new = None
                assert copy.do(f"UPDATE {table} SET {column} = ? WHERE {named}", new, *where) == 1  # noqa: S608
                report = copy.verify()
                assert report.found, (table, column, row)
                assert report.first is None, "the records themselves are what was written"
                assert report.trustworthy() == "every record; tables and documents can be rebuilt from them"
            count += 1
    assert count


@pytest.mark.parametrize("table", ["lines", "lanes", "tips", "documents", "tails"])
def test_every_missing_row_of_a_table_is_found(copy: Copy, table: str) -> None:
    """Whatever follows from the records cannot be taken away."""
    keys = [row[1] for row in copy.rows(f"PRAGMA table_info({table})") if row[5]]
    for values in copy.rows(f"SELECT {', '.join(keys)} FROM {table}"):  # noqa: S608 - the tables named above
        with copy.undone():
            named = " AND ".join(f"{key} IS ?" for key in keys)
            assert copy.do(f"DELETE FROM {table} WHERE {named}", *values) == 1  # noqa: S608 - the same
            assert copy.verify().found, (table, values)


def test_a_changed_lane_names_its_record(copy: Copy) -> None:
    """A value that somebody changed in the tables is told with the record that wrote another one."""
    copy.do("""UPDATE lanes SET value = '"owned"' WHERE path = 'setting/cluster/dns.primary'""")
    (fault,) = copy.verify().faults
    _, _, record = last_of(copy)
    assert fault.kind == "table"
    assert (fault.record, fault.seq) == (record.id, record.envelope.seq)
    assert "setting/cluster/dns.primary" in fault.text


def test_a_lane_that_nobody_wrote_is_found(copy: Copy) -> None:
    """A lane without a record shows, whatever it says."""
    copy.do("INSERT INTO lanes VALUES ('cluster', 'setting/cluster/x', ?, 1, 0, 0, '1', x'00', 1, x'00', 1)", bytes(32))
    (fault,) = copy.verify().faults
    assert fault.text == "a lane stands in setting/cluster/x that no record put there"


def test_a_missing_secret_is_found(copy: Copy) -> None:
    """The value of a secret that counts must be here, or nobody could log in with it."""
    standing = "record IN (SELECT id FROM lanes WHERE secret) AND path = 'setting/cluster/password'"
    assert copy.do(f"DELETE FROM secrets WHERE {standing}") == 1  # noqa: S608 - the condition above
    assert "the secret value of setting/cluster/password is missing" in texts(copy.verify())


def test_a_removal_that_was_changed_is_found(copy: Copy) -> None:
    """What is kept of removals is what records tell, byte by byte."""
    copy.do("INSERT INTO removals VALUES (1, 3, ?)", msgspec.msgpack.encode([]))
    assert "a row of removals" in texts(copy.verify())
    copy.do("UPDATE removals SET known = x'c1'")
    assert copy.verify().found


@pytest.mark.parametrize(
    "change",
    ["count = count + 1", "log_hash = x'00'", "cluster = upper(cluster)", "own = 2", "me = 'x'", "count = 'many'"],
)
def test_what_a_store_says_of_itself_is_checked(copy: Copy, change: str) -> None:
    """The row that tells whose log it is and how long cannot say otherwise than the log."""
    copy.do(f"UPDATE meta SET {change}")  # noqa: S608 - the changes above
    assert copy.verify().found


# --- documents -----------------------------------------------------------------------------------------


def saved_document(copy: Copy) -> tuple[str, bytes]:
    """Return a document that has a saved form."""
    name, saved = copy.rows("SELECT name, saved FROM documents ORDER BY length(saved) DESC")[0]
    return name, saved


def test_a_saved_document_that_says_otherwise_is_named(copy: Copy) -> None:
    """A valid document with another value, or with a hidden history, is not the one that the records make."""
    name, saved = saved_document(copy)
    key, text = next(iter(Document.open(saved).items().items()))
    for forged in (
        [Put(key, text + "x"), *[Put(other, value) for other, value in _others(saved, key)]],
        [Put(other, value) for other, value in Document.open(saved).items().items()],
    ):
        document = Document()
        document.apply([encode_change(b"mallory", 1, 1, [], forged)])
        with copy.undone():
            copy.do("UPDATE documents SET saved = ? WHERE name = ?", document.save(), name)
            report = copy.verify()
            assert {fault.kind for fault in report.faults} == {"document"}
            assert name in texts(report)


def _others(saved: bytes, key: str) -> list[tuple[str, str]]:
    return [(other, value) for other, value in Document.open(saved).items().items() if other != key]


def test_a_forged_change_under_a_true_envelope_is_named(copy: Copy) -> None:
    """The changes behind a document's saved form must be those that the records make."""
    name, position, blob = copy.rows("SELECT document, position, changes FROM tails")[0]
    (change, *rest) = changes_of(blob)
    forged = encode_change(b"mallory", 1, 1, [], [Put("setting/cluster/x", "=1")])
    for changes in ([forged, *rest], [change, *rest, forged], [Change(change.data, forged.hash, change.deps), *rest]):
        with copy.undone():
            copy.do(
                "UPDATE tails SET changes = ? WHERE document = ? AND position = ?",
                *(msgspec.msgpack.encode(changes), name, position),
            )
            assert f"the document {name} has changes" in texts(copy.verify())


def test_a_document_that_nobody_wrote_is_found(copy: Copy) -> None:
    """A document of a scope that no record speaks of does not belong in the store."""
    document = Document()
    document.apply([encode_change(b"mallory", 1, 1, [], [Put("setting/cluster/x", "=1")])])
    copy.do("INSERT INTO documents VALUES ('nowhere#0', ?)", document.save())
    assert "the document nowhere#0" in texts(copy.verify())


# --- the file ------------------------------------------------------------------------------------------


def found_in(path: Path) -> list[str]:
    """Return what is found in a file, or why it cannot be opened."""
    try:
        with SqliteAudit.open(path) as audit:
            return [fault.text for fault in verify(audit, every_signature=True).faults]
    except StoreError as error:
        return [error.message]


def flat_copy(database: Path, target: Path) -> bytes:
    """Write a store as one file, without a log of its own; return its bytes."""
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(target)) as plain:
        source.backup(plain)
        plain.execute("PRAGMA journal_mode = DELETE")
    return target.read_bytes()


def test_a_file_with_any_byte_changed_fails_nothing(database: Path, tmp_path: Path) -> None:
    """Whatever is done to the file's bytes is a finding, or was done where nothing is kept; never a failure."""
    target = tmp_path / "cluster.db"
    whole = flat_copy(database, target)
    dice = Random(20)
    noticed = 0
    for _ in range(200):
        place, bit = dice.randrange(len(whole)), dice.randrange(8)
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bit
        target.write_bytes(damaged)
        noticed += bool(found_in(target))
    assert noticed > 25


@pytest.mark.parametrize(
    "damage", [lambda whole: whole[: len(whole) // 2], lambda whole: b"", lambda whole: b"x" * 9000]
)
def test_a_file_that_is_no_store_is_a_finding(database: Path, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    """A file that was cut, emptied or overwritten is said to be damaged."""
    target = tmp_path / "cluster.db"
    target.write_bytes(damage(flat_copy(database, target)))
    assert found_in(target)


def test_a_store_that_is_not_there_is_no_finding(tmp_path: Path) -> None:
    """Where there is no store, there is nothing to verify."""
    with pytest.raises(StoreMissing), SqliteAudit.open(tmp_path / "cluster.db"):
        pass


def test_many_faults_are_counted(copy: Copy) -> None:
    """A store that is damaged all over is told by a hundred findings of a kind and the number of the rest."""
    copy.do("UPDATE lanes SET value = '1'")
    for number in range(300):
        record = sha256(b"%d" % number).digest()
        copy.do("INSERT INTO lanes VALUES ('cluster', 'x', ?, 1, 0, 0, '1', x'00', 1, x'00', 1)", record)
    report = copy.verify()
    assert sum(fault.kind == "table" for fault in report.faults) == 100
    assert report.untold["table"] >= 200
    assert report.found == len(report.faults) + sum(report.untold.values())


def test_progress_is_told(copy: Copy) -> None:
    """Whoever waits is told what is being looked at."""
    seen: list[tuple[str, int, int]] = []
    verify(SqliteAudit(copy.connection, copy.path), progress=lambda *told: seen.append(told))
    assert [name for name, _, _ in seen][:2] == ["pages", "tables"]
    assert seen[-1][0] == "documents"
