"""One machine's store as a pure state machine: ``needs(input)``, ``learn(facts)``, ``step(input) -> effects``.

Invariants kept here:

1. The state holds only what is durable. What an append brings is absorbed, applied to the documents,
   answered and sent after the log has said that it is there, in this order.
2. At most one append is under way, and commands are decided on top of all that were accepted before them.
3. This machine never extends a feed that somebody else may be extending too: where a record of the epoch that it
   writes in turns up that this store did not write, or the store's file is not the one it last wrote to, it begins
   a new epoch.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from cluster_store.core.admission import Incoming, Run, Wait, admit, needs_of, split
from cluster_store.core.causality import told
from cluster_store.core.cluster import Cluster
from cluster_store.core.dismissal import Dismissals
from cluster_store.core.effects import (
    PROTOCOL,
    Ack,
    Alive,
    Append,
    AppendDone,
    AppendFailed,
    ApplyChanges,
    Bye,
    CaughtUp,
    Changed,
    Close,
    Due,
    Effect,
    Hello,
    Input,
    LinkDown,
    LinkUp,
    LogRead,
    LogRow,
    Message,
    Noticed,
    Received,
    Records,
    Reply,
    Send,
    Standing,
    Submit,
    Twin,
)
from cluster_store.core.errors import ClusterStoreError, Malformed
from cluster_store.core.limits import REASON_CHARS_MAX
from cluster_store.core.registers import CLUSTER
from cluster_store.core.rules import read
from cluster_store.core.state import Draft, Facts, Needs, State
from cluster_store.core.submission import Submission
from cluster_store.core.sync import Gate, Session, hello_fault, share_out
from cluster_store.core.twins import Twins
from cluster_store.core.types import Epoch, MachineId


class Pending(msgspec.Struct):
    """What waits for the append that is under way."""

    draft: Draft
    replies: list[Reply]
    #: The link whose batch it is, None for commands.
    link: int | None = None


class Replica:
    """See the module. ``sign`` makes ed25519 signatures with the machine's identity."""

    def __init__(
        self,
        state: State,
        sign: Callable[[bytes], bytes],
        instance: str,
        reason: str = "moved",
    ) -> None:
        """Take over a state.

        Args:
            state: what the log adds up to.
            sign: signs bytes with this machine's identity key.
            instance: 16 hex digits, fresh for each run of a process.
            reason: why a new epoch begins with the next write, where the state has no own line to go on with.
        """
        self.state = state
        self.sessions: dict[int, Session] = {}
        #: What has to wait for an upgrade or for records that are not here, by peer.
        self.waiting: dict[MachineId, str] = {}
        #: Machine -> the peer that brought its newest records: itself, or who passed them on.
        self.relays: dict[MachineId, MachineId] = {}
        self.pending: Pending | None = None
        #: What machines said of their platform versions in their last hellos.
        self.heard: dict[MachineId, str] = {}
        self.twins = Twins(state.me, instance, sign)
        self.dismissals = Dismissals()
        #: Up to which position of this log peers have everything, as far as was seen since this process began.
        self.reached: dict[MachineId, int] = {}
        self._reason = reason
        self._sign = sign
        self._cluster = (-1, Cluster())
        self._split: dict[int, tuple[Records, list[Run], list[str]]] = {}

    # --- before a step -----------------------------------------------------------------------------

    @property
    def cluster(self) -> Cluster:
        """The read model of what is durable."""
        if self._cluster[0] != self.state.membership:
            self._cluster = (self.state.membership, read(Draft(self.state)))
        return self._cluster[1]

    def needs(self, given: Input) -> Needs:
        """Return what must be known, and is not, before a step may take this input."""
        needs = Needs({CLUSTER})
        if CLUSTER not in self.state.scopes:
            return needs
        if isinstance(given, AppendDone) and not self.sessions:
            return Needs()
        needs.records.update(self.cluster.detachments)
        peers = [session.peer for session in self.sessions.values()]
        if isinstance(given, LinkUp):
            peers.append(given.peer)
        for key in (self.state.me, *peers):
            if key in self.cluster.removed:
                needs.records.add(self.cluster.removed[key].record)
        if isinstance(given, Submit):
            self._submission(given).add_needs(needs)
        elif isinstance(given, Received):
            self._needs_of_message(given.link, given.message, needs)
        return self.state.missing(needs)

    def _needs_of_message(self, link: int, message: Message, needs: Needs) -> None:
        session = self.sessions.get(link)
        if session is None:
            return
        if isinstance(message, Records):
            if link not in self._split or self._split[link][0] is not message:
                try:
                    self._split[link] = (message, *split(message.items))
                except Malformed:
                    return  # step() closes the link over it
            more = needs_of(self._split[link][1], self.state)
        elif isinstance(message, Hello):
            more = session.needs(message.vector, self.state)
        elif isinstance(message, CaughtUp) and not session.caught_up_received:
            more = session.needs(session.hello.vector if session.hello else (), self.state)
        else:
            return
        needs.scopes |= more.scopes
        needs.records |= more.records
        needs.steps |= more.steps

    def learn(self, facts: Facts) -> None:
        """Take in what was looked up."""
        self.state.learn(facts)

    # --- steps -------------------------------------------------------------------------------------

    def step(self, given: Input) -> list[Effect]:
        """Take one input; return what to do, in order. Its needs must have been met."""
        if isinstance(given, Received):
            return self._received(given)
        if isinstance(given, Submit):
            return self._submit(given)
        if isinstance(given, AppendDone):
            return self._append_done()
        if isinstance(given, AppendFailed):
            return self._append_failed(given.error)
        if isinstance(given, LogRead):
            if self.dismissals.is_waiting(given.link):
                return self.dismissals.show(given.link, given.rows)
            session = self._session(given.link)
            return session.read(given.after, given.rows, self.state) if session else []
        if isinstance(given, LinkUp):
            return self._link_up(given)
        if isinstance(given, Due):
            session = self._session(given.link)
            return session.due(self.state) if session else []
        assert isinstance(given, LinkDown)
        self.sessions.pop(given.link, None)
        self._split.pop(given.link, None)
        share_out(self.sessions.values(), self.cluster, self.state.me)
        self.dismissals.forget(given.link)
        return []

    def _session(self, link: int) -> Session | None:
        session = self.sessions.get(link)
        if session is not None:
            session.heed(self.cluster, self.state.me)
        return session

    # --- commands ----------------------------------------------------------------------------------

    def _submit(self, given: Submit) -> list[Effect]:
        assert self.pending is None
        if self.twins.is_younger:
            return [Reply(request.id, error=self.twins.refusal()) for request in given.requests]
        draft, answers = self._submission(given).decided()
        if not draft.records:
            return list(answers)
        self.pending = Pending(draft, answers)
        return [Append(draft)]

    def _submission(self, given: Submit) -> Submission:
        return Submission(given, self.state, self.cluster, self.heard, self._reason, self._sign)

    @property
    def _epoch(self) -> Epoch:
        """The epoch that this machine goes on writing in, ``""`` where its next change begins one."""
        return Epoch("") if self.state.own is None else self.state.lines[self.state.own].epoch

    # --- appends -----------------------------------------------------------------------------------

    def _append_done(self) -> list[Effect]:
        pending, self.pending = self.pending, None
        assert pending is not None
        draft = pending.draft
        self.state.absorb(draft)
        effects: list[Effect] = [ApplyChanges(draft.changes)] if draft.changes else []
        effects += pending.replies
        rows = rows_of(draft) if self.sessions else []
        for link in sorted(self.sessions):
            session = self._session(link)
            assert session is not None
            if link == pending.link:
                for row in rows:
                    session.peer_has(row.line, row.seq, self.state)
                effects += session.handled_batch()
            effects += session.appended(rows, self.state)
        effects.append(Changed(sorted(draft.lanes)))
        return [*effects, *self._notice_twin(pending)]

    def _notice_twin(self, pending: Pending) -> list[Effect]:
        mine = [added for added in pending.draft.records if added.record.envelope.machine == self.state.me]
        if pending.link is None or not mine:
            return []
        self._reason = "restored"
        text = (
            f"a peer brought back records of this machine ({len(mine)}): its store was restored from an earlier copy, "
            f"or runs twice{'; it goes on in a new epoch' if self.state.own is None else ''}"
        )
        return [Noticed(text)]

    def _append_failed(self, error: ClusterStoreError) -> list[Effect]:
        pending, self.pending = self.pending, None
        assert pending is not None
        if pending.link is not None:
            there = f"it could not keep what it was sent: {error.message}"
            return self._refuse(pending.link, "dropped", error.message, there) if pending.link in self.sessions else []
        return [
            reply if reply.error is not None else msgspec.structs.replace(reply, result=None, error=error)
            for reply in pending.replies
        ]

    # --- links -------------------------------------------------------------------------------------

    def _link_up(self, given: LinkUp) -> list[Effect]:
        removed = self.cluster.removed.get(given.peer)
        if removed is not None:
            return self.dismissals.turn_away(given.link, removed, self.state)
        self.sessions[given.link] = Session(given.link, given.peer, self.reached)
        return [Send(given.link, self._hello(given.now))]

    def _hello(self, now: int) -> Hello:
        machines = self.cluster.machines
        me = machines.get(self.state.me)
        return Hello(
            protocol=PROTOCOL,
            cluster=self.state.cluster,
            machine=self.state.me,
            instance=self.twins.instance,
            epoch=self._epoch,
            version=me.version if me else "",
            time=now,
            vector=told(self.state.lines.values()),
            detached=[Standing(machine.id, machine.detached) for machine in machines.values() if machine.detached],
        )

    def _received(self, given: Received) -> list[Effect]:
        session = self._session(given.link)
        if session is None:
            return []
        message = given.message
        if isinstance(message, Hello):
            return self._greeted(session, message, given.now)
        if isinstance(message, Bye):
            return self.dismissals.heed(given.link, message, Draft(self.state), self.cluster)
        if session.hello is None:
            return self._refuse(given.link, "dropped", "the peer spoke before it said hello")
        if isinstance(message, Records):
            return self._records(session, message, given.now)
        if isinstance(message, Ack):
            return session.acked(message.count, self.state)
        if isinstance(message, Twin):
            return self.twins.told(given.link, message, self._epoch, given.now, Draft(self.state))
        if isinstance(message, Alive):
            self.twins.signed(session.hello, message)
            return []
        assert isinstance(message, CaughtUp)
        return session.peer_caught_up(self.state)

    def _greeted(self, session: Session, hello: Hello, now: int) -> list[Effect]:
        if session.hello is not None:
            return self._refuse(session.link, "dropped", "the peer said hello twice")
        if hello.machine == session.peer and hello.version:
            self.heard[session.peer] = hello.version
        refusal = hello_fault(hello, session.peer, self.state.cluster, self.cluster.machines.get(self.state.me))
        if refusal is not None:
            return self._refuse(session.link, *refusal)
        session.greet(hello, self.state)
        share_out(self.sessions.values(), self.cluster, self.state.me)
        return [
            *self.twins.greeted(session.link, hello, self.cluster.hostname(session.peer), now),
            *session.proceed(self.state),
        ]

    def _refuse(self, link: int, state: str, here: str, there: str = "") -> list[Effect]:
        """Take leave, with the reason in words for this side and for the peer's where those differ.

        What is still on its way was sent before the peer knew of it: whoever listened would blame the peer for it.
        """
        self.sessions.pop(link, None)
        self._split.pop(link, None)
        # A reason may quote what the peer sent, and that may be long.
        here, there = here[:REASON_CHARS_MAX], there[:REASON_CHARS_MAX]
        return [Send(link, Bye(state, there or here)), Close(link, state, here)]

    def _blame(self, session: Session, error: Malformed) -> list[Effect]:
        """End a conversation with a peer that sends what cannot be accepted."""
        why = f"the peer sent {error.message}"[:REASON_CHARS_MAX]
        return [*self._refuse(session.link, "dropped", why), Noticed(f"{session.peer}: {why}")]

    def _records(self, session: Session, message: Records, now: int) -> list[Effect]:
        assert self.pending is None
        known = self._split.pop(session.link, None)
        if session.gate(self.state) is not Gate.OPEN:
            return self._decline(session, known[1] if known else [])
        if known is None or known[0] is not message:
            return self._blame(session, _unreadable(message))
        draft = Draft(self.state)
        _, runs, future = known
        waiting = list(future)
        for run in runs:
            try:
                admit(draft, run, now)
            except Wait as wait:
                waiting.append(str(wait))
            except Malformed as error:
                return self._blame(session, error)
        effects: list[Effect] = []
        if waiting:
            # Told once, not with each of its batches: how many come is for the peer to say.
            known_to_wait = session.peer in self.waiting
            self.waiting[session.peer] = waiting[0]
            effects += [] if known_to_wait else [Noticed(f"waiting: {waiting[0]}")]
        else:
            self.waiting.pop(session.peer, None)
        if not draft.records:
            self._mark_held(session, runs)
            return [*effects, *session.handled_batch(), *session.proceed(self.state)]
        for added in draft.records:
            self.relays[added.record.envelope.machine] = session.peer
        mine = (self.state.me, self._epoch)
        if any((added.record.envelope.machine, added.record.envelope.epoch) == mine for added in draft.records):
            draft.own = None
        self.pending = Pending(draft, [], link=session.link)
        return [*effects, Append(draft)]

    def _decline(self, session: Session, runs: list[Run]) -> list[Effect]:
        """Take nothing from a detached peer; but what it shows that it has need not be told to it."""
        self._mark_held(session, runs)
        if all(self.state.fact(record.id) is not None for run in runs for record in run.records):
            return [*session.handled_batch(), *session.proceed(self.state)]
        session.declined = True
        parted = {f"machine/{key}/{how}" for key in (self.state.me, session.peer) for how in ("detached", "removed")}
        writes = [write for run in runs for record in run.records for write in record.envelope.writes]
        if session.is_full or any(write.path in parted and write.value is not None for write in writes):
            # Each side has parted from the other, or may have: neither would ever acknowledge what the other delivers.
            # What is on its way still arrives, and the next session goes on from there.
            return [Close(session.link, *session.parting)]
        return session.proceed(self.state)

    def _mark_held(self, session: Session, runs: list[Run]) -> None:
        """The peer sent what is here already: it need not be sent back."""
        for run in runs:
            for record in run.records:
                fact = self.state.fact(record.id)
                if fact is not None:
                    session.peer_has(fact.line, fact.seq, self.state)


def rows_of(draft: Draft) -> list[LogRow]:
    """Return a draft's records as they travel."""
    return [
        LogRow(
            added.position,
            added.line,
            added.record.envelope.seq,
            Incoming.of(added.record.data, added.record.seal, draft.secrets.get(added.record.id, {})),
        )
        for added in draft.records
    ]


def _unreadable(message: Records) -> Malformed:
    """Return why a batch could not be read when its needs were asked for."""
    try:
        split(message.items)
    except Malformed as error:
        return error
    return Malformed("records that nobody had looked at")
