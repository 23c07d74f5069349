"""Two halves of a cluster meet again: each takes what the other did, everything checked, durable and up to date.

The floor does in the same process, one side after the other, what nobody can do without: SQLite makes the same
record bytes durable, and the merge engine applies the same changes, in the same batches.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import NamedTuple

from automerge.core import Document

from benchmarks import floors, peers, stores
from benchmarks.harness import Contestant, Goal, Part, Place, Question, Ratio, Role, Size, Stage, Trial, Unit
from benchmarks.machines import documents_say, machine, paths_of_settings, records_in, standing_in
from benchmarks.stores import SIDES
from benchmarks.wires import longest_stall, meet, side
from benchmarks.workload import answer, changes, configuration, fold, outcome, plain
from cluster_store.adapters.sqlite_log import SqliteLog
from cluster_store.adapters.sqlite_projection import changes_of
from cluster_store.adapters.sqlite_reader import StoreReader
from cluster_store.adapters.store_folder import StoreFolder
from cluster_store.core.state import Draft

_STALL = "longest stall of the event loop"


class _Batch(NamedTuple):
    """What one append brought: envelopes and seals, and for each document the engine's message."""

    records: list[tuple[bytes, bytes]]
    messages: dict[str, bytes]


class _RecordingLog(SqliteLog):
    """Remembers what was appended to it."""

    @cached_property
    def batches(self) -> list[_Batch]:
        """In order."""
        return []

    async def append(self, draft: Draft) -> None:
        """See ``EventLog``."""
        await super().append(draft)
        records = [(added.record.data, added.record.seal) for added in draft.records]
        messages = {name: floors.message([change.data for change in some]) for name, some in draft.changes.items()}
        self.batches.append(_Batch(records, messages))


def _prepare(place: Place, scales: Sequence[int]) -> Stage:
    contestants: list[Contestant] = []
    ratios: list[Ratio] = []
    goals: list[Goal] = []
    invited, missing = peers.invite("pycrdt_store", "loro_document")
    for burst in (16, 1):
        merges = []
        # A seal for every record is the other extreme; one scale shows it.
        for scale in scales if burst > 1 else scales[:1]:
            expected = answer(outcome(paths_of_settings(), *(changes(hostname, scale) for hostname in SIDES)))
            apart, together = stores.pair(place.shelf, scale, burst), place.folder / "together"
            shutil.copytree(apart, together)
            batches = asyncio.run(_learn(together))
            shutil.rmtree(together)
            parts = (Part(_STALL, Unit.SECONDS),)
            name = f"merge, {burst} a seal" if burst > 1 else "merge, each sealed"
            merge = Contestant(name, scale, 2 * scale, expected, partial(_merge, apart), parts=parts)
            run = partial(_floor, apart, batches)
            floor = Contestant(f"floor of the {name}", scale, 2 * scale, expected, run, Role.FLOOR)
            contestants += [merge, floor]
            target = {"at_least": 0.45, "stretch": 0.55} if burst > 1 else {}
            ratios.append(Ratio(merge, floor, **target))
            merges.append(merge)
        if burst > 1:
            goals.append(Goal(merges[0], at_least=40_000))
            goals += [Goal(merge.part(_STALL), at_most=0.050) for merge in merges]
            ratios += [Ratio(larger, merges[0], at_least=0.9) for larger in merges[1:]]
            others = [_peer(peer, scales[0]) for peer in invited.values()]
            contestants += others
            ratios += [Ratio(merges[0], other) for other in others]
    return Stage(contestants, ratios, goals, missing)


# --- the merge ---


def _merge(apart: Path, folder: Path) -> Trial:
    shutil.copytree(apart, folder, dirs_exist_ok=True)
    seconds, stall, *answers = asyncio.run(_merging(folder))
    answers += [answer(standing_in(folder / hostname)) for hostname in SIDES]
    return Trial(seconds, _agreed(answers), {_STALL: stall})


async def _merging(folder: Path) -> tuple[float, float, str, str]:
    """Let the sides meet; return how long it took, the longest stall, and what their documents say then."""
    sides = [side(one, await one.open(folder / one.hostname)) for one in map(machine, SIDES)]
    seconds = 0.0

    async def work() -> None:
        nonlocal seconds
        seconds, _ = await meet(*sides)

    stall = await longest_stall(work)
    said = [await documents_say(one.node, folder / one.machine.hostname) for one in sides]
    for one in sides:
        await one.node.close()
    return seconds, stall, said[0], said[1]


def _agreed(answers: Sequence[str]) -> str:
    """Return the one answer that all gave; more than one is none."""
    return " or ".join(sorted(set(answers)))


# --- the floor ---


async def _learn(folder: Path) -> dict[str, list[_Batch]]:
    """Have the sides meet once, and return what each one appended."""
    logs = [await _RecordingLog.open(StoreFolder(folder / hostname).database) for hostname in SIDES]
    sides = [side(one, await one.wake(log)) for one, log in zip(map(machine, SIDES), logs, strict=True)]
    await meet(*sides)
    for one in sides:
        await one.node.close()
    return {hostname: log.batches for hostname, log in zip(SIDES, logs, strict=True)}


def _floor(apart: Path, batches: Mapping[str, Sequence[_Batch]], folder: Path) -> Trial:
    seconds, answers = 0.0, []
    for hostname in SIDES:
        documents = _documents_of(apart / hostname)
        with floors.table_of_records(folder / f"{hostname}.db") as connection:
            floors.insert_together(connection, records_in(apart / hostname))
            begun = perf_counter()
            for batch in batches[hostname]:
                floors.insert_together(connection, batch.records)
                for name, message in batch.messages.items():
                    floors.apply(documents.setdefault(name, floors.document(None)), message)
            seconds += perf_counter() - begun
            answers.append(answer(fold(floors.inserted(connection))))
        standing: dict[str, list[str]] = {}
        for document in documents.values():
            for key, text in floors.texts_in(document):
                standing.setdefault(key.rpartition("@")[0], []).append(text[1:])
        answers.append(answer(standing))
    return Trial(seconds, _agreed(answers))


def _documents_of(folder: Path) -> dict[str, Document]:
    """Return the engine's documents as a store has them."""
    documents = {}
    with StoreReader(StoreFolder(folder).database) as store:
        for stored in store.documents():
            documents[stored.name] = floors.document(stored.saved)
            tail = [change.data for row in stored.tail for change in changes_of(row)]
            floors.apply(documents[stored.name], floors.message(tail))
    return documents


# --- peers ---


def _peer(peer: ModuleType, scale: int) -> Contestant:
    """Return a peer that merges the same; of what both sides wrote it keeps one, and everywhere the same one."""
    paths = paths_of_settings()
    start = {paths["cluster"] + key: value for key, value in configuration().items()}
    work = [changes(hostname, scale) for hostname in SIDES]
    may_stand = {path: set(values) for path, values in outcome(paths, *work).items()}
    apart = peer.Apart(start, [plain(paths, some) for some in work])

    def run(folder: Path) -> Trial:
        seconds, said = apart.merge(folder)
        agreed = all(one == said[0] for one in said) and said[0].keys() == may_stand.keys()
        right = agreed and all(value in may_stand[path] for path, value in said[0].items())
        return Trial(seconds, "one of the values" if right else "something else")

    return Contestant(f"{peer.NAME}, one batch", scale, 2 * scale, "one of the values", run, Role.PEER)


QUESTION = Question(
    name="merge",
    title="Two machines meet after as many changes each way",
    operation="event",
    scale="events each way",
    rounds={Size.SMOKE: 1, Size.REAL: 3},
    scales={Size.SMOKE: (200,), Size.REAL: (10_000, 50_000)},
    prepare=_prepare,
)
