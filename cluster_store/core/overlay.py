"""Whom a machine keeps links to: everybody in a small fleet, a handful of machines in a large one.

A machine's id is a hash, so each half of it is a random place on a ring. Beyond ``FULL_MESH_MAX`` members a machine is
linked to the machine before it and the one after it on each of two rings:

1. Each ring passes through every member, so the links connect all of them, whatever the ids are.
2. Two rings together are an expander: from anywhere to anywhere in about log3 of the members' number of steps.
3. Nobody has more than four such links, so whoever passes a record on sends it three times at most.
4. Both ends come to the same links without a word, and a machine that joins or leaves moves at most six of them.

Where a neighbour cannot be reached, the next one along the ring stands in for it. Those who can reach each other are a
ring again then, so 1 to 3 hold for them too. A link that another machine dialled is never refused for being one too
many.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from functools import partial

from cluster_store.core.types import MachineId

#: Up to so many members each is linked to every other: that is the fastest, and few enough.
FULL_MESH_MAX = 20
#: How long a machine is waited for before another one stands in for it, seconds: it may only be starting again, and a
#: dial that nobody answers takes longer than that to fail.
STAND_IN_S = 3.0
#: How long a machine that cannot be reached is left alone at first, seconds; twice as long each time it fails again.
_AVOIDED_FIRST_S = 15.0
#: ... and at most, for each member. A machine that can reach almost nobody asks everyone once before it begins again;
#: a fleet that was cut in two makes a first attempt at the other side every second or two, however large it is.
_AVOIDED_MAX_S_A_MEMBER = 3.0
#: Over how long the first dials of a starting machine are spread, seconds, for each member, and at most. A fleet that
#: starts at once then makes some 400 links a second, however large it is.
_START_SPREAD_S_A_MEMBER = 0.01
_START_SPREAD_S_MAX = 60.0
#: Places on a ring: half of an id has 64 bits.
_CIRCLE = 1 << 64
#: Ways to go from a machine: which ring, and forward or back.
_WAYS = ((0, 1), (0, -1), (1, 1), (1, -1))


def pushed_to(me: MachineId, peers: Iterable[MachineId]) -> tuple[MachineId, ...]:
    """Return those of a machine's peers that it passes new records on to at once: the next one on each ring.

    The others it leaves for a while to whom they are next, or most links would carry each record both ways. So
    everybody has a record pushed from two sides and pushes it on to two, whatever other links there are.
    """
    others = list(peers)
    chosen: list[MachineId] = []
    for ring in range(2):
        if others:
            chosen.append(min(others, key=partial(_distance, ring, me)))
            others.remove(chosen[-1])
    return tuple(chosen)


def _distance(ring: int, one: MachineId, other: MachineId) -> int:
    return (int(_halves(other)[ring], 16) - int(_halves(one)[ring], 16)) % _CIRCLE


def _halves(machine: MachineId) -> tuple[str, str]:
    """Return where a machine stands on either ring, as hex digits."""
    middle = len(machine) // 2
    return machine[:middle], machine[middle:]


class Rings:
    """The members in two circular orders."""

    def __init__(self, members: Iterable[MachineId]) -> None:
        """Take the members of a cluster whom one may dial, in any order."""
        self.members = tuple(dict.fromkeys(members))
        orders = sorted(self.members), sorted(self.members, key=lambda machine: _halves(machine)[::-1])
        self._orders = orders
        self._places = tuple({machine: place for place, machine in enumerate(order)} for order in orders)

    @property
    def is_full_mesh(self) -> bool:
        """Whether they are few enough for everybody to be linked to everybody."""
        return len(self.members) <= FULL_MESH_MAX

    def along(self, machine: MachineId, way: tuple[int, int]) -> Iterator[MachineId]:
        """Yield all others in the order in which they follow a member along a ring."""
        ring, step = way
        order, place = self._orders[ring], self._places[ring][machine]
        for distance in range(1, len(order)):
            yield order[(place + step * distance) % len(order)]


class Overlay:
    """One machine's choice, and what it remembers of those that it could not reach. Times are in seconds."""

    def __init__(self, me: MachineId, members: Iterable[MachineId] = ()) -> None:
        """Choose for a machine among the members, which it need not be one of itself."""
        self.me = me
        #: Since when machines have not been reached, and how often in a row they were given up.
        self._missed_since: dict[MachineId, float] = {}
        self._failures: dict[MachineId, int] = {}
        #: Until when a machine is left alone.
        self._avoided: dict[MachineId, float] = {}
        self.rings = Rings(())
        self.settle(Rings([*members, me]))

    def settle(self, rings: Rings) -> None:
        """Take in who the members are; this machine has to be on the rings."""
        self.rings = rings
        known = frozenset(rings.members)
        self._missed_since = {machine: since for machine, since in self._missed_since.items() if machine in known}
        self._failures = {machine: count for machine, count in self._failures.items() if machine in known}
        self._avoided = {machine: until for machine, until in self._avoided.items() if machine in known}

    @property
    def start_spread(self) -> float:
        """How many seconds the first dials of a starting machine are to be spread over."""
        if self.rings.is_full_mesh:
            return 0.0
        return min(_START_SPREAD_S_MAX, _START_SPREAD_S_A_MEMBER * len(self.rings.members))

    def failed(self, machine: MachineId, begun: float, now: float, chance: float) -> bool:
        """Take note that a machine has not been reached; say whether another one stands in for it from now on.

        Args:
            machine: whom this machine dials.
            begun: since when, by the same clock as ``now``.
            now: any clock that never goes back.
            chance: drawn from 0 to 1, so that not all go back to a machine at once.
        """
        if self.rings.is_full_mesh or now - self._missed_since.setdefault(machine, begun) < STAND_IN_S:
            return False
        failures = self._failures[machine] = self._failures.get(machine, 0) + 1
        longest = _AVOIDED_MAX_S_A_MEMBER * len(self.rings.members)
        # The exponent has a bound, or it would be too large for a float after some months.
        pause = min(longest, _AVOIDED_FIRST_S * 2.0 ** min(failures - 1, 32))
        self._avoided[machine] = now + pause * (0.5 + 0.5 * chance)
        return True

    def reached(self, machine: MachineId) -> None:
        """Take note of a link. If another machine stood in for that one, the network is better: all are worth a try."""
        self._missed_since.pop(machine, None)
        if self._failures.pop(machine, 0):
            self._avoided.clear()

    def avoids(self, machine: MachineId) -> bool:
        """Say whether a machine has not been reached since another one stood in for it."""
        return machine in self._failures

    def wanted(self, linked: Container[MachineId], now: float) -> list[MachineId]:
        """Return whom this machine wants to be linked to just now, some of whom it may be linked to already.

        There is always somebody, unless it is alone.

        Args:
            linked: whom it has a link to, whoever dialled.
            now: see ``failed``.
        """
        if self.rings.is_full_mesh:
            return [machine for machine in self.rings.members if machine != self.me]
        chosen = [self._nearest(way, linked, now) for way in _WAYS]
        return list(dict.fromkeys(chosen))

    def _nearest(self, way: tuple[int, int], linked: Container[MachineId], now: float) -> MachineId:
        """Return the first machine on a way that is not left alone, or else the one that is so for the least time."""
        for machine in self.rings.along(self.me, way):
            if machine in linked or self._avoided.get(machine, now) <= now:
                return machine
        return min(self.rings.along(self.me, way), key=self._avoided.__getitem__)
