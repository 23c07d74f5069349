"""How one member is dialled: where it is looked for, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from cluster_store.background import Background
from cluster_store.core.cluster import TRANSPORTS, Cluster, Machine
from cluster_store.core.errors import LinkError, Malformed
from cluster_store.core.types import MachineId
from cluster_store.ports import Link, PeerAddress, Transport, host_port

#: How long a dial may take before it is given up from outside, seconds: longer than a transport takes for each of its
#: steps.
_DIAL_S = 60.0


class Dialing:
    """Dials members over one transport, and never for ever."""

    def __init__(self, transport: Transport, failed: Callable[[MachineId, str, str], None]) -> None:
        """Dial by a transport; ``failed`` is told whom it could not reach, in a word of connstatus and a sentence."""
        self._transport = transport
        self._failed = failed
        #: How often another port than the one on record was tried.
        self._turns: dict[MachineId, int] = {}
        self._late = Background("closing a link that came too late")

    async def dial(self, member: Machine, cluster: Cluster) -> tuple[Link, PeerAddress] | None:
        """Return a link to a member and where it was found, or None if nowhere; why, ``failed`` has been told."""
        address = address_of(member, cluster)
        try:
            return await self.connect(address), address
        except Malformed as error:
            # What is on record for it is no address or no key: any member can have written it.
            self._failed(member.id, "unreachable", error.message)
            return None
        except LinkError as error:
            self._failed(member.id, error.state, error.message)
            other = self._other_port(member, address.port)
            if error.state != "unreachable" or other is None:
                return None
            elsewhere = replace(address, port=other)
            try:
                return await self.connect(elsewhere), elsewhere
            except LinkError:
                return None  # why the port on record does not answer says more

    def stop(self) -> list[asyncio.Task[None]]:
        """Leave what came too late to itself; return what may take a while to end."""
        return self._late.stop()

    async def connect(self, address: PeerAddress) -> Link:
        """Dial as ``Transport.dial`` says, but not for ever: whatever may hang in a transport, the dialer goes on."""
        dialling = asyncio.create_task(self._transport.dial(address))
        try:
            await asyncio.wait({dialling}, timeout=_DIAL_S)
        except asyncio.CancelledError:
            self._give_up(dialling)
            raise
        if not dialling.done() or dialling.cancelled():
            self._give_up(dialling)
            where = host_port(address.host, address.port)
            raise LinkError("unreachable", f"{where} is unreachable: dialling it did not end within {_DIAL_S:g} s")
        return dialling.result()

    def _give_up(self, dialling: asyncio.Task[Link]) -> None:
        dialling.cancel()
        dialling.add_done_callback(self._close_late)

    def _close_late(self, dialling: asyncio.Task[Link]) -> None:
        if not dialling.cancelled() and dialling.exception() is None:
            self._late.spawn(dialling.result().close())

    def _other_port(self, member: Machine, port: int) -> int | None:
        """Return another port to try, each in its turn.

        A machine that was away while ports or the transport changed listens where it did before, and nobody whom it
        dials is there any more.
        """
        others = [one for one in (member.ssh_port, member.ccs_port, *member.former_ports) if one != port]
        turn = self._turns[member.id] = self._turns.get(member.id, -1) + 1
        return others[turn % len(others)] if others else None


def address_of(machine: Machine, cluster: Cluster) -> PeerAddress:
    """Return where peers dial a machine, by the cluster's rule for naming each other."""
    host = machine.address
    if not host and cluster.by == "ip":
        host = next(iter(machine.interfaces.values()), machine.listen)
    port = getattr(machine, TRANSPORTS[cluster.over])
    return PeerAddress(machine.id, host or machine.hostname, port, machine.host_key)
