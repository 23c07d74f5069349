"""A whole ``get``, ``clusterconfig list`` or ``log -n 20``, from start to end, beside programs that do nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from time import perf_counter

from benchmarks import stores
from benchmarks.harness import Contestant, Place, Question, Ratio, Role, Size, Stage, Trial
from benchmarks.machines import FOUNDING_RECORDS, paths_of_settings
from benchmarks.workload import KEYS, MACHINES, Change, changes, outcome

_KEY = KEYS[0]
_LAST = 20
#: What the console script does.
_PROGRAM = "from cluster_store_cli.main import run; run()"
_EMPTY_TYPER = """
import typer
app = typer.Typer()

@app.command()
def main() -> None:
    pass

app()
"""
#: As with any help or error that typer shows.
_EMPTY_TYPER_WITH_RICH = f"import typer.rich_utils{_EMPTY_TYPER}"


def _prepare(place: Place, scales: Sequence[int]) -> Stage:
    interpreter = _program("interpreter alone", "pass")
    typer = _program("empty typer application", _EMPTY_TYPER)
    with_rich = _program("the same with rich", _EMPTY_TYPER_WITH_RICH)
    contestants: list[Contestant] = []
    ratios: list[Ratio] = []
    for words, at_most in ((("get", _KEY), 0.25), (("clusterconfig", "list"), 1.1), (("log", "-n", str(_LAST)), 1.1)):
        same = [_command(stores.full(place.shelf, scale), scale, words) for scale in scales]
        contestants += same
        ratios += [Ratio(one, with_rich, at_most=at_most) for one in same]
        ratios += [Ratio(larger, same[0], at_most=1.1) for larger in same[1:]]
    ratios += [Ratio(with_rich, other) for other in (typer, interpreter)]
    return Stage([*contestants, interpreter, typer, with_rich], ratios)


def _program(name: str, text: str) -> Contestant:
    return Contestant(name, 0, 1, "nothing", partial(_run, [text], lambda said: said or "nothing"), Role.FLOOR)


def _command(store: Path, scale: int, words: Sequence[str]) -> Contestant:
    work = changes(MACHINES[0], scale - FOUNDING_RECORDS)
    expected = _expected(words[0], work)
    run = partial(_run, [_PROGRAM, "--store", str(store), *words], partial(_gist, words[0]))
    return Contestant(" ".join(words), scale, 1, expected, run)


def _expected(command: str, work: Sequence[Change]) -> str:
    if command == "get":
        return _hash(_effective(work) + "\n")
    if command == "clusterconfig":
        return "every machine"
    return f"{_LAST} events"


def _gist(command: str, said: str) -> str:
    """Return what counts of a command's output: of tables that the content is right, not how they are drawn."""
    if command == "get":
        return _hash(said)
    if command == "clusterconfig":
        return "every machine" if all(name in said for name in MACHINES) else f"machines are missing: {said}"
    return f"{sum('ticket' in line for line in said.splitlines())} events"


def _effective(work: Sequence[Change]) -> str:
    """Return the value that counts on the first machine: its own, else its group's, else the cluster's."""
    paths = paths_of_settings()
    standing = outcome(paths, work)
    levels = (f"machine:{MACHINES[0]}", "group:Main_Group", "cluster")
    return next(standing[path][0] for level in levels if (path := paths[level] + _KEY) in standing)


def _run(arguments: Sequence[str], gist: Callable[[str], str], folder: Path) -> Trial:
    begun = perf_counter()
    done = subprocess.run([sys.executable, "-c", *arguments], cwd=folder, capture_output=True, check=False, text=True)
    return Trial(perf_counter() - begun, done.stderr or gist(done.stdout))


def _hash(output: str) -> str:
    return sha256(output.encode()).hexdigest()


QUESTION = Question(
    name="cold_get",
    title="`get`, `clusterconfig list` and `log -n 20`, the whole process",
    operation="call",
    scale="records",
    rounds={Size.SMOKE: 1, Size.REAL: 7},
    scales={Size.SMOKE: (100,), Size.REAL: (1_000, 50_000), Size.LONG: (1_000, 50_000, 200_000)},
    prepare=_prepare,
)
