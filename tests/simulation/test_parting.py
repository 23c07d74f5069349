"""Two machines that detach each other at once, each with more to deliver than goes out unacknowledged."""

from __future__ import annotations

import msgspec
import pytest

from cluster_store.core.commands import DetachMachines, SetSetting
from cluster_store.core.effects import Close
from cluster_store.core.sync import WINDOW
from cluster_store.simulation.options import draw
from cluster_store.simulation.run import Run


class Parting(Run):
    """Both sides write and part while frames are held up on a link that survives."""

    def __init__(self, seed: int) -> None:
        options = draw(seed, machines=2, events=0, faults=[])
        super().__init__(seed, msgspec.structs.replace(options, founders=2, batch_records=1, delay_ms=(5, 50)))

    def _live(self) -> None:
        self._converge()
        self._finish(self._part(), 20_000)

    async def _part(self) -> None:
        anna, bert = self.fleet.hosts
        ways = [(anna.name, bert.name), (bert.name, anna.name)]
        self.fleet.network.cut(ways)
        for host, other in ((anna, bert), (bert, anna)):
            for number in range(2 * WINDOW):
                key = f"{host.name}.{number}"
                await self.fleet.ask(host, SetSetting(key=key, value="1", level="cluster", salt=b"s" * 16))
            assert await self.fleet.ask(host, DetachMachines(machines=(other.machine,)))
        self.fleet.network.heal(ways)
        assert await self.fleet.clock.until(self._both_let_go, 20_000)

    def _both_let_go(self) -> bool:
        closing = {moment.place for moment in self.trace.moments if isinstance(moment.thing, Close)}
        return closing == {"anna", "bert"}


@pytest.mark.parametrize("seed", range(4))
def test_two_that_detach_each_other_let_go_of_their_link(seed: int) -> None:
    """Neither waits for ever for the other to acknowledge, and both are taken back afterwards."""
    verdict = Parting(seed).play()
    assert verdict.passed, "\n".join([verdict.failure, *verdict.trace[-40:]])
