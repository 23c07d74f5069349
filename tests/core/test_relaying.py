"""In a large fleet most links carry a new record one way: the others let those be first who push it at once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cluster_store.core import commands, sync
from cluster_store.core.effects import Due, Records
from cluster_store.core.overlay import pushed_to
from tests.core.agreement import agree, log_of
from tests.replicas import Fleet, Machine

NAMES = ("anna", "bert", "cleo", "dora", "emil")


@pytest.fixture(autouse=True)
def large_from_four(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a fleet be large that is quick to make."""
    monkeypatch.setattr(sync, "FULL_MESH_MAX", 3)


def batches_waiting(machines: Sequence[Machine]) -> int:
    """Return how many batches of records are on their way."""
    return sum(isinstance(message, Records) for machine in machines for _, message in machine.inbox)


async def time_passes(machines: Sequence[Machine]) -> None:
    """Let every machine wait no longer with what it has held back."""
    for machine in machines:
        for link in list(machine.links):
            await machine.feed(Due(link))


async def ring(fleet: Fleet) -> Sequence[Machine]:
    """Return machines that are linked as in a large fleet: only where one of the two pushes."""
    machines = await fleet.fleet_of(*NAMES)
    await time_passes(machines)
    await fleet.pump()
    pushed = {one.id: pushed_to(one.id, [other.id for other in machines if other is not one]) for one in machines}
    for number, one in enumerate(machines):
        for other in machines[number + 1 :]:
            if other.id not in pushed[one.id] and one.id not in pushed[other.id]:
                await fleet.cut(one, other)
    return machines


async def star(fleet: Fleet) -> tuple[Machine, Machine]:
    """Return the middle of a star, and one of those around it that it does not push to."""
    machines = await fleet.fleet_of(*NAMES)
    await time_passes(machines)
    await fleet.pump()
    middle, *others = machines
    for number, one in enumerate(others):
        for other in others[number + 1 :]:
            await fleet.cut(one, other)
    first = pushed_to(middle.id, [other.id for other in others])
    return middle, next(other for other in others if other.id not in first)


async def test_a_record_is_pushed_to_two_and_reaches_all() -> None:
    """Nobody's time has to pass, and when it has, everybody has all that they would be sent."""
    fleet = Fleet()
    machines = await ring(fleet)
    await machines[0].set("a", "1")
    assert batches_waiting(machines) == 2
    await fleet.pump()
    await agree(*machines)
    await time_passes(machines)
    assert batches_waiting(machines) == 0


async def test_whoever_is_left_out_gets_it_a_little_later() -> None:
    """The only link of a machine is one that lets others be first: then it waits for nobody, and nobody else is it."""
    fleet = Fleet()
    middle, left_out = await star(fleet)
    await middle.set("a", "1")
    await fleet.pump()
    assert len(log_of(left_out).records) < len(log_of(middle).records)
    await time_passes([middle])
    await fleet.pump()
    await agree(*fleet.machines)


async def test_what_is_written_meanwhile_waits_its_own_while() -> None:
    """Else the newest would always go out before others could have brought it."""
    fleet = Fleet()
    middle, left_out = await star(fleet)
    before = len(log_of(middle).records)
    await middle.set("a", "1")
    await middle.set("b", "1")
    await time_passes([middle])
    await middle.set("c", "1")
    await fleet.pump()
    assert len(log_of(left_out).records) == before + 1
    await time_passes([middle])
    await time_passes([middle])
    await fleet.pump()
    await agree(*fleet.machines)


async def test_many_records_that_were_held_back_go_out_in_batches() -> None:
    """More than the window holds, acknowledged bit by bit."""
    fleet = Fleet()
    middle, _ = await star(fleet)
    for number in range(60):
        await middle.set(f"a{number}", "1")
    for _ in range(2):
        await time_passes([middle])
        await fleet.pump()
    await agree(*fleet.machines)


async def test_a_machine_hears_of_its_removal_at_once() -> None:
    """What ends a link is not left to others, who may have no link to that machine."""
    fleet = Fleet()
    middle, left_out = await star(fleet)
    await middle.command(commands.RemoveMachines(machines=(left_out.name,)))
    await fleet.pump()
    assert left_out.id in left_out.cluster.removed


async def test_a_link_that_ends_leaves_its_work_to_the_others() -> None:
    """When the peers that were pushed to are gone, what is new is pushed to those who are left."""
    fleet = Fleet()
    middle, left_out = await star(fleet)
    for other in fleet.machines:
        if other not in (middle, left_out):
            await fleet.cut(middle, other)
    await middle.set("a", "1")
    await fleet.pump()
    await agree(middle, left_out)
