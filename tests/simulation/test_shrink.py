"""Of a run that fails, the smallest one that was found to fail too is told, and can be repeated."""

from __future__ import annotations

import msgspec
import pytest

from cluster_store.core.effects import AppendFailed, Effect, Input
from cluster_store.core.replica import Replica
from cluster_store.simulation.options import FAULTS, Options, draw
from cluster_store.simulation.run import Run, simulate
from cluster_store.simulation.shrink import Shrinking


def test_what_a_failure_does_not_need_is_left_out() -> None:
    """Commands behind the one that it needs, and faults that it does not."""
    options = draw(3, events=80, faults=list(FAULTS))

    def fails(candidate: Options) -> bool:
        return candidate.events >= 23 and {"cut", "flip"} <= candidate.faults.keys()

    shrinking = Shrinking(options, fails)
    smallest = shrinking.search()
    assert (smallest.events, sorted(smallest.faults)) == (23, ["cut", "flip"])
    assert shrinking.runs <= 40


def test_the_search_is_bounded() -> None:
    """Whoever waits for a failure waits for so many runs more, and no longer."""
    options = draw(3, events=80, faults=list(FAULTS))
    shrinking = Shrinking(options, lambda candidate: candidate.events > 50, runs_max=5)
    assert shrinking.search().events < 80
    assert shrinking.runs == 5


def test_a_failure_is_told_with_the_smallest_run_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It breaks the same invariant, ends with it, and its options are what the command line can ask for."""
    step = Replica.step

    def failing(replica: Replica, given: Input) -> list[Effect]:
        if isinstance(given, AppendFailed):
            raise KeyError("disk")
        return step(replica, given)

    monkeypatch.setattr(Replica, "step", failing)
    seed = next(seed for seed in range(200) if not Run(seed, draw(seed, machines=3)).play().passed)
    verdict = simulate(seed, draw(seed, machines=3))
    smallest = verdict.smallest
    assert smallest is not None
    assert smallest.failure.startswith("invariant 17 broke")
    assert smallest.trace[-1].endswith(smallest.failure)
    assert len(smallest.options.faults) == 1
    assert smallest.options.events <= verdict.options.events
    again = draw(seed, machines=3, events=smallest.options.events, faults=list(smallest.options.faults))
    assert again == smallest.options
    assert Run(seed, again).play().invariant == 17


def test_a_run_with_fewer_commands_is_the_beginning_of_the_one_with_more() -> None:
    """Until it is healed, which the longer one is later."""
    seed = next(seed for seed in range(20) if draw(seed).burst == 1)
    traces = []
    for events in (10, 20):
        run = Run(seed, draw(seed, events=events))
        run.play()
        lines = list(run.trace.lines())
        traces.append(lines[: next(index for index, line in enumerate(lines) if "everything is healed" in line)])
    shorter, longer = traces
    assert len(shorter) > 50
    assert longer[: len(shorter)] == shorter


def test_leaving_out_a_fault_leaves_the_others_as_often() -> None:
    """Rates are drawn for all of them, whether they happen or not."""
    both, one = draw(8, faults=["cut", "crash"]), draw(8, faults=["crash"])
    assert msgspec.structs.replace(both, faults={"crash": both.faults["crash"]}) == one
