"""The same seed gives the same run, wherever it runs, however often somebody looks."""

from __future__ import annotations

import os
import subprocess
import sys

import msgspec
import pytest

from cluster_store.simulation.options import draw
from cluster_store.simulation.run import Run

PROGRAM = """
from cluster_store.simulation.options import draw
from cluster_store.simulation.run import Run
print(*(Run(seed, draw(seed)).play().trace_digest for seed in (2, 9, 13)))
"""


def test_two_processes_agree_whatever_their_hash_seed() -> None:
    """Nothing in a run comes from the order of a set, from the clock or from another run before it."""
    said = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert said[0] == said[1]
    assert len(set(said[0].split())) == 3


@pytest.mark.parametrize("seed", [4, 21])
def test_checkers_change_nothing(seed: int) -> None:
    """A run that is looked at after every step is the run that was looked at now and then."""
    options = draw(seed, machines=3, events=20)
    often = Run(seed, msgspec.structs.replace(options, check_every=1)).play()
    seldom = Run(seed, msgspec.structs.replace(options, check_every=500)).play()
    assert often.trace_digest == seldom.trace_digest


def test_other_seeds_are_other_runs() -> None:
    """Options and everything behind them come from the seed."""
    assert len({Run(seed, draw(seed, events=5)).play().trace_digest for seed in range(5)}) == 5
    assert len({msgspec.json.encode(draw(seed)) for seed in range(20)}) == 20
