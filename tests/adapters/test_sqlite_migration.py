"""Stores of earlier versions: copied, changed and folded anew in one transaction, or left as they were."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings

from cluster_store.adapters import sqlite_migration, sqlite_schema
from cluster_store.adapters.sqlite_log import SqliteLog
from cluster_store.adapters.sqlite_projection import rebuild
from cluster_store.adapters.sqlite_schema import transaction
from cluster_store.core import commands
from cluster_store.core.errors import StoreCorrupt
from cluster_store.core.state import State
from cluster_store.core.types import MachineId
from cluster_store.ports import EventLog
from tests.contracts.test_event_logs_agree import offer, spare_the_disk
from tests.core.builders import identity
from tests.core.histories import History, Step, step_lists
from tests.replicas import Fleet

#: All that a rebuild makes anew and must make the same.
PROJECTION = ("lines", "lanes", "removals", "tips")
KEPT = ("records", "secrets", "meta")


def add_table(connection: sqlite3.Connection) -> None:
    """A step to a schema with one table more."""
    connection.execute("CREATE TABLE colours (name TEXT PRIMARY KEY)")


def fail(connection: sqlite3.Connection) -> None:
    """A step that changes something and then meets a full disk."""
    add_table(connection)
    connection.execute("PRAGMA max_page_count = 1")
    connection.execute("CREATE TABLE large AS SELECT zeroblob(1000000)")


def forget_the_projection(connection: sqlite3.Connection) -> None:
    """A step that leaves nothing but the log."""
    for table in (*PROJECTION, "tails", "documents"):
        connection.execute(f"DELETE FROM {table}")  # noqa: S608 - the names are the ones above


@contextmanager
def database(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a store's file, without transactions of its own."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def contents(connection: sqlite3.Connection, tables: Sequence[str]) -> dict[str, list[tuple[object, ...]]]:
    """Return the rows of tables."""
    return {
        table: connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()  # noqa: S608 - names from above
        for table in tables
    }


def version_of(connection: sqlite3.Connection) -> int:
    """Return the schema's version."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A closed store of schema 1 with settings, a secret, a saved document and a tail."""
    store = tmp_path / "cluster.db"

    async def make(_name: str, me: MachineId, cluster: str) -> EventLog:
        return await SqliteLog.create(store, me, cluster)

    fleet = Fleet(make)
    anna = await fleet.found("anna")
    await anna.set("smtp.banner", '"hello"')
    await anna.log.save_documents({"cluster#0": b"saved"})
    await anna.set("smtp.password", '"secret"', secret=True)
    await anna.set("smtp.password", '"other"', secret=True)
    await anna.command(commands.AddElements(key="relay", elements=('"a"', '"b"')))
    await anna.command(commands.RemoveElements(key="relay", elements=('"a"',)))
    await fleet.close()
    return store


def test_an_earlier_store_is_brought_up_to_date(path: Path) -> None:
    """Every step from its version on is taken, and the tables are made from the log."""
    with database(path) as connection:
        before, kept = contents(connection, PROJECTION), contents(connection, KEPT)
        sqlite_migration.migrate(connection, path, 1, (forget_the_projection, lambda _: None))
        assert version_of(connection) == 3
        assert contents(connection, PROJECTION) == before
        assert contents(connection, KEPT) == kept
        assert connection.execute("SELECT count(*) FROM documents").fetchone() == (0,)


def test_only_the_steps_from_its_version_on_are_taken(path: Path) -> None:
    """A store of version 2 does not take the step from 1 to 2 again."""
    with database(path) as connection:
        sqlite_migration.migrate(connection, path, 2, (fail, add_table))
        assert version_of(connection) == 3


def test_a_current_store_is_left_alone(path: Path) -> None:
    """Nothing is copied or rebuilt where nothing is to be done."""
    with database(path) as connection:
        changes = connection.total_changes
        sqlite_migration.migrate(connection, path, 2, (fail,))
        assert connection.total_changes == changes
    assert [file.name for file in path.parent.glob("*.schema-*")] == []


def test_the_store_as_it_was_is_kept_beside(path: Path) -> None:
    """Before anything is changed the whole store is copied; an older copy does not stand in the way."""
    copy = path.with_name("cluster.db.schema-1")
    copy.write_bytes(b"left by an attempt that failed")
    with database(path) as connection:
        before = contents(connection, (*PROJECTION, *KEPT, "documents", "tails"))
        sqlite_migration.migrate(connection, path, 1, (add_table,))
    with database(copy) as connection:
        assert version_of(connection) == 1
        assert contents(connection, tuple(before)) == before
    assert copy.stat().st_mode & 0o077 == 0


def test_a_failing_step_leaves_the_store_as_it_was(path: Path) -> None:
    """Whatever an upgrade meets, the earlier version can go on with the store."""
    with database(path) as connection:
        before = contents(connection, (*PROJECTION, *KEPT))
        with pytest.raises(sqlite3.OperationalError, match="full"):
            sqlite_migration.migrate(connection, path, 1, (fail,))
    with database(path) as connection:
        assert version_of(connection) == 1
        assert contents(connection, tuple(before)) == before


async def test_opening_takes_the_steps(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log of the next version opens a store of this one, whose machine goes on in its own line."""
    monkeypatch.setattr(sqlite_schema, "SCHEMA_VERSION", 2)
    monkeypatch.setattr(sqlite_migration, "STEPS", (forget_the_projection,))
    log = await SqliteLog.open(path)
    stored = await log.load()
    await log.close()
    assert (stored.position, len(stored.lines), stored.own) == (7, 1, 1)
    with database(path) as connection:
        assert version_of(connection) == 2


def test_a_damaged_record_stops_the_rebuilding(path: Path) -> None:
    """What is folded is what was written: the record that is not is named, and nothing is changed."""
    with database(path) as connection:
        connection.execute("DROP TRIGGER records_are_not_changed")
        connection.execute("UPDATE records SET envelope = replace(envelope, 'hello', 'hullo') WHERE position = 3")
        ((damaged,),) = connection.execute("SELECT id FROM records WHERE position = 3").fetchall()
        before = contents(connection, PROJECTION)
        with pytest.raises(StoreCorrupt, match=damaged.hex()):
            sqlite_migration.migrate(connection, path, 1, (add_table,))
        assert version_of(connection) == 1
        assert contents(connection, PROJECTION) == before


@settings(max_examples=15)
@given(step_lists())
async def test_any_history_is_rebuilt_as_it_was(steps: Sequence[Step]) -> None:
    """Forks, removals, void records and secrets are folded as they were when they came in."""
    history = History().play(steps)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reader.db"
        me = identity("reader").id
        log = await spare_the_disk(await SqliteLog.create(path, me, history.cluster))
        state = State(me, history.cluster)
        for run in history.runs:
            await offer(log, state, run.items)
        await log.close()
        with database(path) as connection:
            tables = (*PROJECTION, *KEPT)
            before = contents(connection, tables)
            with transaction(connection):
                rebuild(connection, me)
            assert contents(connection, tables) == before
