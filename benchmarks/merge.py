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
from typing import NamedTuple

from automerge.core import Document

from benchmarks import floors
from benchmarks.harness import Contestant, Question, Ratio, Size, Stage, Trial
from benchmarks.machines import (
    Machine,
    commit_in_bursts,
    found_cluster,
    machine,
    paths_of_settings,
    records_in,
    standing_in,
)
from benchmarks.workload import MACHINES, Change, answer, changes, fold, outcome
from cluster_store.adapters.memory_transport import MemoryNetwork, MemoryTransport
from cluster_store.adapters.sqlite_log import SqliteLog
from cluster_store.adapters.sqlite_projection import changes_of
from cluster_store.adapters.sqlite_reader import StoreReader
from cluster_store.adapters.store_folder import StoreFolder
from cluster_store.core.state import Draft
from cluster_store.joining import fetch
from cluster_store.links import Links
from cluster_store.node import Node

_SIDES = MACHINES[:2]


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


def _prepare(folder: Path, scales: Sequence[int]) -> Stage:
    contestants: list[Contestant] = []
    ratios: list[Ratio] = []
    for burst, at_least, stretch in ((16, 0.45, 0.55), (1, None, None)):
        merges = []
        for scale in scales:
            work = {hostname: changes(hostname, scale) for hostname in _SIDES}
            expected = answer(outcome(paths_of_settings(), *work.values()))
            apart, together = folder / f"{burst}-{scale}-apart", folder / f"{burst}-{scale}-together"
            for hostname in _SIDES:
                (apart / hostname).mkdir(parents=True)
            asyncio.run(_part(work, burst, apart))
            shutil.copytree(apart, together)
            batches = asyncio.run(_learn(together))
            merge = Contestant(f"merge, {burst} a seal", scale, 2 * scale, expected, partial(_merge, apart))
            floor = Contestant(f"floor, {burst} a seal", scale, 2 * scale, expected, partial(_floor, apart, batches))
            contestants += [merge, floor]
            ratios.append(Ratio(merge, floor, at_least=at_least, stretch=stretch))
            merges.append(merge)
        ratios += [Ratio(larger, merges[0], at_least=0.9) for larger in merges[1:]]
    return Stage(contestants, ratios)


# --- the two sides, apart ---


async def _part(work: Mapping[str, Sequence[Change]], burst: int, folder: Path) -> None:
    """Make a store for each side: one founds the cluster, the other joins it, then each goes its own way."""
    one, other = map(machine, _SIDES)
    network = MemoryNetwork()
    node = await found_cluster(one, folder / one.hostname)
    async with one.online(node, network):
        log = await other.create(folder / other.hostname, node.replica.state.cluster)
        transport = MemoryTransport(network, other.hostname, other.keys)
        await fetch(one.address, other.id, other.keys.sign, transport, log, other.clock, lambda _: None)
    await commit_in_bursts(node, work[one.hostname], burst)
    await node.close()
    node = await other.open(folder / other.hostname)
    await commit_in_bursts(node, work[other.hostname], burst)
    await node.close()


# --- the merge ---


def _merge(apart: Path, folder: Path) -> Trial:
    shutil.copytree(apart, folder, dirs_exist_ok=True)
    seconds, *answers = asyncio.run(_merging(folder))
    answers += [answer(standing_in(folder / hostname)) for hostname in _SIDES]
    return Trial(seconds, _agreed(answers))


async def _merging(folder: Path) -> tuple[float, str, str]:
    """Let the sides meet; return how long it took, and what their documents say then."""
    one, other = map(machine, _SIDES)
    here = await one.open(folder / one.hostname)
    there = await other.open(folder / other.hostname)
    seconds = await _meet(one, here, other, there)
    said = [await _documents_say(node, folder / side.hostname) for side, node in ((one, here), (other, there))]
    await here.close()
    await there.close()
    return seconds, said[0], said[1]


async def _meet(one: Machine, here: Node, other: Machine, there: Node) -> float:
    """Link two nodes; return the seconds until each has, durably, all that the other had."""
    network = MemoryNetwork()
    async with one.online(here, network) as links_here, other.online(there, network) as links_there:
        begun = perf_counter()
        link = await MemoryTransport(network, one.hostname, one.keys).dial(other.address)
        serving = asyncio.create_task(links_here.serve(link, dialled=True))
        await asyncio.gather(_caught_up(here, links_here, other), _caught_up(there, links_there, one))
        seconds = perf_counter() - begun
        await link.close()
        await serving
    return seconds


async def _caught_up(node: Node, links: Links, peer: Machine) -> None:
    # Nothing behind, nothing ahead: what was sent has been acknowledged, which is after its documents are up to date.
    await node.wait_for(lambda: links.progress(peer.id) == (0, 0))


async def _documents_say(node: Node, folder: Path) -> str:
    with StoreReader(StoreFolder(folder).database) as store:
        names = [stored.name for stored in store.documents()]
    standing: dict[str, list[str]] = {}
    for name in names:
        for key, text in (await node.documents.get(name)).items().items():
            standing.setdefault(key.rpartition("@")[0], []).append(text[1:])
    return answer(standing)


def _agreed(answers: Sequence[str]) -> str:
    """Return the one answer that all gave; more than one is none."""
    return " or ".join(sorted(set(answers)))


# --- the floor ---


async def _learn(folder: Path) -> dict[str, list[_Batch]]:
    """Have the sides meet once, and return what each one appended."""
    one, other = map(machine, _SIDES)
    logs = [await _RecordingLog.open(StoreFolder(folder / hostname).database) for hostname in _SIDES]
    here, there = await one.wake(logs[0]), await other.wake(logs[1])
    await _meet(one, here, other, there)
    await here.close()
    await there.close()
    return {hostname: log.batches for hostname, log in zip(_SIDES, logs, strict=True)}


def _floor(apart: Path, batches: Mapping[str, Sequence[_Batch]], folder: Path) -> Trial:
    seconds, answers = 0.0, []
    for hostname in _SIDES:
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


QUESTION = Question(
    name="merge",
    title="Two machines meet after as many changes each way",
    operation="event",
    scale="events each way",
    rounds={Size.SMOKE: 1, Size.REAL: 5},
    scales={Size.SMOKE: (600,), Size.REAL: (10_000,)},
    prepare=_prepare,
)
