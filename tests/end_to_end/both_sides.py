"""Changes that two machines make while they cannot talk to each other, and what must come of them when they can."""

from __future__ import annotations

from collections.abc import Sequence

from tests.end_to_end.machines import Machine, converged


class BothSides:
    """Two machines that change the same things, and things of their own, at all three levels."""

    def __init__(self, here: Machine, there: Machine, group: str, keys: str) -> None:
        """Prepare changes.

        Args:
            here: one of the two.
            there: the other; the group and machine levels that are changed are its.
            group: the group that ``there`` is in.
            keys: what their keys begin with; nobody else may use it.
        """
        self.sides = (here, there)
        self.keys = keys
        #: As an operator writes them.
        self.levels = ("cluster", f"group:{group}", f"machine:{there.hostname}")
        self.events: set[str] = set()

    def change(self) -> None:
        """Make the changes, some of which collide, on both sides."""
        for side in self.sides:
            for level in self.levels:
                self.events.add(side.set(f"{self.keys}.shared", f"by {side.name}", level, "both sides change this"))
                self.events.add(side.set(f"{self.keys}.{side.name}", f"by {side.name}", level))
            added = side.ask("add", f"{self.keys}.hosts", f"relay of {side.name}", "relay of both", "-m", "why")
            self.events.add(added["event"])

    def check(self, machines: Sequence[Machine]) -> None:
        """Wait until all machines agree, and insist that nothing is lost and that every collision is named."""
        converged(*machines)
        for machine in machines:
            assert self.events <= {event["id"] for event in machine.events()}, machine.name
            self._check_collisions(machine)
            hosts = sorted(machine.get(f"{self.keys}.hosts"))
            assert hosts == sorted(["relay of both", *(f"relay of {side.name}" for side in self.sides)])
        for level in self.levels:
            kept = machines[1].ask("showconfig", "--level", level, "--prefix", f"{self.keys}.")
            for side in self.sides:
                assert kept[f"{self.keys}.{side.name}"] == f"by {side.name}"

    def _check_collisions(self, machine: Machine) -> None:
        found = {
            conflict["path"]: conflict
            for conflict in machine.ask("clustercheck", status=3)["conflicts"]
            if self.keys in conflict["path"]
        }
        assert sorted(found) == sorted(f"{level}:{self.keys}.shared" for level in self.levels)
        for conflict in found.values():
            lanes = {lane["value"]: lane["event"] for lane in conflict["lanes"]}
            assert lanes.keys() == {f"by {side.name}" for side in self.sides}
            assert set(lanes.values()) <= self.events
