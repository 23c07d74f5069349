"""From the start of ``serve`` to its first answer, and to the first change that it has made durable."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

from benchmarks import daemons, stores
from benchmarks.harness import Contestant, Goal, Part, Place, Question, Ratio, Role, Size, Stage, Trial, Unit
from benchmarks.machines import FOUNDING_RECORDS, paths_of_settings, standing_in
from benchmarks.workload import KEYS, MACHINES, Change, answer, changes, outcome

_WRITE = "and first committed write"
_CHANGE = Change("cluster", KEYS[0], '"the first one"', "the first one")
#: What the daemon may take beyond the import of its SSH library, seconds.
_ALLOWANCE = 0.060


def _prepare(place: Place, scales: Sequence[int]) -> Stage:
    run = partial(_program, "import asyncssh")
    floor = Contestant("import asyncssh, a whole process", 0, 1, "done", run, Role.FLOOR)
    starts = [_start(stores.full(place.shelf, scale), scale) for scale in scales]
    writes = [one.part(_WRITE) for one in starts]
    return Stage(
        [*starts, floor],
        [Ratio(larger, same[0], at_most=1.1) for same in (starts, writes) for larger in same[1:]],
        [Goal(one, at_most=_ALLOWANCE, above=floor) for one in (*starts, *writes)],
    )


def _start(store: Path, scale: int) -> Contestant:
    work = [*changes(MACHINES[0], scale - FOUNDING_RECORDS), _CHANGE]
    expected = answer(outcome(paths_of_settings(), work))
    parts = (Part(_WRITE, Unit.SECONDS),)
    return Contestant("serve, first answered read", scale, 1, expected, partial(_serve, store), parts=parts)


def _serve(store: Path, folder: Path) -> Trial:
    shutil.copytree(store, folder, dirs_exist_ok=True)
    begun = perf_counter()
    with daemons.launched(folder):
        daemons.first_answer(folder)
        read = perf_counter() - begun
        daemons.commit(folder, _CHANGE)
        write = perf_counter() - begun
    return Trial(read, answer(standing_in(folder)), {_WRITE: write})


def _program(text: str, folder: Path) -> Trial:
    begun = perf_counter()
    subprocess.run([sys.executable, "-c", text], cwd=folder, check=True)
    return Trial(perf_counter() - begun, "done")


QUESTION = Question(
    name="start",
    title="`serve`, from the start of its process",
    operation="start",
    scale="records",
    rounds={Size.SMOKE: 1, Size.REAL: 5},
    scales={Size.SMOKE: (100,), Size.REAL: (1_000, 50_000), Size.LONG: (1_000, 50_000, 200_000)},
    prepare=_prepare,
    daemons=True,
)
