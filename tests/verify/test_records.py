"""``verify`` against everything that can be done to a log: whatever is changed is found, and named."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from hashlib import sha256
from random import Random
from typing import Any

import msgspec
import pytest

from cluster_store.core.records import SEAL_BYTES, Envelope, Record, decode, encode, seal_record
from cluster_store.core.types import RecordId
from tests.core.builders import identity, sealed
from tests.verify.tampering import Copy, last_of, texts

#: Of longer values so many bytes are left out between two that are changed: checking a log takes a millisecond.
_STEP = 23


def flips(value: Any, first: int = 0) -> Iterator[Any]:
    """Yield a column's value with one bit of each of its bytes changed in turn; of a long one of some, from ``first``.

    Which bit it is goes round, so that all eight have their turn.
    """
    if isinstance(value, int):
        for place in range(8):
            changed = value ^ (1 << 8 * place + (first + place) % 8)
            yield changed - (1 << 64) if changed >= 1 << 63 else changed
    elif isinstance(value, bytes):
        step = _STEP if len(value) > SEAL_BYTES else 1
        for place in range(first % step, len(value), step):
            yield value[:place] + bytes((value[place] ^ 1 << (first + place) % 8,)) + value[place + 1 :]


@pytest.mark.parametrize("column", ["id", "line", "seq", "hybrid", "seal", "envelope"])
def test_one_changed_byte_anywhere_in_a_record_is_named(small: Copy, column: str) -> None:
    """A byte of a record's columns, changed alone, is found, and its record is the first that is named."""
    records = small.rows(f"SELECT position, {column}, id FROM records ORDER BY position")  # noqa: S608 - named above
    machines = dict(small.rows("SELECT records.position, machine FROM records JOIN lines ON number = line"))
    count = 0
    for position, value, record in records:
        for changed in flips(value, position):
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
    """The newest records cannot be taken away unnoticed, also where the count is lowered with them; they are named."""
    _, _, lost = last_of(copy)
    copy.do("DELETE FROM records WHERE position = (SELECT count FROM meta)")
    assert "its tail was cut off" in texts(copy.verify())
    assert f"lost at the end: #{lost.envelope.seq} of mx1" in texts(copy.verify())
    copy.do("UPDATE meta SET count = count - 1")
    report = copy.verify()
    assert "the running hash of the log is another one" in texts(report)
    assert "in the order in which they were appended" in report.trustworthy()
    copy.do("UPDATE meta SET log_hash = ?", running_hash(copy))
    assert "a row of lines" in texts(copy.verify()), "the tables still tell"
    assert f"lost at the end: #{lost.envelope.seq} of mx1" in texts(copy.verify())
    copy.do("UPDATE lines SET seq = seq - 1 WHERE number = 1")
    report = copy.verify()
    assert "lost at the end" not in texts(report), "now only others know"
    report.compare("mx2", {lost.envelope.epoch: lost.envelope.seq})
    assert f"mx2 has #{lost.envelope.seq} of this machine's own feed, and this store has not" in texts(report)


def test_a_peer_that_has_no_more_of_the_own_feed_is_no_finding(copy: Copy) -> None:
    """Whoever is behind, or equal, says nothing against this store; nor is a store without peers suspicious."""
    _, _, last = last_of(copy)
    report = copy.verify()
    report.compare("mx2", {last.envelope.epoch: last.envelope.seq})
    report.compare("mx3", {last.envelope.epoch: 1})
    report.compare("mx4", {})
    assert report.found == 0


def test_an_added_record_is_found(copy: Copy) -> None:
    """A record at the end that was never appended shows, though it is a true one of its feed."""
    row = copy.rows("SELECT * FROM records WHERE position = (SELECT count FROM meta)")[0]
    copy.do("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row[0] + 1, bytes(32), *row[2:3], 99, *row[4:])
    assert copy.verify().found


def running_hash(copy: Copy) -> bytes:
    """Return the running hash that fits the log."""
    total = b""
    for record, learnt in copy.rows("SELECT id, learnt FROM records ORDER BY position"):
        total = sha256(total + record + learnt.to_bytes(8, "big", signed=True)).digest()
    return total


def test_a_changed_time_of_learning_is_found(small: Copy) -> None:
    """Whoever makes it seem that this machine heard of a record at another time is noticed."""
    for position, learnt in small.rows("SELECT position, learnt FROM records"):
        for changed in flips(learnt):
            with small.undone():
                small.do("UPDATE records SET learnt = ? WHERE position = ?", changed, position)
                assert "the running hash of the log is another one" in texts(small.verify())


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
    copy.do("UPDATE meta SET log_hash = ?", running_hash(copy))


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


@pytest.mark.parametrize("every_signature", [False, True])
def test_a_false_seal_in_the_middle_is_named(copy: Copy, *, every_signature: bool) -> None:
    """The feed that went on from it names another id; so every seal is checked, and the first bad record is named."""
    rows = copy.rows("SELECT position, envelope, seal FROM records WHERE line = 1 AND seal IS NOT NULL ORDER BY seq")
    position, envelope, seal = rows[1]
    record = decode(envelope, seal)
    forged = seal_record(Record(record.envelope, record.data, b"", record.id), identity("mallory").sign)
    copy.do("UPDATE records SET id = ?, seal = ? WHERE position = ?", bytes.fromhex(forged.id), forged.seal, position)
    report = copy.verify(every_signature=every_signature)
    assert report.first is not None
    assert (report.first.kind, report.first.position) == ("seal", position)
    assert f"up to position {position - 1}" in report.trustworthy()


def put(copy: Copy, position: int, record: Record) -> None:
    """Put another record in the place of one, under an id that fits it."""
    copy.do(
        "UPDATE records SET id = ?, envelope = ?, seal = ? WHERE position = ?",
        *(bytes.fromhex(record.id), record.data, record.seal, position),
    )


@pytest.mark.parametrize("resigned", [False, True])
@pytest.mark.parametrize("ahead", [2, 3])
def test_a_forged_record_with_all_hashes_behind_it_set_right_is_named(
    copy: Copy, ahead: int, *, resigned: bool
) -> None:
    """Whoever rewrites a record and the links behind it lacks the key: that record is named, no later one.

    It keeps its seal, or has one of another key; the next one names its new id, and so on to the end of the feed.
    """
    query = "SELECT position, envelope, seal FROM records WHERE line = 1 ORDER BY seq DESC LIMIT ?"
    (position, envelope, seal), *behind = reversed(copy.rows(query, ahead))
    content = decode(envelope, seal).envelope
    told = forged_of(msgspec.structs.replace(content, comment="all is well"), seal)
    if resigned:
        told = seal_record(msgspec.structs.replace(told, seal=b""), identity("mallory").sign)
    put(copy, position, told)
    for place, data, kept in behind:
        told = forged_of(msgspec.structs.replace(decode(data, kept).envelope, prev=told.id), kept)
        put(copy, place, told)
    copy.do("UPDATE lines SET head = ? WHERE number = 1", bytes.fromhex(told.id))
    copy.do("UPDATE meta SET log_hash = ?", running_hash(copy))
    report = copy.verify()
    assert report.first is not None
    assert (report.first.kind, report.first.position) == ("seal", position)
    assert f"up to position {position - 1}" in report.trustworthy()


def forged_of(content: Envelope, seal: bytes) -> Record:
    """Return a record of other content under a seal that was made for another one."""
    data = encode(content)
    return Record(content, data, seal, RecordId(sha256(data + seal).hexdigest()))


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
    assert "is marked as void, and should count" in first.text
