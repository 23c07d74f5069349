"""The configuration as it was in the middle of a log, beside one fold of the log."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

import orjson

from benchmarks import stores
from benchmarks.harness import Contestant, Place, Question, Ratio, Role, Size, Stage, Trial
from benchmarks.machines import FOUNDING_RECORDS, paths_of_settings
from benchmarks.workload import MACHINES, answer, changes, outcome
from cluster_store.adapters.sqlite_reader import StoreReader
from cluster_store.adapters.store_folder import StoreFolder
from cluster_store.core.past import past_of
from cluster_store.core.settings import effective_settings


def _prepare(place: Place, scales: Sequence[int]) -> Stage:
    contestants: list[Contestant] = []
    ratios: list[Ratio] = []
    for scale in scales:
        store = stores.full(place.shelf, scale)
        work = changes(MACHINES[0], scale - FOUNDING_RECORDS)
        half = answer(outcome(paths_of_settings(), work[: scale // 2 - FOUNDING_RECORDS]))
        whole = answer(outcome(paths_of_settings(), work))
        past = Contestant("showconfig --at the middle", scale, 1, half, partial(_past, store, scale // 2))
        fold = Contestant("one fold of the log", scale, 1, whole, partial(_fold, store), Role.FLOOR)
        contestants += [past, fold]
        ratios.append(Ratio(past, fold, at_most=0.5))
    return Stage(contestants, ratios)


def _past(store: Path, middle: int, folder: Path) -> Trial:  # noqa: ARG001 - it only reads
    begun = perf_counter()
    with StoreReader(StoreFolder(store).database) as reader, reader.snapshot():
        # As for a time, which may be anybody's: the whole log is looked at.
        rows = reader.events(newest_first=True)
        past = past_of(rows, lambda row, _: row.position <= middle, reader.me, reader.secret)
        assert effective_settings(past, past.cluster().levels_for(past.me))
        seconds = perf_counter() - begun
        under = past.under("setting/")
        said = answer({str(path): [str(lane.value) for lane in lanes] for path, lanes in under})
    return Trial(seconds, said)


def _fold(store: Path, folder: Path) -> Trial:  # noqa: ARG001 - it only reads
    """Read every record and take its writes in, as plainly as Python can."""
    begun = perf_counter()
    lanes: dict[str, dict[str, str]] = {}
    with StoreReader(StoreFolder(store).database) as reader:
        for event in reader.events():
            for path, value, replaced in orjson.loads(event.envelope)["writes"]:
                standing = lanes.setdefault(path, {})
                for other in replaced:
                    standing.pop(other, None)
                standing[event.id] = value
    seconds = perf_counter() - begun
    return Trial(seconds, answer({path: list(standing.values()) for path, standing in lanes.items()}))


QUESTION = Question(
    name="past",
    title="`cluster-store showconfig --at`, in the middle of a log",
    operation="look",
    scale="records",
    rounds={Size.SMOKE: 1, Size.REAL: 5},
    scales={Size.SMOKE: (100,), Size.REAL: (50_000,), Size.LONG: (50_000, 200_000)},
    prepare=_prepare,
)
