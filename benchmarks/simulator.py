"""How many simulated runs a core plays in a minute: whole fleets under faults, checked at every step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import process_time

from benchmarks.harness import Contestant, Goal, Place, Question, Size, Stage, Trial
from cluster_store.simulation.options import draw
from cluster_store.simulation.run import simulate

#: Events of a fleet -> its machines, and how many runs a minute are wanted; 0 is what the seed draws.
_FLEETS = {0: (None, None), 500: (10, 200), 20_000: (50, 1)}
#: How many seeds are played where they are small, as drawn.
_DRAWN = {Size.SMOKE: 2, Size.REAL: 20}


def _prepare(place: Place, scales: Sequence[int]) -> Stage:  # noqa: ARG001 - it needs no room
    contestants: list[Contestant] = []
    goals: list[Goal] = []
    for scale in scales:
        machines, wanted = _FLEETS[scale]
        seeds = range(1 if scale else _DRAWN[Size.REAL if len(scales) > 1 else Size.SMOKE])
        name = f"{machines} machines" if machines else "as drawn, 2 to 5 machines, 20 to 80 events"
        run = partial(_play, seeds, machines, scale or None)
        fleet = Contestant(name, scale, len(seeds), f"{len(seeds)} passed", run)
        contestants.append(fleet)
        if wanted is not None:
            goals.append(Goal(fleet, at_least=wanted / 60))
    return Stage(contestants, goals=goals)


def _play(seeds: Sequence[int], machines: int | None, events: int | None, folder: Path) -> Trial:  # noqa: ARG001 - nothing is kept
    begun = process_time()
    passed = sum(simulate(seed, draw(seed, machines=machines, events=events)).passed for seed in seeds)
    return Trial(process_time() - begun, f"{passed} passed")


QUESTION = Question(
    name="simulator",
    title="Simulated runs, in seconds of one core: 200 a minute are 3.3 a second",
    operation="run",
    scale="events",
    rounds={Size.SMOKE: 1, Size.REAL: 1},
    scales={Size.SMOKE: (0,), Size.REAL: (0, 500), Size.LONG: (0, 500, 20_000)},
    prepare=_prepare,
)
