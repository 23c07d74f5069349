"""Many keys in one event: a thousand settings at once, and a whole configuration file of Postfix."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

from benchmarks import floors
from benchmarks.harness import Contestant, Place, Question, Ratio, Role, Size, Stage, Trial
from benchmarks.machines import USER, found_cluster, machine, records_in, standing_in
from benchmarks.workload import MACHINES, answer, fold, main_cf
from cluster_store.core.commands import LoadConfig
from cluster_store.core.document import Put, encode_change
from cluster_store.core.registers import lane_key
from cluster_store.core.types import Path as Register
from cluster_store.core.types import RecordId
from cluster_store.formats import read_config

_LEVEL = "setting/cluster/"


def _prepare(place: Place, scales: Sequence[int]) -> Stage:
    contestants: list[Contestant] = []
    ratios: list[Ratio] = []
    for scale in scales:
        text, parameters = main_cf(scale)
        expected = answer({_LEVEL + key: [value] for key, value in parameters.items()})
        learnt = place.folder / str(scale)
        learnt.mkdir()
        _load(text, learnt, parsed=False)
        records = records_in(learnt)
        wide = Contestant("one event", scale, 1, expected, partial(_load, text, parsed=True))
        name = "Postfix's main.cf, read and committed"
        file = Contestant(name, scale, 1, expected, partial(_load, text, parsed=False))
        run = partial(_floor, records, parameters)
        floor = Contestant("SQLite and the merge engine alone", scale, 1, expected, run, Role.FLOOR)
        contestants += [wide, file, floor]
        ratios += [Ratio(wide, floor), Ratio(file, floor)]
    return Stage(contestants, ratios)


def _load(text: bytes, folder: Path, *, parsed: bool) -> Trial:
    """Commit a file; ``parsed`` leaves out the reading of it."""
    seconds = asyncio.run(_loading(text, folder, parsed=parsed))
    return Trial(seconds, answer(standing_in(folder)))


async def _loading(text: bytes, folder: Path, *, parsed: bool) -> float:
    node = await found_cluster(machine(MACHINES[0]), folder, configured=False)
    begun = perf_counter()
    settings = read_config(text, "main.cf").settings
    if parsed:
        begun = perf_counter()
    await node.submit(LoadConfig(level="cluster", settings=settings, source="main.cf", salt=bytes(16)), USER)
    seconds = perf_counter() - begun
    await node.close()
    return seconds


def _floor(records: Sequence[tuple[bytes, bytes]], parameters: Mapping[str, str], folder: Path) -> Trial:
    """Insert the record, and apply one change that says the same to one document."""
    record = RecordId("0" * 64)
    puts = [Put(lane_key(Register(_LEVEL + key), record), value) for key, value in parameters.items()]
    message = floors.message([encode_change(b"\1", 1, 1, (), puts).data])
    document = floors.document(None)
    with floors.table_of_records(folder / "floor.db") as connection:
        floors.insert_together(connection, records[:-1])
        begun = perf_counter()
        floors.insert_together(connection, records[-1:])
        floors.apply(document, message)
        seconds = perf_counter() - begun
        answers = {answer(fold(floors.inserted(connection)))}
    answers.add(answer({key.rpartition("@")[0]: [text] for key, text in floors.texts_in(document)}))
    return Trial(seconds, " or ".join(sorted(answers)))


QUESTION = Question(
    name="wide",
    title="Many keys in one event",
    operation="event",
    scale="keys",
    rounds={Size.SMOKE: 1, Size.REAL: 7},
    scales={Size.SMOKE: (50,), Size.REAL: (1_000,)},
    prepare=_prepare,
)
