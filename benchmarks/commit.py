"""Durable commits, one at a time, beside a loop that inserts the same with the same fsyncs, and beside peers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from types import ModuleType

from benchmarks import floors, peers, servers
from benchmarks.harness import Contestant, Goal, Place, Question, Ratio, Role, Size, Stage, Trial
from benchmarks.machines import (
    FOUNDING_RECORDS,
    commit,
    found_cluster,
    machine,
    paths_of_settings,
    records_in,
    standing_in,
)
from benchmarks.workload import MACHINES, Change, answer, changes, configuration, fold, outcome, plain

#: How many times as fast as each peer; each with how many of the commits it makes: the slow ones fewer.
_PEERS = {"event_sourcing": (1.0, 1), "pycrdt_store": (2.0, 4), "git": (2.0, 40), "etcd": (2.0, 4)}


def _prepare(place: Place, scales: Sequence[int]) -> Stage:
    contestants: list[Contestant] = []
    ratios: list[Ratio] = []
    goals: list[Goal] = []
    invited, missing = peers.invite(*_PEERS)
    if "etcd" in invited and (why := servers.etcd_missing()):
        del invited["etcd"]
        missing.append(why)
    for scale in scales:
        work = changes(MACHINES[0], scale)
        expected = answer(outcome(paths_of_settings(), work))
        learnt = place.folder / str(scale)
        learnt.mkdir()
        _commit(work, learnt)
        records = records_in(learnt)
        alone = Contestant("cluster-store", scale, scale, expected, partial(_commit, work))
        floor = Contestant("SQLite insert loop", scale, scale, expected, partial(_insert, records), Role.FLOOR)
        contestants += [alone, floor]
        ratios.append(Ratio(alone, floor, at_least=0.55, stretch=0.60))
        goals.append(Goal(alone, at_most=120e-6, above=floor))
        for name, peer in invited.items():
            times, part = _PEERS[name]
            other = _peer(peer, scale, work[: scale // part])
            contestants.append(other)
            ratios.append(Ratio(alone, other, at_least=times))
    return Stage(contestants, ratios, goals, missing)


def _peer(peer: ModuleType, scale: int, work: Sequence[Change]) -> Contestant:
    expected = answer(outcome(paths_of_settings(), work))
    return Contestant(peer.NAME, scale, len(work), expected, partial(_commit_elsewhere, peer, work), Role.PEER)


def _commit(work: Sequence[Change], folder: Path) -> Trial:
    seconds = asyncio.run(_committing(work, folder))
    return Trial(seconds, answer(standing_in(folder)))


async def _committing(work: Sequence[Change], folder: Path) -> float:
    node = await found_cluster(machine(MACHINES[0]), folder)
    begun = perf_counter()
    for change in work:
        await commit(node, change)
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


def _commit_elsewhere(peer: ModuleType, work: Sequence[Change], folder: Path) -> Trial:
    paths = paths_of_settings()
    start = {paths["cluster"] + key: value for key, value in configuration().items()}
    seconds, standing = peer.commit(start, plain(paths, work), folder)
    return Trial(seconds, answer({path: [value] for path, value in standing.items()}))


QUESTION = Question(
    name="commit",
    title="Durable commits through the library, one at a time",
    operation="commit",
    scale="commits",
    rounds={Size.SMOKE: 1, Size.REAL: 3},
    scales={Size.SMOKE: (40,), Size.REAL: (4_000,)},
    prepare=_prepare,
)
