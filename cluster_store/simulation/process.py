"""One running store: a replica, its documents and its links, performing effects as the daemon does.

One coroutine at a time writes: it takes commands and received batches one after the other, so at most one append is
under way, and commands that come meanwhile are decided and appended together. Greetings, acknowledgements and reading
the log for a peer go on beside it. A crash ends all of it between any two of its waits.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Protocol

from cluster_store.core import wire
from cluster_store.core.commands import Command
from cluster_store.core.effects import (
    Append,
    AppendDone,
    AppendFailed,
    ApplyChanges,
    Close,
    Due,
    Effect,
    Input,
    Later,
    LinkDown,
    LinkUp,
    LogRead,
    Message,
    Noticed,
    Read,
    Received,
    Records,
    Reply,
    Request,
    Send,
    Submit,
)
from cluster_store.core.errors import EngineError, StoreCorrupt, StoreError
from cluster_store.core.limits import (
    BATCH_BYTES_TARGET,
    BATCH_RECORDS_MAX,
    GROUP_COMMIT_MAX,
    RELAY_PATIENCE_S,
    SECRETS_KEPT_MS,
)
from cluster_store.core.registers import CLUSTER
from cluster_store.core.replica import Pending, Replica
from cluster_store.core.state import Needs, State
from cluster_store.core.timers import Boot
from cluster_store.core.types import Epoch, MachineId
from cluster_store.documents import Documents
from cluster_store.simulation.clock import Clock, Life, Pause, Signal
from cluster_store.simulation.disk import Disk
from cluster_store.simulation.disk_log import DiskLog
from cluster_store.simulation.faulty import faulty_draft
from cluster_store.simulation.network import End, Network


class Witness(Protocol):
    """Who watches what a process does, and may object."""

    def saw(self, process: Process | str, thing: Input | Effect | str) -> None:
        """Take note of an input or an effect of a process, or of a word about it or about a host, given by its name."""

    def sends(self, process: Process, end: End, message: Message) -> None:
        """Look at a message before it goes out."""

    def answers(self, process: Process, asked: Asked) -> None:
        """Look at an answer as its caller gets it."""

    def starts(self, process: Process) -> None:
        """Look at a process that has read its disk."""

    def discards(self, disk: Disk) -> None:
        """Know that a disk is gone for good."""


class Asked:
    """One command, and its answer once there is one."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.reply: Reply | None = None


class Process:
    """One run of a machine's daemon. Made by ``Fleet``, which also ends it."""

    def __init__(
        self,
        *,
        place: str,
        machine: MachineId,
        sign: Callable[[bytes], bytes],
        log: DiskLog,
        network: Network,
        now: Callable[[], int],
        boot: Callable[[], Boot],
        dice: Random,
        witness: Witness,
        reason: str,
        damaged: Callable[[], None],
    ) -> None:
        self.place = place
        self.machine = machine
        self.log = log
        self.life = Life()
        self.links: dict[int, End] = {}
        #: Peers that it closed a link to, or that closed one, and when it may dial them again.
        self.resting: dict[MachineId, int] = {}
        self.now = now
        self.boot = boot
        self.replica: Replica | None = None
        self.documents = Documents(log)
        #: The durable records that the documents have been told of.
        self.applied = 0
        self._sign = sign
        self._reason = reason
        self._damaged = damaged
        self._network = network
        self._clock: Clock = network.clock
        self._dice = dice
        self._witness = witness
        self._numbers = 0
        self._asked: dict[int, Asked] = {}
        self._commands: list[Request] = []
        self._batches: list[tuple[Received, Signal]] = []
        self._chores = 0
        #: The dice of records that must count for nothing, which it is to write like a faulty program.
        self._flaws: list[Random] = []
        self._writing = False
        self._clock.spawn(self._start(), self.life)

    async def _start(self) -> None:
        try:
            stored = await self.log.load()
        except StoreCorrupt as error:
            self._give_up(error)
            return
        state = State.restored(self.machine, stored)
        replica = Replica(state, self._sign, self._dice.randbytes(8).hex(), self._reason)
        while needs := replica.state.missing(Needs({CLUSTER})):
            replica.learn(await self.log.lookup(needs))
        self.applied = replica.state.position
        self.replica = replica
        self._witness.starts(self)

    def _give_up(self, error: StoreCorrupt) -> None:
        """Say that the store is damaged. The process waits for whoever mends that."""
        self._witness.saw(self, f"cannot go on: {error.message}")
        self._damaged()

    # --- what others ask of it -----------------------------------------------------------------------

    def submit(self, command: Command) -> Asked:
        """Ask for a change; the answer comes later, or never if the process ends."""
        self._numbers += 1
        asked = Asked(Request(self._numbers, command, "os:root", "local"))
        self._asked[self._numbers] = asked
        self._commands.append(asked.request)
        self._wake()
        return asked

    def tidy(self) -> None:
        """Save the documents and erase old secrets, as a daemon does now and then."""
        self._chores += 1
        self._wake()

    def misbehave(self, dice: Random) -> None:
        """Write a record that must count for nothing."""
        self._flaws.append(dice)
        self._wake()

    def linked(self, end: End) -> None:
        """See ``Endpoint``."""
        self.links[end.number] = end
        self._clock.spawn(self._serve(end), self.life)

    def link_to(self, peer: MachineId) -> End | None:
        """Return the link to a machine, None where there is none that it believes in."""
        return next((end for end in self.links.values() if end.peer == peer and not end.closing), None)

    @property
    def idle(self) -> bool:
        """Whether it has started, and nothing waits to be written."""
        return self.replica is not None and not self._writing

    # --- links -----------------------------------------------------------------------------------------

    async def _serve(self, end: End) -> None:
        await self.feed(LinkUp(end.number, end.peer, self.now()))
        while True:
            while not end.inbox:
                await end.arrival
            frame = end.inbox.popleft()
            if frame is None:
                break
            message = wire.decode(frame)
            if isinstance(message, Records):
                await self._receive(end.number, message)
            else:
                await self.feed(Received(end.number, message, self.now()))
        end.open = False
        del self.links[end.number]
        self._network.send(end, None)
        await self.feed(LinkDown(end.number))

    async def _receive(self, link: int, message: Message) -> None:
        done = Signal(self._clock)
        self._batches.append((Received(link, message, self.now()), done))
        self._wake()
        await done

    def close(self, end: End, *, rest_ms: int = 0) -> None:
        """Close a link after what was sent on it; what comes in until then is still taken."""
        self.resting[end.peer] = self._clock.now + rest_ms
        self._network.send(end, None)
        self._network.hang_up(end, self._dice.randint(0, 20))

    # --- the writer ------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if not self._writing:
            self._writing = True
            self._clock.spawn(self._write(), self.life)

    async def _write(self) -> None:
        while self.replica is None:
            await Pause(1)
        while self._commands or self._batches or self._chores or self._flaws:
            await self._write_once()
        self._writing = False

    async def _write_once(self) -> None:
        if self._commands:
            group, self._commands = self._commands[:GROUP_COMMIT_MAX], self._commands[GROUP_COMMIT_MAX:]
            await self.feed(Submit(group, self.now(), Epoch(self._dice.randbytes(8).hex()), self.boot()))
        if self._batches:
            given, done = self._batches.pop(0)
            await self.feed(given)
            done.set()
        if self._flaws:
            await self._write_faulty(self._flaws.pop(0))
        if self._chores:
            self._chores -= 1
            try:
                await self.documents.catch_up()
                names = sorted(self.log.disk.tails)
                await self.log.save_documents({name: (await self.documents.get(name)).save() for name in names})
                await self.log.erase_secrets(self.now() - SECRETS_KEPT_MS)
            except StoreError as error:
                self._witness.saw(self, f"cannot save its documents: {error.message}")

    async def _write_faulty(self, dice: Random) -> None:
        assert self.replica is not None
        draft = faulty_draft(self.replica, self._sign, self.now(), dice)
        if draft is not None:
            self.replica.pending = Pending(draft, [])
            await self._append(Append(draft))

    async def feed(self, given: Input) -> None:
        """Give the replica an input and perform what comes out."""
        replica = self.replica
        assert replica is not None
        while needs := replica.needs(given):
            replica.learn(await self.log.lookup(needs))
        self._witness.saw(self, given)
        for effect in replica.step(given):
            await self._perform(effect)

    # --- effects ---------------------------------------------------------------------------------------

    async def _perform(self, effect: Effect) -> None:
        if isinstance(effect, Append):
            await self._append(effect)
        elif isinstance(effect, ApplyChanges):
            await self._apply(effect)
        elif isinstance(effect, Reply):
            self._answer(effect)
        elif isinstance(effect, Send):
            self._send(effect)
        elif isinstance(effect, Read):
            self._clock.spawn(self._read(effect), self.life)
        elif isinstance(effect, Later):
            self._clock.spawn(self._remind(effect), self.life)
        elif isinstance(effect, Close):
            self._witness.saw(self, effect)
            if effect.link in self.links and not self.links[effect.link].closing:
                self.close(self.links[effect.link], rest_ms=2000 if effect.state == "detached" else 300)
        elif isinstance(effect, Noticed):
            self._witness.saw(self, effect)

    async def _append(self, effect: Append) -> None:
        self._witness.saw(self, effect)
        try:
            await self.log.append(effect.draft)
        except StoreError as error:
            await self.feed(AppendFailed(error))
        else:
            await self.feed(AppendDone())
            self.applied = effect.draft.position

    async def _apply(self, effect: ApplyChanges) -> None:
        try:
            await self.documents.apply(effect.changes)
        except (EngineError, StoreError) as error:
            self._witness.saw(self, f"cannot bring a document up to the log: {error.message}")

    def _send(self, effect: Send) -> None:
        end = self.links.get(effect.link)
        if end is not None and not end.closing:
            self._witness.sends(self, end, effect.message)
            self._network.send(end, wire.encode(effect.message))

    def _answer(self, reply: Reply) -> None:
        asked = self._asked.pop(reply.id)
        asked.reply = reply
        self._witness.answers(self, asked)

    async def _read(self, effect: Read) -> None:
        after = effect.after
        if after is None:
            after = await self.log.first_missing(effect.covered)
        try:
            rows = await self.log.read(after, BATCH_RECORDS_MAX, BATCH_BYTES_TARGET)
        except StoreCorrupt as error:
            self._give_up(error)
            return
        await self.feed(LogRead(effect.link, after, rows))

    async def _remind(self, effect: Later) -> None:
        await Pause(round(1000 * RELAY_PATIENCE_S * self._dice.uniform(1.0, 1.5)))
        await self.feed(Due(effect.link))
