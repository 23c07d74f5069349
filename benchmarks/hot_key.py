"""One key is written ten thousand times: whether the last thousand is as fast as the first, to write and to merge."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks import pace, stores
from benchmarks.harness import Contestant, Part, Place, Question, Ratio, Size, Stage, Trial, Unit
from benchmarks.machines import commit, documents_say, machine, paths_of_settings, standing_in
from benchmarks.stores import SIDES
from benchmarks.wires import meet, side
from benchmarks.workload import KEYS, Change, answer, changes, outcome

_FIRST, _LAST = "the first tenth", "the last tenth"


def _prepare(place: Place, scales: Sequence[int]) -> Stage:
    contestants: list[Contestant] = []
    ratios: list[Ratio] = []
    circle = stores.circle(place.shelf, 2)
    for scale in scales:
        work = [Change("cluster", KEYS[0], change.value, change.comment) for change in changes(SIDES[0], scale)]
        expected = answer(outcome(paths_of_settings(), work))
        written = place.folder / str(scale)
        shutil.copytree(circle, written)
        asyncio.run(_write(written, work))
        tenth = scale // 10
        parts = (Part(_FIRST, Unit.SECONDS, tenth), Part(_LAST, Unit.SECONDS, tenth))
        author = Contestant("author", scale, scale, expected, partial(_author, circle, work), parts=parts)
        merge = Contestant("merge", scale, scale, expected, partial(_merge, written, tenth), parts=parts)
        contestants += [author, merge]
        ratios += [Ratio(one.part(_LAST), one.part(_FIRST), at_least=0.9) for one in (author, merge)]
    return Stage(contestants, ratios)


async def _write(written: Path, work: Sequence[Change]) -> pace.Pace:
    """Have the first machine write, one after the other."""
    node = await machine(SIDES[0]).open(written / SIDES[0])
    followed = pace.Pace()
    for number, change in enumerate(work, 1):
        await commit(node, change)
        followed.note(number)
    await node.close()
    return followed


def _author(circle: Path, work: Sequence[Change], folder: Path) -> Trial:
    shutil.copytree(circle, folder, dirs_exist_ok=True)
    followed = asyncio.run(_write(folder, work))
    return _trial(followed, len(work) // 10, answer(standing_in(folder / SIDES[0])))


def _merge(written: Path, tenth: int, folder: Path) -> Trial:
    shutil.copytree(written, folder, dirs_exist_ok=True)
    followed, said = asyncio.run(_merging(folder))
    answers = {said, answer(standing_in(folder / SIDES[1]))}
    return _trial(followed, tenth, " or ".join(sorted(answers)))


async def _merging(folder: Path) -> tuple[pace.Pace, str]:
    one, other = [side(each, await each.open(folder / each.hostname)) for each in map(machine, SIDES)]
    async with pace.of_node(other.node) as followed:
        await meet(one, other)
    said = await documents_say(other.node, folder / SIDES[1])
    for each in (one, other):
        await each.node.close()
    return followed, said


def _trial(followed: pace.Pace, tenth: int, said: str) -> Trial:
    return Trial(followed.seconds, said, {_FIRST: followed.first(tenth), _LAST: followed.last(tenth)})


QUESTION = Question(
    name="hot_key",
    title="One key, written again and again",
    operation="write",
    scale="writes",
    rounds={Size.SMOKE: 1, Size.REAL: 2},
    scales={Size.SMOKE: (100,), Size.REAL: (10_000,)},
    prepare=_prepare,
)
