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
from dataclasses import dataclass, replace

from cluster_store.core import wire
from cluster_store.core.cluster import TRANSPORTS, Cluster, Machine
from cluster_store.core.effects import Bye, Hello, LinkDown, LinkUp, Message, Received, Records
from cluster_store.core.errors import ClusterStoreError, LinkError, Malformed
from cluster_store.core.limits import PEER_PATIENCE_S, REASON_CHARS_MAX
from cluster_store.core.naming import one_line
from cluster_store.core.types import MachineId
from cluster_store.node import Node
from cluster_store.open_link import OpenLink
from cluster_store.ports import Link, PeerAddress, Transport

logger = logging.getLogger("cluster_store")

#: Two links that came up within this many seconds were dialled at the same time.
_SIMULTANEOUS_S = 5.0
#: A link that lived this long was a working one: when it ends, dial again at once.
_LASTING_S = 2.0
#: First and longest wait before a peer is dialled again, seconds.
_BACKOFF_MIN_S, _BACKOFF_MAX_S = 0.2, 10.0
#: A peer that is detached is tried now and then all the same: it may have been taken back from the other side. So is
#: every peer by the younger of two instances, which takes the elder one's link whenever it dials, and by a machine
#: that the peer says was removed.
_RESTING_RETRY_S = 30.0
#: How a link ends that is not wanted back at once.
_PARTED = ("detached", "removed")
#: Words of connstatus in which a peer may say why it ends a link.
_FAREWELLS = frozenset(
    ("authentication failed", "connecting", "detached", "dropped", "other cluster", "removed", "version differs")
)
#: How long a machine that was removed may take to hear of it, seconds.
_PARTING_S = 10.0


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
        #: Dialers of machines that are no members any more, while their links end.
        self._parting: set[asyncio.Task[None]] = set()
        self._wake: dict[MachineId, asyncio.Event] = {}
        #: How often another port than the one on record was tried.
        self._turns: dict[MachineId, int] = {}
        self.status: dict[MachineId, PeerStatus] = {}
        self._started = False
        #: Seconds that a peer may owe an answer.
        self.patience = PEER_PATIENCE_S
        node.carrier = self

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
            self._part(machine)

    def close_outgrown(self) -> None:
        """End the links to peers whose platform version this machine has left: they were of one when they greeted.

        Only where this machine itself says that it has: another member can write its version too, and would cut it off.
        """
        replica = self._node.replica
        me = replica.cluster.machines.get(self._me)
        for opened in list(self._by_peer.values()):
            session = replica.sessions.get(opened.number)
            told = session.hello.version if session is not None and session.hello is not None else ""
            if me is not None and told and told != me.version:
                self.close(opened.number, "version differs", f"version {told} there, {me.version} here")

    def _part(self, machine: MachineId) -> None:
        """Dial a machine no more. A link that is up lives until the machine has been told, but not for long."""
        dialer, opened = self._dialers.pop(machine), self._by_peer.get(machine)
        if opened is None or not opened.dialled:
            dialer.cancel()
        if opened is not None:
            self._parting.add(dialer)
            dialer.add_done_callback(self._parting.discard)
            why = "the machine is no member any more"
            asyncio.get_running_loop().call_later(_PARTING_S, self.close, opened.number, "removed", why)

    async def _keep_linked(self, machine: MachineId) -> None:
        wait = _BACKOFF_MIN_S
        while self._started and self._dialers.get(machine) is asyncio.current_task():
            self._wake[machine].clear()
            if machine not in self._by_peer:
                lasted = await self._dial(machine)
                wait = _BACKOFF_MIN_S if lasted else min(wait * 2, _BACKOFF_MAX_S)
            if self._rests(machine):
                wait = _RESTING_RETRY_S
            with contextlib.suppress(TimeoutError):
                jittered = wait * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides nothing
                # Not wait_for(): in Python 3.11 it can swallow a cancellation.
                async with asyncio.timeout(jittered):
                    await self._wake[machine].wait()
                wait = _BACKOFF_MIN_S

    def _rests(self, machine: MachineId) -> bool:
        replica = self._node.replica
        machines = replica.cluster.machines
        detached = any(key in machines and machines[key].detached for key in (machine, self._me))
        status = self.status.get(machine)
        told = status is not None and status.state == "removed"
        return detached or told or replica.twins.is_younger

    async def _dial(self, machine: MachineId) -> bool:
        """Dial a member and serve the link; say whether it lasted, so that a refusal is not retried in a rush."""
        cluster = self._node.replica.cluster
        member = cluster.machines.get(machine)
        if member is None:
            return False
        address = address_of(member, cluster)
        try:
            link = await self._transport.dial(address)
        except Malformed as error:
            # What is on record for it is no address or no key: any member can have written it.
            self._note_failure(machine, "unreachable", error.message)
            return False
        except LinkError as error:
            self._note_failure(machine, error.state, error.message)
            other = self._other_port(member, address.port)
            if error.state != "unreachable" or other is None:
                return False
            try:
                link = await self._transport.dial(replace(address, port=other))
            except LinkError:
                return False  # why the port on record does not answer says more
        begun = asyncio.get_running_loop().time()
        await self.serve(link, dialled=True)
        return asyncio.get_running_loop().time() - begun > _LASTING_S

    def _other_port(self, member: Machine, port: int) -> int | None:
        """Return another port to try, each in its turn.

        A machine that was away while ports or the transport changed listens where it did before, and nobody whom it
        dials is there any more.
        """
        others = [one for one in (member.ssh_port, member.ccs_port, *member.former_ports) if one != port]
        turn = self._turns[member.id] = self._turns.get(member.id, -1) + 1
        return others[turn % len(others)] if others else None

    # --- serving a link --------------------------------------------------------------------------------

    async def serve(self, link: Link, *, dialled: bool) -> None:
        """Carry a link to a member until it ends."""
        since = asyncio.get_running_loop().time()
        opened = OpenLink(next(self._numbers), link, dialled=dialled, since=since)
        if not self._take_place(opened):
            await link.close()
            return
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
            if self._by_peer.get(link.peer) is opened:
                del self._by_peer[link.peer]
                self._note(link.peer, opened.state, opened.reason)
            await link.close()
            await self._node.feed(LinkDown(opened.number))
            await self._node.notify()
            lasted = asyncio.get_running_loop().time() - opened.since > _LASTING_S
            if link.peer in self._wake and lasted and opened.state not in _PARTED and not self._rests(link.peer):
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
            elif isinstance(message, Bye) and message.state not in _FAREWELLS:
                message = Bye("dropped", message.reason)
            if opened.closing:
                continue
            if isinstance(message, Records):
                await self._node.receive(opened.number, message)
            else:
                await self._node.feed(Received(opened.number, message, now))
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

    def _note_failure(self, machine: MachineId, state: str, reason: str) -> None:
        """Remember why a machine could not be dialled, unless it has dialled this one meanwhile: then it is linked."""
        if machine not in self._by_peer:
            self._note(machine, state, reason)

    def _note(self, machine: MachineId, state: str, reason: str) -> None:
        status = self.status.setdefault(machine, PeerStatus())
        reason = one_line(reason[:REASON_CHARS_MAX])
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

    @property
    def open_peers(self) -> list[MachineId]:
        """The machines that a link is open to, greeted or not."""
        return [opened.link.peer for opened in self._open.values()]

    def linked(self, machine: MachineId) -> bool:
        """Say whether a link to a peer is up and greeted."""
        return self.progress(machine) is not None

    async def stop(self) -> None:
        """Stop dialling and close every link."""
        self._started = False
        tasks = [*self._dialers.values(), *self._parting]
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
    port = getattr(machine, TRANSPORTS[cluster.over])
    return PeerAddress(machine.id, host or machine.hostname, port, machine.host_key)
