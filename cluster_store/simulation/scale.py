"""How a large fleet does: how fast and at what cost a change spreads, and what happens when much goes wrong at once.

Real replicas and sessions, the daemon's rule for whom to dial, virtual time. The fleet starts at once, spreads changes
one at a time and many at a time, loses a part of its machines without a word, gets them back, is cut in half for
minutes, and is started anew as a whole. The same seed gives the same figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import msgspec

from cluster_store.core.errors import ClusterStoreError
from cluster_store.simulation.scale_fleet import Progress, ScaleFleet, Tracked

#: How many of the machines lose power, of a thousand.
_DEAD_PERMILLE = 50
#: How long the fleet is cut in half, milliseconds.
_CUT_MS = 300_000
#: Within how long all processes start, milliseconds: hosts whose power came back.
_START_MS = 5_000
#: How long a fleet may take for anything, milliseconds. Beyond it the run has failed.
_PATIENCE_MS = 900_000
#: How long a fleet is left alone before figures are taken of changes, milliseconds: links that were needed only while
#: others came up end within a minute or so.
_SETTLE_MS = 90_000
#: How long a machine has for what is still under way after a change has reached all.
_REST_MS = 3_000


class Connecting(msgspec.Struct, frozen=True, kw_only=True):
    """How links came up."""

    #: Until every machine was linked to all that it wants to be linked to.
    seconds: float
    #: Links that were being made at one moment in the whole fleet, at most; and all attempts.
    dialling_max: int
    dials: int
    #: Links a machine.
    links_mean: float
    links_max: int
    #: What a machine sent meanwhile, hellos nearly all of it.
    kilobytes_mean: float


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """How changes reached every machine that runs. Bytes are those of all frames, as a multiple of the record's."""

    events: int
    hops_mean: float
    hops_max: int
    #: Until a change was durable on the last machine: the mean over the changes, and the slowest.
    seconds_mean: float
    seconds_max: float
    #: Until it was durable on each further tenth of the machines, the mean over the changes.
    arrivals: tuple[float, ...]
    #: What a machine sent for a change: the mean, and most that any machine sent for any one.
    sent_mean: float
    sent_max: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one fleet."""

    seed: int
    machines: int
    #: Bytes of a record, seal included.
    event_bytes: int
    #: All processes start within seconds.
    start: Connecting
    #: One change at a time.
    single: Spread
    #: As many as ``single`` had, at one moment: seconds until all have all, and bytes sent for each.
    burst_seconds: float
    burst_sent_mean: float
    #: A share of the machines just lost power, and nobody knows yet; then when others stand in for them.
    dead: int
    dead_at_once: Spread
    dead_replaced: Connecting
    dead_later: Spread
    #: The dead are back: until they have everything.
    returned_seconds: float
    #: Cut in half, changes on both sides: until a half agrees; healed: until all agree.
    half_seconds: float
    healed_seconds: float
    #: All processes end and start again, and the first that is up makes a change.
    restart: Connecting
    restart_seconds: float


class Failed(ClusterStoreError):  # noqa: N818 - like its kin
    """A fleet did not come to what it has to come to."""


class Scale:
    """One run."""

    def __init__(self, machines: int, seed: int, events: int, progress: Progress) -> None:
        """Set up a fleet.

        Args:
            machines: how many.
            seed: decides everything.
            events: changes made where figures are taken.
            progress: told how far the run is.
        """
        self.fleet = ScaleFleet(machines, seed, progress)
        self._seed = seed
        self._events = events
        self._dice = Random(f"scale {seed}")
        self._progress = progress

    def play(self) -> Report:
        """Go through it all. Raises Failed."""
        fleet = self.fleet
        start = self._start_all("starting")
        fleet.pass_time(_SETTLE_MS)
        single = self._spread("one change at a time", self._events)
        burst_seconds, burst_sent = self._burst()
        dead = self._dice.sample(fleet.running, max(1, len(fleet.machines) * _DEAD_PERMILLE // 1000))
        for machine in dead:
            machine.stop(power_lost=True)
        dead_at_once = self._spread("some are dead", 1)
        dead_replaced = self._connect("others stand in for the dead", len(fleet.running))
        fleet.pass_time(_SETTLE_MS)
        dead_later = self._spread("the dead are replaced", self._events)
        for machine in dead:
            fleet.start(machine)
        returned = self._seconds("the dead are back", lambda: fleet.have(fleet.records, fleet.running))
        half, healed = self._cut()
        restart, restart_seconds = self._restart()
        return Report(
            seed=self._seed,
            machines=len(fleet.machines),
            event_bytes=round(_mean([change.size for change in fleet.tracked])),
            start=start,
            single=single,
            burst_seconds=burst_seconds,
            burst_sent_mean=burst_sent,
            dead=len(dead),
            dead_at_once=dead_at_once,
            dead_replaced=dead_replaced,
            dead_later=dead_later,
            returned_seconds=returned,
            half_seconds=half,
            healed_seconds=healed,
            restart=restart,
            restart_seconds=restart_seconds,
        )

    # --- the phases ------------------------------------------------------------------------------------

    def _start_all(self, what: str) -> Connecting:
        """Start every machine within seconds, in any order."""
        for machine in self.fleet.machines.values():
            self.fleet.start_later(machine, self._dice.randint(0, _START_MS))
        return self._connect(what, len(self.fleet.machines))

    def _connect(self, what: str, expected: int) -> Connecting:
        """Wait until so many machines run and each has its links."""
        fleet, sent = self.fleet, self._sent()
        fleet.dialling_max, fleet.dialled = fleet.dialling, 0

        def connected() -> bool:
            running = fleet.running
            # Up to the first that is not: it is looked often.
            linked = next((place for place, machine in enumerate(running) if not machine.has_its_links), len(running))
            self._progress(what, linked, expected)
            return linked == expected

        seconds = self._seconds(what, connected)
        links = [len(machine.peers) for machine in fleet.running]
        return Connecting(
            seconds=seconds,
            dialling_max=fleet.dialling_max,
            dials=fleet.dialled,
            links_mean=_rounded(_mean(links)),
            links_max=max(links),
            kilobytes_mean=_rounded((self._sent() - sent) / len(links) / 1000),
        )

    def _spread(self, what: str, events: int) -> Spread:
        """Let changes reach every machine that runs, one after the other."""
        changes: list[Tracked] = []
        sent: list[float] = []
        for number in range(events):
            self._progress(what, number, events)
            running = self.fleet.running
            before = [machine.sent for machine in running]
            self.fleet.write(self._dice.choice(running), self._dice)
            self._seconds(what, lambda among=running: self.fleet.have(self.fleet.records, among))  # type: ignore[misc]
            self.fleet.pass_time(_REST_MS)
            change = self.fleet.tracked[-1]
            changes.append(change)
            sent += [(machine.sent - at) / change.size for machine, at in zip(running, before, strict=True)]
        hops = [hop for change in changes for hop in change.hops.values()]
        seconds = [change.seconds for change in changes]
        tenths = zip(*(change.tenths for change in changes), strict=True)
        return Spread(
            events=len(changes),
            hops_mean=_rounded(_mean(hops)),
            hops_max=max(hops),
            seconds_mean=_rounded(_mean(seconds)),
            seconds_max=_rounded(max(seconds)),
            arrivals=tuple(_rounded(_mean(tenth)) for tenth in tenths),
            sent_mean=_rounded(_mean(sent)),
            sent_max=_rounded(max(sent)),
        )

    def _burst(self) -> tuple[float, float]:
        """Let many machines make a change at one moment; return the seconds until all have all, and what was sent."""
        fleet, sent = self.fleet, self._sent()
        for machine in self._dice.choices(fleet.running, k=self._events):
            fleet.write(machine, self._dice)
        seconds = self._seconds("many changes at once", lambda: fleet.have(fleet.records, fleet.running))
        fleet.pass_time(_REST_MS)
        size = sum(change.size for change in fleet.tracked[-self._events :])
        return seconds, _rounded((self._sent() - sent) / len(fleet.running) / size)

    def _cut(self) -> tuple[float, float]:
        """Cut the fleet in half for minutes; return the seconds until a half agrees, and all do when it is healed."""
        fleet = self.fleet
        shuffled = self._dice.sample(fleet.running, len(fleet.running))
        halves = shuffled[: len(shuffled) // 2], shuffled[len(shuffled) // 2 :]
        fleet.network.divide(machine.place for machine in halves[0])
        begun, changes = fleet.clock.now, max(1, self._events // 2)
        for half in halves:
            for machine in self._dice.choices(half, k=changes):
                fleet.write(machine, self._dice)
        among = fleet.records - changes
        apart = self._seconds("cut in half", lambda: all(fleet.have(among, half) for half in halves))
        while fleet.clock.now < begun + _CUT_MS:
            self._progress("cut in half", fleet.clock.now - begun, _CUT_MS)
            fleet.pass_time(_REST_MS)
        fleet.network.unite()
        return apart, self._seconds("whole again", lambda: fleet.have(fleet.records, fleet.running))

    def _restart(self) -> tuple[Connecting, float]:
        """Start the whole fleet anew; return how links came up, and the seconds until a change made then is everywhere.

        The first machine that is up makes it.
        """
        fleet = self.fleet
        for machine in fleet.running:
            machine.stop()
        fleet.pass_time(_REST_MS)
        begun = fleet.clock.now
        fleet.when_first_starts(lambda machine: fleet.write(machine, self._dice))
        connecting = self._start_all("starting anew")
        everyone = fleet.machines.values()
        self._seconds("starting anew", lambda: fleet.have(fleet.records, everyone))
        return connecting, _rounded(max(fleet.tracked[-1].at_ms.values()) / 1000 - begun / 1000)

    # --- figures ---------------------------------------------------------------------------------------

    def _seconds(self, what: str, condition: Callable[[], bool]) -> float:
        """Wait until something has come about; return how long that took. Raises Failed."""
        self._progress(what, 0, 0)
        begun = self.fleet.clock.now
        if not self.fleet.wait(condition, _PATIENCE_MS):
            raise Failed(f"{what}: not done after {_PATIENCE_MS / 1000:g} seconds of the fleet's time")
        return (self.fleet.clock.now - begun) / 1000

    def _sent(self) -> int:
        return sum(machine.sent for machine in self.fleet.machines.values())


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)


def _rounded(number: float) -> float:
    return round(number, 2)


def scale(machines: int, seed: int, events: int, progress: Progress) -> Report:
    """Return the figures of a fleet; see ``Scale``. Raises Failed."""
    run = Scale(machines, seed, events, progress)
    try:
        return run.play()
    finally:
        run.fleet.clock.end()
