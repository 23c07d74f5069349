"""Whom this machine dials, and when.

Every member dials every other, in a large fleet a handful of them (``core/overlay.py``); one direction that works is
enough. Each member that is to be linked has a dialer, a task that dials it whenever there is no link, whoever made the
one before. All waiting times have jitter.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random

from cluster_store.background import Background
from cluster_store.core.overlay import FULL_MESH_MAX, STAND_IN_S, Overlay, Rings
from cluster_store.core.types import MachineId
from cluster_store.dialing import Dialing
from cluster_store.moving import Moving
from cluster_store.node import Node
from cluster_store.open_link import Carrying, OpenLink
from cluster_store.peer_status import PeerStatuses
from cluster_store.ports import Transport

logger = logging.getLogger("cluster_store")

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
#: How a link ends that is not wanted back at once.
_PARTED = ("detached", "removed", "not linked")
#: How long a machine that was removed may take to hear of it, seconds.
_PARTING_S = 10.0


class Dialers:
    """One dialer for each member that this machine should be linked to."""

    def __init__(
        self, node: Node, transport: Transport, me: MachineId, carrying: Carrying, statuses: PeerStatuses
    ) -> None:
        """Dial for a node; ``start`` begins."""
        self._node = node
        self._me = me
        self._carrying = carrying
        self._statuses = statuses
        self._dialing = Dialing(transport, self._note_failure)
        self._moving = Moving(node, me, carrying, self._dialing, self._dials)
        self._dialers: dict[MachineId, asyncio.Task[None]] = {}
        #: Dialers of machines that are no members any more, or not needed, while their links end.
        self._parting = Background("dialling")
        self._overlay = Overlay(me)
        #: Since when a link that this machine dialled is not needed, by the event loop's clock.
        self._spare: dict[MachineId, float] = {}
        self._tending: asyncio.Task[None] | None = None
        self._wake: dict[MachineId, asyncio.Event] = {}
        self._started = False

    def start(self) -> None:
        """Begin to dial the members, and go on as they change."""
        self._started = True
        self._take_members()
        self._dial_members(self._overlay.start_spread)
        self._tending = asyncio.create_task(self._tend())

    def stop(self) -> list[asyncio.Task[None]]:
        """Dial nobody any more; return the tasks that were cancelled and are still to end."""
        self._started = False
        tasks = [*self._dialers.values(), *filter(None, [self._tending])]
        self._dialers.clear()
        for task in tasks:
            task.cancel()
        return [*tasks, *self._moving.stop(), *self._parting.stop(), *self._dialing.stop()]

    # --- what others tell of -------------------------------------------------------------------------

    def membership_changed(self) -> None:
        """Dial those whom this machine should be linked to now, at once."""
        if self._started:
            self._dial_members()
            for machine in self._dialers:
                self._wake[machine].set()
            self._moving.look()

    def reached(self, machine: MachineId) -> None:
        """Take note that a link to a peer is up and greeted, whoever dialled."""
        self._overlay.reached(machine)
        if self._started:
            self._moving.look()

    def lost(self, opened: OpenLink) -> None:
        """Take note that a link has ended: one that worked and is wanted back is dialled again at once."""
        peer = opened.link.peer
        if peer in self._wake and _lasted(opened) and opened.state not in _PARTED and not self._rests(peer):
            self._wake[peer].set()

    def spares(self, machine: MachineId) -> bool:
        """Say whether there is no link to a machine because none is needed: others relay."""
        overlay = self._overlay
        linked = machine in self._carrying.by_peer
        unneeded = not linked and machine not in self._dialers and not overlay.avoids(machine)
        return unneeded and not overlay.rings.is_full_mesh

    # --- whom ----------------------------------------------------------------------------------------

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
        linked = self._carrying.by_peer
        wanted = self._overlay.wanted(linked, asyncio.get_running_loop().time())
        for machine in wanted:
            if machine not in self._dialers:
                self._wake[machine] = asyncio.Event()
                self._dialers[machine] = asyncio.create_task(self._keep_linked(machine, spread))
        for machine in [machine for machine in self._dialers if machine not in wanted]:
            (self._let_go if machine in others else self._part)(machine)
        for opened in [opened for peer, opened in linked.items() if peer not in (*others, *self._dialers)]:
            self._end_soon(opened)

    async def _tend(self) -> None:
        """In a large fleet, go back to machines that could not be reached, and close links that are not needed."""
        while self._started:
            await asyncio.sleep(_TEND_S * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, hides nothing
            if self._overlay.rings.is_full_mesh:
                continue
            self._dial_members()
            now = asyncio.get_running_loop().time()
            linked = self._carrying.by_peer
            spare = [peer for peer, opened in linked.items() if opened.dialled and peer not in self._dialers]
            self._spare = {peer: self._spare.get(peer, now) for peer in spare}
            for peer, since in self._spare.items():
                if now - since >= _SPARE_S:
                    self._carrying.close(linked[peer].number, "not linked", "")

    def _part(self, machine: MachineId) -> None:
        """Dial a machine no more. A link that is up lives until the machine has been told, but not for long."""
        dialer, opened = self._dialers.pop(machine), self._carrying.by_peer.get(machine)
        if opened is None or not opened.dialled:
            dialer.cancel()
        if opened is not None:
            self._parting.keep(dialer)
            self._end_soon(opened)

    def _end_soon(self, opened: OpenLink) -> None:
        why = "the machine is no member any more"
        asyncio.get_running_loop().call_later(_PARTING_S, self._carrying.close, opened.number, "removed", why)

    def _let_go(self, machine: MachineId) -> None:
        """Dial a member no more, for now. What is under way is finished; a link that comes of it is a spare one."""
        self._parting.keep(self._dialers.pop(machine))
        self._wake[machine].set()

    # --- when ----------------------------------------------------------------------------------------

    async def _keep_linked(self, machine: MachineId, spread: float) -> None:
        wait = _BACKOFF_MIN_S
        if spread:
            await asyncio.sleep(random.uniform(0.0, spread))  # noqa: S311 - spreads load, hides nothing
        while self._started and self._dialers.get(machine) is asyncio.current_task():
            self._wake[machine].clear()
            if machine not in self._carrying.by_peer:
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

    async def _dial(self, machine: MachineId) -> bool:
        """Dial a member until its link ends; say whether it lasted, so that a refusal is not retried in a rush."""
        cluster = self._node.replica.cluster
        member = cluster.machines.get(machine)
        dialled = await self._dialing.dial(member, cluster) if member is not None else None
        if dialled is None:
            return False
        opened = self._carrying.carry(*dialled)
        # Not until all of it has ended: one that another link has replaced, or whose peer is silent, may take its time.
        await opened.left.wait()
        return _lasted(opened)

    def _missed(self, machine: MachineId, begun: float) -> None:
        """Take note that a member could not be reached: in a large fleet another one may stand in for it."""
        now, chance = asyncio.get_running_loop().time(), random.random()  # noqa: S311 - spreads load, hides nothing
        missed = machine in self._dialers and machine not in self._carrying.by_peer and not self._rests(machine)
        if missed and self._overlay.failed(machine, begun, now, chance):
            self._dial_members()

    def _dials(self, machine: MachineId) -> bool:
        return machine in self._dialers and not self._rests(machine)

    def _rests(self, machine: MachineId) -> bool:
        """Say whether a peer is to be dialled now and then only."""
        replica = self._node.replica
        machines = replica.cluster.machines
        detached = any(key in machines and machines[key].detached for key in (machine, self._me))
        status = self._statuses.get(machine)
        told = status is not None and status.state == "removed"
        return detached or told or replica.twins.is_younger

    def _note_failure(self, machine: MachineId, state: str, reason: str) -> None:
        """Remember why a machine could not be dialled, unless it has dialled this one meanwhile: then it is linked."""
        if machine not in self._carrying.by_peer:
            self._statuses.note(machine, state, reason)


def _lasted(opened: OpenLink) -> bool:
    return asyncio.get_running_loop().time() - opened.since > _LASTING_S
