"""Daemons killed at any moment, in the middle of everybody's work."""

from __future__ import annotations

import random

import pytest

from tests.end_to_end.load import writers
from tests.end_to_end.machines import Machine, converged


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_daemons_killed_under_load_lose_nothing_that_they_acknowledged(cluster: list[Machine], kills: int) -> None:
    """After SIGKILL of one daemon after the other at random moments, every acknowledged change is on every machine."""
    dice = random.Random(kills)
    with writers(cluster) as writing:
        for _ in range(kills):
            victim = dice.choice(cluster)
            writing[victim.name].wait_for(dice.randrange(60))
            victim.kill()
            victim.launch()
            if dice.random() < 0.2:
                # Once more, while it is starting.
                bystander = dice.choice([machine for machine in cluster if machine is not victim])
                writing[bystander.name].wait_for(dice.randrange(60))
                victim.kill()
                victim.launch()
        for writer in writing.values():
            writer.wait_for(1)
    converged(*cluster)
    acknowledged = {event for writer in writing.values() for event in writer.acknowledged}
    assert len(acknowledged) > kills
    for machine in cluster:
        assert acknowledged <= {event["id"] for event in machine.events()}
        for writer in writing.values():
            _check_values(machine, writer.numbers)
        machine.verify()
    assert not [problem for problem in cluster[0].ask("clustercheck")["problems"] if "clone" in problem["kind"]]


def _check_values(machine: Machine, numbers: dict[str, int]) -> None:
    """Insist that each key has the number last acknowledged, or a later one of which nobody knew."""
    found = machine.ask("showconfig", "--prefix", "load.")
    for key, number in numbers.items():
        assert found[key] >= number, key
