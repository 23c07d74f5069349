"""Records out of a damaged store: what proves itself is taken, whatever order it is found in; nothing else is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster_store.adapters.memory_log import MemoryLog
from cluster_store.adapters.sqlite_carving import Carved, carve
from cluster_store.core.records import decode
from cluster_store.core.types import MachineId
from cluster_store.salvage import Intake, Row, cluster_of, pieces_of, take
from tests.collisions import stored_collision

ME = MachineId("0" * 32)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Carved:
    """What is in the store of one of two machines that were apart."""
    folder = tmp_path_factory.mktemp("found")
    asyncio.run(stored_collision(folder))
    return carve(folder / "mx1" / "cluster.db")


def salvaged(found: Carved, rows: Sequence[Row]) -> tuple[MemoryLog, Intake]:
    """Offer rows to an empty log; return it and what became of them."""
    pieces = pieces_of(rows, found.secrets)
    log = MemoryLog(cluster_of(pieces_of(found.records, {}), ME))
    return log, asyncio.run(take(log, ME, pieces))


def ids(log: MemoryLog) -> set[str]:
    """Return the ids of a log's records."""
    return {added.record.id for added in log.records}


def all_ids(rows: Sequence[Row]) -> set[str]:
    """Return the ids of rows."""
    return {decode(envelope, seal).id for _, _, seal, envelope in rows}


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_order_and_copies_do_not_matter(found: Carved, seed: int) -> None:
    """The positions may be anything: what came first is found out from the records themselves."""
    dice = Random(seed)
    rows = [(dice.randrange(1000), learnt, seal, data) for _, learnt, seal, data in found.records * 2]
    log, intake = salvaged(found, dice.sample(rows, len(rows)))
    assert ids(log) == all_ids(found.records)
    assert (intake.taken, intake.refused, intake.waiting) == (len(found.records), 0, [])
    assert {key: lane.value for key, lane in log.lanes.items()} == {
        key: lane.value for key, lane in salvaged(found, found.records)[0].lanes.items()
    }


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lost=st.sets(st.integers(0, 30), min_size=1, max_size=3))
def test_what_came_after_a_lost_record_waits_for_it(found: Carved, lost: set[int]) -> None:
    """It is not taken without its past; once that is there it is, and then all is as it was."""
    left = [row for number, row in enumerate(found.records) if number not in lost]
    log, intake = salvaged(found, left)
    assert ids(log) <= all_ids(left)
    assert intake.refused == 0
    waiting = intake.waiting or []
    assert ids(log) | {record.id for piece in waiting for record in piece.run.records} == all_ids(left)
    again = asyncio.run(take(log, ME, [*waiting, *pieces_of(found.records, found.secrets)]))
    assert again.waiting == []
    assert ids(log) == all_ids(found.records)


def test_a_record_that_nobody_sealed_is_not_taken(found: Carved) -> None:
    """Neither one whose bytes were changed, nor one whose seal is gone or another's."""
    for number, (position, learnt, seal, envelope) in enumerate(found.records):
        others = found.records[:number] + found.records[number + 1 :]
        forged = [
            (position, learnt, b"", envelope),
            (position, learnt, seal[:-1] + bytes((seal[-1] ^ 1,)) if seal else bytes(64), envelope),
            (position, learnt, seal, envelope.replace(b'"time":1', b'"time":2', 1)),
            (position, learnt, seal, envelope[:-1]),
        ]
        for row in forged[:: 1 if number < 3 else 3]:
            log, _ = salvaged(found, [*others, row])
            assert ids(log) <= all_ids(others)


def test_when_it_was_learnt_is_kept(found: Carved) -> None:
    """This machine heard of it then, and not when it was mended; a time that cannot be is brought into bounds."""
    log, _ = salvaged(found, found.records)
    assert {added.learnt for added in log.records} == {learnt for _, learnt, _, _ in found.records}
    log, _ = salvaged(found, [(position, -5, seal, data) for position, _, seal, data in found.records])
    assert {added.learnt for added in log.records} == {0}


def test_a_machines_own_cluster_comes_before_another_ones(found: Carved, tmp_path: Path) -> None:
    """Where records of two stores are found in one file, its own decide, not the greater number."""
    asyncio.run(stored_collision(tmp_path / "other"))
    other = pieces_of(carve(tmp_path / "other" / "mx1" / "cluster.db").records, {})
    mine = pieces_of(found.records, {})[:2]
    me = mine[0].feed[0]
    assert cluster_of([*other, *mine], me) == cluster_of(mine, ME)
    assert cluster_of([], me) == ""
