"""Two machines link again: what passes until both know that they are equal, or have what the other one lacked.

Counted, not timed: the bytes of all messages but those that bring records, and how often somebody waits for the other.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks import stores
from benchmarks.harness import Contestant, Goal, Part, Place, Question, Size, Stage, Trial, Unit
from benchmarks.machines import commit, machine, paths_of_settings, standing_in
from benchmarks.stores import SIDES
from benchmarks.wires import meet, side
from benchmarks.workload import CROWD, answer, changes, outcome

_TRIPS, _A_FEED = "round trips", "bytes a feed"


def _prepare(place: Place, scales: Sequence[int]) -> Stage:
    contestants: list[Contestant] = []
    goals: list[Goal] = []
    for scale in scales:
        circle = stores.circle(place.shelf, scale)
        for name, ahead in (("equal", 0), ("one change ahead", 1)):
            expected = answer(outcome(paths_of_settings(), changes(SIDES[0], ahead)))
            parts = (Part(_TRIPS, Unit.COUNT), Part(_A_FEED, Unit.BYTES, scale))
            run = partial(_greet, circle, ahead)
            one = Contestant(name, scale, 1, expected, run, unit=Unit.BYTES, parts=parts)
            contestants.append(one)
            if ahead:
                goals.append(Goal(one.part(_A_FEED), at_most=30))
            else:
                goals += [Goal(one.part(_TRIPS), at_most=1.0), Goal(one, at_most=64)]
    return Stage(contestants, goals=goals)


def _greet(circle: Path, ahead: int, folder: Path) -> Trial:
    shutil.copytree(circle, folder, dirs_exist_ok=True)
    size, trips = asyncio.run(_greeting(ahead, folder))
    answers = {answer(standing_in(folder / hostname)) for hostname in SIDES}
    return Trial(size, " or ".join(sorted(answers)), {_TRIPS: trips, _A_FEED: size})


async def _greeting(ahead: int, folder: Path) -> tuple[float, float]:
    """Return the bytes that passed beside records, and the round trips."""
    one, other = [side(each, await each.open(folder / each.hostname)) for each in map(machine, SIDES)]
    for change in changes(SIDES[0], ahead):
        await commit(one.node, change)
    _, traffic = await meet(one, other)
    for each in (one, other):
        await each.node.close()
    return traffic.bytes - traffic.bytes_of_records, traffic.round_trips


QUESTION = Question(
    name="equal",
    title="Two machines link again: bytes and round trips beside the records",
    operation="greeting",
    scale="feeds",
    rounds={Size.SMOKE: 1, Size.REAL: 1},
    scales={Size.SMOKE: (2,), Size.REAL: (len(CROWD),)},
    prepare=_prepare,
)
