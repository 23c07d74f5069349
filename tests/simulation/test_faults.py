"""Whatever a run is said to be about really happens in it: each fault, each kind of command, each clock."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import get_args

import pytest

from cluster_store.core import commands
from cluster_store.core.effects import Submit
from cluster_store.simulation.options import FAULTS, draw
from cluster_store.simulation.run import Run
from cluster_store.simulation.trace import describe
from cluster_store.simulation.workload import draw_command

SEEDS = 40
#: Fault -> what a trace says of it.
SIGNS = {
    "cut": ["cut: "],
    "oneway": ["cut: "],
    "slow": ["slow: "],
    "crash": ["is killed", "loses power"],
    "midsync": ["is in the middle of a sync"],
    "pause": ["stands still"],
    "clock": ["its clock jumps"],
    "full": ["cannot append: no space is left", "its disk has room"],
    "append": ["cannot append: the virtual disk failed after", "records written and not committed"],
    "flip": ["a bit flips: the data of", "cannot go on: the virtual disk", "is mended", "is thrown away"],
    "restore": ["is backed up", "is put back", "without a sign of it"],
    "clone": ["is cloned", "a copy of this store runs elsewhere"],
    "faulty": ["writes a faulty record"],
    "upgrade": ["is upgraded to", "version differs"],
}


def words(fault: str) -> Iterator[str]:
    """Yield what happens in runs with one fault, in words."""
    for seed in range(SEEDS):
        run = Run(seed, draw(seed, machines=3, events=40, faults=[fault]))
        assert run.play().passed
        yield from (describe(moment.thing, run.trace.names) for moment in run.trace.moments)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_does_what_it_says(fault: str) -> None:
    """Each of its signs is seen within a few runs."""
    missing = set(SIGNS[fault])
    for line in words(fault):
        missing -= {sign for sign in missing if sign in line}
        if not missing:
            return
    raise AssertionError(f"never seen: {missing}")


def test_a_void_record_in_the_middle_of_a_feed_stops_nobody() -> None:
    """What follows it in its feed, and what was written after seeing it, is in every log, and counts."""
    followed = seen = 0
    for seed in range(SEEDS):
        run = Run(seed, draw(seed, machines=3, events=40, faults=["faulty", "cut"]))
        assert run.play().passed
        logs = [host.log.disk.records for host in run.fleet.hosts if host in run.operators.staying]
        void = {added.record.id for added in logs[0] if added.void}
        for log in logs:
            assert {added.record.id for added in log if added.void} == void
            counting = [added.record.envelope for added in log if not added.void]
            followed += sum(envelope.prev in void for envelope in counting)
            seen += sum(not void.isdisjoint(envelope.after) for envelope in counting)
        if followed > 10 and seen > 10:
            return
    raise AssertionError(f"followed: {followed}, seen: {seen}")


def test_clocks_jump_to_1970_and_to_2099() -> None:
    """Records are written under both, and everybody still converges."""
    years = set()
    for seed in range(SEEDS):
        run = Run(seed, draw(seed, machines=3, events=40, faults=["clock"]))
        assert run.play().passed
        years |= {1970 + added.record.envelope.time // 31_556_952_000 for added in run.fleet.hosts[0].log.disk.records}
        if {1970, 2099} <= years:
            return
    raise AssertionError(f"only seen: {sorted(years)}")


def test_every_command_is_asked_for() -> None:
    """Whoever adds a command that changes something adds it to the workload."""
    run = Run(1, draw(1, machines=3, events=20, faults=[]))
    assert run.play().passed
    submitted = (moment.thing for moment in run.trace.moments if isinstance(moment.thing, Submit))
    asked = {type(request.command) for one in submitted for request in one.requests}
    dice = Random(1)
    asked |= {type(draw_command(run.fleet, run.fleet.hosts[0], dice)) for _ in range(3000)}
    assert {*get_args(commands.AnyCommand)} - asked == {commands.RemoveMachines}
    assert any(draw(seed).removals_at for seed in range(10))
