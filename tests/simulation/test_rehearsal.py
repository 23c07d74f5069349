"""An operator's own log as the beginning of a run: the same history under other names, and then the faults."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path as FilePath

import msgspec
import pytest

from cluster_store.adapters.sqlite_reader import StoredEvent, StoreReader
from cluster_store.core.conflicts import conflicts
from cluster_store.core.errors import OverLimit, Refused, StoreCorrupt
from cluster_store.core.registers import CLUSTER
from cluster_store.core.rules import read
from cluster_store.core.settings import settings_at
from cluster_store.core.types import MachineId, Path, RecordId
from cluster_store.simulation import transcript
from cluster_store.simulation.disk import Disk
from cluster_store.simulation.options import Options, draw
from cluster_store.simulation.rehearsal import Rehearsal
from cluster_store.simulation.run import Run
from cluster_store.simulation.transcript import History
from tests.collisions import stored_collision
from tests.core.builders import rows_of


class DiskAsLog:
    """A simulated store, read as a rehearsal reads a real one."""

    def __init__(self, disk: Disk, me: MachineId) -> None:
        self.disk = disk
        self.me = me
        self.cluster_id = disk.cluster
        self.count = len(disk.records)

    def snapshot(self) -> AbstractContextManager[None]:
        return nullcontext()

    def events(self) -> Iterator[StoredEvent]:
        return rows_of(self.disk.records)

    def secret(self, path: Path, record: RecordId) -> str | None:
        found = self.disk.secrets.get(record, {}).get(path)
        return found[1] if found else None


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    """The store of a machine that collided with another one."""
    folder = tmp_path_factory.mktemp("collision")
    asyncio.run(stored_collision(folder))
    return folder / "mx1" / "cluster.db"


@pytest.fixture(scope="module")
def history(store: FilePath) -> History:
    """Its log."""
    with StoreReader(store) as reader:
        return History.of(reader)


@pytest.fixture(scope="module")
def begun(history: History) -> Rehearsal:
    """A rehearsal with it."""
    return Rehearsal(history)


def options_of(seed: int, beginning: Rehearsal, *faults: str) -> Options:
    """Return the options of a small run."""
    return beginning.fit(draw(seed, events=20, faults=faults))


def test_a_transcript_says_what_the_log_says(history: History, begun: Rehearsal) -> None:
    """Kinds, users, times, comments, numbers and void verdicts are the same, record by record."""
    for before, now in zip(history.records, begun.disk.records, strict=True):
        one, two = before.record.envelope, now.record.envelope
        assert (one.kind, one.user, one.time, one.hybrid, one.comment, one.seq, one.epoch) == (
            *(two.kind, two.user, two.time, two.hybrid, two.comment, two.seq, two.epoch),
        )
        assert (before.line, before.void, before.learnt) == (now.line, now.void, now.learnt)
        assert [len(write.replaced) for write in one.writes] == [len(write.replaced) for write in two.writes]
        assert (len(one.after), bool(one.prev)) == (len(two.after), bool(two.prev))


def test_a_transcript_reads_as_the_store_reads(store: FilePath, begun: Rehearsal) -> None:
    """Machines, groups, users, values and conflicts are those of the store."""
    with StoreReader(store) as reader:
        before, now = reader.cluster(), read(begun.disk)
        names = [
            [(machine.hostname, machine.group, machine.serial) for machine in cluster.machines.values()]
            for cluster in (before, now)
        ]
        assert names[0] == names[1]
        assert (before.groups, before.users, before.name) == (now.groups, now.users, now.name)
        plain = [
            {key: value.value for key, value in settings_at(registers, CLUSTER).items() if key != "password"}
            for registers in (reader, begun.disk)
        ]
        assert plain[0] == plain[1]
        collided = [
            [(one.path, [lane.value for lane in one.lanes]) for one in conflicts(registers)]
            for registers in (reader, begun.disk)
        ]
        assert collided[0] == collided[1] != []


def test_no_key_and_no_signature_of_the_fleet_is_used(history: History, begun: Rehearsal) -> None:
    """Not one machine, identity key, record or seal of the store is in what is rehearsed with."""
    theirs = {added.record.id for added in history.records} | {
        added.record.envelope.machine for added in history.records
    }
    for added in begun.disk.records:
        text = added.record.data.decode()
        assert not any(name in text for name in theirs)
    seals = {added.record.seal for added in history.records} - {b""}
    assert seals.isdisjoint(added.record.seal for added in begun.disk.records)


def test_secrets_are_kept_apart_under_other_hashes(history: History, begun: Rehearsal) -> None:
    """A secret has its value beside the record, and a hash that tells nothing of the store's."""
    data = b"".join(added.record.data for added in begun.disk.records)
    assert b"s3cret" not in data
    assert any(text == '"s3cret"' for values in begun.disk.secrets.values() for _, text in values.values())
    hashes = [
        {
            str(write.value)
            for added in records
            for write in added.record.envelope.writes
            if "secret=" in str(write.value)
        }
        for records in (history.records, begun.disk.records)
    ]
    assert hashes[0]
    assert hashes[0].isdisjoint(hashes[1])


def test_a_history_goes_to_other_processes(history: History, begun: Rehearsal) -> None:
    """What is sent there makes the same beginning."""
    other = Rehearsal(pickle.loads(pickle.dumps(history)))  # noqa: S301 - written one expression further in
    assert list(other.disk.positions) == list(begun.disk.positions)


def test_changes_meet_the_operators_own_keys_and_groups(begun: Rehearsal) -> None:
    """The words of the run are those of the log, with made-up values to tell changes apart."""
    assert {"smtp.banner", "dns.primary"} <= set(begun.words.plain_keys)
    assert '"hello"' in begun.words.values_of("smtp.banner")
    assert begun.words.set_keys == ("relay",)
    assert begun.words.secret_key == "password"
    assert begun.words.home == "Main_Group"


def test_a_rehearsal_runs_and_tells_what_would_collide(begun: Rehearsal) -> None:
    """Its hosts are the machines of the log, each with all of it; what stays in conflict is among what is told."""
    told = 0
    for seed in range(4):
        options = options_of(seed, begun, "cut", "crash")
        often = {"cut": 400, "crash": 4000}
        options = msgspec.structs.replace(options, events=60, event_ms=100, fault_ms=1000, faults=often)
        run = Run(seed, options, begun)
        verdict = run.play()
        assert verdict.passed, verdict.failure
        assert [host.name for host in run.fleet.hosts] == ["mx1", "mx2"]
        disk = run.fleet.hosts[0].log.disk
        assert list(disk.positions)[: len(begun.disk.records)] == list(begun.disk.positions)
        assert verdict.conflicts <= len(conflicts(begun.disk)) + sum(not one.settled for one in verdict.collided)
        assert {machine for one in verdict.collided for machine, _ in one.lanes} <= {"mx1", "mx2"}
        told += len(verdict.collided)
    assert told


def test_the_same_seed_rehearses_the_same(begun: Rehearsal, history: History) -> None:
    """A rehearsal can be repeated, and another one beside it leaves no trace in it."""
    first, second = (
        Run(2, options_of(2, beginning, "cut"), beginning).play() for beginning in (begun, Rehearsal(history))
    )
    assert first == second


@pytest.mark.parametrize("seed", [2, 31, 57])
def test_whatever_a_fleet_leaves_behind_can_be_rehearsed(seed: int) -> None:
    """Logs with branches of restored and cloned stores, with removed and detached machines, are taken as they are."""
    options = draw(seed, machines=3, events=20, faults=["restore", "clone", "cut"])
    faults = dict.fromkeys(options.faults, 700)
    run = Run(seed, msgspec.structs.replace(options, faults=faults, event_ms=200, removals_at=(8,)))
    assert run.play().passed
    host = run.operators.staying[0]
    beginning = Rehearsal(History.of(DiskAsLog(host.log.disk, host.machine)))
    assert len(beginning.disk.lines) == len(host.log.disk.lines)
    verdict = Run(seed, options_of(seed, beginning, "crash", "flip"), beginning).play()
    assert verdict.passed, verdict.failure


# --- what cannot be rehearsed ---


def test_a_damaged_log_is_refused(history: History) -> None:
    """A record without the seal that vouches for it, and one that breaks the chain, are both found."""
    disk = Rehearsal(history).disk
    log = DiskAsLog(disk, next(iter(disk.lines.values())).machine)
    disk.records.pop(3)
    with pytest.raises(StoreCorrupt, match="could never have been stored"):
        History.of(log)


def test_a_log_that_is_too_long_is_refused(store: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checking whole logs again and again would take for ever."""
    monkeypatch.setattr(transcript, "RECORDS_MAX", 11)
    with StoreReader(store) as reader, pytest.raises(OverLimit, match="has 12 records"):
        History.of(reader)


def test_a_machine_alone_is_refused(history: History) -> None:
    """There is nobody whom it could be cut off from."""
    alone = msgspec.structs.replace(history, records=history.records[:1])
    with pytest.raises(Refused, match="in no cluster"):
        Rehearsal(alone)


def test_a_log_with_void_records_is_refused(history: History) -> None:
    """In a run, a record that counts for nothing is a failure."""
    records = (*history.records[:-1], msgspec.structs.replace(history.records[-1], void="is odd"))
    with pytest.raises(Refused, match="count for nothing"):
        Rehearsal(msgspec.structs.replace(history, records=records))
