"""docs/format.md is what the program does: its example, its tables and its numbers are taken from the page."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import get_args

import pytest

from cluster_store.adapters.sqlite_schema import APPLICATION_ID, SCHEMA, SCHEMA_VERSION
from cluster_store.core import limits
from cluster_store.core.commands import Card
from cluster_store.core.derivation import actor_of, derive, lane_text
from cluster_store.core.effects import PROTOCOL, AnyMessage
from cluster_store.core.events import KINDS
from cluster_store.core.records import (
    FORMAT,
    Envelope,
    Record,
    decode,
    encode,
    machine_id,
    seal_is_valid,
    sealed_message,
)
from cluster_store.core.registers import SHARDS, document_of, lane_key, valid_path
from cluster_store.core.sync import WINDOW

PAGE = (Path(__file__).parents[1] / "docs" / "format.md").read_text(encoding="utf-8")


def example(name: str) -> str:
    """Return the one line of a part of the worked example."""
    (found,) = re.findall(rf"^<!-- example-{name} -->\n```\n(.*)\n```$", PAGE, re.MULTILINE)
    return str(found)


def section(heading: str) -> str:
    """Return what stands under a heading, up to the next one."""
    (found,) = re.findall(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def rows(text: str) -> dict[str, str]:
    """Return a table: the code in each row's first cell -> the rest of the row."""
    return dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE))


@pytest.fixture
def record() -> Record:
    """The record of the example, from its bytes."""
    return decode(example("envelope").encode(), bytes.fromhex(example("seal")))


def test_the_examples_id_is_the_hash_of_its_bytes(record: Record) -> None:
    """Envelope and seal, one behind the other; and the envelope is in canonical form, of the length that is told."""
    data = example("envelope").encode()
    assert record.id == example("id") == sha256(data + bytes.fromhex(example("seal"))).hexdigest()
    assert encode(record.envelope) == data
    assert f"one line of {len(data)} bytes" in PAGE


def test_the_examples_seal_is_over_what_the_page_says(record: Record) -> None:
    """The machine's id and the signature are those of the key."""
    key = bytes.fromhex(example("key"))
    assert f"Its machine's id is `{machine_id(key)}`" in PAGE
    assert record.envelope.machine == machine_id(key)
    assert seal_is_valid(record, key)
    told = b"\0".join((b"cluster-store/record/1", record.envelope.cluster.encode(), sha256(record.data).digest()))
    assert sealed_message(record.envelope, record.data) == told


def test_the_examples_lane_and_change_are_those_that_are_derived(record: Record) -> None:
    """The document, the key, the value and the change, byte for byte."""
    envelope = record.envelope
    (write,) = envelope.writes
    assert lane_key(write.path, record.id) == example("lane")
    assert not isinstance(write.value, bool)
    assert f"into the document `{document_of(write.path)}`, with the value `{lane_text(write.value)}`" in PAGE
    actor = actor_of(envelope.machine, envelope.epoch)
    derived = derive(record.id, envelope.hybrid, actor, envelope.writes, lambda _: (), lambda _: None, weak=False)
    assert [change.data.hex() for change in derived.changes.values()] == [example("change")]


def test_the_page_lists_every_member_of_an_envelope() -> None:
    """In the order in which they stand in it."""
    assert list(rows(section("Envelope"))) == list(Envelope.__struct_fields__)


def test_the_page_lists_every_kind_and_what_it_may_write() -> None:
    """A reader that judges records needs all of them."""
    told = {kind: tuple(re.findall(r"`([a-z]+/)`", may)) for kind, may in rows(section("Kinds")).items()}
    assert told == KINDS


def test_the_page_names_every_member_of_every_message() -> None:
    """And no message is missing."""
    told = rows(section("Wire protocol 1"))
    assert told.keys() == {message.__name__ for message in get_args(AnyMessage)}
    for message in get_args(AnyMessage):
        assert all(f"`{name}`" in told[message.__name__] for name in message.__struct_fields__)
    assert all(f"`{name}`" in section("Wire protocol 1") for name in Card.__struct_fields__)


def test_the_page_names_every_column_of_every_table() -> None:
    """As a new store has them."""
    told = rows(section("Database, schema 1"))
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        assert told.keys() == set(tables)
        for table in tables:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            assert not [name for name in columns if f"`{name}`" not in told[table] and name != "one"]
    assert f"`0x{APPLICATION_ID:X}`" in PAGE


@pytest.mark.parametrize(
    "number",
    [
        limits.PATH_BYTES_MAX,
        limits.ENVELOPE_BYTES_MAX,
        limits.AFTER_MAX,
        limits.WRITES_PER_EVENT_MAX,
        limits.REPLACED_PER_WRITE_MAX,
        limits.COMMENT_BYTES_MAX,
        limits.HYBRID_MAX,
        limits.TIME_MAX,
        limits.VALUE_BYTES_MAX,
        limits.JSON_DEPTH_MAX,
        limits.FRAME_BYTES_MAX,
        limits.BATCH_BYTES_TARGET,
        limits.BATCH_RECORDS_MAX,
        limits.MESSAGE_RECORDS_MAX,
        limits.PARAMS_BRACKETS_MAX,
        limits.REASON_CHARS_MAX,
        limits.RUN_BYTES_MAX,
        limits.RUN_RECORDS_MAX,
        limits.VECTOR_LEAVES_MAX,
        limits.WORD_CHARS_MAX,
        SHARDS,
        WINDOW,
    ],
)
def test_the_pages_numbers_are_the_programs(number: int) -> None:
    """Each bound of the formats stands on the page."""
    assert re.search(rf"(?<![\d,]){number:,}(?![\d,])", PAGE)


def test_the_pages_versions_are_the_programs() -> None:
    """A new format, protocol or schema needs its own section."""
    for heading in (f"Record format {FORMAT}", f"Wire protocol {PROTOCOL}", f"Database, schema {SCHEMA_VERSION}"):
        assert section(heading)


def test_the_pages_paths_are_paths() -> None:
    """Each shape in the table, with an id in the place of each word in capitals, is a register's path."""
    first_cells = re.findall(r"^\| (`[a-z]+/.*?) \|", section("Paths"), re.MULTILINE)
    for cell in first_cells:
        first, *others = re.findall(r"`([^`]+)`", cell)
        shapes = [first, *(other if "/" in other else f"{first.rpartition('/')[0]}/{other}" for other in others)]
        for shape in shapes:
            assert valid_path(re.sub("[A-Z]+", "x", shape.replace("LEVEL", "group/x"))), shape
    assert len(first_cells) > 10
