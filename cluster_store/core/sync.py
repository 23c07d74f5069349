"""One conversation with one peer: who has what, who may hear what, and what goes out next.

The conversation is hello (both ways at once), then each side streams what the other lacks in the order of
its own log, says that it has caught up, and goes on with what is appended from then on. Acknowledgements
mean durable. What a side keeps about its peer is a position in its own log and a bounded window of unacked
batches, never a queue. A cut ends the session and nothing of it is saved.

Invariants kept here:

1. Nothing is sent before it is durable here: only rows read from the log, or just appended, go out.
2. Between two machines that both know of a standing detachment of either, nothing is sent.
3. Where only this side knows of one, it sends its log up to that record, takes nothing, and closes when the
   peer has it. A detached machine thereby learns that it is, and of what it missed until then.
4. A removal that is written or learnt while the conversation goes on is delivered in the same way, and ends it.
5. In a large fleet most sides let others be first with what is new, but not for long: whatever the peer does not have
   by then goes out.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from enum import Enum

from cluster_store.core.causality import Leaf, cover, leaf_of
from cluster_store.core.cluster import Cluster, Machine
from cluster_store.core.effects import PROTOCOL, Ack, CaughtUp, Close, Effect, Hello, Later, LogRow, Read, Records, Send
from cluster_store.core.limits import BATCH_BYTES_TARGET, BATCH_RECORDS_MAX
from cluster_store.core.naming import show_removal
from cluster_store.core.overlay import FULL_MESH_MAX, pushed_to
from cluster_store.core.state import Needs, State
from cluster_store.core.types import Epoch, MachineId, RecordId

#: Batches on their way to a peer that it has not acknowledged.
WINDOW = 4


class Gate(Enum):
    """What may pass between the two machines."""

    OPEN = "open"
    DELIVER = "deliver"
    CLOSED = "closed"


class Session:
    """The state of one conversation. Methods return effects; nothing here touches the outside."""

    def __init__(self, link: int, peer: MachineId, reached: dict[MachineId, int] | None = None) -> None:
        self.link = link
        self.peer = peer
        #: Takes in up to which position of this log the peer has everything, durably.
        self._reached = {} if reached is None else reached
        self.hello: Hello | None = None
        #: Whether the peer's hello lists a detachment of either side.
        self.calls_detached = False
        #: Line -> number up to which the peer has it, sent or received in this session included.
        self.covered: dict[int, int] = {}
        #: The same, but durable there.
        self.durable: dict[int, int] = {}
        #: The peer's leaves that this machine does not know (yet).
        self.unknown: list[Leaf] = []
        #: Feeds to hold back until the peer has caught up: it may only be ahead in them.
        self.held: set[tuple[str, str]] = set()
        #: What the peer had when it said hello: line -> number, and feed -> number where it was ahead.
        self.had: dict[int, int] = {}
        self.had_more: dict[tuple[str, str], int] = {}
        self.position: int | None = None
        self.reading = False
        #: What is being read was asked for before the session began again at the first record that the peer lacks.
        self.stale = False
        self.caught_up_sent = False
        self.caught_up_received = False
        self.received_batches = 0
        self.acked_batches = 0
        #: A batch was not taken because of a detachment: when that is over, the session has to begin anew.
        self.declined = False
        self.in_flight: deque[list[LogRow]] = deque()
        #: The detachments and removals of either side that stand here; ``heed`` keeps this current.
        self.standing_records: tuple[RecordId, ...] = ()
        #: How the conversation ends where they close it: a word of connstatus and a sentence.
        self.parting = ("detached", "detached")
        #: Whether this side lets others be first. The position up to which what is new may go out all the same, and the
        #: one up to which it may when that is due; None where nothing is held back.
        self.patient = False
        self.ripe = 0
        self.ripening: int | None = None

    def heed(self, cluster: Cluster, me: MachineId) -> None:
        """Take in who is detached or removed by now."""
        pair = (me, self.peer)
        removed = [cluster.removed[key] for key in pair if key in cluster.removed]
        detached = [machine.detached for key in pair if (machine := cluster.machines.get(key)) and machine.detached]
        self.standing_records = (*(machine.record for machine in removed), *detached)
        self.parting = ("removed", show_removal(removed[0])) if removed else ("detached", "detached")

    def needs(self, vector: Sequence[Leaf], state: State) -> Needs:
        """Return what must be looked up to find a peer's leaves in this log."""
        told: dict[tuple[MachineId, Epoch], list[int]] = {}
        for leaf in vector:
            told.setdefault((leaf.machine, leaf.epoch), []).append(leaf.seq)
        needs = Needs()
        for feed, heard in told.items():
            numbers = sorted(dict.fromkeys(heard))
            # Both may be many, thousands of branches and as many leaves, but what is looked up are records that exist.
            for line in map(state.lines.__getitem__, state.feeds.get(feed, ())):
                inside = numbers[bisect_right(numbers, line.forked_at) : bisect_left(numbers, line.seq)]
                needs.steps.update((line.number, seq) for seq in inside)
        return needs

    def greet(self, hello: Hello, state: State) -> None:
        """Take in the peer's hello."""
        self.hello = hello
        # The list may be long, and is asked about with every step.
        self.calls_detached = any(standing.machine in (state.me, self.peer) for standing in hello.detached)
        self._place(hello.vector, state)
        self.had = dict(self.durable)
        ahead = [leaf for leaf in self.unknown if (leaf.machine, leaf.epoch) in self.held]
        self.had_more = {(leaf.machine, leaf.epoch): leaf.seq for leaf in ahead}

    def _standing(self, state: State) -> list[RecordId]:
        """Return the detachments and removals that stand here, but not those that the peer had and does not count.

        Those are over, also if this machine learns of one only now: whoever takes in a long log meets many a
        detachment before its end.
        """
        if self.calls_detached:
            return list(self.standing_records)
        return [record for record in self.standing_records if not self._peer_knew(record, state)]

    def _peer_knew(self, record: RecordId, state: State) -> bool:
        """Say whether the peer had a record when it said hello, as far as its vector tells.

        In a feed in which the peer is ahead it most likely has what is here. Were it on another branch, it
        would be told of the detachment by the session that is opened, like of any other record.
        """
        fact = state.fact(record)
        if fact is None:
            return False
        line = state.lines[fact.line]
        return max(self.had.get(line.number, 0), self.had_more.get((line.machine, line.epoch), 0)) >= fact.seq

    def _place(self, vector: Sequence[Leaf], state: State) -> None:
        """Find the peer's leaves in this log; see docs/ARCHITECTURE.md, "Forks on the wire"."""
        self.unknown = []
        here = _leaves(state)
        for leaf in vector:
            line = here.get(leaf)
            if line is not None:
                cover(state.lines, line, leaf.seq, self.covered)
                cover(state.lines, line, leaf.seq, self.durable)
            else:
                self.unknown.append(leaf)
        self.held = set()
        if not self.caught_up_received:
            newest = _newest(state)
            for leaf in self.unknown:
                if newest.get((leaf.machine, leaf.epoch), 0) < leaf.seq:
                    self.held.add((leaf.machine, leaf.epoch))

    def gate(self, state: State) -> Gate:
        """Return what may pass; ``standing_records`` must be current."""
        standing = self._standing(state)
        if not standing or self.hello is None:
            return Gate.OPEN
        if self.calls_detached:
            return Gate.CLOSED
        for record in standing:
            fact = state.fact(record)
            if fact is None or self.durable.get(fact.line, 0) < fact.seq:
                return Gate.DELIVER
        return Gate.CLOSED

    def limit(self, state: State) -> int | None:
        """Return the position up to which records may go out, None for all."""
        if self.gate(state) is Gate.OPEN:
            return None if self.ripening is None else self.ripe
        facts = [state.fact(record) for record in self._standing(state)]
        return max((fact.position for fact in facts if fact is not None), default=0)

    @property
    def is_full(self) -> bool:
        """Whether nothing more may go out until the peer has acknowledged some of it."""
        return len(self.in_flight) >= WINDOW

    def proceed(self, state: State) -> list[Effect]:
        """Ask for more of the log if the peer may have it and has room; close where nothing may pass."""
        if self.hello is None:
            return []
        gate = self.gate(state)
        if gate is Gate.CLOSED:
            return [Close(self.link, *self.parting)]
        if self.declined and gate is Gate.OPEN:
            return [Close(self.link, "connecting", "the detachment is over: beginning anew")]
        if self.reading or self.is_full:
            return []
        if self.position is None:
            if self._lacks_nothing(state):
                self.position = state.position
            else:
                self.reading = True
                return [Read(self.link, None, self._sendable(state))]
        limit = self.limit(state)
        if self.position == state.position and not self.in_flight and not self.held:
            self._reached[self.peer] = state.position
        if self.position < state.position and (limit is None or self.position < limit):
            self.reading = True
            return [Read(self.link, self.position, {})]
        if not self.caught_up_sent:
            self.caught_up_sent = True
            return [Send(self.link, CaughtUp())]
        return []

    def _sendable(self, state: State) -> dict[int, int]:
        held = {line.number: line.seq for line in state.lines.values() if (line.machine, line.epoch) in self.held}
        return {**self.covered, **held}

    def _lacks_nothing(self, state: State) -> bool:
        sendable = self._sendable(state)
        return all(sendable.get(line.number, 0) >= line.seq for line in state.lines.values())

    def read(self, after: int, rows: list[LogRow], state: State) -> list[Effect]:
        """Send what was read and the peer lacks."""
        stale, self.reading, self.stale = self.stale, False, False
        if stale or (self.position is not None and after != self.position):
            return self.proceed(state)
        rows = self._passing(rows, state)
        self.position = rows[-1].position if rows else after
        return [*self._send(rows, state), *self.proceed(state)]

    def _passing(self, rows: list[LogRow], state: State) -> list[LogRow]:
        """Return the rows that may go out: the log may be an append ahead of the state, and a detachment may limit."""
        rows = [row for row in rows if row.position <= state.position]
        limit = self.limit(state)
        if limit is None or not rows:
            return rows
        # A run goes out whole: its seal is on its last record.
        ends = (index for index, row in enumerate(rows, 1) if row.position >= limit and row.item.seal)
        return rows[: next(ends, len(rows))] if rows[0].position <= limit else []

    def appended(self, rows: list[LogRow], state: State) -> list[Effect]:
        """Send what has just become durable, if the peer has everything before it and room."""
        if not rows or self.hello is None:
            return self.proceed(state)
        if self.patient and self.caught_up_sent and self.caught_up_received:
            return [*self._hold_back(rows), *self.proceed(state)]
        live = self.position == rows[0].position - 1 and not self.reading and not self.is_full
        # More than a batch is read back from the log, piece by piece: a frame has a bound.
        live = live and len(rows) <= BATCH_RECORDS_MAX and sum(row.item.size for row in rows) <= BATCH_BYTES_TARGET
        if live and self.gate(state) is Gate.OPEN:
            self.position = rows[-1].position
            return [*self._send(rows, state), *self.proceed(state)]
        return self.proceed(state)

    def _hold_back(self, rows: list[LogRow]) -> list[Effect]:
        """Leave it to others to bring the peer these rows, for a while that begins now or with the next such while."""
        if self.ripening is not None:
            return []
        self.ripe, self.ripening = rows[0].position - 1, rows[-1].position
        return [Later(self.link)]

    def due(self, state: State) -> list[Effect]:
        """Send what was held back and nobody has brought the peer."""
        if self.ripening is None:
            return []
        if self.position is not None and not self.reading and self._lacks_nothing(state):
            self.position = state.position
        self.ripe, newest = self.ripening, state.position
        self.ripening = newest if self.position != newest and newest > self.ripe else None
        again: list[Effect] = [Later(self.link)] if self.ripening is not None else []
        return [*again, *self.proceed(state)]

    def _send(self, rows: list[LogRow], state: State) -> list[Effect]:
        lacking = []
        for row in rows:
            line = state.lines[row.line]
            if self.covered.get(row.line, 0) < row.seq and (line.machine, line.epoch) not in self.held:
                lacking.append(row)
        if not lacking:
            return []
        for row in lacking:
            cover(state.lines, row.line, row.seq, self.covered)
        self.in_flight.append(lacking)
        return [Send(self.link, Records([row.item for row in lacking]))]

    def acked(self, count: int, state: State) -> list[Effect]:
        """Take in that the peer has handled ``count`` batches in all."""
        while self.in_flight and self.acked_batches < count:
            self.acked_batches += 1
            for row in self.in_flight.popleft():
                cover(state.lines, row.line, row.seq, self.durable)
        return self.proceed(state)

    def peer_has(self, line: int, seq: int, state: State) -> None:
        """Note that the peer sent a record: it has it, durably."""
        cover(state.lines, line, seq, self.covered)
        cover(state.lines, line, seq, self.durable)

    def peer_caught_up(self, state: State) -> list[Effect]:
        """The peer has sent all it had: leaves that were unknown are known now, or are forks."""
        if self.caught_up_received or self.hello is None:
            return []
        self.caught_up_received = True
        held = self.held
        self._place(self.unknown, state)
        lines = [line for line in state.lines.values() if (line.machine, line.epoch) in held]
        if all(self.covered.get(line.number, 0) >= line.seq for line in lines):
            return self.proceed(state)
        # What went out meanwhile may have come after what was held back; then it had to wait there and was not kept.
        self.covered, self.durable = {}, {}
        self._place(self.hello.vector, state)
        self.position, self.stale = None, self.reading
        return self.proceed(state)

    def handled_batch(self) -> list[Effect]:
        """Acknowledge one more batch."""
        self.received_batches += 1
        return [Send(self.link, Ack(self.received_batches))]

    def ahead(self, state: State) -> int:
        """Return how many records here the peer is not known to have."""
        return sum(
            max(0, line.seq - max(self.durable.get(line.number, 0), line.forked_at)) for line in state.lines.values()
        )

    def holds(self, machine: MachineId, state: State) -> dict[Epoch, int]:
        """Return the number of the newest record that the peer is known to have of each of a machine's feeds."""
        lines = ((state.lines[number], seq) for number, seq in self.durable.items())
        known = [(line.epoch, seq) for line, seq in lines if line.machine == machine]
        known += [(leaf.epoch, leaf.seq) for leaf in self.unknown if leaf.machine == machine]
        return {epoch: max(seq for other, seq in known if other == epoch) for epoch, _ in known}

    def behind(self, state: State) -> int:
        """Return how many records the peer said it has that are not here."""
        here = _newest(state)
        return sum(max(0, leaf.seq - here.get((leaf.machine, leaf.epoch), 0)) for leaf in self.unknown)


def share_out(sessions: Iterable[Session], cluster: Cluster, me: MachineId) -> None:
    """Let sessions know which of them pass on at once what is new: all of them, unless the fleet is large."""
    greeted = [session for session in sessions if session.hello is not None]
    first = pushed_to(me, [session.peer for session in greeted]) if len(cluster.machines) > FULL_MESH_MAX else None
    for session in greeted:
        session.patient = first is not None and session.peer not in first


def _leaves(state: State) -> dict[Leaf, int]:
    """Return the lines by their newest records, and by the records within them that were looked up."""
    heads = {leaf_of(line, line.seq, line.head): line.number for line in state.lines.values()}
    steps = {leaf_of(state.lines[line], seq, record): line for (line, seq), record in state.steps.items()}
    return steps | heads


def _newest(state: State) -> dict[tuple[MachineId, Epoch], int]:
    """Return the greatest number in each feed."""
    found: dict[tuple[MachineId, Epoch], int] = {}
    for line in state.lines.values():
        feed = (line.machine, line.epoch)
        found[feed] = max(found.get(feed, 0), line.seq)
    return found


def hello_fault(hello: Hello, peer: MachineId, cluster: str, me: Machine | None) -> tuple[str, str, str] | None:
    """Return the state that a hello leads to, and the reason in words for this side and for the peer's.

    Args:
        hello: what the peer said.
        peer: who it is by its key.
        cluster: id of this machine's cluster.
        me: this machine, None where its own log does not have it yet.
    """
    if hello.protocol != PROTOCOL:
        return "version differs", *_differ("protocol", hello.protocol, PROTOCOL)
    if hello.cluster != cluster:
        return "other cluster", *2 * ("the peer belongs to another cluster",)
    if hello.machine != peer:
        return "authentication failed", *2 * ("one side says it is another machine than its key",)
    if me is not None and hello.version and hello.version != me.version:
        return "version differs", *_differ("version", hello.version, me.version)
    return None


def _differ(what: str, there: object, here: object) -> tuple[str, str]:
    return f"{what} {there} there, {here} here", f"{what} {here} there, {there} here"
