"""A new machine takes in a whole log: how many bytes an event go over the wire, and how fast beside a merge."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

from benchmarks import stores
from benchmarks.harness import Contestant, Goal, Part, Place, Question, Ratio, Role, Size, Stage, Trial, Unit
from benchmarks.machines import FOUNDING_RECORDS, documents_say, machine, paths_of_settings, records_in, standing_in
from benchmarks.stores import SIDES
from benchmarks.wires import Side, linked, meet, side
from benchmarks.workload import MACHINES, answer, changes, outcome

_WIRE, _STORED = "bytes on the wire", "bytes of records"


def _prepare(place: Place, scales: Sequence[int]) -> Stage:
    contestants: list[Contestant] = []
    ratios: list[Ratio] = []
    goals: list[Goal] = []
    for scale in scales:
        store = stores.full(place.shelf, scale)
        expected = answer(outcome(paths_of_settings(), changes(MACHINES[0], scale - FOUNDING_RECORDS)))
        parts = (Part(_WIRE, Unit.BYTES, scale), Part(_STORED, Unit.BYTES, scale))
        new = Contestant("bootstrap", scale, scale, expected, partial(_bootstrap, store), parts=parts)
        each_way = scale // 5
        pair = stores.pair(place.shelf, each_way, 16)
        both = answer(outcome(paths_of_settings(), *(changes(hostname, each_way) for hostname in SIDES)))
        merge = Contestant("merge", each_way, 2 * each_way, both, partial(_merge, pair), Role.FLOOR)
        contestants += [new, merge]
        ratios.append(Ratio(new, merge, at_least=1.2))
        goals.append(Goal(new.part(_WIRE), at_most=80))
    return Stage(contestants, ratios, goals)


def _bootstrap(store: Path, folder: Path) -> Trial:
    shutil.copytree(store, folder / "member")
    (folder / "new").mkdir()
    seconds, size, said = asyncio.run(_taking(folder))
    answers = {said, answer(standing_in(folder / "new"))}
    stored = sum(len(envelope) + len(seal) for envelope, seal in records_in(store))
    return Trial(seconds, " or ".join(sorted(answers)), {_WIRE: size, _STORED: stored})


async def _taking(folder: Path) -> tuple[float, int, str]:
    """Return how long it took, how many bytes passed, and what the new machine's documents say."""
    one, other = map(machine, MACHINES[:2])
    member = side(one, await one.open(folder / "member"))
    fresh = await other.wake(await other.create(folder / "new", member.node.replica.state.cluster))
    newcomer = side(other, fresh)
    begun = perf_counter()
    async with linked(newcomer, member) as traffic:
        await _has_all(newcomer, member)
        seconds = perf_counter() - begun
    said = await documents_say(fresh, folder / "new")
    for each in (member, newcomer):
        await each.node.close()
    return seconds, traffic.bytes, said


async def _has_all(newcomer: Side, member: Side) -> None:
    """Wait until the new machine has, durably, all that the member has."""
    count = member.node.replica.state.position
    await newcomer.node.wait_for(lambda: newcomer.node.replica.state.position == count)
    await newcomer.has_caught_up(member.machine)


def _merge(apart: Path, folder: Path) -> Trial:
    shutil.copytree(apart, folder, dirs_exist_ok=True)
    seconds = asyncio.run(_merging(folder))
    answers = {answer(standing_in(folder / hostname)) for hostname in SIDES}
    return Trial(seconds, " or ".join(sorted(answers)))


async def _merging(folder: Path) -> float:
    sides = [side(one, await one.open(folder / one.hostname)) for one in map(machine, SIDES)]
    seconds, _ = await meet(*sides)
    for one in sides:
        await one.node.close()
    return seconds


QUESTION = Question(
    name="bootstrap",
    title="A new machine takes in a whole log",
    operation="event",
    scale="events",
    rounds={Size.SMOKE: 1, Size.REAL: 3},
    scales={Size.SMOKE: (100,), Size.REAL: (50_000,)},
    prepare=_prepare,
)
