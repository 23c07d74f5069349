"""A fleet under faults loses nothing, and comes to one state when they end."""

from __future__ import annotations

import secrets

import pytest

from cluster_store.simulation.options import FAULTS, draw
from cluster_store.simulation.run import Verdict, simulate

#: Seeds that are always run. Behind the first ones stand those that once found something.
FIXED = (*range(30), 163, 371, 382, 409, 523, 921)
FRESH = 6


def told(verdict: Verdict) -> str:
    """Return what somebody needs who is to find out why a seed failed."""
    return "\n".join([f"seed {verdict.seed}: {verdict.failure}", repr(verdict.options), *verdict.trace[-80:]])


@pytest.mark.parametrize("seed", FIXED)
def test_a_fixed_seed_passes(seed: int) -> None:
    """The same seeds on every run, so that a failure is the last change's doing."""
    verdict = simulate(seed, draw(seed))
    assert verdict.passed, told(verdict)


def test_fresh_seeds_pass(capsys: pytest.CaptureFixture[str]) -> None:
    """Seeds that were never tried before; they are printed, so that a failure can be repeated."""
    seeds = [secrets.randbelow(1 << 32) for _ in range(FRESH)]
    with capsys.disabled():
        print(f"\nfresh seeds: {' '.join(map(str, seeds))}")  # noqa: T201 - whoever reads the log of a failed run needs it
    for seed in seeds:
        verdict = simulate(seed, draw(seed))
        assert verdict.passed, told(verdict)


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_alone_can_be_survived(fault: str) -> None:
    """A fault that was named happens, and alone."""
    options = draw(7, machines=3, events=30, faults=[fault])
    assert list(options.faults) == [fault]
    verdict = simulate(7, options)
    assert verdict.passed, told(verdict)


@pytest.mark.parametrize("machines", [1, 2, 6])
def test_a_fleet_of_any_size_can_be_asked_for(machines: int) -> None:
    """What is given is not drawn."""
    options = draw(5, machines=machines, events=15)
    assert (options.machines, options.events) == (machines, 15)
    verdict = simulate(5, options)
    assert verdict.passed, told(verdict)
    assert verdict.events > machines
