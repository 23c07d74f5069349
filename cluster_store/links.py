"""The links to the other members: who dials whom, which of two links stays, and what connstatus knows of each.

Every member dials every other; one direction that works is enough. Of two links to one peer that came up at
the same time, the one dialled by the machine with the lower id stays; a link that comes in much later
replaces the one before, because whoever dials again has lost it. All waiting times have jitter.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
from dataclasses import dataclass, field

from cluster_store.core import wire
from cluster_store.core.cluster import Cluster, Machine
from cluster_store.core.effects import Bye, Hello, LinkDown, LinkUp, Message, Received, Records
from cluster_store.core.errors import ClusterStoreError, LinkError, Malformed
from cluster_store.core.types import MachineId
from cluster_store.node import Node
from cluster_store.ports import Link, PeerAddress, Transport

logger = logging.getLogger("cluster_store")

#: Two links that came up within this many seconds were dialled at the same time.
_SIMULTANEOUS_S = 5.0
#: A link that lived this long was a working one: when it ends, dial again at once.
_LASTING_S = 2.0
#: First and longest wait before a peer is dialled again, seconds.
_BACKOFF_MIN_S, _BACKOFF_MAX_S = 0.2, 10.0
#: A peer that is detached is tried now and then all the same: it may have been taken back from the other side.
_DETACHED_RETRY_S = 30.0


@dataclass(slots=True)
class OpenLink:
    """One link that is up."""

    number: int
    link: Link
    dialled: bool
    since: float
    outbox: asyncio.Queue[Message | None] = field(default_factory=asyncio.Queue)
    state: str = "dropped"
    reason: str = "the link ended"


@dataclass(slots=True)
class PeerStatus:
    """What is known of a peer besides its records; times in milliseconds since 1970, 0 for never."""

    state: str = "connecting"
    reason: str = ""
    since: int = 0
    last_contact: int = 0
    #: The peer's clock minus ours, milliseconds, as its last hello showed it.
    skew: int = 0


class Links:
    """Keeps a link to every member that can be reached, and carries the replica's messages."""

    def __init__(self, node: Node, transport: Transport, me: MachineId) -> None:
        """Serve a node's links; ``start`` begins to dial."""
        self._node = node
        self._transport = transport
        self._me = me
        self._numbers = itertools.count(1)
        self._open: dict[int, OpenLink] = {}
        self._by_peer: dict[MachineId, OpenLink] = {}
        self._dialers: dict[MachineId, asyncio.Task[None]] = {}
        self._wake: dict[MachineId, asyncio.Event] = {}
        self.status: dict[MachineId, PeerStatus] = {}
        self._started = False
        node.carrier = self

    # --- the replica's carrier -----------------------------------------------------------------------

    def send(self, link: int, message: Message) -> None:
        """See ``Carrier``."""
        if link in self._open:
            self._open[link].outbox.put_nowait(message)

    def close(self, link: int, state: str, reason: str) -> None:
        """See ``Carrier``."""
        opened = self._open.get(link)
        if opened is not None:
            opened.state, opened.reason = state, reason
            opened.outbox.put_nowait(None)

    def membership_changed(self) -> None:
        """See ``Carrier``."""
        if self._started:
            self._dial_members()

    # --- dialling ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to dial the members, and go on as they change."""
        self._started = True
        self._dial_members()

    def _dial_members(self) -> None:
        cluster = self._node.replica.cluster
        others = [machine for machine in cluster.machines if machine != self._me] if cluster.name else []
        for machine in others:
            if machine not in self._dialers:
                self._wake[machine] = asyncio.Event()
                self._dialers[machine] = asyncio.create_task(self._keep_linked(machine))
            self._wake[machine].set()
        for machine in [machine for machine in self._dialers if machine not in others]:
            self._dialers.pop(machine).cancel()
            if machine in self._by_peer:
                self.close(self._by_peer[machine].number, "removed", "the machine is no member any more")

    async def _keep_linked(self, machine: MachineId) -> None:
        wait = _BACKOFF_MIN_S
        while self._started:
            self._wake[machine].clear()
            if machine not in self._by_peer:
                lasted = await self._dial(machine)
                wait = _BACKOFF_MIN_S if lasted else min(wait * 2, _BACKOFF_MAX_S)
            if self._detached(machine):
                wait = _DETACHED_RETRY_S
            with contextlib.suppress(TimeoutError):
                jittered = wait * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides nothing
                # Not wait_for(): in Python 3.11 it can swallow a cancellation.
                async with asyncio.timeout(jittered):
                    await self._wake[machine].wait()
                wait = _BACKOFF_MIN_S

    def _detached(self, machine: MachineId) -> bool:
        machines = self._node.replica.cluster.machines
        return any(key in machines and machines[key].detached for key in (machine, self._me))

    async def _dial(self, machine: MachineId) -> bool:
        """Dial a member and serve the link; say whether it lasted, so that a refusal is not retried in a rush."""
        cluster = self._node.replica.cluster
        member = cluster.machines.get(machine)
        if member is None:
            return False
        try:
            link = await self._transport.dial(address_of(member, cluster))
        except LinkError as error:
            self._note(machine, error.state, error.message)
            return False
        begun = asyncio.get_running_loop().time()
        await self.serve(link, dialled=True)
        return asyncio.get_running_loop().time() - begun > _LASTING_S

    # --- serving a link --------------------------------------------------------------------------------

    async def serve(self, link: Link, *, dialled: bool) -> None:
        """Carry a link to a member until it ends."""
        opened = OpenLink(next(self._numbers), link, dialled, asyncio.get_running_loop().time())
        if not self._take_place(opened):
            await link.close()
            return
        sender = asyncio.create_task(self._send_queued(opened))
        try:
            await self._node.feed(LinkUp(opened.number, link.peer, self._node.now()))
            await self._receive(opened)
        except LinkError as error:
            opened.state, opened.reason = error.state, error.message
        except Malformed as error:
            opened.state, opened.reason = "dropped", f"the peer sent {error.message}"
        except ClusterStoreError as error:
            opened.state, opened.reason = "dropped", error.message
        finally:
            sender.cancel()
            self._open.pop(opened.number, None)
            if self._by_peer.get(link.peer) is opened:
                del self._by_peer[link.peer]
                self._note(link.peer, opened.state, opened.reason)
            await link.close()
            await self._node.feed(LinkDown(opened.number))
            await self._node.notify()
            lasted = asyncio.get_running_loop().time() - opened.since > _LASTING_S
            if link.peer in self._wake and lasted and opened.state != "detached":
                self._wake[link.peer].set()

    def _take_place(self, opened: OpenLink) -> bool:
        """Make a link the one to its peer, unless the one that is there has the better right."""
        peer = opened.link.peer
        before = self._by_peer.get(peer)
        if before is not None:
            simultaneous = opened.since - before.since < _SIMULTANEOUS_S and opened.dialled != before.dialled
            lower_dialled = opened.dialled == (self._me < peer)
            if simultaneous and not lower_dialled:
                return False
            self._by_peer.pop(peer)
            self.close(before.number, "dropped", "replaced by a newer link")
        self._open[opened.number] = opened
        self._by_peer[peer] = opened
        self._note(peer, "connecting", "")
        return True

    async def _receive(self, opened: OpenLink) -> None:
        peer = opened.link.peer
        while (frame := await opened.link.receive()) is not None:
            message = wire.decode(frame)
            now = self._node.now()
            self.status[peer].last_contact = now
            if isinstance(message, Hello):
                self.status[peer].skew = message.time - now
                self._note(peer, "connected", "")
            elif isinstance(message, Bye):
                opened.state, opened.reason = message.state, message.reason
            if isinstance(message, Records):
                await self._node.receive(opened.number, message)
            else:
                await self._node.feed(Received(opened.number, message, now))
            await self._node.notify()

    async def _send_queued(self, opened: OpenLink) -> None:
        try:
            while (message := await opened.outbox.get()) is not None:
                await opened.link.send(wire.encode(message))
        except LinkError as error:
            opened.state, opened.reason = error.state, error.message
        await opened.link.close()

    def _note(self, machine: MachineId, state: str, reason: str) -> None:
        status = self.status.setdefault(machine, PeerStatus())
        if (status.state, status.reason) != (state, reason):
            status.state, status.reason, status.since = state, reason, self._node.now()
            logger.info("%s: %s %s", machine, state, reason)

    # --- what connstatus asks ----------------------------------------------------------------------------

    def progress(self, machine: MachineId) -> tuple[int, int] | None:
        """Return how many records this machine is behind and ahead of a linked peer, None where there is no link."""
        opened = self._by_peer.get(machine)
        session = self._node.replica.sessions.get(opened.number) if opened else None
        if session is None or session.hello is None:
            return None
        state = self._node.replica.state
        return session.behind(state), session.ahead(state)

    def linked(self, machine: MachineId) -> bool:
        """Say whether a link to a peer is up and greeted."""
        return self.progress(machine) is not None

    async def stop(self) -> None:
        """Stop dialling and close every link."""
        self._started = False
        tasks = list(self._dialers.values())
        self._dialers.clear()
        for task in tasks:
            task.cancel()
        for opened in list(self._open.values()):
            await opened.link.close()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task


def address_of(machine: Machine, cluster: Cluster) -> PeerAddress:
    """Return where peers dial a machine, by the cluster's rule for naming each other."""
    host = machine.address
    if not host and cluster.by == "ip":
        host = next(iter(machine.interfaces.values()), machine.listen)
    return PeerAddress(machine.id, host or machine.hostname, machine.ssh_port, machine.host_key)
