"""One machine's store as a pure state machine: ``needs(input)``, ``learn(facts)``, ``step(input) -> effects``.

Invariants kept here:

1. The state holds only what is durable. What an append brings is absorbed, applied to the documents,
   answered and sent after the log has said that it is there, in this order.
2. At most one append is under way, and commands are decided on top of all that were accepted before them.
3. This machine never extends a feed that somebody else may be extending too: where a record of its own turns
   up that this store did not write, or the store's file is not the one it last wrote to, it begins a new epoch.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from cluster_store.core import commands, decide
from cluster_store.core.admission import Incoming, Run, Wait, admit, needs_of, removals_told, split, void_reason
from cluster_store.core.causality import Line, is_removed, maximal, vector
from cluster_store.core.cluster import Cluster, read
from cluster_store.core.decision import Context, Decision
from cluster_store.core.effects import (
    PROTOCOL,
    Ack,
    Append,
    AppendDone,
    AppendFailed,
    ApplyChanges,
    Bye,
    CaughtUp,
    Changed,
    Close,
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
    Request,
    Send,
    Standing,
    Submit,
)
from cluster_store.core.errors import ClusterStoreError, Malformed, OverLimit, Refused
from cluster_store.core.events import FIRST_KINDS, Event
from cluster_store.core.limits import AFTER_MAX, BATCH_BYTES_TARGET, ENVELOPE_BYTES_MAX, HYBRID_MAX
from cluster_store.core.records import Envelope, decode, encode, seal_record
from cluster_store.core.registers import CLUSTER
from cluster_store.core.state import Draft, Facts, Needs, State
from cluster_store.core.sync import Gate, Session
from cluster_store.core.types import HYBRID_LOGICAL_BITS, Epoch, HybridTime, Level, MachineId, RecordId

_SMALLER = "make it smaller, or split it into several"


class Pending(msgspec.Struct):
    """What waits for the append that is under way."""

    draft: Draft
    replies: list[Reply]
    #: The link whose batch it is, None for commands.
    link: int | None = None


class _NotLoaded(Exception):  # noqa: N818 - never seen outside: the scopes are looked up
    """A command is about scopes that nobody has looked up."""

    def __init__(self, scopes: list[Level]) -> None:
        super().__init__(scopes)
        self.scopes = scopes


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
        self.pending: Pending | None = None
        self._reason = reason
        self._sign = sign
        self._instance = instance
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
        for machine in self.cluster.machines.values():
            if machine.detached:
                needs.records.add(machine.detached)
        if isinstance(given, Submit):
            self._needs_of_requests(given, needs)
        elif isinstance(given, Received):
            self._needs_of_message(given.link, given.message, needs)
        return self.state.missing(needs)

    def _needs_of_requests(self, given: Submit, needs: Needs) -> None:
        for request in given.requests:
            needs.scopes.update(decide.scopes_of(request.command, self.cluster, self.state.me))
        rearranging = any(not isinstance(one.command, commands.SettingCommand) for one in given.requests[:-1])
        if rearranging and not self.state.missing(needs):
            # A command can change which levels those behind it are about: only deciding them all shows.
            try:
                self._attempt(given.requests, given)
            except _NotLoaded as found:
                needs.scopes.update(found.scopes)

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
        elif isinstance(message, CaughtUp):
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
            session = self._session(given.link)
            return session.read(given.after, given.rows, self.state) if session else []
        if isinstance(given, LinkUp):
            return self._link_up(given)
        assert isinstance(given, LinkDown)
        self.sessions.pop(given.link, None)
        self._split.pop(given.link, None)
        return []

    def _session(self, link: int) -> Session | None:
        session = self.sessions.get(link)
        if session is not None:
            session.standing_records = tuple(
                machine.detached
                for key in (self.state.me, session.peer)
                if (machine := self.cluster.machines.get(key)) is not None and machine.detached
            )
        return session

    # --- commands ----------------------------------------------------------------------------------

    def _submit(self, given: Submit) -> list[Effect]:
        assert self.pending is None
        draft, replies, accepted = self._attempt(given.requests, given)
        if draft.records and not draft.records[-1].record.seal:
            # Requests behind the last accepted one were refused: seal that one instead.
            draft, again, _ = self._attempt(accepted, given)
            replies |= again
        answers = [replies[request.id] for request in given.requests]
        if not draft.records:
            return list(answers)
        self.pending = Pending(draft, answers)
        return [Append(draft)]

    def _attempt(self, requests: list[Request], given: Submit) -> tuple[Draft, dict[int, Reply], list[Request]]:
        """Decide requests one by one, each on top of the ones before, and seal the last record."""
        draft = Draft(self.state)
        replies: dict[int, Reply] = {}
        accepted = []
        unsealed = 0
        for index, request in enumerate(requests):
            context = self._context(draft, request, given)
            scopes = decide.scopes_of(request.command, context.cluster, self.state.me)
            if any(scope not in self.state.scopes for scope in scopes):
                raise _NotLoaded(scopes)
            try:
                decision = self._decide(draft, request, context)
                if decision.event is None:
                    replies[request.id] = Reply(request.id, {"event": None, "changed": False, **decision.result})
                    continue
                if draft.own is None and decision.event.kind not in ("MachineInitialised", "EpochBegun"):
                    began = decide.begin_epoch(context, self._reason, self._previous_epoch())
                    unsealed = self._author(draft, began, request, given, unsealed, last=False)
                last = index == len(requests) - 1
                unsealed = self._author(draft, decision.event, request, given, unsealed, last=last)
            except ClusterStoreError as error:
                replies[request.id] = Reply(request.id, error=error)
                continue
            accepted.append(request)
            event = draft.records[-1].record.id
            replies[request.id] = Reply(request.id, {"event": event, "changed": True, **decision.result})
        return draft, replies, accepted

    def _context(self, draft: Draft, request: Request, given: Submit) -> Context:
        cluster = read(draft) if draft.rearranges else self.cluster
        return Context(draft, cluster, self.state.me, request.user, given.now, given.epoch)

    def _decide(self, draft: Draft, request: Request, context: Context) -> Decision:
        if isinstance(request.command, commands.BeginEpoch):
            if draft.records:
                raise Refused("a new epoch begins before any other change", "try again")
            return Decision(decide.begin_epoch(context, request.command.reason, self._previous_epoch()))
        return decide.decide(request.command, context)

    def _previous_epoch(self) -> tuple[Epoch, int] | None:
        """Return the epoch this machine wrote in last, as far as its own log knows, and its newest number."""
        mine = [line for line in self.state.lines.values() if line.machine == self.state.me]
        last = max(mine, key=lambda line: line.position, default=None)
        return (last.epoch, last.seq) if last else None

    def _author(self, draft: Draft, event: Event, request: Request, given: Submit, unsealed: int, *, last: bool) -> int:
        """Write an event as this machine's next record; seal it if it is the last, or where a batch has come together.

        Takes and returns the bytes that are not sealed yet. Raises OverLimit and other kinds of Refused.
        """
        line = None if draft.own is None or event.kind in FIRST_KINDS else draft.line(draft.own)
        latest = max(given.now << HYBRID_LOGICAL_BITS, draft.hybrid + 1)
        envelope = Envelope(
            after=tuple(self._after(draft, line)),
            auth=request.auth,
            cluster=draft.cluster,
            comment=request.command.comment,
            epoch=line.epoch if line else given.epoch,
            hybrid=HybridTime(min(latest, HYBRID_MAX)),
            kind=event.kind,
            machine=self.state.me,
            params=event.params,
            prev=line.head if line else "",
            seq=line.seq + 1 if line else 1,
            time=given.now,
            user=request.user,
            writes=event.writes,
        )
        data = encode(envelope)
        size = Incoming.of(data, b"", event.secrets).size
        if size > ENVELOPE_BYTES_MAX:
            raise OverLimit(f"the change has {size} bytes; the limit is {ENVELOPE_BYTES_MAX}", _SMALLER)
        # What the other machines could not read, or would not count or take, must not count here.
        record = decode(data, b"")
        parent = draft.fact(line.head) if line else None
        why = void_reason(draft, record, parent)
        if why:
            raise OverLimit(f"the change {why}", _SMALLER)
        if is_removed(self.state.me, draft.past_removals(record, parent)):
            raise Refused("this machine was removed from the cluster", "make a new store to join again")
        sealed = last or unsealed + size > BATCH_BYTES_TARGET
        if sealed:
            record = seal_record(record, self._sign)
        draft.add(record, parent, learnt=given.now, removal=removals_told(record), secrets=event.secrets)
        draft.own = draft.records[-1].line
        return 0 if sealed else unsealed + size

    def _after(self, draft: Draft, own: Line | None) -> list[RecordId]:
        """Return the ids of the newest records of other lines since this machine's last record, sorted."""
        seen_up_to = own.position if own else 0
        lines = {**self.state.lines, **draft.lines}
        heads = {
            line.number: line.seq
            for line in lines.values()
            if line.position > seen_up_to and (own is None or line.number != own.number)
        }
        if not heads:
            return []
        seen = {number: draft.seen.get(number) or self.state.seen.get(number, {}) for number in heads}
        # Beyond the limit the record would be void: what it leaves out it merely does not tell of.
        newest = sorted(maximal(heads, seen), key=lambda number: lines[number].position)[-AFTER_MAX:]
        return sorted(lines[number].head for number in newest)

    # --- appends -----------------------------------------------------------------------------------

    def _append_done(self) -> list[Effect]:
        pending, self.pending = self.pending, None
        assert pending is not None
        draft = pending.draft
        self.state.absorb(draft)
        effects: list[Effect] = [ApplyChanges(draft.changes)] if draft.changes else []
        effects += pending.replies
        rows = rows_of(draft)
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
            "or runs twice; it goes on in a new epoch"
        )
        return [Noticed(text)]

    def _append_failed(self, error: ClusterStoreError) -> list[Effect]:
        pending, self.pending = self.pending, None
        assert pending is not None
        if pending.link is not None:
            return [Close(pending.link, "dropped", error.message)] if pending.link in self.sessions else []
        return [
            reply if reply.error is not None else msgspec.structs.replace(reply, result=None, error=error)
            for reply in pending.replies
        ]

    # --- links -------------------------------------------------------------------------------------

    def _link_up(self, given: LinkUp) -> list[Effect]:
        self.sessions[given.link] = Session(given.link, given.peer)
        return [Send(given.link, self._hello(given.now))]

    def _hello(self, now: int) -> Hello:
        machines = self.cluster.machines
        me = machines.get(self.state.me)
        return Hello(
            protocol=PROTOCOL,
            cluster=self.state.cluster,
            machine=self.state.me,
            instance=self._instance,
            version=me.version if me else "",
            time=now,
            vector=vector(self.state.lines.values()),
            detached=[Standing(machine.id, machine.detached) for machine in machines.values() if machine.detached],
        )

    def _received(self, given: Received) -> list[Effect]:
        session = self._session(given.link)
        if session is None:
            return []
        message = given.message
        if isinstance(message, Hello):
            return self._greeted(session, message)
        if isinstance(message, Bye):
            return [Close(given.link, message.state, message.reason)]
        if session.hello is None:
            return self._refuse(given.link, "dropped", "the peer spoke before it said hello")
        if isinstance(message, Records):
            return self._records(session, message, given.now)
        if isinstance(message, Ack):
            return session.acked(message.count, self.state)
        assert isinstance(message, CaughtUp)
        return session.peer_caught_up(self.state)

    def _greeted(self, session: Session, hello: Hello) -> list[Effect]:
        if session.hello is not None:
            return self._refuse(session.link, "dropped", "the peer said hello twice")
        refusal = self._hello_fault(session, hello)
        if refusal is not None:
            state, here, there = refusal
            return [Send(session.link, Bye(state, there)), Close(session.link, state, here)]
        session.greet(hello, self.state)
        return session.proceed(self.state)

    def _hello_fault(self, session: Session, hello: Hello) -> tuple[str, str, str] | None:
        """Return the state that a hello leads to, and the reason in words for this side and for the peer's."""
        me = self.cluster.machines.get(self.state.me)
        if hello.protocol != PROTOCOL:
            return "version differs", *_differ("protocol", hello.protocol, PROTOCOL)
        if hello.cluster != self.state.cluster:
            return "other cluster", *2 * ("the peer belongs to another cluster",)
        if hello.machine != session.peer:
            return "authentication failed", *2 * ("one side says it is another machine than its key",)
        if me is not None and hello.version and hello.version != me.version:
            return "version differs", *_differ("version", hello.version, me.version)
        return None

    @staticmethod
    def _refuse(link: int, state: str, reason: str) -> list[Effect]:
        return [Send(link, Bye(state, reason)), Close(link, state, reason)]

    def _records(self, session: Session, message: Records, now: int) -> list[Effect]:
        assert self.pending is None
        known = self._split.pop(session.link, None)
        if session.gate(self.state) is not Gate.OPEN:
            return self._decline(session, known[1] if known else [])
        if known is None or known[0] is not message:
            return self._refuse(session.link, "dropped", "the peer sent records that cannot be read")
        draft = Draft(self.state)
        _, runs, future = known
        waiting = list(future)
        for run in runs:
            try:
                admit(draft, run, now)
            except Wait as wait:
                waiting.append(str(wait))
            except Malformed as error:
                return self._refuse(session.link, "dropped", f"the peer sent {error.message}")
        effects: list[Effect] = []
        if waiting:
            self.waiting[session.peer] = waiting[0]
            effects.append(Noticed(f"waiting: {waiting[0]}"))
        else:
            self.waiting.pop(session.peer, None)
        if not draft.records:
            self._mark_held(session, runs)
            return [*effects, *session.handled_batch(), *session.proceed(self.state)]
        if any(added.record.envelope.machine == self.state.me for added in draft.records):
            draft.own = None
        self.pending = Pending(draft, [], link=session.link)
        return [*effects, Append(draft)]

    def _decline(self, session: Session, runs: list[Run]) -> list[Effect]:
        """Take nothing from a detached peer; but what it shows that it has need not be told to it."""
        self._mark_held(session, runs)
        if all(self.state.fact(record.id) is not None for run in runs for record in run.records):
            return [*session.handled_batch(), *session.proceed(self.state)]
        session.declined = True
        return session.proceed(self.state)

    def _mark_held(self, session: Session, runs: list[Run]) -> None:
        """The peer sent what is here already: it need not be sent back."""
        for run in runs:
            for record in run.records:
                fact = self.state.fact(record.id)
                if fact is not None:
                    session.peer_has(fact.line, fact.seq, self.state)


def _differ(what: str, there: object, here: object) -> tuple[str, str]:
    return f"{what} {there} there, {here} here", f"{what} {here} there, {there} here"


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
