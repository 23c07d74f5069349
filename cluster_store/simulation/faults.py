"""What goes wrong: one coroutine for each kind of fault, which strikes at random moments until the healing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random

from cluster_store.simulation.clock import Pause
from cluster_store.simulation.fleet import BEGINNING_MS, Fleet, Host
from cluster_store.simulation.process import Witness

_DAY_MS = 24 * 3600 * 1000
#: 2099-12-31, milliseconds since 1970.
_LAST_DAY_MS = 4_102_358_400_000


class Faults:
    """All faults of one run."""

    def __init__(self, fleet: Fleet, dice: Random, witness: Witness) -> None:
        self._fleet = fleet
        self._dice = dice
        self._witness = witness
        self._clones = 0

    def begin(self) -> None:
        """Let the faults that the options name strike from now on."""
        for name, mean_ms in self._fleet.options.faults.items():
            self._fleet.clock.spawn(self._strike(_FAULTS[name], mean_ms), self._fleet.life)

    async def _strike(self, fault: Callable[[Faults], Awaitable[None]], mean_ms: int) -> None:
        while True:
            await Pause(round(self._dice.expovariate(1 / mean_ms)))
            await fault(self)

    def heal(self) -> None:
        """Undo all that goes wrong just now, except for clocks, which stay wrong."""
        self._fleet.network.heal_all()
        for host in self._fleet.hosts:
            host.log.full = False
            if host.process is not None:
                host.process.life.asleep_until = 0
            elif host.joined:
                self._fleet.start(host)

    # --- choices ---

    def _running(self) -> Host | None:
        members = self._fleet.members
        return self._dice.choice(members) if members else None

    async def _a_while(self) -> None:
        await Pause(1 + round(self._dice.expovariate(1 / self._fleet.options.fault_ms)))

    def _say(self, host: Host | None, text: str) -> None:
        self._witness.saw(host.name if host else "-", text)

    # --- the network ---

    async def cut(self) -> None:
        """Let nothing pass between two halves, or between two hosts."""
        names = [host.name for host in self._fleet.hosts]
        self._dice.shuffle(names)
        if self._dice.random() < 0.5:  # noqa: PLR2004
            names = names[:2]
        middle = self._dice.randint(1, max(1, len(names) - 1))
        one, two = names[:middle], names[middle:]
        await self._block([(a, b) for a in one for b in two] + [(b, a) for a in one for b in two])

    async def oneway(self) -> None:
        """Let nothing pass from one host to another."""
        if len(self._fleet.hosts) > 1:
            one, two = self._dice.sample(self._fleet.hosts, 2)
            await self._block([(one.name, two.name)])

    async def _block(self, ways: list[tuple[str, str]]) -> None:
        if not ways:
            return
        self._say(None, "cut: " + ", ".join(f"{one}->{two}" for one, two in ways))
        self._fleet.network.cut(ways)
        await self._a_while()
        self._fleet.network.heal(ways)
        self._say(None, "healed: " + ", ".join(f"{one}->{two}" for one, two in ways))

    async def slow(self) -> None:
        """Let a link take much longer one way."""
        if len(self._fleet.hosts) > 1:
            one, two = self._dice.sample(self._fleet.hosts, 2)
            factor = self._dice.choice((5, 50))
            self._say(None, f"slow: {one.name}->{two.name} {factor} times")
            self._fleet.network.slow[one.name, two.name] = factor
            await self._a_while()
            self._fleet.network.slow.pop((one.name, two.name), None)

    # --- hosts ---

    async def crash(self) -> None:
        """Kill a process or cut the power of its host, and start it again."""
        host = self._dice.choice(self._fleet.hosts)
        joined = host.joined
        self._fleet.crash(host, power_lost=self._dice.random() < 0.5)  # noqa: PLR2004
        await self._a_while()
        if host in self._fleet.hosts and host.process is None and joined:
            self._fleet.start(host)

    async def pause(self) -> None:
        """Let a process stand still."""
        host = self._running()
        if host is not None and host.process is not None:
            length = 1 + round(self._dice.expovariate(1 / self._fleet.options.fault_ms))
            self._say(host, f"stands still for {length} ms")
            host.process.life.asleep_until = self._fleet.clock.now + length
            if self._dice.random() < 0.3:  # noqa: PLR2004
                for end in host.process.links.values():
                    self._fleet.network.give_up(end.other, self._dice.randint(0, length))
            await self._a_while()

    async def clock(self) -> None:
        """Let a wall clock jump."""
        host = self._dice.choice(self._fleet.hosts)
        now = BEGINNING_MS + self._fleet.clock.now
        host.offset_ms = self._dice.choice(
            (
                0,
                self._dice.randint(-5000, 5000),
                self._dice.randint(-400, 400) * _DAY_MS,
                self._dice.randint(0, 1000) - now,
                _LAST_DAY_MS - now,
            )
        )
        self._say(host, f"its clock jumps by {host.offset_ms} ms")

    # --- disks ---

    async def full(self) -> None:
        """Let a disk have no room."""
        host = self._dice.choice(self._fleet.hosts)
        log = host.log
        self._say(host, "its disk is full")
        log.full = True
        await self._a_while()
        log.full = False
        self._say(host, "its disk has room")

    async def restore(self) -> None:
        """Keep a copy of a store, or put a store back to an earlier one."""
        host = self._running()
        if host is None or host.cloned:
            return
        if not host.backups or self._dice.random() < 0.4:  # noqa: PLR2004
            self._say(host, f"is backed up with {len(host.log.disk.records)} records")
            host.backups.append(host.log.disk.copy())
            return
        disk = self._dice.choice(host.backups).copy()
        noticed = self._dice.random() < 0.5  # noqa: PLR2004
        if noticed:
            disk.own = None
        self._fleet.crash(host, power_lost=self._dice.random() < 0.5)  # noqa: PLR2004
        sign = "" if noticed else ", without a sign of it"
        self._say(host, f"is put back from {len(host.log.disk.records)} to {len(disk.records)} records{sign}")
        self._fleet.discard(host, disk)
        self._fleet.start(host)

    async def clone(self) -> None:
        """Run a copy of a store as a second instance, for a while or until the end."""
        host = self._running()
        if host is None or host.cloned:
            return
        disk = (self._dice.choice(host.backups) if host.backups else host.log.disk).copy()
        if self._dice.random() < 0.5:  # noqa: PLR2004
            disk.own = None
        self._clones += 1
        self._say(host, f"is cloned with {len(disk.records)} records")
        clone = self._fleet.clone(host, disk, f"{host.name}'{self._clones}")
        self._fleet.start(clone)
        await self._a_while()
        if self._dice.random() < 0.7:  # noqa: PLR2004
            self._fleet.remove(clone)


_FAULTS: dict[str, Callable[[Faults], Awaitable[None]]] = {
    "cut": Faults.cut,
    "oneway": Faults.oneway,
    "slow": Faults.slow,
    "crash": Faults.crash,
    "pause": Faults.pause,
    "clock": Faults.clock,
    "full": Faults.full,
    "restore": Faults.restore,
    "clone": Faults.clone,
}
