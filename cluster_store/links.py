"""The links to the other members: who dials whom, which of two links stays, and what connstatus knows of each.

Every member dials every other, in a large fleet a handful of them (``core/overlay.py``); one direction that works is
enough. Of two links to one peer that came up at the same time, the one dialled by the machine with the lower id stays;
a link that comes in much later replaces the one before, because whoever dials again has lost it. All waiting times
have jitter.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any

from cluster_store.core import wire
from cluster_store.core.cluster import TRANSPORTS, Cluster, Machine
from cluster_store.core.effects import Bye, Hello, LinkDown, LinkUp, Message, Received, Records
from cluster_store.core.errors import ClusterStoreError, LinkError, Malformed
from cluster_store.core.limits import PEER_PATIENCE_S, REASON_CHARS_MAX
from cluster_store.core.naming import one_line
from cluster_store.core.overlay import FULL_MESH_MAX, STAND_IN_S, Overlay, Rings
from cluster_store.core.sync import Session
from cluster_store.core.types import MachineId
from cluster_store.node import Node
from cluster_store.open_link import OpenLink
from cluster_store.ports import Link, PeerAddress, Transport, host_port

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
#: In a large fleet: how often a machine looks whom it should be linked to, and how long it keeps a link that it dialled
#: and needs no more, seconds.
_TEND_S = 5.0
_SPARE_S = 60.0
#: How long a dial may take before it is given up from outside, seconds: longer than a transport takes for each of its
#: steps.
_DIAL_S = 60.0
#: How a link ends that is not wanted back at once.
_PARTED = ("detached", "removed", "not linked")
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
    #: The same three as they were before the attempt that goes on: where that fails for the same reason, they hold.
    before: tuple[str, str, int] = ("", "", 0)
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
        #: Dialers of machines that are no members any more, or not needed, while their links end.
        self._parting: set[asyncio.Task[None]] = set()
        self._overlay = Overlay(me)
        #: Since when a link that this machine dialled is not needed, by the event loop's clock.
        self._spare: dict[MachineId, float] = {}
        self._tending: asyncio.Task[None] | None = None
        #: What serves the links that this machine dialled.
        self._serving: set[asyncio.Task[None]] = set()
        self._wake: dict[MachineId, asyncio.Event] = {}
        #: How often another port than the one on record was tried.
        self._turns: dict[MachineId, int] = {}
        self.status: dict[MachineId, PeerStatus] = {}
        #: The last conversation with each peer, for what it said of itself.
        self._heard: dict[MachineId, Session] = {}
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
            self._wake_dialers()

    # --- dialling ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to dial the members, and go on as they change."""
        self._started = True
        self._take_members()
        self._dial_members(self._overlay.start_spread)
        self._tending = asyncio.create_task(self._tend())

    def _take_members(self) -> list[MachineId]:
        """Let the overlay know of the members; return the others."""
        cluster = self._node.replica.cluster
        others = [machine for machine in cluster.machines if machine != self._me] if cluster.name else []
        # In a large fleet a machine that is detached dials others, and is told that it is; they do without it.
        small = len(others) < FULL_MESH_MAX
        near = (self._me, *(machine for machine in others if small or not cluster.machines[machine].detached))
        if near != self._overlay.rings.members:
            self._overlay.settle(Rings(near))
        return others

    def _dial_members(self, spread: float = 0.0) -> None:
        """Dial those whom this machine should be linked to, each after a while of up to ``spread`` seconds."""
        others = self._take_members()
        wanted = self._overlay.wanted(self._by_peer, asyncio.get_running_loop().time())
        for machine in wanted:
            if machine not in self._dialers:
                self._wake[machine] = asyncio.Event()
                self._dialers[machine] = asyncio.create_task(self._keep_linked(machine, spread))
        for machine in [machine for machine in self._dialers if machine not in wanted]:
            (self._let_go if machine in others else self._part)(machine)
        for opened in [opened for peer, opened in self._by_peer.items() if peer not in (*others, *self._dialers)]:
            self._end_soon(opened)

    def _wake_dialers(self) -> None:
        for machine in self._dialers:
            self._wake[machine].set()

    async def _tend(self) -> None:
        """In a large fleet, go back to machines that could not be reached, and close links that are not needed."""
        while self._started:
            await asyncio.sleep(_TEND_S * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, hides nothing
            if self._overlay.rings.is_full_mesh:
                continue
            self._dial_members()
            now = asyncio.get_running_loop().time()
            spare = [peer for peer, opened in self._by_peer.items() if opened.dialled and peer not in self._dialers]
            self._spare = {peer: self._spare.get(peer, now) for peer in spare}
            for peer, since in self._spare.items():
                if now - since >= _SPARE_S:
                    self.close(self._by_peer[peer].number, "not linked", "")

    def spares(self, machine: MachineId) -> bool:
        """Say whether there is no link to a machine because none is needed: others relay."""
        overlay = self._overlay
        unneeded = machine not in self._by_peer and machine not in self._dialers and not overlay.avoids(machine)
        return unneeded and not overlay.rings.is_full_mesh

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
            self._keep_until_done(dialer)
            self._end_soon(opened)

    def _end_soon(self, opened: OpenLink) -> None:
        why = "the machine is no member any more"
        asyncio.get_running_loop().call_later(_PARTING_S, self.close, opened.number, "removed", why)

    def _let_go(self, machine: MachineId) -> None:
        """Dial a member no more, for now. What is under way is finished; a link that comes of it is a spare one."""
        self._keep_until_done(self._dialers.pop(machine))
        self._wake[machine].set()

    def _keep_until_done(self, dialer: asyncio.Task[None]) -> None:
        self._parting.add(dialer)
        dialer.add_done_callback(self._parting.discard)

    def _missed(self, machine: MachineId, begun: float) -> None:
        """Take note that a member could not be reached: in a large fleet another one may stand in for it."""
        now, chance = asyncio.get_running_loop().time(), random.random()  # noqa: S311 - spreads load, hides nothing
        missed = machine in self._dialers and machine not in self._by_peer and not self._rests(machine)
        if missed and self._overlay.failed(machine, begun, now, chance):
            self._dial_members()

    async def _keep_linked(self, machine: MachineId, spread: float) -> None:
        wait = _BACKOFF_MIN_S
        if spread:
            await asyncio.sleep(random.uniform(0.0, spread))  # noqa: S311 - spreads load, hides nothing
        while self._started and self._dialers.get(machine) is asyncio.current_task():
            self._wake[machine].clear()
            if machine not in self._by_peer:
                begun = asyncio.get_running_loop().time()
                # Nobody waits for an answer that may never come before another machine is asked.
                slow = asyncio.get_running_loop().call_later(STAND_IN_S, self._missed, machine, begun)
                try:
                    lasted = await self._dial(machine)
                except Exception as error:
                    # A fault of this program. Whoever dials no more is cut off until it is started again.
                    logger.critical("dialling %s failed", machine, exc_info=True)
                    self._note_failure(machine, "unreachable", f"a fault of this program: {error!r}")
                    lasted = False
                finally:
                    slow.cancel()
                wait = _BACKOFF_MIN_S if lasted else min(wait * 2, _BACKOFF_MAX_S)
                if not lasted:
                    self._missed(machine, begun)
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
            link = await self._connect(address)
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
                link = await self._connect(replace(address, port=other))
            except LinkError:
                return False  # why the port on record does not answer says more
        opened = self._opened(link, dialled=True)
        self._spawn(self._serve(opened))
        # Not until all of it has ended: one that another link has replaced, or whose peer is silent, may take its time.
        await opened.left.wait()
        return asyncio.get_running_loop().time() - opened.since > _LASTING_S

    async def _connect(self, address: PeerAddress) -> Link:
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
            self._spawn(dialling.result().close())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what no dialer is to wait for."""
        task = asyncio.create_task(work)
        self._serving.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._serving.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A fault of this program, which must not pass unseen.
            logger.critical("serving a link failed", exc_info=error)

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
        await self._serve(self._opened(link, dialled=dialled))

    def _opened(self, link: Link, *, dialled: bool) -> OpenLink:
        return OpenLink(next(self._numbers), link, dialled=dialled, since=asyncio.get_running_loop().time())

    async def _serve(self, opened: OpenLink) -> None:
        link = opened.link
        if not self._take_place(opened):
            opened.left.set()
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
            opened.left.set()
            await self._node.feed(LinkDown(opened.number))
            await self._node.notify()
            lasted = asyncio.get_running_loop().time() - opened.since > _LASTING_S
            if link.peer in self._wake and lasted and opened.state not in _PARTED and not self._rests(link.peer):
                self._wake[link.peer].set()
            await link.close()

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
            before.left.set()
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
            if isinstance(message, Hello) and self.linked(peer):
                self._overlay.reached(peer)
                self._heard[peer] = self._node.replica.sessions[opened.number]
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
            if state == "connecting":
                status.before = (status.state, status.reason, status.since)
            lasting = status.state == "connecting" and status.before[:2] == (state, reason)
            since = status.before[2] if lasting else self._node.now()
            status.state, status.reason, status.since = state, reason, since
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

    def progress_when_last_heard(self, machine: MachineId) -> tuple[int, int] | None:
        """Return the same by what a peer without a link said and acknowledged last, None where it never did."""
        session, state = self._heard.get(machine), self._node.replica.state
        return None if session is None else (session.behind(state), session.ahead(state))

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
        tasks = [*self._dialers.values(), *self._parting, *self._serving, *filter(None, [self._tending])]
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
