"""The links to the other members: which of two to one peer stays, what its peer says, and how it ends.

Of two links to one peer that came up at the same time, the one dialled by the machine with the lower id stays; one that
comes up much later replaces the one before as soon as it has greeted, because whoever dials again has lost that, or
moves it. Whom a machine dials, and when, is for its dialers.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging

from cluster_store.background import Background
from cluster_store.core import wire
from cluster_store.core.effects import Bye, Hello, LinkDown, LinkUp, Message, Received, Records
from cluster_store.core.errors import ClusterStoreError, LinkError, Malformed
from cluster_store.core.limits import PEER_PATIENCE_S, REASON_CHARS_MAX
from cluster_store.core.naming import one_line
from cluster_store.core.sync import Session
from cluster_store.core.types import Epoch, MachineId
from cluster_store.dialers import Dialers
from cluster_store.dialing import address_of
from cluster_store.node import Node
from cluster_store.open_link import OpenLink
from cluster_store.peer_status import PeerStatuses
from cluster_store.ports import Link, PeerAddress, Transport

logger = logging.getLogger("cluster_store")

#: Two links that came up within this many seconds were dialled at the same time.
_SIMULTANEOUS_S = 5.0
#: How a link ends whose peer is refused for what it is.
_REFUSALS = frozenset(("detached", "other cluster", "removed", "version differs"))
#: Words of connstatus in which a peer may say why it ends a link.
_FAREWELLS = _REFUSALS | {"authentication failed", "connecting", "dropped"}


class Links:
    """Keeps a link to every member that can be reached, and carries the replica's messages."""

    def __init__(self, node: Node, transport: Transport, me: MachineId) -> None:
        """Serve a node's links; ``start`` begins to dial."""
        self._node = node
        self._me = me
        self._numbers = itertools.count(1)
        self._open: dict[int, OpenLink] = {}
        #: The link to each peer that has one.
        self.by_peer: dict[MachineId, OpenLink] = {}
        self.status = PeerStatuses(node.now)
        self._dialers = Dialers(node, transport, me, self, self.status)
        #: What serves the links that this machine dialled.
        self._serving = Background("serving a link")
        #: The last conversation with each peer, for what it said of itself.
        self._heard: dict[MachineId, Session] = {}
        #: Seconds that a peer may owe an answer.
        self.patience = PEER_PATIENCE_S
        node.carrier = self

    def start(self) -> None:
        """Begin to dial the members, and go on as they change."""
        self._dialers.start()

    async def stop(self) -> None:
        """Stop dialling and close every link."""
        tasks = [*self._dialers.stop(), *self._serving.stop()]
        for opened in list(self._open.values()):
            await opened.link.close()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    # --- the replica's carrier -----------------------------------------------------------------------

    def send(self, link: int, message: Message) -> None:
        """See ``Carrier``."""
        if link in self._open:
            self._open[link].put(message)

    def close(self, link: int, state: str, reason: str) -> None:
        """See ``Carrier``."""
        opened = self._open.get(link)
        if opened is not None:
            opened.close(state, reason)

    def membership_changed(self) -> None:
        """See ``Carrier``."""
        self._dialers.membership_changed()

    # --- serving a link --------------------------------------------------------------------------------

    async def serve(self, link: Link, *, dialled: bool) -> None:
        """Carry a link to a member until it ends."""
        cluster = self._node.replica.cluster
        member = cluster.machines.get(link.peer)
        aim = None if member is None else address_of(member, cluster)
        await self._serve(self._opened(link, aim, dialled=dialled))

    def carry(self, link: Link, aim: PeerAddress) -> OpenLink:
        """See ``Carrying``."""
        opened = self._opened(link, aim, dialled=True)
        self._serving.spawn(self._serve(opened))
        return opened

    def _opened(self, link: Link, aim: PeerAddress | None, *, dialled: bool) -> OpenLink:
        now = asyncio.get_running_loop().time()
        return OpenLink(next(self._numbers), link, dialled=dialled, since=now, aim=aim)

    async def _serve(self, opened: OpenLink) -> None:
        link, rivals = opened.link, self._rivals(opened)
        if not all(self._outdoes(opened, rival) for rival in rivals):
            opened.left.set()
            await link.close()
            return
        self._open[opened.number] = opened
        if not self.linked(link.peer):
            self.by_peer[link.peer] = opened
            self.status.note(link.peer, "connecting", "")
        for rival in rivals:
            if rival is not self.by_peer[link.peer]:
                # One waits at most to take the place of one that has greeted.
                rival.left.set()
                self.close(rival.number, "dropped", "replaced by a newer link")
        sender = asyncio.create_task(opened.send_queued())
        watcher = asyncio.create_task(opened.watch(lambda: self._debt(opened), self.patience))
        try:
            await self._node.feed(LinkUp(opened.number, link.peer, self._node.now()))
            await self._receive(opened)
        except LinkError as error:
            opened.broke(error.state, error.message)
        except Malformed as error:
            opened.broke("dropped", f"the peer sent {error.message}"[:REASON_CHARS_MAX])
            logger.warning("the link with %s was dropped: %s", link.peer, one_line(opened.reason))
        except ClusterStoreError as error:
            opened.broke("dropped", error.message)
        finally:
            sender.cancel()
            watcher.cancel()
            self._open.pop(opened.number, None)
            before = self.by_peer.get(link.peer)
            if before is opened:
                self._left(opened)
            elif before is not None and before.number < opened.number and opened.state in _REFUSALS:
                # What the peer is refused for now goes for the link from before as well.
                self.close(before.number, opened.state, opened.reason)
            opened.left.set()
            await self._node.feed(LinkDown(opened.number))
            await self._node.notify()
            self._dialers.lost(opened)
            await link.close()

    def _left(self, opened: OpenLink) -> None:
        """Give up a link's place, to one that is about to greet if there is one."""
        peer = opened.link.peer
        heirs = self._rivals(opened)
        if heirs:
            self.by_peer[peer] = heirs[0]
        else:
            del self.by_peer[peer]
            self.status.note(peer, opened.state, opened.reason)

    def _rivals(self, opened: OpenLink) -> list[OpenLink]:
        """Return the other links to a link's peer that are not to be closed."""
        others = [other for other in self._open.values() if other.link.peer == opened.link.peer]
        return [other for other in others if other is not opened and not other.closing]

    def _outdoes(self, opened: OpenLink, before: OpenLink) -> bool:
        """Say whether a link has a better right to its peer than one from before: the same at both ends."""
        if opened.dialled != before.dialled and abs(opened.since - before.since) < _SIMULTANEOUS_S:
            return opened.dialled == (self._me < opened.link.peer)
        return opened.since >= before.since

    def _greeted(self, opened: OpenLink) -> None:
        """Make a link whose peer was not refused the one to it. Only now does the one from before end."""
        peer, session = opened.link.peer, self._node.replica.sessions.get(opened.number)
        if opened.closing or session is None or session.hello is None:
            return
        before = self.by_peer.get(peer, opened)
        if before is not opened and not before.closing and not self._outdoes(opened, before):
            self.close(opened.number, "dropped", "there is another link, dialled at the same time")
            return
        self.by_peer[peer] = opened
        if before is not opened:
            before.left.set()
            self.close(before.number, "dropped", "replaced by a newer link")
        self.status.note(peer, "connected", "")
        self._dialers.reached(peer)
        self._heard[peer] = session

    async def _receive(self, opened: OpenLink) -> None:
        peer = opened.link.peer
        while (frame := await opened.link.receive()) is not None:
            message = wire.decode(frame)
            now = self._node.now()
            self.status[peer].last_contact = now
            if isinstance(message, Hello):
                self.status[peer].skew = message.time - now
            elif isinstance(message, Bye) and message.state not in _FAREWELLS:
                message = Bye("dropped", message.reason)
            if opened.closing:
                continue
            if isinstance(message, Records):
                await self._node.receive(opened.number, message)
            else:
                await self._node.feed(Received(opened.number, message, now))
            if isinstance(message, Hello):
                self._greeted(opened)
            await self._node.notify()

    def _debt(self, opened: OpenLink) -> object:
        """Return what a peer owes this machine, in words, None for nothing."""
        session = self._node.replica.sessions.get(opened.number)
        if opened.closing or session is None:
            return "the link is to be closed"
        if session.hello is None:
            return "it has said no hello"
        if session.in_flight:
            return f"it has acknowledged {session.acked_batches} batches, and none of those behind them"
        return None

    def close_outgrown(self) -> None:
        """End the links to peers whose platform version this machine has left: they were of one when they greeted.

        Only where this machine itself says that it has: another member can write its version too, and would cut it off.
        """
        replica = self._node.replica
        me = replica.cluster.machines.get(self._me)
        for opened in list(self.by_peer.values()):
            session = replica.sessions.get(opened.number)
            told = session.hello.version if session is not None and session.hello is not None else ""
            if me is not None and told and told != me.version:
                self.close(opened.number, "version differs", f"version {told} there, {me.version} here")

    # --- what connstatus asks ----------------------------------------------------------------------------

    def progress(self, machine: MachineId) -> tuple[int, int] | None:
        """Return how many records this machine is behind and ahead of a linked peer, None where there is no link."""
        opened = self.by_peer.get(machine)
        session = self._node.replica.sessions.get(opened.number) if opened else None
        if session is None or session.hello is None:
            return None
        state = self._node.replica.state
        return session.behind(state), session.ahead(state)

    def progress_when_last_heard(self, machine: MachineId) -> tuple[int, int] | None:
        """Return the same by what a peer without a link said and acknowledged last, None where it never did."""
        session, state = self._heard.get(machine), self._node.replica.state
        return None if session is None else (session.behind(state), session.ahead(state))

    def astray(self, machine: MachineId) -> str:
        """Return why the link to a peer is not where the record says, ``""`` where it is, or is to be soon."""
        cluster = self._node.replica.cluster
        opened, member = self.by_peer.get(machine), cluster.machines.get(machine)
        known = opened is not None and member is not None and opened.aim != address_of(member, cluster)
        return opened.stays if opened is not None and known else ""

    def heard_of(self, machine: MachineId) -> dict[MachineId, dict[Epoch, int]]:
        """Return, for each peer that was heard, the newest record that it has of each of a machine's feeds."""
        state = self._node.replica.state
        return {peer: session.holds(machine, state) for peer, session in self._heard.items()}

    @property
    def open_peers(self) -> list[MachineId]:
        """The machines that a link is open to, greeted or not."""
        return [opened.link.peer for opened in self._open.values()]

    def linked(self, machine: MachineId) -> bool:
        """Say whether a link to a peer is up and greeted."""
        return self.progress(machine) is not None

    def spares(self, machine: MachineId) -> bool:
        """Say whether there is no link to a machine because none is needed: others relay."""
        return self._dialers.spares(machine)
