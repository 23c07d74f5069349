"""``verify`` on stores that are as they were written, and on files that may be anything."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_store.adapters.memory_log import MemoryLog
from cluster_store.adapters.sqlite_audit import SqliteAudit
from cluster_store.adapters.sqlite_log import SqliteLog
from cluster_store.core.errors import StoreError, StoreMissing
from cluster_store.core.state import Draft
from cluster_store.verify import verify
from tests.collisions import save_documents
from tests.core.builders import Store
from tests.core.histories import History, Step, step_lists
from tests.verify.tampering import Copy, texts


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
    for number, draft in enumerate(drafts):
        await log.append(draft)
        if number == saved:
            await save_documents(log, draft.changes)
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
