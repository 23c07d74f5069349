"""A link whose peer is elsewhere by now moves: it is made anew at the new place before the old one ends.

What is on record for a peer can change while a link to it is up: the transport, the port, the address, the host key.
This machine then dials the place on record, over and over. Whoever answers there as the peer takes the link over;
where nobody does the old one stays, so that a wrong address cuts nobody off, and says so.

Either end may do it, whoever dialled before. The machine with the lower id begins. The other one leaves it so much time
that it finds nothing to do, unless only it can reach its peer.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from cluster_store.background import Background
from cluster_store.core.errors import LinkError, Malformed
from cluster_store.core.limits import REASON_CHARS_MAX
from cluster_store.core.naming import one_line
from cluster_store.core.types import MachineId
from cluster_store.dialing import Dialing, address_of
from cluster_store.node import Node
from cluster_store.open_link import Carrying
from cluster_store.ports import PeerAddress

logger = logging.getLogger("cluster_store")

#: How long the machine with the lower id waits before it dials, seconds: the peer's listener moves first.
_FIRST_S = 0.5
#: The same for the other one. Longer than two links may lie apart that count as dialled at the same time, for of those
#: the one that it dialled is refused.
_SECOND_S = 6.0
#: Longest wait before the new place is dialled again, seconds.
_AGAIN_MAX_S = 10.0


class Moving:
    """Moves links to where the record says."""

    def __init__(
        self, node: Node, me: MachineId, carrying: Carrying, dialing: Dialing, wanted: Callable[[MachineId], bool]
    ) -> None:
        """Move a node's links; ``wanted`` says to which peers this machine should make one at all."""
        self._node = node
        self._me = me
        self._carrying = carrying
        self._dialing = dialing
        self._wanted = wanted
        #: Peer -> where its link is to go, and what takes it there.
        self._moves: dict[MachineId, tuple[PeerAddress, asyncio.Task[None]]] = {}
        self._tasks = Background("moving a link")

    def look(self) -> None:
        """Begin to move the links that are not where the record says."""
        for peer, opened in self._carrying.by_peer.items():
            goal = self._goal(peer)
            if goal is None:
                continue
            before = self._moves.get(peer)
            if before is not None and before[0] != goal:
                before[1].cancel()
            elif before is not None and not before[1].done():
                continue
            opened.stays = ""
            task = asyncio.create_task(self._move(peer, goal))
            self._moves[peer] = goal, task
            self._tasks.keep(task)

    def stop(self) -> list[asyncio.Task[None]]:
        """Move nothing any more; return what may take a while to end."""
        return self._tasks.stop()

    def _goal(self, peer: MachineId) -> PeerAddress | None:
        """Return where the link to a peer should go, None where it is there or there is none."""
        cluster = self._node.replica.cluster
        opened, member = self._carrying.by_peer.get(peer), cluster.machines.get(peer)
        if opened is None or opened.aim is None or member is None or not self._wanted(peer):
            return None
        address = address_of(member, cluster)
        return None if address == opened.aim else address

    async def _move(self, peer: MachineId, goal: PeerAddress) -> None:
        wait = _FIRST_S if self._me < peer else _SECOND_S
        while True:
            await asyncio.sleep(wait * random.uniform(1.0, 1.2))  # noqa: S311 - spreads load, hides nothing
            if self._goal(peer) != goal:
                return
            try:
                link = await self._dialing.connect(goal)
            except (LinkError, Malformed) as error:
                opened, why = self._carrying.by_peer.get(peer), one_line(error.message[:REASON_CHARS_MAX])
                if opened is not None and opened.stays != why:
                    opened.stays = why
                    logger.warning("the link with %s stays where it was: %s", peer, why)
                    await self._node.notify()
            else:
                # Not the end of it: the new link may fail before it takes the place of the old one.
                logger.info("the link with %s moves to %s", peer, link.where)
                self._carrying.carry(link, goal)
            wait = min(wait * 2, _AGAIN_MAX_S)
