"""Two machines of one process meet over a link that counts what passes, and how often one waits for the other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from time import perf_counter

from benchmarks.machines import Machine
from cluster_store.adapters.memory_transport import MemoryNetwork, MemoryTransport
from cluster_store.core import wire
from cluster_store.core.effects import Records
from cluster_store.core.types import MachineId
from cluster_store.links import Links
from cluster_store.node import Node

#: How often it is looked whether the event loop still turns, seconds.
_HEARTBEAT_S = 0.002


@dataclass
class Traffic:
    """What has passed between two machines, both ways."""

    #: Each message, and how many messages of both sides had to arrive one after the other before it was sent.
    frames: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """Of all messages."""
        return sum(len(frame) for _, frame in self.frames)

    @property
    def bytes_of_records(self) -> int:
        """Of those that bring records."""
        return sum(len(frame) for _, frame in self.frames if isinstance(wire.decode(frame), Records))

    @property
    def round_trips(self) -> float:
        """How long it takes where the way between the two is all that takes time."""
        return (1 + max(depth for depth, _ in self.frames)) / 2


class End:
    """One end of a link; implements ``ports.Link``."""

    def __init__(self, peer: MachineId, traffic: Traffic) -> None:
        self.peer = peer
        self.where = f"{peer}:0"
        self.other = self
        self.incoming: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()
        self._traffic = traffic
        self._depth = 0

    async def send(self, frame: bytes) -> None:
        """Send one frame. Only the protocol itself bounds what is on its way."""
        self._traffic.frames.append((self._depth, frame))
        self.other.incoming.put_nowait((self._depth, frame))

    async def receive(self) -> bytes | None:
        """Return the next frame, None at the end."""
        arrived = await self.incoming.get()
        if arrived is None:
            return None
        self._depth = max(self._depth, arrived[0] + 1)
        return arrived[1]

    async def close(self) -> None:
        """Close both directions."""
        self.incoming.put_nowait(None)
        self.other.incoming.put_nowait(None)


@dataclass(frozen=True)
class Side:
    """One of two machines that meet."""

    machine: Machine
    node: Node
    links: Links

    async def has_caught_up(self, peer: Machine) -> None:
        """Wait until it has, durably, all that the peer has, and knows the same of the peer."""
        # What was sent has been acknowledged, which is after the peer's documents are up to date.
        await self.node.wait_for(lambda: self.links.progress(peer.id) == (0, 0))


def side(machine: Machine, node: Node) -> Side:
    """Return a machine as somebody to meet. It dials nobody by itself."""
    transport = MemoryTransport(MemoryNetwork(), machine.host, machine.keys)
    return Side(machine, node, Links(node, transport, machine.id))


@contextlib.asynccontextmanager
async def linked(one: Side, other: Side) -> AsyncIterator[Traffic]:
    """Link two sides until the end of the block."""
    traffic = Traffic()
    here, there = End(other.machine.id, traffic), End(one.machine.id, traffic)
    here.other, there.other = there, here
    serving = (
        asyncio.create_task(one.links.serve(here, dialled=True)),
        asyncio.create_task(other.links.serve(there, dialled=False)),
    )
    try:
        yield traffic
    finally:
        await here.close()
        await asyncio.gather(*serving)


async def meet(one: Side, other: Side) -> tuple[float, Traffic]:
    """Let two sides meet until both are equal and know it; return the seconds that it took, and what passed."""
    begun = perf_counter()
    async with linked(one, other) as traffic:
        await asyncio.gather(one.has_caught_up(other.machine), other.has_caught_up(one.machine))
        return perf_counter() - begun, traffic


async def longest_stall(work: Callable[[], Awaitable[None]]) -> float:
    """Do something; return the longest time in which the event loop did nothing else, seconds."""
    longest = 0.0

    async def beat() -> None:
        nonlocal longest
        while True:
            before = perf_counter()
            await asyncio.sleep(_HEARTBEAT_S)
            longest = max(longest, perf_counter() - before - _HEARTBEAT_S)

    beating = asyncio.create_task(beat())
    try:
        await work()
    finally:
        beating.cancel()
    return longest
