"""Machines in one process: real replicas on any event log, links that are queues, a clock that moves when told.

Nothing happens by itself: a command is carried out on its own machine, and what it says to others waits in their
inboxes until ``pump``. The same calls give the same records, whatever the logs are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from typing import Any

from cluster_store.adapters.memory_log import MemoryLog
from cluster_store.core import commands
from cluster_store.core.cluster import Cluster
from cluster_store.core.commands import Card, Command
from cluster_store.core.effects import (
    Append,
    AppendDone,
    AppendFailed,
    Close,
    Effect,
    Input,
    LinkDown,
    LinkUp,
    LogRead,
    Message,
    Noticed,
    Read,
    Received,
    Reply,
    Request,
    Send,
    Submit,
)
from cluster_store.core.errors import StoreError
from cluster_store.core.replica import Replica
from cluster_store.core.state import State
from cluster_store.core.types import Epoch, MachineId
from cluster_store.ports import EventLog
from tests.core.builders import Identity

#: How much of the log is read for a peer at once: little, so that short histories take several reads.
_READ_RECORDS = 8
_READ_BYTES = 1 << 18

#: Makes the log of a new machine from its name, its id and the id of the cluster whose records it will receive.
LogFactory = Callable[[str, MachineId, str], Awaitable[EventLog]]


async def in_memory(_name: str, _me: MachineId, cluster: str) -> EventLog:
    """Make a log that lasts as long as the test."""
    return MemoryLog(cluster)


async def restored(me: Identity, log: EventLog, instance: str) -> Replica:
    """Return a replica as a starting process restores it from its log."""
    return Replica(State.restored(me.id, await log.load()), me.sign, instance)


class Machine:
    """One machine of a fleet. Made by ``Fleet``."""

    def __init__(self, fleet: Fleet, identity: Identity, log: EventLog, replica: Replica) -> None:
        self.identity = identity
        self.log = log
        self.replica = replica
        #: Link -> the machine at its other end, and what it calls the link.
        self.links: dict[int, tuple[Machine, int]] = {}
        #: What came in on which link; None is its end.
        self.inbox: deque[tuple[int, Message | None]] = deque()
        #: Why links were closed from this side, and what an operator should hear of.
        self.closed: list[Close] = []
        self.notices: list[str] = []
        self.fleet = fleet
        self._replies: list[Reply] = []

    @property
    def name(self) -> str:
        """Its hostname."""
        return self.identity.name

    @property
    def id(self) -> MachineId:
        """Its id, which its key decides."""
        return self.identity.id

    @property
    def state(self) -> State:
        """What its log adds up to."""
        return self.replica.state

    @property
    def cluster(self) -> Cluster:
        """The cluster as it sees it."""
        return self.replica.cluster

    @property
    def card(self) -> Card:
        """What it says of itself when it joins."""
        return Card(
            key=self.identity.key.hex(),
            hostname=self.name,
            serial=f"SERIAL-{self.name}",
            version="9.0",
            ssh_port=22,
            ccs_port=2222,
            listen="",
            host_key=f"ssh-ed25519 host-{self.name}",
            client_key=f"ssh-ed25519 client-{self.name}",
        )

    async def command(self, *given: Command) -> dict[str, Any]:
        """Carry out commands together, a second after whatever came before; return the last one's result.

        Raises the error of the first that was refused.
        """
        self.fleet.now += 1000
        requests = [Request(number, command, "os:root", "local") for number, command in enumerate(given)]
        await self.feed(Submit(requests, self.fleet.now, Epoch(self.fleet.fresh(8).hex())))
        replies, self._replies = self._replies, []
        for reply in replies:
            if reply.error is not None:
                raise reply.error
        assert [reply.id for reply in replies] == [request.id for request in requests]
        return replies[-1].result or {}

    async def set(self, key: str, value: str, level: str | None = None, *, secret: bool = False) -> dict[str, Any]:
        """Set a key to a JSON text."""
        return await self.command(
            commands.SetSetting(key=key, value=value, level=level, secret=secret, salt=self.fleet.fresh(16))
        )

    async def feed(self, given: Input) -> None:
        """Give its replica an input and do what comes out."""
        while needs := self.replica.needs(given):
            self.replica.learn(await self.log.lookup(needs))
        for effect in self.replica.step(given):
            await self._perform(effect)

    async def receive_one(self) -> bool:
        """Take the oldest message from the inbox; say whether there was one."""
        if not self.inbox:
            return False
        link, message = self.inbox.popleft()
        if link in self.links and message is not None:
            await self.feed(Received(link, message, self.fleet.now))
        elif link in self.links:
            await self.fleet.drop(self, link)
        return True

    async def _perform(self, effect: Effect) -> None:
        if isinstance(effect, Append):
            await self._append(effect)
        elif isinstance(effect, Read):
            after = effect.after
            if after is None:
                after = await self.log.first_missing(effect.covered)
            rows = await self.log.read(after, _READ_RECORDS, _READ_BYTES)
            await self.feed(LogRead(effect.link, after, rows))
        elif isinstance(effect, Send):
            if effect.link in self.links:
                peer, link = self.links[effect.link]
                peer.inbox.append((link, effect.message))
        elif isinstance(effect, Reply):
            self._replies.append(effect)
        elif isinstance(effect, Noticed):
            self.notices.append(effect.text)
        elif isinstance(effect, Close):
            self.closed.append(effect)
            await self.fleet.hang_up(self, effect.link)

    async def _append(self, effect: Append) -> None:
        try:
            await self.log.append(effect.draft)
        except StoreError as error:
            await self.feed(AppendFailed(error))
        else:
            await self.feed(AppendDone())


class Fleet:
    """Several machines, their links and their clock."""

    def __init__(self, make_log: LogFactory = in_memory) -> None:
        self.machines: list[Machine] = []
        #: Every machine's wall clock, milliseconds since 1970.
        self.now = 1_700_000_000_000
        self._make_log = make_log
        self._drawn = 0
        self._links = 0

    def fresh(self, size: int) -> bytes:
        """Return bytes that were not returned before; the same in every run."""
        self._drawn += 1
        return sha256(f"fresh {self._drawn}".encode()).digest()[:size]

    async def start(self, name: str, cluster: str = "") -> Machine:
        """Add a machine with an empty log. ``cluster`` is the id of the cluster whose records it will receive."""
        identity = Identity(name)
        log = await self._make_log(name, identity.id, cluster)
        machine = Machine(self, identity, log, await restored(identity, log, self.fresh(8).hex()))
        self.machines.append(machine)
        return machine

    async def found(self, name: str, cluster: str = "ships") -> Machine:
        """Add a machine and make a cluster of it."""
        machine = await self.start(name)
        await machine.command(commands.InitialiseMachine(card=machine.card, salt=self.fresh(16)))
        await machine.command(commands.CreateCluster(name=cluster, salt=self.fresh(16)))
        return machine

    async def join(self, name: str, through: Machine) -> Machine:
        """Add a machine, let a member admit it, link the two, and let it begin its feed."""
        machine = await self.start(name, through.state.cluster)
        await through.command(commands.AdmitMachine(card=machine.card))
        await self.connect(machine, through)
        await self.pump()
        await machine.command(commands.BeginEpoch(reason="joined"))
        await self.pump()
        return machine

    async def fleet_of(self, *names: str) -> Sequence[Machine]:
        """Add machines that form one cluster, each linked to every other."""
        machines = [await self.found(names[0])]
        for name in names[1:]:
            machine = await self.join(name, machines[0])
            for other in machines[1:]:
                await self.connect(machine, other)
            machines.append(machine)
        await self.pump()
        return machines

    async def connect(self, one: Machine, other: Machine) -> None:
        """Open a link between two machines."""
        first, second = self._links + 1, self._links + 2
        self._links += 2
        one.links[first], other.links[second] = (other, second), (one, first)
        await one.feed(LinkUp(first, other.id, self.now))
        if second in other.links:
            await other.feed(LinkUp(second, one.id, self.now))

    async def cut(self, one: Machine, other: Machine) -> None:
        """Break all links between two machines; what was under way on them is lost."""
        for link in [link for link, (peer, _) in one.links.items() if peer is other]:
            await self.drop(one, link)

    async def hang_up(self, machine: Machine, link: int) -> None:
        """Let a machine end one link: what it said on it before still arrives."""
        end = machine.links.pop(link, None)
        if end is not None:
            peer, other_link = end
            peer.inbox.append((other_link, None))
            await machine.feed(LinkDown(link))

    async def drop(self, machine: Machine, link: int) -> None:
        """Break one link, given by what one of its machines calls it."""
        end = machine.links.pop(link, None)
        if end is not None:
            peer, other_link = end
            await machine.feed(LinkDown(link))
            if peer.links.pop(other_link, None) is not None:
                await peer.feed(LinkDown(other_link))

    async def pump(self) -> None:
        """Deliver messages, machine by machine, until nobody has anything to say."""
        moved = True
        while moved:
            moved = False
            for machine in self.machines:
                while await machine.receive_one():
                    moved = True

    async def restart(self, machine: Machine, log: EventLog | None = None) -> None:
        """Let a machine forget all but its log, or go on with another log; its links are gone."""
        for link in list(machine.links):
            await self.drop(machine, link)
        machine.inbox.clear()
        machine.log = log or machine.log
        machine.replica = await restored(machine.identity, machine.log, self.fresh(8).hex())

    async def close(self) -> None:
        """Release every log."""
        for machine in self.machines:
            await machine.log.close()
