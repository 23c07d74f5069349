"""Stores that are not what their machine last wrote: copied back from earlier, or running twice."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import pytest

from tests.end_to_end.load import writers
from tests.end_to_end.machines import PATIENCE_S, Fleet, Machine, converged
from tests.waiting import wait_until

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
    late = victim.set(f"{keys}.late", "first")
    with writers([victim]) as writing:
        writing[victim.name].wait_for(10)
    events = {late, *writing[victim.name].acknowledged}
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
    events.add(victim.set(f"{keys}.late", "otherwise"))
    victim.serve()
    events.add(other.set(f"{keys}.there", "yes"))
    converged(*cluster)
    events.add(victim.set(f"{keys}.after", "yes"))
    check(cluster, victim, events)
    assert [other.get(f"{keys}.{key}") for key in ("before", "alone", "after")] == ["kept", "yes", "yes"]
    (collision,) = (found for found in other.ask("clustercheck", status=3)["conflicts"] if keys in found["path"])
    assert sorted(lane["value"] for lane in collision["lanes"]) == ["first", "otherwise"]


def test_a_store_that_runs_twice(machines: Fleet) -> None:
    """Of two machines with one identity the copy takes no changes as soon as the others tell it; nothing is lost."""
    mx1, mx2, mx3 = machines.cluster("mx1", "mx2", "mx3")
    mx3.stop()
    twin = machines.machine("twin", mx3.address)
    shutil.copytree(mx3.store, twin.store)
    mx3.serve()
    events = {mx3.set("twice.first", "1")}
    twin.do("machine", "set", "--ssh-port", "0")
    events.add(twin.set("twice.alone", "1"))
    twin.serve()
    wait_until(lambda: twin.status()["twin"], PATIENCE_S, what="that the copy is told of")
    assert "the younger of the two" in twin.status()["twin"]
    told = twin.run("set", "twice.late", "1", "-m", "too late").expect(1).err
    assert "takes no changes" in told
    assert "stop one of them" in told
    wait_until(lambda: mx3.status()["twin"], PATIENCE_S, what="that the first one is told of")
    assert "stop it" in mx3.status()["twin"]
    assert "runs twice" in "".join(machine.links()["mx3"]["reason"] for machine in (mx1, mx2))
    events |= {mx1.set("twice.mx1", "1"), mx3.set("twice.mx3", "1")}
    check([mx1, mx2, mx3], mx3, events)
    mx3.stop()
    twin.stop()
    twin.serve()
    events.add(twin.set("twice.after", "1"))
    check([mx1, mx2, twin], mx3, events)
