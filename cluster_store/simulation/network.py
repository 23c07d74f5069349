"""Links between processes: ordered streams of frames that take time, are held up by cuts, and break.

A cut stops frames without a word, as a pulled cable does. When it heals in time, they go on in their order; if not,
each end gives the link up when its own patience is at an end, so that for a while one side believes in a link that
the other has given up. A process that ends tells its peers, unless its host lost power.
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Protocol

from cluster_store.core.types import MachineId
from cluster_store.simulation.clock import Clock, Life, Pause, Signal

#: How long an end of a link that carries nothing waits before it gives it up, milliseconds.
_PATIENCE_MS = (1500, 5000)


class Endpoint(Protocol):
    """A process, as the network knows it."""

    @property
    def place(self) -> str:
        """The name of the host that it runs on."""

    @property
    def machine(self) -> MachineId:
        """The machine that it is."""

    def linked(self, end: End) -> None:
        """A link is up."""


class End:
    """One process's side of a link."""

    def __init__(self, number: int, owner: Endpoint, peer: MachineId, clock: Clock) -> None:
        self.number = number
        self.owner = owner
        self.peer = peer
        #: Whether this side still believes in the link.
        self.open = True
        #: Nothing more is sent from this side: it is closing the link.
        self.closing = False
        #: Frames that have arrived; None is the end of the link.
        self.inbox: deque[bytes | None] = deque()
        self.arrival = Signal(clock)
        self.other: End = self
        self.under_way: deque[tuple[int, bytes | None]] = deque()
        self.carrying = False

    def put(self, frame: bytes | None, clock: Clock) -> None:
        """Take in a frame, or the link's end."""
        if self.open:
            self.inbox.append(frame)
            arrival, self.arrival = self.arrival, Signal(clock)
            arrival.set()


class Network:
    """All links, and what stands in their way."""

    def __init__(self, clock: Clock, dice: Random, delay_ms: tuple[int, int]) -> None:
        self.clock = clock
        self.life = Life()
        #: Least and most time until an end of a link that carries nothing gives it up.
        self.patience_ms = _PATIENCE_MS
        #: (from, to) -> how often it is blocked just now; both are names of hosts.
        self.blocked: dict[tuple[str, str], int] = {}
        #: (from, to) -> what delays are multiplied with.
        self.slow: dict[tuple[str, str], int] = {}
        self.links: list[End] = []
        self._dice = dice
        self._delay_ms = delay_ms
        self._numbers = 0
        self._healed = Signal(clock)

    # --- links ---

    def connect(self, one: Endpoint, two: Endpoint) -> End:
        """Open a link between two processes; return the first one's end."""
        first, second = self._end(one, two.machine), self._end(two, one.machine)
        first.other, second.other = second, first
        self.links = [end for end in self.links if end.open or end.other.open] + [first, second]
        one.linked(first)
        two.linked(second)
        return first

    def _end(self, owner: Endpoint, peer: MachineId) -> End:
        self._numbers += 1
        return End(self._numbers, owner, peer, self.clock)

    def send(self, end: End, frame: bytes | None) -> None:
        """Send a frame, or the end of the link."""
        if end.closing:
            return
        end.closing = frame is None
        way = (end.owner.place, end.other.owner.place)
        delay = self.delay() * self.slow.get(way, 1)
        before = end.under_way[-1][0] if end.under_way else 0
        end.under_way.append((max(before, self.clock.now + delay), frame))
        if not end.carrying:
            end.carrying = True
            self.clock.spawn(self._carry(end), self.life)

    def delay(self) -> int:
        """Return how long a frame takes, milliseconds."""
        return self._dice.randint(*self._delay_ms)

    async def _carry(self, end: End) -> None:
        while end.under_way:
            at, frame = end.under_way[0]
            if at > self.clock.now:
                await Pause(at - self.clock.now)
            elif not self.passes(end.owner.place, end.other.owner.place):
                await self._healed
            else:
                end.under_way.popleft()
                end.other.put(frame, self.clock)
        end.carrying = False

    def hang_up(self, end: End, after_ms: int) -> None:
        """Let one side see the end of a link, a while from now; what it sent goes on."""

        async def see() -> None:
            await Pause(after_ms)
            end.put(None, self.clock)

        self.clock.spawn(see(), self.life)

    def give_up(self, end: End, after_ms: int) -> None:
        """Let one side lose its belief in a link, a while from now, and what it sent with it."""

        async def lose() -> None:
            await Pause(after_ms)
            end.under_way.clear()
            end.put(None, self.clock)

        self.clock.spawn(lose(), self.life)

    def crashed(self, end: End, *, power_lost: bool) -> None:
        """A process is gone: its peer hears of it at once, or only finds out."""
        end.open = False
        if power_lost:
            keep = self._dice.randint(0, len(end.under_way))
            end.under_way = deque(list(end.under_way)[:keep])
            self.give_up(end.other, self._dice.randint(*self.patience_ms))
        else:
            self.send(end, None)

    # --- what stands in the way ---

    def passes(self, origin: str, target: str) -> bool:
        """Say whether frames get from one host to another."""
        return not self.blocked.get((origin, target))

    def reachable(self, one: str, two: str) -> bool:
        """Say whether a link can be opened: both directions are needed."""
        return self.passes(one, two) and self.passes(two, one)

    def cut(self, ways: list[tuple[str, str]]) -> None:
        """Block the ways from one host to another; links that stay cut are given up by each side for itself."""
        for way in ways:
            self.blocked[way] = self.blocked.get(way, 0) + 1
        for end in self.links:
            if end.open and (end.owner.place, end.other.owner.place) in ways:
                self.clock.spawn(self._lose_patience(end), self.life)

    async def _lose_patience(self, end: End) -> None:
        await Pause(self._dice.randint(*self.patience_ms))
        if not self.reachable(end.owner.place, end.other.owner.place):
            self.give_up(end, 0)
            self.give_up(end.other, self._dice.randint(0, self.patience_ms[1]))

    def heal(self, ways: list[tuple[str, str]]) -> None:
        """Take away one block of each of these ways."""
        for way in ways:
            self.blocked[way] = max(0, self.blocked.get(way, 0) - 1)
        healed, self._healed = self._healed, Signal(self.clock)
        healed.set()

    def heal_all(self) -> None:
        """Let everything through again, at the usual speed."""
        self.slow.clear()
        self.blocked.clear()
        self.heal([])
