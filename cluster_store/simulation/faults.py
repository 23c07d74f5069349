"""What goes wrong: one coroutine for each kind of fault, which strikes at random moments until the healing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random

from cluster_store.simulation import disk_faults, host_faults, network_faults
from cluster_store.simulation.clock import Pause
from cluster_store.simulation.fleet import Fleet
from cluster_store.simulation.process import Witness
from cluster_store.simulation.scene import Scene

_FAULTS: dict[str, Callable[[Scene], Awaitable[None]]] = {
    "cut": network_faults.cut,
    "oneway": network_faults.oneway,
    "slow": network_faults.slow,
    "crash": host_faults.crash,
    "midsync": host_faults.midsync,
    "pause": host_faults.pause,
    "clock": host_faults.clock,
    "full": disk_faults.full,
    "append": disk_faults.append,
    "flip": disk_faults.flip,
    "restore": disk_faults.restore,
    "clone": host_faults.clone,
    "faulty": host_faults.faulty,
    "upgrade": host_faults.upgrade,
}


class Faults:
    """All faults of one run."""

    def __init__(self, fleet: Fleet, seed: int, witness: Witness) -> None:
        self._fleet = fleet
        self._seed = seed
        self._witness = witness

    def begin(self) -> None:
        """Let the faults that the options name strike from now on."""
        for name, mean_ms in self._fleet.options.faults.items():
            scene = Scene(self._fleet, Random(f"{name} {self._seed}"), self._witness)
            self._fleet.clock.spawn(self._strike(_FAULTS[name], scene, mean_ms), self._fleet.life)

    @staticmethod
    async def _strike(fault: Callable[[Scene], Awaitable[None]], scene: Scene, mean_ms: int) -> None:
        while True:
            await Pause(round(scene.dice.expovariate(1 / mean_ms)))
            await fault(scene)

    def heal(self) -> None:
        """Undo all that goes wrong just now, except for clocks, which stay wrong.

        Stores that a bit was flipped in are examined, as an operator would who knows that something is wrong.
        """
        self._fleet.network.heal_all()
        for host in self._fleet.hosts:
            host.log.full, host.log.trouble = False, None
            host.version = self._fleet.version
            if host.log.disk.damage or host.log.hangs:
                self._fleet.crash(host)
            if host.process is not None:
                host.process.life.asleep_until = 0
            elif host.joined:
                self._fleet.start(host)
