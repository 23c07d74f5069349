"""Reading a store beside its writer: what is found, what a snapshot holds, what is said where nothing can be read."""

# ruff: noqa: ASYNC240 - a test awaits one thing at a time: nobody else is kept waiting by a file

from __future__ import annotations

import copy
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest

from cluster_store.adapters import sqlite_file
from cluster_store.adapters.sqlite_log import SqliteLog
from cluster_store.adapters.sqlite_projection import changes_of
from cluster_store.adapters.sqlite_reader import StoreReader
from cluster_store.adapters.sqlite_schema import SCHEMA_VERSION
from cluster_store.core import commands
from cluster_store.core.errors import (
    ClusterStoreError,
    NotFound,
    Refused,
    StoreCorrupt,
    StoreError,
    StoreMissing,
    StoreTooNew,
)
from cluster_store.core.records import Envelope, decode
from cluster_store.core.registers import NOWHERE, Lane
from cluster_store.core.state import Needs
from cluster_store.core.types import Level, MachineId, RecordId
from cluster_store.core.types import Path as RegisterPath
from cluster_store.ports import EventLog
from tests.replicas import Fleet, Machine, in_memory
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where bert's database is."""
    return tmp_path / "cluster.db"


@pytest.fixture
async def fleet(path: Path) -> AsyncIterator[Fleet]:
    """No machines yet; bert's log will be in SQLite, everybody else's in memory."""

    async def make(name: str, me: MachineId, cluster: str) -> EventLog:
        return await (SqliteLog.create(path, me, cluster) if name == "bert" else in_memory(name, me, cluster))

    fleet = Fleet(make)
    yield fleet
    await fleet.close()


@pytest.fixture
async def bert(fleet: Fleet) -> Machine:
    """A member of a cluster with settings at all levels, a set, a conflict and a secret."""
    anna, bert = await fleet.fleet_of("anna", "bert")
    await anna.command(commands.AddGroup(name="Paris"))
    for level in ("cluster", "group:Paris", "machine:anna"):
        await anna.set("smtp.banner", f'"of {level}"', level=level)
        await anna.command(commands.AddElements(key="relay", elements=(f'"{level}"', '"all"'), level=level))
    await anna.set("smtp.password", '"secret"', secret=True)
    await fleet.pump()
    await fleet.cut(anna, bert)
    await anna.set("dns.server", '"anna"')
    await bert.set("dns.server", '"bert"')
    await fleet.connect(anna, bert)
    await fleet.pump()
    return bert


@pytest.fixture
def reader(bert: Machine, path: Path) -> Iterator[StoreReader]:
    """A reader of bert's store."""
    with StoreReader(path) as reader:
        yield reader


def envelope_of(data: bytes) -> Envelope:
    """Return the envelope in these bytes."""
    return decode(data, b"").envelope


def without_places(lanes: tuple[Lane, ...]) -> list[Lane]:
    """Return lanes as readers see them, in the order of their ids."""
    return sorted((msgspec.structs.replace(lane, place=NOWHERE) for lane in lanes), key=lambda lane: lane.id)


@contextmanager
def damaging(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file as anybody could, without what keeps the log append-only."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        yield connection


# --- what is found ---


async def test_the_facts_are_the_writers(reader: StoreReader, bert: Machine) -> None:
    """Whose store, which cluster, how many records, which lines."""
    assert (reader.me, reader.cluster_id, reader.count) == (bert.id, bert.state.cluster, bert.state.position)
    assert {line.number: line for line in reader.lines()} == bert.state.lines


async def test_the_read_model_is_the_writers(reader: StoreReader, bert: Machine) -> None:
    """Machines, groups and users are read from the tables as the writer has them in memory."""
    assert reader.cluster() == bert.cluster
    assert {machine.hostname for machine in reader.cluster().machines.values()} == {"anna", "bert"}
    assert "admin" in reader.cluster().users


async def test_every_register_stands_as_in_the_writers_state(reader: StoreReader, bert: Machine) -> None:
    """Lanes of all scopes come back, conflicts and the texts of secrets included."""
    levels = [f"machine/{machine}" for machine in bert.cluster.machines]
    scopes = {Level(level) for level in ("cluster", "group/paris", *levels)}
    bert.state.learn(await bert.log.lookup(Needs(scopes)))
    known = {path: without_places(lanes) for path, lanes in bert.state.lanes.items() if lanes}
    assert {path: list(lanes) for path, lanes in reader.under("")} == known
    for path, lanes in known.items():
        assert list(reader.standing(path)) == lanes
    assert len(reader.standing(RegisterPath("setting/cluster/dns.server"))) == 2
    assert [lane.text for lane in reader.standing(RegisterPath("setting/cluster/smtp.password"))] == ['"secret"']
    assert reader.standing(RegisterPath("setting/cluster/nothing")) == ()
    assert reader.standing(RegisterPath("setting/machine/nobody/nothing")) == ()


async def test_any_prefix_finds_what_begins_with_it(reader: StoreReader) -> None:
    """Prefixes that end inside a level's name, at a slash or within a key find exactly what a naive search finds."""
    everything = reader.under("")
    paths = [path for path, _ in everything]
    assert paths == sorted(paths)
    prefixes = {path[:length] for path in paths for length in range(len(path) + 1)}
    for prefix in sorted(prefixes):
        assert reader.under(prefix) == [pair for pair in everything if pair[0].startswith(prefix)], prefix
    for prefix in ("nothing", "setting/group/nowhere/", "element/cluster/relay/zzz"):
        assert reader.under(prefix) == []


async def test_secrets_are_found_by_path_and_record(reader: StoreReader) -> None:
    """Only the register that a record wrote a secret to has its text."""
    path = RegisterPath("setting/cluster/smtp.password")
    (lane,) = reader.standing(path)
    assert reader.secret(path, lane.id) == '"secret"'
    assert reader.secret(RegisterPath("setting/cluster/other"), lane.id) is None
    assert reader.secret(path, RecordId("ab" * 32)) is None


async def test_documents_come_with_saves_and_tails(reader: StoreReader, bert: Machine) -> None:
    """What is stored of each document is what the writer would load."""
    names = sorted({document for document, _ in bert.state.tips})
    await bert.log.save_documents({names[0]: b"saved"})
    found = {document.name: document for document in reader.documents()}
    for name in names:
        stored = await bert.log.load_document(name)
        changes = [change for row in found[name].tail for change in changes_of(row)]
        assert (found[name].saved, changes) == (stored.saved, stored.tail)
    assert found[names[0]].saved == b"saved"


# --- events ---


async def test_events_come_in_either_order(reader: StoreReader, bert: Machine) -> None:
    """All of them, those behind a position, the newest few, and those of one machine, as the log has them."""
    rows = await bert.log.read(0, 1_000_000, 1 << 40)
    events = list(reader.events())
    assert [(event.position, event.line, event.seq, event.envelope, event.seal) for event in events] == [
        (row.position, row.line, row.seq, row.item.data, row.item.seal) for row in rows
    ]
    assert all(event.id == decode(event.envelope, event.seal).id for event in events)
    assert all(event.learnt and not event.void for event in events)
    backwards = events[::-1]
    assert list(reader.events(newest_first=True)) == backwards
    assert list(reader.events(5)) == events[5:]
    assert list(reader.events(5, newest_first=True)) == backwards[:-5]
    assert list(reader.events(2, limit=3)) == events[2:5]
    assert list(reader.events(newest_first=True, limit=3)) == backwards[:3]
    assert list(reader.events(limit=0)) == []
    assert list(reader.events(10_000)) == []
    own = [event for event in events if envelope_of(event.envelope).machine == bert.id]
    assert 0 < len(own) < len(events)
    assert list(reader.events(machine=bert.id)) == own
    assert list(reader.events(own[0].position, machine=bert.id, newest_first=True)) == own[:0:-1]
    assert list(reader.events(machine=MachineId("nobody"))) == []


async def test_long_logs_are_read_page_by_page(reader: StoreReader, bert: Machine) -> None:
    """A reader that stops for long between two events keeps no transaction open, and misses nothing."""
    await bert.command(*(commands.SetSetting(key="k", value=str(n), salt=b"s" * 16) for n in range(200)))
    events = reader.events()
    first = next(events)
    assert first.position == 1
    await bert.set("k", '"new"')
    assert await pragma_of(bert, "wal_checkpoint(TRUNCATE)") == [(0, 0, 0)]
    assert [event.position for event in events] == list(range(2, reader.count))


async def pragma_of(bert: Machine, pragma: str) -> list[tuple[int, ...]]:
    """Run a pragma on the writer's connection."""
    assert isinstance(bert.log, SqliteLog)
    return [tuple(row) for row in await bert.log._connection.execute_fetchall(f"PRAGMA {pragma}")]


async def test_an_event_is_found_by_its_id(reader: StoreReader) -> None:
    """The whole id, or any beginning of six digits or more, in either case."""
    for event in reader.events():
        assert reader.event(event.id) == event
        assert reader.event(event.id[:7]) == event
        assert reader.event(event.id[:8].upper()) == event


async def test_an_ambiguous_prefix_is_refused_with_candidates(reader: StoreReader, path: Path) -> None:
    """Whoever gives too few digits is shown the ids that fit."""
    event = next(reader.events())
    twin = event.id[:10] + "f" * 54
    with damaging(path) as connection:
        connection.execute(
            "INSERT INTO records SELECT 999, ?, 99, 1, hybrid, learnt, void, seal, envelope FROM records LIMIT 1",
            (bytes.fromhex(twin),),
        )
    with pytest.raises(Refused) as refused:
        reader.event(event.id[:10])
    assert f"{event.id}, {twin}" in refused.value.hint
    assert not isinstance(refused.value, NotFound)
    assert reader.event(event.id[:11]) == event
    assert reader.event(twin).position == 999


@pytest.mark.parametrize("text", ["ffffffffff", "f" * 64, "anna#999", "bert#0", "anna#999999999999999999"])
async def test_an_unknown_event_is_not_found(reader: StoreReader, text: str) -> None:
    """What is not there is said by name, with what to do."""
    with pytest.raises(NotFound, match=text) as missing:
        reader.event(text)
    assert missing.value.hint


@pytest.mark.parametrize(
    "text", ["", "abc", "abcdeg", "f" * 65, "anna", "anna#", "anna#-1", "anna#x", "#", "#1", f"a#{10**18}"]
)
async def test_what_names_no_event_is_refused(reader: StoreReader, text: str) -> None:
    """Text in neither form is told from an event that is not there."""
    with pytest.raises(Refused, match="is no event") as refused:
        reader.event(text)
    assert not isinstance(refused.value, NotFound)


async def test_an_event_of_an_unknown_machine_is_not_found(reader: StoreReader) -> None:
    """The machines that are known are named."""
    with pytest.raises(NotFound, match="nobody") as missing:
        reader.event("nobody#1")
    assert "anna" in missing.value.hint


async def test_an_event_is_found_by_machine_and_number(reader: StoreReader, bert: Machine) -> None:
    """The hostname in any case, or the id."""
    for event in reader.events():
        envelope = envelope_of(event.envelope)
        name = "anna" if envelope.machine != bert.id else "bert"
        for spelling in (name, name.upper(), envelope.machine):
            assert reader.event(f"{spelling}#{envelope.seq}") == event


async def test_of_several_epochs_the_latest_that_has_the_number_counts(
    reader: StoreReader, bert: Machine, fleet: Fleet
) -> None:
    """Numbers begin anew with each epoch; the earlier one's are meant where the later has not come so far."""
    earlier = reader.event("bert#2")
    await bert.command(commands.BeginEpoch(reason="repaired"))
    first = reader.event("bert#1")
    assert envelope_of(first.envelope).params["reason"] == "repaired"
    assert reader.event("bert#2") == earlier


async def test_a_fork_makes_a_number_ambiguous(reader: StoreReader, bert: Machine, fleet: Fleet) -> None:
    """Where a machine was rolled back and wrote a number twice, the ids of both are shown."""
    anna = fleet.machines[0]
    backup = copy.deepcopy(anna.log)
    await anna.set("after.backup", "1")
    number = max(line.seq for line in anna.state.lines.values() if line.machine == anna.id)
    await fleet.pump()
    await fleet.restart(anna, backup)
    await anna.set("after.restore", "2")
    await fleet.connect(anna, bert)
    await fleet.pump()
    forks = [line for line in reader.lines() if line.parent is not None]
    assert len(forks) == 1
    with pytest.raises(Refused) as refused:
        reader.event(f"anna#{number}")
    heads = [event.id for event in reader.events(machine=anna.id) if event.seq == number]
    assert len(heads) == 2
    assert all(head in refused.value.hint for head in heads)
    assert reader.event(f"anna#{number - 1}").seq == number - 1


# --- beside a writer ---


async def test_a_snapshot_does_not_move(reader: StoreReader, bert: Machine) -> None:
    """Inside, everything is as it was at the first look; after it, as it is now."""
    path = RegisterPath("setting/cluster/smtp.banner")
    with reader.snapshot():
        before = (reader.count, reader.standing(path), reader.cluster())
        await bert.set("smtp.banner", '"new"')
        await bert.command(commands.AddGroup(name="Berlin"))
        with reader.snapshot():
            assert (reader.count, reader.standing(path), reader.cluster()) == before
        assert len(list(reader.events())) == before[0]
        assert reader.cluster() is before[2]
    assert reader.count == before[0] + 2
    assert [lane.value for lane in reader.standing(path)] == ['"new"']
    assert "Berlin" in {group.name for group in reader.cluster().groups.values()}


async def test_a_reader_cannot_write(reader: StoreReader) -> None:
    """Not even by mistake."""
    with pytest.raises(ClusterStoreError):
        reader._rows("DELETE FROM lanes")
    assert reader.standing(RegisterPath("setting/cluster/smtp.banner"))


def test_reading_while_another_process_writes(path: Path) -> None:
    """Each look at a store that grows meanwhile is consistent, and later ones see more."""
    command = [sys.executable, "-m", "tests.adapters.append_in_a_loop", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            seen: list[int] = []

            def grew_often() -> bool:
                with StoreReader(path) as reader, reader.snapshot():
                    count = reader.count
                    (lane,) = reader.standing(RegisterPath("setting/cluster/key"))
                    (newest,) = reader.events(newest_first=True, limit=1)
                    assert (lane.value, lane.id, newest.position) == (str(count - 2), newest.id, count)
                    assert [machine.hostname for machine in reader.cluster().machines.values()] == ["anna"]
                assert not seen or seen[-1] <= count
                seen.append(count)
                # Nobody else empties the pipe that the writer speaks into.
                process.stdout.read1()  # type: ignore[union-attr]
                return len(set(seen)) > 20

            wait_until(grew_often, 30)
        finally:
            process.kill()


# --- what cannot be read ---


def error_of(path: Path) -> StoreError:
    """Return why a store cannot be read."""
    with pytest.raises(StoreError) as refused:
        StoreReader(path)
    assert refused.value.hint
    return refused.value


def test_a_missing_store_is_said_with_what_to_do(tmp_path: Path) -> None:
    """An empty folder, no folder, and a file in its place are the same to whoever has to make a store."""
    (tmp_path / "file").touch()
    for folder in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        error = error_of(folder / "cluster.db")
        assert isinstance(error, StoreMissing)
        assert "cluster-store init --hostname NAME" in error.hint


def test_a_half_made_store_is_said_to_be_one(path: Path) -> None:
    """Keys without a database: init was cut short, and can be run again."""
    (path.parent / "keys").mkdir()
    error = error_of(path)
    assert isinstance(error, StoreMissing)
    assert "cut short" in error.message
    assert "again" in error.hint


def test_a_folder_in_the_databases_place_is_an_error_of_the_tree(path: Path) -> None:
    """Whatever SQLite says about what it cannot open reaches nobody as a traceback."""
    path.mkdir()
    assert str(path) in error_of(path).message


async def test_damage_is_said(bert: Machine, path: Path) -> None:
    """Garbage, a cut file and a cut tail are told apart from a missing store."""
    await bert.log.close()
    whole = path.read_bytes()
    for content in (b"", b"garbage " * 1000, whole[: len(whole) // 2]):
        path.write_bytes(content)
        assert isinstance(error_of(path), StoreCorrupt)
    path.write_bytes(whole)
    with damaging(path) as connection:
        connection.execute("DELETE FROM records WHERE position = (SELECT max(position) FROM records)")
    error = error_of(path)
    assert isinstance(error, StoreCorrupt)
    assert "cut off" in error.message


async def test_other_versions_are_said(bert: Machine, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later schema needs another program, an earlier one a writer that brings it up to date."""
    monkeypatch.setattr(sqlite_file, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    assert "earlier version" in error_of(path).message
    monkeypatch.undo()
    with damaging(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    assert isinstance(error_of(path), StoreTooNew)


async def test_text_that_is_no_text_is_damage(bert: Machine, path: Path) -> None:
    """A flipped byte in a table is an error of the tree, not of Python."""
    with damaging(path) as connection:
        connection.execute("UPDATE lanes SET value = CAST(x'ff' AS TEXT) WHERE path = 'setting/cluster/smtp.banner'")
    with StoreReader(path) as reader, pytest.raises(StoreCorrupt):
        reader.standing(RegisterPath("setting/cluster/smtp.banner"))


def test_reading_loads_nothing_heavy() -> None:
    """A quick command answers before the engine, cryptography or an event loop would have been loaded."""
    heavy = {"aiosqlite", "asyncio", "asyncssh", "automerge", "cryptography", "ssl"}
    program = f"import cluster_store.adapters.sqlite_reader, sys\nprint(*({heavy!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
