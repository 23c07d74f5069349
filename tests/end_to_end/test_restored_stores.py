"""Stores that are not what their machine last wrote: copied back from earlier, or running twice."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import pytest

from tests.end_to_end.machines import Fleet, Machine, converged

#: How clustercheck calls it.
NAMED = "restored or cloned machine"


def check(machines: Sequence[Machine], events: set[str]) -> None:
    """Insist that all machines agree, that nothing is lost, and that clustercheck names the third everywhere."""
    converged(*machines)
    for machine in machines:
        assert events <= {event["id"] for event in machine.events()}
        problems = machine.ask("clustercheck", status=3)["problems"]
        assert [problem["kind"] for problem in problems] == [NAMED]
        assert machines[2].hostname in problems[0]["text"]
    machines[2].verify()


@pytest.mark.parametrize("in_place", [False, True], ids=["the folder", "the database in place"])
def test_a_store_copied_back_from_before_its_last_changes(
    cluster: list[Machine], machines: Fleet, *, in_place: bool
) -> None:
    """Its last changes come back from the others, what it writes then is kept too, and it is named."""
    mx1, mx2, mx3 = cluster
    mx3.set("restored.before", "kept")
    converged(*cluster)
    mx3.stop()
    backup = machines.folder / "backup"
    shutil.copytree(mx3.store, backup)
    mx3.serve()
    events = {mx3.set(f"restored.late.{number}", str(number)) for number in range(10)}
    converged(*cluster)
    mx3.stop()
    if in_place:
        # The file stays the same one, so that nothing shows what happened.
        (mx3.store / "cluster.db").write_bytes((backup / "cluster.db").read_bytes())
    else:
        shutil.rmtree(mx3.store)
        shutil.copytree(backup, mx3.store)
    # Before it meets anybody.
    events.add(mx3.set("restored.alone", "yes"))
    events.add(mx3.set("restored.late.3", "otherwise"))
    mx3.serve()
    events.add(mx1.set("restored.there", "yes"))
    check(cluster, events)
    events.add(mx3.set("restored.after", "yes"))
    check(cluster, events)
    assert [mx3.get(f"restored.late.{number}") for number in (0, 9)] == [0, 9]
    assert [mx2.get(f"restored.{key}") for key in ("before", "alone", "after")] == ["kept", "yes", "yes"]


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
    check([mx1, mx2, mx3, twin], events)
    for reader in (mx3, twin, mx2):
        assert reader.get("twice.mx3.2") == reader.get("twice.twin.2") == reader.get("twice.mx1.2") == 2
