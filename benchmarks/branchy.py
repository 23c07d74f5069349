"""Forty machines write in bursts of five, each hearing of the others between two bursts: the log is all branches.

Beside it stands the merge engine alone, with all settings in one single document, which is what one would do with it
first.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

from automerge import core

from benchmarks import crowd, floors, pace, stores
from benchmarks.harness import Contestant, Part, Place, Question, Ratio, Role, Size, Stage, Trial, Unit
from benchmarks.machines import commit, documents_say, machine, paths_of_settings, standing_in
from benchmarks.wires import meet, side
from benchmarks.workload import CROWD, Change, answer, changes
from cluster_store import salvage
from cluster_store.adapters.sqlite_log import SqliteLog
from cluster_store.adapters.sqlite_reader import StoreReader
from cluster_store.adapters.store_folder import StoreFolder

_WRITERS, _BURST = 40, 5
#: Who has what the writers wrote, and who takes it in.
_MEMBER, _NEWCOMER = CROWD[:2]
_FIRST, _LAST, _COMMIT = "the first thousand", "the last thousand", "a change after it"
#: Changes that are made after it.
_AFTER = 50


def _prepare(place: Place, scales: Sequence[int]) -> Stage:
    contestants: list[Contestant] = []
    ratios: list[Ratio] = []
    for scale in scales:
        writers = CROWD[2 : 2 + min(_WRITERS, scale // 100)]
        circle = stores.circle(place.shelf, 2 + len(writers))
        store = place.folder / str(scale)
        shutil.copytree(circle, store)
        with StoreReader(StoreFolder(store / _MEMBER).database) as reader:
            written = crowd.write(reader, writers, _BURST, scale)
        asyncio.run(_take(store / _MEMBER, written))
        said = answer({path: list(values.values()) for path, values in written.standing.items()})
        piece = min(1000, scale // 4)
        after = Part(_COMMIT, Unit.SECONDS, _AFTER)
        paces = (
            Part(_FIRST, Unit.SECONDS, piece),
            Part(_LAST, Unit.SECONDS, piece),
            after,
        )
        merge = Contestant("merge", scale, scale, said, partial(_merge, store, piece), parts=paces)
        alone = "one single Automerge document"
        run = partial(_apply, written.changes)
        floor = Contestant(alone, scale, scale, said, run, Role.PEER, parts=(after,))
        contestants += [merge, floor]
        ratios += [
            Ratio(merge, floor, at_least=4.0),
            Ratio(merge.part(_COMMIT), floor.part(_COMMIT), at_least=25.0),
            Ratio(merge.part(_LAST), merge.part(_FIRST), at_least=0.8),
        ]
    return Stage(contestants, ratios)


async def _take(store: Path, written: crowd.Crowd) -> None:
    """Append what the crowd wrote to a store's log, admitted like records from peers."""
    rows = [(number, one.envelope.time, one.seal, one.data) for number, one in enumerate(written.records)]
    log = await SqliteLog.open(StoreFolder(store).database)
    intake = await salvage.take(log, machine(_MEMBER).id, salvage.pieces_of(rows, {}))
    await log.close()
    assert (intake.taken, intake.waiting, intake.refused) == (len(rows), [], 0)


def _merge(store: Path, piece: int, folder: Path) -> Trial:
    for hostname in (_MEMBER, _NEWCOMER):
        shutil.copytree(store / hostname, folder / hostname)
    seconds, parts, said = asyncio.run(_merging(piece, folder))
    return Trial(seconds, said, parts)


async def _merging(piece: int, folder: Path) -> tuple[float, dict[str, float], str]:
    one, other = [side(each, await each.open(folder / each.hostname)) for each in map(machine, (_MEMBER, _NEWCOMER))]
    async with pace.of_node(other.node) as followed:
        seconds, _ = await meet(one, other)
    answers = {answer(standing_in(folder / _NEWCOMER)), await documents_say(other.node, folder / _NEWCOMER)}
    begun = perf_counter()
    for change in _changes_after():
        await commit(other.node, change)
    after = perf_counter() - begun
    for each in (one, other):
        await each.node.close()
    parts = {_FIRST: followed.first(piece), _LAST: followed.last(piece), _COMMIT: after}
    return seconds, parts, " or ".join(sorted(answers))


def _changes_after() -> list[Change]:
    return [Change("cluster", change.key, change.value, "after it") for change in changes("after it", _AFTER)]


def _apply(some: Sequence[bytes], folder: Path) -> Trial:  # noqa: ARG001 - it keeps nothing
    document = floors.document(None)
    floors.apply(document, floors.message(some[:1]))
    begun = perf_counter()
    for start in range(1, len(some), 200):
        floors.apply(document, floors.message(some[start : start + 200]))
    seconds = perf_counter() - begun
    standing: dict[str, list[str]] = {}
    for key, text in floors.texts_in(document):
        standing.setdefault(key.rpartition("@")[0], []).append(text)
    begun = perf_counter()
    for change in _changes_after():
        with document.transaction() as transaction:
            transaction.put(core.ROOT, paths_of_settings()["cluster"] + change.key, core.ScalarType.Str, change.value)
    after = perf_counter() - begun
    return Trial(seconds, answer(standing), {_COMMIT: after})


QUESTION = Question(
    name="branchy",
    title="Forty machines wrote in bursts of five, hearing of each other in between; another takes it in",
    operation="event",
    scale="events",
    rounds={Size.SMOKE: 1, Size.REAL: 2},
    scales={Size.SMOKE: (400,), Size.REAL: (20_000,)},
    prepare=_prepare,
)
