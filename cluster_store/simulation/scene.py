"""What one kind of fault has at hand: the fleet, dice of its own, and somebody to tell what it does.

Each kind throws its own dice, so that leaving out one of them leaves the others as they were.
"""

from __future__ import annotations

from random import Random

from cluster_store.simulation.clock import Pause
from cluster_store.simulation.fleet import Fleet
from cluster_store.simulation.host import Host
from cluster_store.simulation.process import Witness
from cluster_store.simulation.workload import draw_command

#: How long to wait for a process to start, milliseconds.
_START_MS = 200


class Scene:
    """Where one kind of fault strikes."""

    def __init__(self, fleet: Fleet, dice: Random, witness: Witness) -> None:
        self.fleet = fleet
        self.dice = dice
        self._witness = witness

    def running(self) -> Host | None:
        """Return a member that runs, and no clone of one; None where there is none."""
        members = [host for host in self.fleet.members if not host.cloned]
        return self.dice.choice(members) if members else None

    def happens(self, share: float) -> bool:
        """Say yes in so many of all cases, 0 to 1."""
        return self.dice.random() < share

    def length_ms(self) -> int:
        """Return how long a fault lasts."""
        return 1 + round(self.dice.expovariate(1 / self.fleet.options.fault_ms))

    async def a_while(self) -> None:
        """Let a fault last."""
        await Pause(self.length_ms())

    def say(self, host: Host | None, text: str) -> None:
        """Tell what happens to a host, or to all of them."""
        self._witness.saw(host.name if host else "-", text)

    async def down(self, host: Host, *, power_lost: bool) -> None:
        """End a host's process; it starts again after a while."""
        joined = host.joined
        self.fleet.crash(host, power_lost=power_lost)
        await self.a_while()
        if joined:
            self.up(host)

    async def work_at_once(self, host: Host) -> None:
        """Let people ask a host for changes as soon as it is up, mostly before it meets anybody."""
        await self.fleet.clock.until(lambda: host.replica is not None, _START_MS, 5)
        for _ in range(self.dice.randint(1, 2)):
            if host.process is not None:
                host.process.submit(draw_command(self.fleet, host, self.dice))

    def up(self, host: Host) -> None:
        """Start a host's process, unless somebody else did or the host is gone."""
        if host in self.fleet.hosts and host.process is None and host.joined:
            self.fleet.start(host)
