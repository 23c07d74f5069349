"""``verify`` against what can be done to tables and documents: they say what the records say, or it is found."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cluster_store.adapters.sqlite_projection import changes_of
from cluster_store.core.document import Change, Document, Put, encode_change
from tests.verify.tampering import Copy, last_of, texts


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
                if table == "lines" and column in ("number", "seq"):
                    assert "but not that all are there" in report.trustworthy(), "it tells of more than is there"
                else:
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


@pytest.mark.parametrize("pragma", ["application_id = 7", "user_version = 99"])
def test_a_changed_header_is_found(copy: Copy, pragma: str) -> None:
    """A file that is marked as another program's, or another version's, is not what was written."""
    copy.do(f"PRAGMA {pragma}")
    (fault,) = copy.verify().faults
    assert (fault.kind, pragma.replace(" =", "") in fault.text) == ("file", True)
