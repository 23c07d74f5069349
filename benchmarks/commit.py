"""Durable commits through the library, beside a loop that inserts the same envelopes with the same fsyncs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

from benchmarks import floors
from benchmarks.harness import Contestant, Question, Ratio, Size, Stage, Trial
from benchmarks.machines import (
    FOUNDING_RECORDS,
    commit,
    found_cluster,
    machine,
    paths_of_settings,
    records_in,
    standing_in,
)
from benchmarks.workload import MACHINES, Change, answer, changes, fold, outcome

_CALLERS = 16


def _prepare(folder: Path, scales: Sequence[int]) -> Stage:
    contestants, ratios = [], []
    for scale in scales:
        work = changes(MACHINES[0], scale)
        expected = answer(outcome(paths_of_settings(), work))
        learnt = folder / str(scale)
        learnt.mkdir()
        _commit(work, 1, learnt)
        records = records_in(learnt)
        alone = Contestant("one at a time", scale, scale, expected, partial(_commit, work, 1))
        together = Contestant(f"{_CALLERS} callers", scale, scale, expected, partial(_commit, work, _CALLERS))
        floor = Contestant("SQLite insert loop", scale, scale, expected, partial(_insert, records))
        contestants += [alone, together, floor]
        ratios += [Ratio(alone, floor, at_least=0.55, stretch=0.60), Ratio(together, floor)]
    return Stage(contestants, ratios)


def _commit(work: Sequence[Change], callers: int, folder: Path) -> Trial:
    seconds = asyncio.run(_committing(work, callers, folder))
    return Trial(seconds, answer(standing_in(folder)))


async def _committing(work: Sequence[Change], callers: int, folder: Path) -> float:
    node = await found_cluster(machine(MACHINES[0]), folder)
    remaining = iter(work)

    async def caller() -> None:
        for change in remaining:
            await commit(node, change)

    begun = perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    seconds = perf_counter() - begun
    await node.close()
    return seconds


def _insert(records: Sequence[tuple[bytes, bytes]], folder: Path) -> Trial:
    with floors.table_of_records(folder / "floor.db") as connection:
        floors.insert_together(connection, records[:FOUNDING_RECORDS])
        begun = perf_counter()
        floors.insert_each(connection, records[FOUNDING_RECORDS:])
        seconds = perf_counter() - begun
        return Trial(seconds, answer(fold(floors.inserted(connection))))


QUESTION = Question(
    name="commit",
    title="Durable commits through the library",
    operation="commit",
    scale="commits",
    rounds={Size.SMOKE: 1, Size.REAL: 7},
    scales={Size.SMOKE: (100,), Size.REAL: (4_000,)},
    prepare=_prepare,
)
