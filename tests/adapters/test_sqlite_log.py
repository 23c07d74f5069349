"""What only a log on a disk has to promise: what it refuses, what it survives, and what it notices."""

# ruff: noqa: ASYNC240 - a test awaits one thing at a time: nobody else is kept waiting by a file

from __future__ import annotations

import asyncio
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from cluster_store.adapters import sqlite_file, sqlite_log
from cluster_store.adapters.sqlite_log import SqliteLog
from cluster_store.adapters.sqlite_schema import APPLICATION_ID, SCHEMA_VERSION
from cluster_store.core import commands
from cluster_store.core.errors import (
    Refused,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreMissing,
    StoreTooNew,
)
from cluster_store.core.records import decode
from cluster_store.core.registers import CLUSTER
from cluster_store.core.state import Needs
from cluster_store.core.types import MachineId
from cluster_store.ports import EventLog
from tests.replicas import Fleet, Machine
from tests.waiting import wait_until_async

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store's database is."""
    return tmp_path / "cluster.db"


@pytest.fixture
async def anna(path: Path) -> AsyncIterator[Machine]:
    """A machine that is a cluster of its own, with its log at ``path``."""

    async def make(_name: str, me: MachineId, cluster: str) -> EventLog:
        return await SqliteLog.create(path, me, cluster)

    fleet = Fleet(make)
    yield await fleet.found("anna")
    await fleet.close()


async def reopened(anna: Machine, path: Path) -> SqliteLog:
    """Close a machine's log, and let it go on with the one at a path."""
    await anna.log.close()
    log = await SqliteLog.open(path)
    await anna.fleet.restart(anna, log)
    return log


@contextmanager
def database(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file as anybody could, and commit at the end."""
    with closing(sqlite3.connect(path)) as connection, connection:
        yield connection


def drop_triggers(connection: sqlite3.Connection) -> None:
    """Take away what keeps the log append-only, as somebody who means harm would."""
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")


# --- the file ---


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE records SET void = 'x' WHERE position = 1", "never changed"),
        ("UPDATE records SET position = 99 WHERE position = 1", "never changed"),
        ("DELETE FROM records WHERE position = 2", "never deleted"),
        ("DELETE FROM records", "never deleted"),
        ("INSERT OR REPLACE INTO records SELECT * FROM records WHERE position = 1", "only appended"),
        ("INSERT OR REPLACE INTO records SELECT 3, id, 9, 9, 1, 1, NULL, NULL, x'' FROM records", "only appended"),
        ("INSERT OR REPLACE INTO records SELECT 3, x'00', line, seq, 1, 1, NULL, NULL, x'' FROM records", "only app"),
        ("INSERT INTO records SELECT 9, x'00', 9, 9, 1, 1, NULL, NULL, x''", "only appended"),
    ],
)
async def test_the_table_of_records_only_grows(anna: Machine, path: Path, statement: str, reason: str) -> None:
    """Whoever opens the file, no statement changes, deletes, replaces or skips a record."""
    with database(path) as connection:
        before = connection.execute("SELECT * FROM records").fetchall()
        assert len(before) == 2
        with pytest.raises(sqlite3.IntegrityError, match=reason):
            connection.execute(statement)
        assert connection.execute("SELECT * FROM records").fetchall() == before


async def test_the_file_is_its_owners_alone_and_durable(anna: Machine, path: Path) -> None:
    """Nobody else may read it, and its log is synchronised at each commit."""
    assert isinstance(anna.log, SqliteLog)
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    for pragma, expected in (("journal_mode", "wal"), ("synchronous", 2), ("page_size", 8192)):
        rows = await anna.log._connection.execute_fetchall(f"PRAGMA {pragma}")
        assert [tuple(row) for row in rows] == [(expected,)]
    with database(path) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)


async def test_a_store_is_not_made_over_another(anna: Machine, path: Path) -> None:
    """Creating refuses any file that is there, and leaves it alone."""
    before = path.read_bytes()
    with pytest.raises(Refused, match="already"):
        await SqliteLog.create(path, anna.id)
    assert path.read_bytes() == before


# --- opening ---


async def test_nothing_is_opened_where_nothing_is(path: Path) -> None:
    """A missing store is not made by opening it; what to do is said."""
    with pytest.raises(StoreMissing) as missing:
        await SqliteLog.open(path)
    assert "cluster-store init --hostname" in missing.value.hint
    assert not path.exists()


async def test_a_store_whose_making_was_cut_short_can_be_made_again(path: Path) -> None:
    """Keys without a database are said to be just that."""
    (path.parent / "keys").mkdir()
    with pytest.raises(StoreMissing, match="cut short") as missing:
        await SqliteLog.open(path)
    assert "again" in missing.value.hint


@pytest.mark.parametrize("content", [b"", b"garbage " * 1000, b"SQLite format 3\0 and more garbage" * 400])
async def test_a_file_that_is_no_store_is_refused(path: Path, content: bytes) -> None:
    """Whatever else is there is neither used nor changed."""
    path.write_bytes(content)
    with pytest.raises(StoreCorrupt) as corrupt:
        await SqliteLog.open(path)
    assert corrupt.value.hint
    assert path.read_bytes() == content


async def test_another_programs_database_is_refused(path: Path) -> None:
    """Being a database is not enough."""
    with database(path) as connection:
        connection.execute("CREATE TABLE records (position INTEGER PRIMARY KEY)")
    with pytest.raises(StoreCorrupt, match="another program"):
        await SqliteLog.open(path)


async def test_a_truncated_file_is_refused(anna: Machine, path: Path) -> None:
    """A file that lost its end is noticed before anything is made of it."""
    await anna.log.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreCorrupt) as corrupt:
        await SqliteLog.open(path)
    assert "repair" in corrupt.value.hint


async def test_a_later_schema_is_refused(anna: Machine, path: Path) -> None:
    """An old program does not touch what a newer one wrote."""
    await anna.log.close()
    with database(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(StoreTooNew, match=f"schema {SCHEMA_VERSION + 1}"):
        await SqliteLog.open(path)


async def test_a_failed_opening_leaves_no_thread(path: Path) -> None:
    """A thread that stayed would keep a command from ending."""
    path.write_bytes(b"garbage " * 1000)
    with pytest.raises(StoreCorrupt):
        await SqliteLog.open(path)
    # The event loop keeps threads of its own for later work.
    assert [thread.name for thread in threading.enumerate() if "connection" in thread.name] == []


async def test_a_closed_log_says_so(anna: Machine) -> None:
    """Asking after the end is an error of the tree."""
    await anna.log.close()
    with pytest.raises(StoreError, match="closed"):
        await anna.log.load()


# --- what was cut off or changed ---


async def test_a_cut_tail_is_noticed(anna: Machine, path: Path) -> None:
    """The newest records cannot be taken away without the rest of the file telling."""
    await anna.set("key", "1")
    await anna.log.close()
    with database(path) as connection:
        drop_triggers(connection)
        connection.execute("DELETE FROM records WHERE position = (SELECT max(position) FROM records)")
    with pytest.raises(StoreCorrupt, match="should hold 3 records and ends at 2"):
        await SqliteLog.open(path)


async def open_and_load(path: Path) -> None:
    """Open a store as a starting process does."""
    log = await SqliteLog.open(path)
    try:
        await log.load()
    finally:
        await log.close()


@pytest.mark.parametrize("column", ["id", "envelope", "seal"])
async def test_a_changed_newest_record_is_noticed(anna: Machine, path: Path, column: str) -> None:
    """The record that the next one would be chained to is checked when the store is opened."""
    await anna.log.close()
    with database(path) as connection:
        drop_triggers(connection)
        connection.execute(f"UPDATE records SET {column} = x'00' WHERE position = 2")  # noqa: S608 - see above
    with pytest.raises(StoreCorrupt):
        await open_and_load(path)


async def test_a_damaged_record_is_not_passed_on(anna: Machine, path: Path) -> None:
    """A peer would refuse it, and blame this machine for what its disk did."""
    assert len(await anna.log.read(0, 10, 1 << 20)) == 2
    with database(path) as connection:
        drop_triggers(connection)
        connection.execute("UPDATE records SET envelope = CAST(replace(envelope, 'os:root', 'os:boot') AS BLOB)")
    with pytest.raises(StoreCorrupt, match="record 1 of"):
        await anna.log.read(0, 10, 1 << 20)


async def test_lost_facts_about_the_store_are_noticed(anna: Machine, path: Path) -> None:
    """Without the row that says what the log should hold, nothing is assumed."""
    await anna.log.close()
    with database(path) as connection:
        connection.execute("DELETE FROM meta")
    with pytest.raises(StoreCorrupt):
        await open_and_load(path)


async def test_a_lost_lane_is_noticed_when_it_is_replaced(anna: Machine, path: Path) -> None:
    """An append that does not find what it replaces is refused as a whole."""
    await anna.set("key", "1")
    with database(path) as connection:
        connection.execute("DELETE FROM lanes WHERE path = 'setting/cluster/key'")
    with pytest.raises(StoreCorrupt, match="not in the store"):
        await anna.set("key", "2")
    assert (await anna.log.load()).position == 3


async def test_a_second_writer_is_noticed(anna: Machine, path: Path) -> None:
    """Where another process has appended, this one does not append to what it believes is the end."""
    with database(path) as connection:
        connection.execute("UPDATE meta SET count = count + 1")
    with pytest.raises(StoreLocked, match="another process"):
        await anna.set("key", "1")


# --- trouble while writing ---


async def test_a_lock_that_another_process_holds_is_said(
    anna: Machine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who writes to the file with another program is in the way, and no more than that."""
    monkeypatch.setattr(sqlite_log, "BUSY_TIMEOUT_S", 0.001)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreLocked) as locked:
            await anna.set("key", "1")
        assert locked.value.retry
        other.execute("ROLLBACK")
    await anna.set("key", "1")


async def test_nobody_else_waits_for_a_lock_that_another_process_holds(anna: Machine, path: Path) -> None:
    """The event loop goes on while an append waits, and the append is made when the lock is free."""
    assert isinstance(anna.log, SqliteLog)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        change = asyncio.create_task(anna.set("key", "1"))
        connection = anna.log._connection
        await wait_until_async(lambda: not connection.is_idle, timeout=30)
        assert not change.done()
        other.execute("ROLLBACK")
    await change
    assert (await anna.log.load()).position == 3


@pytest.mark.parametrize(("quick_s", "hops"), [(0.0, 1), (60.0, 0)])
async def test_only_a_slow_disk_is_waited_for_in_the_thread(
    anna: Machine, monkeypatch: pytest.MonkeyPatch, quick_s: float, hops: int
) -> None:
    """Where commits take long the event loop goes on meanwhile; where they do not, a hop would cost more than they."""
    assert isinstance(anna.log, SqliteLog)
    monkeypatch.setattr(sqlite_log, "_QUICK_S", quick_s)
    before = anna.log._connection._given
    await anna.set("key", "1")
    assert anna.log._connection._given - before == hops
    assert anna.log._connection.is_idle
    assert (await anna.log.load()).position == 3


async def test_a_file_that_became_read_only_is_said(anna: Machine) -> None:
    """A disk that is mounted for reading refuses the change, and the next one works when it is not."""
    assert isinstance(anna.log, SqliteLog)
    await anna.log._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreFull, match="cannot be written"):
        await anna.set("key", "1")
    await anna.log._connection.execute("PRAGMA query_only = OFF")
    await anna.set("key", "1")


async def test_a_full_disk_leaves_a_sound_file(anna: Machine, path: Path) -> None:
    """After an append that did not fit, what is in the file is whole, and a new process goes on with it."""
    assert isinstance(anna.log, SqliteLog)
    await anna.log._connection.execute("PRAGMA max_page_count = 1")
    for number in range(3):
        with pytest.raises(StoreFull, match="no room"):
            await anna.set(f"k{number}", f'"{"x" * 60_000}"')
    log = await reopened(anna, path)
    assert [tuple(row) for row in await log._connection.execute_fetchall("PRAGMA integrity_check")] == [("ok",)]
    await anna.set("key", f'"{"x" * 60_000}"')
    assert (await log.load()).position == 3


def test_whatever_was_acknowledged_survives_a_kill(path: Path) -> None:
    """A process that is killed while it appends leaves every record that it named, in order and whole."""
    command = [sys.executable, "-m", "tests.adapters.append_in_a_loop", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        named = [process.stdout.readline().strip() for _ in range(40)]
        process.send_signal(signal.SIGKILL)
        # What it named before the kill took effect counts as well.
        named += process.stdout.read().split()
    assert process.returncode == -signal.SIGKILL
    if len(named[-1]) < 64:
        named.pop()
    assert len(named) >= 40

    async def stored() -> list[str]:
        log = await SqliteLog.open(path)
        loaded = await log.load()
        rows = await log.read(0, 1_000_000, 1 << 40)
        facts = await log.lookup(Needs({CLUSTER}))
        await log.close()
        assert loaded.position == len(rows)
        (value,) = [lanes for where, lanes in facts.scopes[CLUSTER].lanes.items() if where == "setting/cluster/key"]
        assert [lane.value for lane in value] == [str(len(rows) - 2)]
        return [decode(row.item.data, row.item.seal).id for row in rows]

    ids = asyncio.run(stored())
    # It may have died between the commit and the naming of one record.
    assert ids[2 : 2 + len(named)] == named
    assert len(ids) - 2 - len(named) in (0, 1)


# --- epochs ---


def goes_on(machine: Machine) -> bool:
    """Say whether a machine's next record belongs to the epoch it wrote in last."""
    return machine.state.own is not None


def epochs(machine: Machine) -> set[str]:
    """Return the epochs that a machine has written in."""
    return {line.epoch for line in machine.state.lines.values()}


async def test_a_copy_of_a_store_begins_a_new_epoch(anna: Machine, path: Path) -> None:
    """The original may be writing on; the copy, once it has begun its epoch, is a store like any other."""
    await anna.log.close()
    copy = path.with_name("copy.db")
    shutil.copy2(path, copy)
    await reopened(anna, copy)
    assert not goes_on(anna)
    await anna.set("key", "1")
    assert len(epochs(anna)) == 2
    await reopened(anna, copy)
    assert goes_on(anna)
    await reopened(anna, path)
    assert goes_on(anna)
    await anna.log.close()


async def test_a_renamed_store_goes_on(anna: Machine, path: Path) -> None:
    """Moving the file within its disk makes no copy."""
    await anna.log.close()
    path.rename(path.with_name("renamed.db"))
    await reopened(anna, path.with_name("renamed.db"))
    assert goes_on(anna)


async def test_a_store_on_another_host_begins_a_new_epoch(
    anna: Machine, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk image that is started elsewhere has the same file, but not the same host."""
    other = tmp_path / "machine-id"
    other.write_text("another host\n")
    monkeypatch.setattr(sqlite_file, "HOST_ID_FILE", other)
    await reopened(anna, path)
    assert not goes_on(anna)


# --- secrets ---


async def test_an_erased_secret_is_nowhere_on_the_disk(anna: Machine, path: Path) -> None:
    """Its bytes are gone from the database and from its log, not only from the tables."""
    await anna.set("password", '"first-secret"', secret=True)
    await anna.set("password", '"second-secret"', secret=True)
    assert await anna.log.erase_secrets(anna.fleet.now + 1) == 1
    content = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"first-secret" not in content
    assert b"second-secret" in content


async def test_a_secret_that_never_stood_is_erased_too(anna: Machine) -> None:
    """Of two secrets that were accepted together only the second one ever stands."""
    assert isinstance(anna.log, SqliteLog)
    secrets = [
        commands.SetSetting(key="password", value=f'"{word}"', secret=True, salt=b"s" * 16) for word in ("one", "two")
    ]
    await anna.command(*secrets)
    assert await anna.log.erase_secrets(anna.fleet.now) == 0
    assert await anna.log.erase_secrets(anna.fleet.now + 1) == 1
    ((last,),) = [row.item.secrets for row in await anna.log.read(3, 10, 1 << 20)]
    assert last[2] == '"two"'


# --- costs ---


async def costs(log: SqliteLog) -> dict[str, int]:
    """Return how many steps SQLite's machine takes for each question that a node asks again and again."""
    stored = await log.load()
    heads = {line.number: line.seq for line in stored.lines}
    line = stored.lines[-1]
    questions: dict[str, Callable[[], Awaitable[object]]] = {
        "load": log.load,
        "read": lambda: log.read(stored.position - 1, 1, 1),
        "first missing": lambda: log.first_missing({**heads, line.number: line.seq - 1}),
        "record": lambda: log.lookup(Needs(set(), {line.head}, {(line.number, line.seq)})),
        "scope": lambda: log.lookup(Needs({CLUSTER})),
    }
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    found = {}
    await log._connection.set_progress_handler(count, 1)
    for name, ask in questions.items():
        steps = 0
        await ask()
        found[name] = steps
    await log._connection.set_progress_handler(lambda: None, 0)
    return found


async def test_answers_cost_the_same_however_long_the_log_is(anna: Machine) -> None:
    """Opening, looking up and reading on look at what is asked for, never at all of the history."""
    assert isinstance(anna.log, SqliteLog)
    for number in range(20):
        await anna.set("key", str(number))
    few = await costs(anna.log)
    assert min(few.values()) > 0
    for _ in range(4):
        await anna.command(*(commands.SetSetting(key="key", value=str(n), salt=b"s" * 16) for n in range(100)))
    many = await costs(anna.log)
    assert {name: steps for name, steps in many.items() if steps > 1.2 * few[name]} == {}
