"""Durable commits by 16 callers of one daemon at once, beside etcd and NATS with as many clients."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from types import ModuleType

from benchmarks import daemons, floors, peers, servers, stores
from benchmarks.harness import Contestant, Place, Question, Ratio, Role, Size, Stage, Trial
from benchmarks.machines import FOUNDING_RECORDS, paths_of_settings, records_in, standing_in
from benchmarks.workload import MACHINES, Change, answer, changes, configuration, fold, outcome, plain

_CALLERS = 16


def _prepare(place: Place, scales: Sequence[int]) -> Stage:
    contestants: list[Contestant] = []
    ratios: list[Ratio] = []
    invited, missing = peers.invite("etcd", "nats_stream")
    for name, why in (("etcd", servers.etcd_missing()), ("nats_stream", servers.nats_missing(place.folder))):
        if why and invited.pop(name, None):
            missing.append(why)
    store = stores.full(place.shelf, FOUNDING_RECORDS)
    for scale in scales:
        work = changes(MACHINES[0], scale)
        expected = answer(outcome(paths_of_settings(), work))
        learnt = place.folder / str(scale)
        learnt.mkdir()
        _commit(store, work, learnt)
        records = records_in(learnt)
        daemon = Contestant(f"{_CALLERS} callers", scale, scale, expected, partial(_commit, store, work))
        one = "SQLite insert loop, one at a time"
        floor = Contestant(one, scale, scale, expected, partial(_insert, records), Role.FLOOR)
        contestants += [daemon, floor]
        for name, peer in invited.items():
            run = partial(_commit_elsewhere, peer, work)
            other = Contestant(f"{peer.NAME}, {_CALLERS} clients", scale, scale, expected, run, Role.PEER)
            contestants.append(other)
            wanted = {"at_least": 1.5, "stretch": 1.9} if name == "etcd" else {}
            ratios.append(Ratio(daemon, other, **wanted))
        ratios.append(Ratio(daemon, floor))
    return Stage(contestants, ratios, missing=missing)


def _commit(store: Path, work: Sequence[Change], folder: Path) -> Trial:
    shutil.copytree(store, folder, dirs_exist_ok=True)
    with daemons.serving(folder):
        begun = perf_counter()
        asyncio.run(daemons.commit_together(folder, _CALLERS, work))
        seconds = perf_counter() - begun
    return Trial(seconds, answer(standing_in(folder)))


def _insert(records: Sequence[tuple[bytes, bytes]], folder: Path) -> Trial:
    with floors.table_of_records(folder / "floor.db") as connection:
        begun = perf_counter()
        floors.insert_each(connection, records)
        seconds = perf_counter() - begun
        return Trial(seconds, answer(fold(floors.inserted(connection))))


def _commit_elsewhere(peer: ModuleType, work: Sequence[Change], folder: Path) -> Trial:
    paths = paths_of_settings()
    start = {paths["cluster"] + key: value for key, value in configuration().items()}
    seconds, standing = peer.commit_together(_CALLERS, start, plain(paths, work), folder)
    return Trial(seconds, answer({path: [value] for path, value in standing.items()}))


QUESTION = Question(
    name="callers",
    title="Durable commits through a daemon, 16 callers at once",
    operation="commit",
    scale="commits",
    rounds={Size.SMOKE: 1, Size.REAL: 3},
    scales={Size.SMOKE: (160,), Size.REAL: (8_000,)},
    prepare=_prepare,
    daemons=True,
)
