"""A whole ``get``, from the start of its process to the end, beside programs that do nothing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from time import perf_counter

from benchmarks.harness import Contestant, Question, Ratio, Size, Stage, Trial
from benchmarks.machines import FOUNDING_RECORDS, commit_in_bursts, found_cluster, machine, paths_of_settings
from benchmarks.workload import KEYS, MACHINES, Change, changes, outcome

_KEY = KEYS[0]
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


def _prepare(folder: Path, scales: Sequence[int]) -> Stage:
    interpreter = _program("interpreter alone", "pass")
    typer = _program("empty typer application", _EMPTY_TYPER)
    with_rich = _program("the same with rich", _EMPTY_TYPER_WITH_RICH)
    gets = [_get(folder / str(scale), scale) for scale in scales]
    return Stage(
        [*gets, interpreter, typer, with_rich],
        [
            *(Ratio(get, with_rich, at_most=1.3, stretch=0.25) for get in gets),
            *(Ratio(get, gets[0], at_most=1.1) for get in gets[1:]),
            *(Ratio(gets[-1], program) for program in (typer, interpreter)),
        ],
    )


def _program(name: str, text: str) -> Contestant:
    return Contestant(name, 0, 1, _hash(b""), partial(_run, [text]))


def _get(folder: Path, scale: int) -> Contestant:
    """Make a store of so many records, and return who looks into it."""
    folder.mkdir()
    work = changes(MACHINES[0], scale - FOUNDING_RECORDS)
    asyncio.run(_fill(folder, work))
    printed = _effective(work).encode() + b"\n"
    return Contestant("get", scale, 1, _hash(printed), partial(_run, [_PROGRAM, "--store", str(folder), "get", _KEY]))


async def _fill(folder: Path, work: Sequence[Change]) -> None:
    node = await found_cluster(machine(MACHINES[0]), folder)
    await commit_in_bursts(node, work, 256)
    await node.close()


def _effective(work: Sequence[Change]) -> str:
    """Return the value that counts on the first machine: its own, else its group's, else the cluster's."""
    paths = paths_of_settings()
    standing = outcome(paths, work)
    levels = (f"machine:{MACHINES[0]}", "group:Main_Group", "cluster")
    return next(standing[path][0] for level in levels if (path := paths[level] + _KEY) in standing)


def _run(arguments: Sequence[str], folder: Path) -> Trial:
    begun = perf_counter()
    done = subprocess.run([sys.executable, "-c", *arguments], cwd=folder, capture_output=True, check=True)
    return Trial(perf_counter() - begun, _hash(done.stdout))


def _hash(output: bytes) -> str:
    return sha256(output).hexdigest()


QUESTION = Question(
    name="cold_get",
    title="`cluster-store get KEY`, the whole process",
    operation="call",
    scale="records",
    rounds={Size.SMOKE: 1, Size.REAL: 25},
    scales={Size.SMOKE: (100,), Size.REAL: (1_000, 50_000)},
    prepare=_prepare,
)
