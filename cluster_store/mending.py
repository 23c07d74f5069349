"""A repair under way: a fresh log from what is left of a damaged one, and from what the other members have."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from cluster_store import joining
from cluster_store.adapters import sqlite_mending, sqlite_wal
from cluster_store.adapters.keys import Keys
from cluster_store.adapters.link_errors import host_key_refused
from cluster_store.adapters.sqlite_carving import Carved
from cluster_store.adapters.sqlite_log import SqliteLog
from cluster_store.adapters.store_folder import StoreFolder
from cluster_store.core import wire
from cluster_store.core.commands import BeginEpoch
from cluster_store.core.effects import Hello
from cluster_store.core.errors import PeerError, Refused, StoreCorrupt
from cluster_store.core.naming import one_line
from cluster_store.core.records import machine_id
from cluster_store.core.types import Epoch, MachineId
from cluster_store.dialing import address_of
from cluster_store.links import Links
from cluster_store.node import Node, open_node
from cluster_store.ports import PeerAddress, Transport, host_port
from cluster_store.salvage import Feed, Intake, Piece, cluster_of, pieces_of, take

#: Written down with the epoch that a repaired store begins.
REASON = "repaired"
#: How long a member may take to say hello, seconds.
_HELLO_S = 30.0

Progress = Callable[[str], None]
#: (host, port) -> the public key line of the host key that is shown there.
HostKey = Callable[[str, int], Awaitable[str]]


class FeedState(msgspec.Struct):
    """What is here of one machine's records in one of its epochs."""

    machine: MachineId
    hostname: str
    epoch: str
    #: All records up to this number are here and can be trusted.
    up_to: int
    #: The newest number that anything in the store told of.
    known: int
    #: Numbers behind a gap that could be read, but count only when the gap is filled.
    behind_a_gap: list[int] = []

    @property
    def lost(self) -> int:
        """How many numbers are known of and not here."""
        return self.known - self.up_to


class Outcome(msgspec.Struct):
    """What was found and done."""

    #: What is wrong with the store, in words; empty where nothing is.
    findings: list[str] = []
    #: Records that were read from the store and can be trusted, and how many there should be (None: unknown).
    salvaged: int = 0
    expected: int | None = None
    feeds: list[FeedState] = []
    #: Whether every record was there, so that nothing but what follows from them had to be made again.
    complete: bool = False
    #: Registers of secrets whose values are lost.
    secrets_lost: list[str] = []
    #: Hostnames of the other members, as far as the records tell.
    members: list[str] = []
    #: Hostname -> records that it brought.
    taken_back: dict[str, int] = {}
    #: Hostname -> why it could not be asked.
    not_asked: dict[str, str] = {}
    #: Whether a whole store is in place now, and where the damaged one is kept.
    repaired: bool = False
    kept: str = ""


class Member(msgspec.Struct, frozen=True):
    """A member that somebody named: where it is, and the fingerprint that its host key must have."""

    host: str
    port: int
    fingerprint: str


@contextmanager
def cleared(database: Path) -> Iterator[None]:
    """Leave nothing of a file that has not taken another name, neither before nor after."""

    def clear() -> None:
        for leftover in database.parent.glob(database.name + "*"):
            leftover.unlink()

    clear()
    try:
        yield
    finally:
        clear()


class Mending:
    """One repair under way."""

    def __init__(
        self,
        folder: StoreFolder,
        keys: Keys,
        carved: Carved,
        outcome: Outcome,
        clock: Callable[[], int],
        progress: Progress,
    ) -> None:
        self._folder = folder
        self._keys = keys
        self._me = machine_id(keys.identity_public)
        self._carved = carved
        self._outcome = outcome
        self._clock = clock
        self._progress = progress
        self._fresh = folder.repairing
        self._pieces = pieces_of(carved.records, carved.secrets)
        self._cluster = cluster_of(self._pieces, self._me)
        #: What was readable and may still be of use, and how many records the fresh log took from the file.
        self._waiting: list[Piece] = []
        self._taken = 0
        #: Whether what was salvaged tells of this machine, and where it says that others are.
        self._known = False
        self._addresses: dict[MachineId, PeerAddress] = {}

    # --- from the file -----------------------------------------------------------------------------

    async def salvage(self, *, hold_back: bool) -> None:
        """Fill the fresh log with what proves itself, and say how much that is.

        Args:
            hold_back: leave out records whose secrets' values are lost: who brings them brings the values too.
        """
        taken = await self._take_all(self._pieces)
        lost = sqlite_mending.secrets_without_value(self._fresh)
        await self._tell(taken, lost)
        if hold_back and lost and not self._outcome.complete:
            without = {record.hex() for record, _ in lost}
            held = [piece for piece in self._pieces if any(record.id in without for record in piece.run.records)]
            with cleared(self._fresh):
                pass
            await self._take_all([piece for piece in self._pieces if piece not in held])
            self._waiting += held

    async def _take_all(self, pieces: list[Piece]) -> Intake:
        log = await SqliteLog.create(self._fresh, self._me, self._cluster)
        try:
            taken = await take(log, self._me, pieces, self._progress)
        finally:
            await log.close()
        self._waiting = taken.waiting or []
        self._taken = taken.taken
        return taken

    async def _tell(self, taken: Intake, lost: list[tuple[bytes, str]]) -> None:
        outcome, carved = self._outcome, self._carved
        node = await self._open()
        try:
            cluster, feeds = node.replica.cluster, self._feeds(node)
            # Each of the three that tell how much there should be may be damaged itself.
            counted = taken.taken == carved.count and not any(feed.lost for feed in feeds)
            whole = node.replica.state.log_hash == carved.log_hash or counted
        finally:
            await node.close()
        self._known = self._me in cluster.machines or self._me in cluster.removed
        self._addresses = _addresses(node, self._me)
        outcome.feeds, outcome.salvaged, outcome.expected = feeds, taken.taken, carved.count
        outcome.secrets_lost = [path for _, path in lost]
        outcome.members = [cluster.machines[machine].hostname for machine in self._addresses]
        outcome.complete = (
            self._known
            and whole
            and not (self._waiting or taken.refused or lost or carved.log_damaged)
            and not sqlite_wal.loss(self._folder.database)
        )

    def _feeds(self, node: Node) -> list[FeedState]:
        """Return what is in the fresh log of each feed, and what else is known of it."""
        state, cluster = node.replica.state, node.replica.cluster
        here = {feed: max(state.lines[number].seq for number in lines) for feed, lines in state.feeds.items()}
        known = dict(here)
        behind: dict[Feed, set[int]] = {}
        for piece in self._waiting:
            behind.setdefault(piece.feed, set()).update(piece.numbers)
            known[piece.feed] = max(known.get(piece.feed, 0), piece.numbers[-1])
        members = {*cluster.machines, *cluster.removed, *(machine for machine, _ in known)}
        for (machine_, epoch_), seq in self._carved.feeds.items():
            feed = (MachineId(machine_), Epoch(epoch_))
            # A damaged row may tell of any feed, and of any number.
            if feed[0] in members and seq <= (self._carved.count or seq):
                known[feed] = max(known.get(feed, 0), seq)
        return [
            FeedState(
                machine=machine,
                hostname=cluster.hostname(machine),
                epoch=epoch,
                up_to=here.get((machine, epoch), 0),
                known=seq,
                behind_a_gap=sorted(number for number in behind.get((machine, epoch), ())),
            )
            # In the order of the log.
            for (machine, epoch), seq in known.items()
        ]

    async def _open(self) -> Node:
        node = await open_node(await SqliteLog.open(self._fresh), self._me, self._keys.sign, self._clock, REASON)
        await node.start()
        return node

    def refuse_nothing(self) -> None:
        """Raise StoreCorrupt where what is left does not even tell of this machine: it could never write again."""
        if not self._known:
            raise StoreCorrupt(
                "of what is left nothing tells of this machine, so there is nothing to go on with",
                "restore a backup, or take everything from a member with --from and --fingerprint",
            )

    # --- from the others ---------------------------------------------------------------------------

    async def take_back(self, transport: Transport, member: Member | None, host_key: HostKey) -> None:
        """Fetch what the members have, add what was behind the gaps that they filled, and begin a new epoch.

        Raises PeerError where no member could be asked.
        """
        named = await self._named(transport, member, host_key) if member else None
        await self._ask_all(transport, named)
        log = await SqliteLog.open(self._fresh)
        try:
            late = await take(log, self._me, self._waiting)
        finally:
            await log.close()
        self._waiting = late.waiting or []
        self._outcome.salvaged = self._taken + late.taken
        self._outcome.secrets_lost = [path for _, path in sqlite_mending.secrets_without_value(self._fresh)]
        node = await self._open()
        try:
            self._outcome.feeds = self._feeds(node)
            await node.submit(BeginEpoch(reason=REASON), f"machine:{self._me}", "key")
        finally:
            await node.close()

    async def _named(self, transport: Transport, member: Member, host_key: HostKey) -> PeerAddress:
        """Ask a member that somebody named who it is; it also knows which cluster this machine is in."""
        key = await host_key(member.host, member.port)
        if (shown := Keys.fingerprint(key)) != member.fingerprint:
            raise host_key_refused(host_port(member.host, member.port), shown)
        link = await transport.dial(PeerAddress(MachineId(""), member.host, member.port, key))
        try:
            async with asyncio.timeout(_HELLO_S):
                frame = await link.receive()
        except TimeoutError:
            raise PeerError(f"{member.host} says nothing", "see the log of its daemon") from None
        finally:
            await link.close()
        hello = wire.decode(frame) if frame is not None else None
        if not isinstance(hello, Hello):
            raise PeerError(f"{member.host} closed the link before it said hello", "see the log of its daemon")
        if self._cluster not in ("", hello.cluster):
            raise Refused(f"{member.host} is in another cluster than this machine was", "name a member of this one")
        if not self._cluster:
            self._cluster = hello.cluster
            with cleared(self._fresh):
                pass
            await self._take_all([])
        return PeerAddress(hello.machine, member.host, member.port, key)

    async def _ask_all(self, transport: Transport, named: PeerAddress | None) -> None:
        node = await self._open()
        try:
            asked: set[MachineId] = set()
            # Whoever is asked may tell of further members.
            while (peer := self._next(node, asked, named)) is not None:
                asked.add(peer.machine)
                before = node.replica.state.position
                try:
                    await self._ask(node, transport, peer)
                except PeerError as error:
                    self._outcome.not_asked[self._name(node, peer)] = one_line(error.message)
                else:
                    self._outcome.taken_back[self._name(node, peer)] = node.replica.state.position - before
        finally:
            await node.close()
        if self._outcome.taken_back:
            return
        if not asked:
            raise Refused(
                "no other member is known here that could be asked",
                "name one with --from HOST:PORT --fingerprint SHA256:...; alone, restore a backup or use --accept-loss",
            )
        told = "; ".join(f"{name}: {why}" for name, why in self._outcome.not_asked.items())
        raise PeerError(f"no member could be asked: {told}", "nothing was changed; try again when one is reached")

    def _next(self, node: Node, asked: set[MachineId], named: PeerAddress | None) -> PeerAddress | None:
        first = {named.machine: named} if named is not None else {}
        # What was held back may be just the records that tell of the members.
        known = {**first, **self._addresses, **_addresses(node, self._me), **first}
        return next((address for machine, address in known.items() if machine not in asked), None)

    @staticmethod
    def _name(node: Node, peer: PeerAddress) -> str:
        machines = node.replica.cluster.machines
        return machines[peer.machine].hostname if peer.machine in machines else peer.host

    async def _ask(self, node: Node, transport: Transport, peer: PeerAddress) -> None:
        """Exchange what both have with one member, as any two do that meet again."""
        self._progress(f"asking {self._name(node, peer)}")
        links = Links(node, transport, self._me)
        link = await transport.dial(peer)
        serving = asyncio.create_task(links.serve(link, dialled=True))
        try:
            await joining.catch_up(node, peer.machine, serving, links, self._progress)
        finally:
            await links.stop()
            await serving


def _addresses(node: Node, me: MachineId) -> dict[MachineId, PeerAddress]:
    """Return where the other members are, as far as a log tells."""
    cluster = node.replica.cluster
    others = cluster.machines.values() if cluster.name else ()
    return {machine.id: address_of(machine, cluster) for machine in others if machine.id != me}
