"""Stores that are not what their machine last wrote: copied back from earlier, or running twice."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import pytest

from tests.end_to_end.machines import Fleet, Machine, converged

#: How clustercheck calls it.
NAMED = "restored or cloned machine"


def check(machines: Sequence[Machine], named: Machine, events: set[str]) -> None:
    """Insist that all machines agree, that nothing is lost, and that clustercheck names one of them everywhere."""
    converged(*machines)
    for machine in machines:
        assert events <= {event["id"] for event in machine.events()}
        problems = machine.ask("clustercheck", status=3)["problems"]
        assert any(problem["kind"] == NAMED and named.hostname in problem["text"] for problem in problems)
    named.verify()


@pytest.mark.parametrize(("which", "in_place"), [(2, False), (1, True)], ids=["the folder", "the database in place"])
def test_a_store_copied_back_from_before_its_last_changes(
    cluster: list[Machine], machines: Fleet, which: int, *, in_place: bool
) -> None:
    """Its last changes come back from the others, what it writes then is kept too, and it is named."""
    victim, other = cluster[which], cluster[0]
    keys = f"restored.{victim.name}"
    victim.set(f"{keys}.before", "kept")
    converged(*cluster)
    victim.stop()
    backup = machines.folder / "backup"
    shutil.copytree(victim.store, backup)
    victim.serve()
    events = {victim.set(f"{keys}.late.{number}", str(number)) for number in range(10)}
    converged(*cluster)
    victim.stop()
    if in_place:
        # The file stays the same one, so that nothing shows what happened.
        (victim.store / "cluster.db").write_bytes((backup / "cluster.db").read_bytes())
    else:
        shutil.rmtree(victim.store)
        shutil.copytree(backup, victim.store)
    # Before it meets anybody.
    events.add(victim.set(f"{keys}.alone", "yes"))
    events.add(victim.set(f"{keys}.late.3", "otherwise"))
    victim.serve()
    events.add(other.set(f"{keys}.there", "yes"))
    converged(*cluster)
    events.add(victim.set(f"{keys}.after", "yes"))
    check(cluster, victim, events)
    assert [victim.get(f"{keys}.late.{number}") for number in (0, 9)] == [0, 9]
    assert [other.get(f"{keys}.{key}") for key in ("before", "alone", "after")] == ["kept", "yes", "yes"]
    (collision,) = (found for found in other.ask("clustercheck", status=3)["conflicts"] if keys in found["path"])
    assert sorted(str(lane["value"]) for lane in collision["lanes"]) == ["3", "otherwise"]


def test_a_store_that_runs_twice(machines: Fleet) -> None:
    """What either of two machines with one identity changes reaches all, the other one too, and they are named."""
    mx1, mx2, mx3 = machines.cluster("mx1", "mx2", "mx3")
    mx3.stop()
    twin = machines.machine("twin", mx3.address)
    shutil.copytree(mx3.store, twin.store)
    mx3.serve()
    twin.do("machine", "set", "--ssh-port", "0")
    twin.serve()
    events = set()
    for number in range(3):
        for machine in (mx1, mx3, twin):
            events.add(machine.set(f"twice.{machine.name}.{number}", str(number)))
            events.add(machine.set("twice.both", machine.name))
    check([mx1, mx2, mx3, twin], mx3, events)
    for reader in (mx3, twin, mx2):
        assert reader.get("twice.mx3.2") == reader.get("twice.twin.2") == reader.get("twice.mx1.2") == 2
