"""Ways for runs of records to arrive: in any causally valid order and grouping, again, and too early."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random
from typing import NamedTuple

from cluster_store.core.admission import Incoming
from tests.core.histories import MadeRun


class Batch(NamedTuple):
    """Runs that are offered together. ``ready``: everything before them is there, or among them and in order."""

    runs: list[MadeRun]
    ready: bool

    @property
    def items(self) -> list[Incoming]:
        """The records as they travel."""
        return [item for run in self.runs for item in run.items]


def deliveries(dice: Random, runs: Iterable[MadeRun]) -> Iterator[Batch]:
    """Yield batches in a causally valid order, with runs that come again and batches that come too early."""
    waiting, done, present = list(runs), list[MadeRun](), set[str]()
    while waiting:
        if dice.random() < 0.2:
            yield Batch(dice.sample(waiting, min(len(waiting), 3)), ready=False)
        batch: list[MadeRun] = []
        for _ in range(dice.choice((1, 1, 2, 5, 20))):
            if done and dice.random() < 0.2:
                batch.append(dice.choice(done))
            ready = [run for run in waiting if run.needed <= present]
            if not ready:
                break
            run = dice.choice(ready)
            waiting.remove(run)
            done.append(run)
            batch.append(run)
            present.update(made.id for made in run.records)
        yield Batch(batch, ready=True)
