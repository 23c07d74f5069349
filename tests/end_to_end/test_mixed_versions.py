"""A fleet that is upgraded one machine after the other: other versions wait, link by link, and catch up."""

from __future__ import annotations

from tests.end_to_end.machines import PATIENCE_S, Machine, converged
from tests.waiting import wait_until

NEXT = "99.1"


def upgrade(machine: Machine) -> None:
    """Bring a machine to the next version, as an upgrade does: stop it, and start another program."""
    machine.stop()
    machine.do("machine", "set", "--platform-version", NEXT)
    machine.serve()


def apart(one: Machine, other: Machine) -> None:
    """Wait until both ends of a link say that it is held back, and which versions differ."""
    wait_until(lambda: one.link(other) == "version differs", PATIENCE_S, what=f"{one.name} to hold a link back")
    wait_until(lambda: other.link(one) == "version differs", PATIENCE_S, what=f"{other.name} to hold a link back")
    assert NEXT in one.links()[other.name]["reason"]
    assert NEXT in other.links()[one.name]["reason"]


def test_an_upgrade_of_one_machine_after_the_other(cluster: list[Machine]) -> None:
    """Machines of one version go on with each other; whoever is upgraded takes and brings what it lacks and has."""
    mx1, mx2, mx3 = cluster
    before = mx1.ask("machine", "show")["platform_version"]
    upgrade(mx3)
    apart(mx3, mx1)
    apart(mx3, mx2)
    events = {mx1.set("upgrade.old", "1"), mx3.set("upgrade.new", "1")}
    converged(mx1, mx2)
    assert mx1.link(mx2) == "connected"
    assert mx1.state() != mx3.state()

    upgrade(mx1)
    apart(mx1, mx2)
    converged(mx1, mx3)
    assert mx1.link(mx3) == "connected"
    events.add(mx2.set("upgrade.last", "1"))
    assert mx2.state() != mx1.state()

    upgrade(mx2)
    converged(*cluster)
    for machine in cluster:
        assert events <= {event["id"] for event in machine.events()}
        assert machine.ask("machine", "show")["platform_version"] == NEXT != before
