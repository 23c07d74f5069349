"""The configuration as it was in the middle of a log, beside a loop that only reads the log once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

from benchmarks.harness import Contestant, Question, Ratio, Size, Stage, Trial
from benchmarks.machines import FOUNDING_RECORDS, commit_in_bursts, found_cluster, machine
from benchmarks.workload import MACHINES, changes
from cluster_store.adapters.sqlite_reader import StoreReader
from cluster_store.core.history import read_event
from cluster_store.core.past import past_of
from cluster_store.core.settings import effective_settings

#: Changes that are committed together while the log is made.
_TOGETHER = 200


def _prepare(folder: Path, scales: Sequence[int]) -> Stage:
    contestants: list[Contestant] = []
    ratios: list[Ratio] = []
    for scale in scales:
        store = folder / str(scale)
        store.mkdir()
        asyncio.run(_fill(store, scale - FOUNDING_RECORDS))
        past = Contestant("showconfig --at the middle", scale, scale, f"{scale // 2} records", partial(_past, store))
        floor = Contestant("the log read once", scale, scale, f"{scale} records", partial(_read, store))
        contestants += [past, floor]
        ratios.append(Ratio(past, floor, at_most=2.0))
    return Stage(contestants, ratios)


async def _fill(store: Path, count: int) -> None:
    author = machine(MACHINES[0])
    node = await found_cluster(author, store)
    await commit_in_bursts(node, changes(author.hostname, count), _TOGETHER)
    await node.close()


def _past(store: Path, folder: Path) -> Trial:  # noqa: ARG001 - it only reads
    begun = perf_counter()
    with StoreReader(store / "cluster.db") as reader, reader.snapshot():
        middle = reader.count // 2
        # As for a time, which may be anybody's: the whole log is looked at.
        rows = map(read_event, reader.events(newest_first=True))
        past = past_of(rows, lambda added: added.position <= middle, reader.me, reader.secret)
        assert effective_settings(past, past.cluster().levels_for(past.me))
    return Trial(perf_counter() - begun, f"{past.records} records")


def _read(store: Path, folder: Path) -> Trial:  # noqa: ARG001 - it only reads
    begun = perf_counter()
    with StoreReader(store / "cluster.db") as reader:
        count = sum(1 for _ in map(read_event, reader.events()))
    return Trial(perf_counter() - begun, f"{count} records")


QUESTION = Question(
    name="past",
    title="`cluster-store showconfig --at`, in the middle of a log",
    operation="record",
    scale="records",
    rounds={Size.SMOKE: 1, Size.REAL: 5},
    scales={Size.SMOKE: (300,), Size.REAL: (50_000,)},
    prepare=_prepare,
)
