"""Where a machine lets others in: a listener for SSH, one for CCS, both where its record says.

CCS is the same protocol on a port of its own, for machines only. Without it a machine can still be reached, so where
its port cannot be had, that is said and no reason to stop.
"""

from __future__ import annotations

import logging

from cluster_store.core.cluster import TRANSPORTS, Machine
from cluster_store.core.errors import Refused
from cluster_store.ports import Gatekeeper, Listener, Transport

logger = logging.getLogger("cluster_store")

#: An address, "0.0.0.0" for all, and a port.
Place = tuple[str, int]

#: The transport that people and machines use, and the one for machines only.
SSH, CCS = TRANSPORTS


def places_of(machine: Machine) -> dict[str, Place]:
    """Return where a machine is to listen: transport -> place."""
    address = machine.listen or next(iter(machine.interfaces.values()), "") or "0.0.0.0"  # noqa: S104 - none is named
    return {name: (address, getattr(machine, port)) for name, port in TRANSPORTS.items()}


class Listeners:
    """The open listeners of one machine."""

    def __init__(self, transport: Transport, gatekeeper: Gatekeeper) -> None:
        """Prepare to listen; ``open`` does it."""
        self._transport = transport
        self._gatekeeper = gatekeeper
        self._open: dict[str, Listener] = {}
        #: Transport -> where it listens now.
        self.places: dict[str, Place] = {}
        #: Transport -> why it does not listen where the record says.
        self.deaf: dict[str, str] = {}

    async def open(self, machine: Machine) -> None:
        """Listen where a machine's record says. Raises Refused where that cannot be had for SSH."""
        places = places_of(machine)
        await self._listen(SSH, places[SSH])
        try:
            await self._listen(CCS, places[CCS])
        except Refused as error:
            self.deaf[CCS] = error.message
            logger.warning("CCS is off: %s", error.message)

    async def move(self, now: Machine, then: Machine) -> None:
        """Listen where a machine's record will say, as far as that is elsewhere than now.

        Raises Refused where that cannot be had; then all is as it was.
        """
        before, unmoved = dict(self.places), places_of(now)
        try:
            for name, place in places_of(then).items():
                if place != unmoved[name]:
                    await self._listen(name, place)
        except Refused:
            for name, place in before.items():
                await self._listen(name, place)
            raise

    async def follow(self, machine: Machine) -> None:
        """Listen where a machine's record says since another machine wrote it, as far as that can be had."""
        for name, place in places_of(machine).items():
            before = self.places.get(name)
            try:
                await self._listen(name, place)
            except Refused as error:
                logger.error("this machine cannot be reached where its record says: %s", error.message)
                if before is not None:
                    await self._listen(name, before)
                self.deaf[name] = error.message

    async def _listen(self, name: str, place: Place) -> None:
        if self.places.get(name) != place:
            # First, because of two places with one port one may contain the other.
            await self._close(name)
            self._open[name] = await self._transport.listen(*place, self._gatekeeper, machines_only=name == CCS)
            self.places[name] = place
        self.deaf.pop(name, None)

    def port(self, name: str) -> int | None:
        """Return the port that a transport listens on, None where it does not."""
        return self._open[name].port if name in self._open else None

    async def close(self) -> None:
        """Let nobody in any more."""
        for name in list(self._open):
            await self._close(name)

    async def _close(self, name: str) -> None:
        self.places.pop(name, None)
        listener = self._open.pop(name, None)
        if listener is not None:
            await listener.close()
