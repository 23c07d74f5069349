"""Two halves of a cut that remove each other: nobody fails, and each machine goes by the removals that it knows."""

from __future__ import annotations

import msgspec
import pytest

from cluster_store.core.causality import vector
from cluster_store.core.commands import RemoveMachines, SetSetting
from cluster_store.core.rules import read
from cluster_store.core.types import RecordId
from cluster_store.simulation.clock import Pause
from cluster_store.simulation.host import Host
from cluster_store.simulation.options import draw
from cluster_store.simulation.run import Run

#: How long the cut lasts, milliseconds: links survive a short one, and what was sent on them goes on; after a long one
#: both sides begin anew, and know of the removals by then.
SHORT, LONG = 600, 30_000
#: Machines on each side.
HALF = 3


class Halves(Run):
    """A fleet that is cut in two; each side removes the other one, and writes on."""

    def __init__(self, seed: int, *, cut_ms: int, between: int) -> None:
        """Form a fleet.

        Args:
            seed: decides how long everything takes.
            cut_ms: how long the cut lasts.
            between: so many more machines reach both sides all the time, and nobody removes them.
        """
        machines = 2 * HALF + between
        options = draw(seed, machines=machines, events=0, faults=[])
        super().__init__(seed, msgspec.structs.replace(options, founders=machines))
        self.cut_ms = cut_ms
        #: Host -> the record that it wrote before it could know that it is removed.
        self.written: dict[str, RecordId] = {}
        #: The hosts that take changes in the end.
        self.writing: list[str] = []

    @property
    def sides(self) -> tuple[list[Host], list[Host]]:
        """The two halves."""
        return self.fleet.hosts[:HALF], self.fleet.hosts[HALF : 2 * HALF]

    def _live(self) -> None:
        self._converge()
        self._finish(self._quarrel(), 200_000)

    def _heal(self) -> None:
        """There is nothing left to heal."""
        self.invariants.check_all()

    async def _quarrel(self) -> None:
        one, two = self.sides
        ways = [(a.name, b.name) for a in one for b in two]
        ways += [(b, a) for a, b in ways]
        self.fleet.network.cut(ways)
        for side, others in ((one, two), (two, one)):
            await self._remove(side[0], others)
        for host in self.fleet.hosts:
            if record := await self._write(host, "meanwhile"):
                self.written[host.name] = record
        await Pause(self.cut_ms)
        self.fleet.network.heal(ways)
        await Pause(30_000)
        for host in self.fleet.hosts:
            if await self._write(host, "afterwards"):
                self.writing.append(host.name)
        await Pause(10_000)

    async def _remove(self, host: Host, others: list[Host]) -> None:
        asked = await self.fleet.ask(host, RemoveMachines(machines=tuple(other.machine for other in others)))
        assert asked is not None

    async def _write(self, host: Host, key: str) -> RecordId | None:
        command = SetSetting(key=f"{key}.{host.name}", value="1", level="cluster", salt=b"s" * 16)
        asked = await self.fleet.ask(host, command)
        return None if asked is None or asked.reply is None else RecordId(str((asked.reply.result or {})["event"]))


@pytest.mark.parametrize("between", [0, 1])
@pytest.mark.parametrize("cut_ms", [SHORT, LONG])
@pytest.mark.parametrize("seed", range(3))
def test_two_halves_that_remove_each_other(seed: int, cut_ms: int, between: int) -> None:
    """Whoever knows of its own removal refuses changes; the others go on, agree, and lose nothing of each other's."""
    run = Halves(seed, cut_ms=cut_ms, between=between)
    verdict = run.play()
    assert verdict.passed, "\n".join([verdict.failure, *verdict.trace[-60:]])

    members = {host.name: read(host.log.disk).machines for host in run.fleet.hosts}
    assert run.writing == [host.name for host in run.fleet.hosts if host.machine in members[host.name]]
    one, two = ([host.name for host in side if host.name in run.writing] for side in run.sides)
    if between:
        # It keeps to those of whom it learns no removal; the others hear of theirs from it, or find it closed to them.
        witness = run.fleet.hosts[-1]
        assert witness.name in run.writing
        kept = [side for side in run.sides if any(host.machine in members[witness.name] for host in side)]
        assert len(kept) <= 1
    else:
        # Neither side hears of its own removal, since neither talks to the other any more: they are two clusters.
        assert len(one) == len(two) == HALF
    for host in run.fleet.hosts:
        for other in run.fleet.hosts:
            if host.machine in members[other.name] and other.machine in members[host.name]:
                assert vector(host.log.disk.lines.values()) == vector(other.log.disk.lines.values())
    for name, record in run.written.items():
        together = [side for side in run.sides if name in [host.name for host in side]]
        for host in together[0] if together else []:
            if host.name in run.writing and name in run.writing:
                assert record in host.log.disk.positions
