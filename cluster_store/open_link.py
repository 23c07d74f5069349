"""One link that is up: what waits to be sent on it, how it ends, and how long its peer may keep this machine waiting.

A peer that is slow holds up only itself: what it is owed waits here, within a bound, while its session waits for it.
One that does not move at all loses the link, so that neither its place nor what waits for it is kept for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from cluster_store.core import wire
from cluster_store.core.effects import Message
from cluster_store.core.errors import ClusterStoreError, LinkError
from cluster_store.core.limits import OUTBOX_MESSAGES_MAX
from cluster_store.core.types import MachineId
from cluster_store.ports import Link, PeerAddress

logger = logging.getLogger("cluster_store")


class OpenLink:
    """One link that is up.

    Attributes:
        number: the replica's name for it.
        link: the connection.
        dialled: whether this machine dialled.
        since: when it came up, by the event loop's clock.
        aim: what was dialled; where the peer dialled, what was on record for it then; None where nothing was.
        stays: why the link could not move to what is on record by now, ``""`` while nothing keeps it.
        state: how it ends, in a word of connstatus; ``reason``: the same in a sentence.
        closing: whether its end was decided here; what the peer says from then on counts for nothing.
        left: set once it is not the link to its peer any more, though its end may take a while.
    """

    def __init__(self, number: int, link: Link, *, dialled: bool, since: float, aim: PeerAddress | None) -> None:
        self.number = number
        self.link = link
        self.dialled = dialled
        self.since = since
        self.aim = aim
        self.stays = ""
        self.state = "dropped"
        self.reason = "the link ended"
        self.closing = False
        self.left = asyncio.Event()
        self._outbox: asyncio.Queue[Message | None] = asyncio.Queue()
        self._given_up = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many messages wait to be sent."""
        return self._outbox.qsize()

    def put(self, message: Message) -> None:
        """Queue a message. Where too many wait, the peer does not take them, and the link is given up."""
        if self.closing and self._given_up.is_set():
            return
        if self._outbox.qsize() >= OUTBOX_MESSAGES_MAX:
            self._give_up("it does not take what it is sent")
        else:
            self._outbox.put_nowait(message)

    def close(self, state: str, reason: str) -> None:
        """End the link after what is queued, and remember why."""
        if not self._given_up.is_set():
            self.closing, self.state, self.reason = True, state, reason
            self._outbox.put_nowait(None)

    def _give_up(self, reason: str) -> None:
        logger.warning("the link with %s is given up: %s", self.link.peer, reason)
        self.closing, self.state, self.reason = True, "dropped", reason
        self._given_up.set()

    async def send_queued(self) -> None:
        """Send what is queued until the link is to be closed, and close it."""
        try:
            while (message := await self._outbox.get()) is not None:
                await self.link.send(wire.encode(message))
        except LinkError as error:
            self.broke(error.state, error.message)
        except ClusterStoreError as error:
            self.broke("dropped", error.message)
        await self.link.close()

    def broke(self, state: str, reason: str) -> None:
        """Take note of why the link ends, unless that was decided here before."""
        if not self.closing:
            self.state, self.reason = state, reason

    async def watch(self, debt: Callable[[], object], patience: float) -> None:
        """Close the link when it is given up, or its peer does not move.

        Args:
            debt: returns what the peer owes this machine, None for nothing; the same again while nothing moves.
            patience: seconds in which something has to move. It may take twice as long to be noticed.
        """
        owed = None
        while not self._given_up.is_set():
            before, owed = owed, debt()
            if owed is not None and owed == before:
                self._give_up(f"it does not answer: {owed}, for {patience:g} s")
                break
            try:
                async with asyncio.timeout(patience):
                    await self._given_up.wait()
            except TimeoutError:
                continue
        await self.link.close()


class Carrying(Protocol):
    """Whoever serves the links: dialled or taken, there is at most one to each peer."""

    @property
    def by_peer(self) -> Mapping[MachineId, OpenLink]:
        """The link to each peer that has one."""

    def carry(self, link: Link, aim: PeerAddress) -> OpenLink:
        """Begin to serve a link that this machine dialled, and where it did; it ends by itself."""

    def close(self, link: int, state: str, reason: str) -> None:
        """Close a link after what is queued, and remember why."""
