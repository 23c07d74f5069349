"""One machine of a large fleet: a real replica and its sessions on virtual links, without documents and without faults.

It dials as the daemon does (``dialers.py``): those whom its overlay wants, a first time at some moment of the start's
spread, again after waits that grow; links that it dialled and wants no longer end after a while. What is left out is
what a thousand machines in one process have no room for: documents, and registers other than the cluster's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import inf
from random import Random
from typing import Protocol

from cluster_store.core import wire
from cluster_store.core.admission import Incoming
from cluster_store.core.cluster import Cluster
from cluster_store.core.commands import Command
from cluster_store.core.effects import (
    Append,
    AppendDone,
    Close,
    Due,
    Input,
    Later,
    LinkDown,
    LinkUp,
    LogRead,
    LogRow,
    Read,
    Received,
    Records,
    Request,
    Send,
    Submit,
)
from cluster_store.core.limits import BATCH_BYTES_TARGET, BATCH_RECORDS_MAX, RELAY_PATIENCE_S
from cluster_store.core.overlay import STAND_IN_S, Overlay, Rings
from cluster_store.core.replica import Replica
from cluster_store.core.state import Appended, Draft, Fact, Facts, Needs, ScopeFacts, State
from cluster_store.core.types import Epoch, MachineId, RecordId
from cluster_store.simulation.clock import Clock, Life, Pause, Signal
from cluster_store.simulation.network import End, Network

#: How long an append takes, milliseconds: a disk that means it when it says that something is durable.
_WRITE_MS = (2, 10)
#: What an SSH handshake takes besides its round trips, and how long nobody answers before a dial is given up.
_HANDSHAKE_MS, _DIAL_TIMEOUT_MS = (50, 200), 10_000
#: First and longest wait before a machine is dialled again, and how long a link is kept that is not wanted any more.
_BACKOFF_MS, _BACKOFF_MAX_MS, _SPARE_MS = 200, 10_000, 60_000
#: How often a machine looks at its links.
_TEND_MS = (500, 1500)


class Ledger:
    """A log of records: what all machines had in common before the run, and what this one appended since."""

    def __init__(self, records: Iterable[Appended], places: Mapping[RecordId, Fact]) -> None:
        """Begin with records, and where they stand."""
        self.records = list(records)
        self._before = places
        self._since: dict[RecordId, Fact] = {}

    def append(self, draft: Draft) -> None:
        """Keep a draft's records."""
        self.records += draft.records
        self._since.update(draft.facts)

    def lookup(self, needs: Needs) -> Facts:
        """Return what is asked for. Of groups and machines nobody sets anything, and the cluster's scope is there."""
        scopes = {scope: ScopeFacts({}, {}) for scope in needs.scopes}
        steps = {}
        if needs.steps:
            placed = (((added.line, added.record.envelope.seq), added.record.id) for added in self.records)
            steps = {step: record for step, record in placed if step in needs.steps}
        records = {record: self._since.get(record) or self._before.get(record) for record in needs.records}
        return Facts(scopes, records, steps)

    def first_missing(self, covered: Mapping[int, int]) -> int:
        """Return the position after which somebody lacks something."""
        for added in self.records:
            if added.record.envelope.seq > covered.get(added.line, 0):
                return added.position - 1
        return len(self.records)

    def read(self, after: int) -> list[LogRow]:
        """Return whole runs after a position, about a batch."""
        rows: list[LogRow] = []
        taken = 0
        for place in range(after, len(self.records)):
            added = self.records[place]
            item = Incoming.of(added.record.data, added.record.seal, {})
            rows.append(LogRow(added.position, added.line, added.record.envelope.seq, item))
            taken += item.size
            if added.record.seal and (len(rows) >= BATCH_RECORDS_MAX or taken >= BATCH_BYTES_TARGET):
                break
        return rows


class Sparing(Replica):
    """A replica that does not read for itself who the members are: that is the same for all, and nobody changes it."""

    def __init__(self, state: State, sign: Callable[[bytes], bytes], instance: str, cluster: Cluster) -> None:
        """Take over a state, and the read model of its registers."""
        super().__init__(state, sign, instance)
        self._members = cluster

    @property
    def cluster(self) -> Cluster:
        """The read model, of all machines."""
        return self._members


class Surroundings(Protocol):
    """What a machine needs of the fleet that it is in."""

    clock: Clock
    rings: Rings
    #: What wall clocks say when the simulation begins, milliseconds since 1970.
    beginning_ms: int

    @property
    def network(self) -> Network:
        """The way to the others."""

    def machine(self, machine: MachineId) -> Machine:
        """Return a machine by its id."""

    def dials(self, change: int) -> None:
        """Count links that are being made at this moment: one more or one less."""

    def appended(self, machine: Machine, draft: Draft, origin: MachineId | None) -> None:
        """Know that a machine has made records durable, and who sent them: None for its own."""


class Machine:
    """A host, its log, and the process on it while one runs."""

    def __init__(self, fleet: Surroundings, place: str, state: State, log: Ledger, dice: Random) -> None:
        """Set up a machine that does not run yet.

        Args:
            fleet: where it is.
            place: its host's name.
            state: what its log adds up to.
            log: its records.
            dice: decide how long things take.
        """
        self.place = place
        self.machine = state.me
        self.state = state
        self.life = Life()
        self.replica: Sparing | None = None
        #: Whether its host has no power: then nobody says that a dial is refused.
        self.is_dark = False
        self.log = log
        self.links: dict[int, End] = {}
        #: Bytes of all frames that it has sent.
        self.sent = 0
        self._fleet = fleet
        self._dice = dice
        self._overlay = Overlay(state.me)
        #: Whom it dials, and since when.
        self._dialling: dict[MachineId, int] = {}
        self._not_before: dict[MachineId, int] = {}
        self._waits: dict[MachineId, int] = {}
        self._unwanted: dict[int, int] = {}
        self._dialled: set[int] = set()
        self._waiting: list[tuple[Input, Signal | None]] = []
        self._writing = False

    # --- its life --------------------------------------------------------------------------------------

    def start(self, sign: Callable[[bytes], bytes], cluster: Cluster) -> None:
        """Start its process, which knows what is durable."""
        self.life, self.is_dark = Life(), False
        self.replica = Sparing(self.state, sign, self._dice.randbytes(8).hex(), cluster)
        self._overlay = Overlay(self.machine)
        self._overlay.settle(self._fleet.rings)
        now, spread = self._fleet.clock.now, round(1000 * self._overlay.start_spread)
        first = self._overlay.wanted((), now / 1000)
        self._not_before = {other: now + self._dice.randint(0, spread) for other in first}
        self._waits = {}
        self._fleet.clock.spawn(self._tend(), self.life)

    def stop(self, *, power_lost: bool = False) -> None:
        """End its process; its peers are told, unless its host lost power."""
        self.life.end()
        self.replica, self.is_dark = None, power_lost
        for end in self.links.values():
            self._fleet.network.crashed(end, power_lost=power_lost)
        self._fleet.dials(-len(self._dialling))
        for kept in (self.links, self._dialling, self._unwanted, self._dialled, self._waiting):
            kept.clear()
        self._writing = False

    @property
    def is_up(self) -> bool:
        """Whether its process runs."""
        return self.replica is not None

    @property
    def peers(self) -> dict[MachineId, int]:
        """The machines that it believes to be linked to, and the links' numbers."""
        return {end.peer: number for number, end in self.links.items() if not end.closing}

    @property
    def has_its_links(self) -> bool:
        """Whether it is linked to everybody whom it wants to be linked to, and believes in no link to a dead machine.

        Those that it could not reach before are left out, as if none of them came back.
        """
        peers = self.peers
        if not all(self._fleet.machine(other).is_up for other in peers):
            return False
        wanted = self._overlay.wanted(peers, -inf)
        if self._fleet.rings.is_full_mesh:
            # Nobody stands in for anybody.
            wanted = [other for other in wanted if self._fleet.machine(other).is_up]
        return all(other in peers for other in wanted)

    # --- dialling --------------------------------------------------------------------------------------

    async def _tend(self) -> None:
        while True:
            await Pause(self._dice.randint(*_TEND_MS))
            now, peers = self._fleet.clock.now, self.peers
            wanted = self._overlay.wanted(peers, now / 1000)
            for other in wanted:
                if other not in peers and other not in self._dialling and self._not_before.get(other, 0) <= now:
                    self._fleet.clock.spawn(self._dial(other), self.life)
            for other, link in peers.items():
                if other in wanted or link not in self._dialled:
                    self._unwanted.pop(link, None)
                elif self._unwanted.setdefault(link, now) + _SPARE_MS <= now:
                    self._close(self.links[link])

    async def _dial(self, other: MachineId) -> None:
        begun = self._fleet.clock.now
        self._dialling[other] = begun
        self._fleet.dials(1)
        self._fleet.clock.spawn(self._lose_patience(other, begun), self.life)
        reached = await self._reach(self._fleet.machine(other))
        del self._dialling[other]
        self._fleet.dials(-1)
        now = self._fleet.clock.now
        wait = _BACKOFF_MS if reached else min(_BACKOFF_MAX_MS, 2 * self._waits.get(other, _BACKOFF_MS))
        self._waits[other] = wait
        self._not_before[other] = now + self._dice.randint(wait // 2, wait)
        if not reached:
            self._missed(other, begun)

    async def _lose_patience(self, other: MachineId, begun: int) -> None:
        await Pause(round(1000 * STAND_IN_S))
        if self._dialling.get(other) == begun:
            self._missed(other, begun)

    def _missed(self, other: MachineId, begun: int) -> None:
        self._overlay.failed(other, begun / 1000, self._fleet.clock.now / 1000, self._dice.random())

    async def _reach(self, other: Machine) -> bool:
        """Try to open a link; say whether there is one, whoever made it."""
        network = self._fleet.network
        if not network.reachable(self.place, other.place):
            await Pause(_DIAL_TIMEOUT_MS)
            return False
        if not other.is_up:
            await Pause(_DIAL_TIMEOUT_MS if other.is_dark else 2 * network.delay())
            return False
        await Pause(6 * network.delay() + self._dice.randint(*_HANDSHAKE_MS))
        if not self._can_reach(other):
            return False
        if other.machine not in self.peers and self.machine not in other.peers:
            self._dialled.add(network.connect(self, other).number)
        return True

    def _can_reach(self, other: Machine) -> bool:
        return other.is_up and self._fleet.network.reachable(self.place, other.place)

    # --- links -----------------------------------------------------------------------------------------

    def linked(self, end: End) -> None:
        """See ``Endpoint``."""
        self.links[end.number] = end
        self._overlay.reached(end.peer)
        self._fleet.clock.spawn(self._serve(end), self.life)

    async def _serve(self, end: End) -> None:
        await self._feed(LinkUp(end.number, end.peer, self._now))
        while True:
            while not end.inbox:
                await end.arrival
            frame = end.inbox.popleft()
            if frame is None:
                break
            message = wire.decode(frame)
            given = Received(end.number, message, self._now)
            if isinstance(message, Records):
                done = Signal(self._fleet.clock)
                self._put(given, done)
                await done
            else:
                await self._feed(given)
        end.open = False
        del self.links[end.number]
        self._dialled.discard(end.number)
        self._unwanted.pop(end.number, None)
        self._fleet.network.send(end, None)
        await self._feed(LinkDown(end.number))

    def _close(self, end: End) -> None:
        self._fleet.network.send(end, None)
        self._fleet.network.hang_up(end, self._dice.randint(0, 20))

    # --- the writer ------------------------------------------------------------------------------------

    @property
    def _now(self) -> int:
        return self._fleet.beginning_ms + self._fleet.clock.now

    def submit(self, command: Command) -> None:
        """Ask for a change."""
        self._put(Submit([Request(1, command, "os:root", "local")], self._now, Epoch(self._dice.randbytes(8).hex())))

    def _put(self, given: Input, done: Signal | None = None) -> None:
        self._waiting.append((given, done))
        if not self._writing:
            self._writing = True
            self._fleet.clock.spawn(self._write(), self.life)

    async def _write(self) -> None:
        while self._waiting:
            given, done = self._waiting.pop(0)
            await self._feed(given)
            if done is not None:
                done.set()
        self._writing = False

    async def _feed(self, given: Input) -> None:
        replica = self.replica
        assert replica is not None
        while needs := replica.needs(given):
            replica.learn(self.log.lookup(needs))
        for effect in replica.step(given):
            if isinstance(effect, Append):
                await self._append(replica, effect.draft)
            elif isinstance(effect, Send) and effect.link in self.links:
                frame = wire.encode(effect.message)
                self.sent += len(frame)
                self._fleet.network.send(self.links[effect.link], frame)
            elif isinstance(effect, Read):
                after = effect.after if effect.after is not None else self.log.first_missing(effect.covered)
                await self._feed(LogRead(effect.link, after, self.log.read(after)))
            elif isinstance(effect, Later):
                self._fleet.clock.spawn(self._remind(effect.link), self.life)
            elif isinstance(effect, Close) and effect.link in self.links:
                self._close(self.links[effect.link])

    async def _remind(self, link: int) -> None:
        await Pause(round(1000 * RELAY_PATIENCE_S * self._dice.uniform(1.0, 1.5)))
        await self._feed(Due(link))

    async def _append(self, replica: Sparing, draft: Draft) -> None:
        await Pause(self._dice.randint(*_WRITE_MS))
        assert replica.pending is not None
        link = replica.pending.link
        origin = self.links[link].peer if link in self.links else None
        self.log.append(draft)
        self._fleet.appended(self, draft, origin)
        await self._feed(AppendDone())
