"""The fold: what the records of a log add up to, and drafts of what comes next.

``State`` only holds what is durable. A ``Draft`` lies over it while records are decided or admitted, is
handed to the log as one transaction, and becomes part of the state when the log says that it is appended.
A failed append drops the draft and leaves nothing to undo.

Registers of a setting's scope are loaded when first needed, so the costs of opening a store do not grow
with what it holds; ``Needs`` says what a step requires and ``State.learn`` takes it in.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

import msgspec

from cluster_store.core.causality import NO_REMOVALS, Line, Removal, Removals
from cluster_store.core.derivation import Tip, actor_of, derive
from cluster_store.core.document import Change
from cluster_store.core.records import Record
from cluster_store.core.registers import CLUSTER, Lane, Secrets, scope_of
from cluster_store.core.types import Epoch, Level, MachineId, Path, RecordId

#: What the paths of settings begin with; all other registers say what the cluster is.
_SETTINGS = ("setting/", "element/", "kind/")
#: Facts about single records kept at hand; the rest is looked up in the log.
_FACTS_MAX = 20_000


class Fact(msgspec.Struct, frozen=True, gc=False):
    """Where a known record stands."""

    line: int
    seq: int
    #: 0 of a void record: it tells no time, or it could hold up the clock of whoever comes after it.
    hybrid: int
    position: int


class Needs(msgspec.Struct):
    """What has to be known before a step: scopes, records by id, records by line and number."""

    scopes: set[Level] = msgspec.field(default_factory=set)
    records: set[RecordId] = msgspec.field(default_factory=set)
    steps: set[tuple[int, int]] = msgspec.field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.scopes or self.records or self.steps)


class ScopeFacts(msgspec.Struct, frozen=True):
    """A scope's standing lanes, and each line's last change in each of its documents."""

    lanes: dict[Path, tuple[Lane, ...]]
    #: (document, actor) -> tip.
    tips: dict[tuple[str, bytes], Tip]


class Facts(msgspec.Struct, frozen=True):
    """The answer to ``Needs``."""

    scopes: dict[Level, ScopeFacts] = {}
    #: Record -> where it stands, None where the log does not have it.
    records: dict[RecordId, Fact | None] = {}
    #: (line, number) -> the record there.
    steps: dict[tuple[int, int], RecordId] = {}


class Appended(msgspec.Struct, frozen=True):
    """One record as the log stores it."""

    position: int
    line: int
    record: Record
    #: Why it counts for nothing, or ``""``.
    void: str
    #: When this machine learnt of it, milliseconds since 1970.
    learnt: int


def hash_on(log_hash: bytes, record: bytes, learnt: int) -> bytes:
    """Return a log's running hash with one more record: over its id, and when it was learnt in milliseconds."""
    return sha256(log_hash + record + learnt.to_bytes(8, "big", signed=True)).digest()


class Stored(msgspec.Struct, frozen=True):
    """What a store is opened with."""

    cluster: str
    position: int
    log_hash: bytes
    lines: list[Line]
    #: Line -> (number, removals known from there on).
    removals: dict[int, tuple[tuple[int, Removals], ...]]
    #: The line that this machine wrote last, None where the next write has to begin a new epoch.
    own: int | None
    #: Why that epoch is to begin, where the log knows; else ``""``.
    reason: str = ""


class State:
    """What this machine's log adds up to."""

    def __init__(self, me: MachineId, cluster: str = "") -> None:
        self.me = me
        #: Id of the cluster's first record; empty before there is one.
        self.cluster = cluster
        #: Position of the newest record in the log.
        self.position = 0
        #: Running hash over the log, see ``hash_on``: a cut tail shows, and so does what no record's id covers.
        self.log_hash = b""
        #: The line that this machine goes on writing; None where its next write begins a new epoch.
        self.own: int | None = None
        #: The latest hybrid time of any record here.
        self.hybrid = 0
        self.lines: dict[int, Line] = {}
        self.heads: dict[RecordId, int] = {}
        self.feeds: dict[tuple[MachineId, Epoch], list[int]] = {}
        #: The number of the newest line.
        self.last_line = 0
        #: Line -> (number, removals known from there on), in order.
        self.removals: dict[int, tuple[tuple[int, Removals], ...]] = {}
        #: Lines whose newest record another record came after. Never complete after a restart; shortens ``after``.
        self.followed: set[int] = set()
        self.lanes: dict[Path, tuple[Lane, ...]] = {}
        self.scopes: set[Level] = set()
        self.tips: dict[tuple[str, bytes], Tip] = {}
        self.facts: dict[RecordId, Fact] = {}
        #: Records that the log was asked for and does not have: true only until the next append.
        self.absent: set[RecordId] = set()
        self.steps: dict[tuple[int, int], RecordId] = {}
        #: Grows with each change of what the cluster is, so that the read model can be cached.
        self.membership = 0

    @classmethod
    def restored(cls, me: MachineId, stored: Stored) -> State:
        """Return the state of a log that was there before this process."""
        state = cls(me, stored.cluster)
        state.position, state.log_hash, state.own = stored.position, stored.log_hash, stored.own
        state.hybrid = max((line.hybrid for line in stored.lines), default=0)
        for line in stored.lines:
            state._keep_line(line)
        state.removals = dict(stored.removals)
        return state

    def missing(self, needs: Needs) -> Needs:
        """Return the part of ``needs`` that is not known yet."""
        return Needs(
            {scope for scope in needs.scopes if scope not in self.scopes},
            {record for record in needs.records if not self._knows(record)},
            {step for step in needs.steps if step not in self.steps},
        )

    def _knows(self, record: RecordId) -> bool:
        return record in self.facts or record in self.heads or record in self.absent

    def learn(self, facts: Facts) -> None:
        """Take in what was looked up in the log."""
        for scope, known in facts.scopes.items():
            if scope not in self.scopes:
                self.scopes.add(scope)
                self.lanes.update(known.lanes)
                self.tips.update(known.tips)
                self.membership += scope == CLUSTER
        for record, fact in facts.records.items():
            if fact is None:
                self.absent.add(record)
            else:
                self.facts[record] = fact
        self.steps.update(facts.steps)

    def forget(self) -> None:
        """Drop what was looked up for one step: absence is only true until the next append."""
        self.steps.clear()
        self.absent.clear()
        if len(self.facts) > _FACTS_MAX:
            self.facts.clear()

    def fact(self, record: RecordId) -> Fact | None:
        """Return where a record stands, None if it is not here. Its need must have been met."""
        line = self.heads.get(record)
        if line is not None:
            head = self.lines[line]
            return Fact(line, head.seq, head.hybrid, head.position)
        return self.facts.get(record)

    def removals_at(self, line: int, seq: int) -> Removals:
        """Return the removals that are in the causal past of one record, or are told by it."""
        known = NO_REMOVALS
        for since, removals in self.removals.get(line, ()):
            if since > seq:
                break
            known = removals
        return known

    def absorb(self, draft: Draft) -> None:
        """Take in a draft that has become durable."""
        for line in draft.lines.values():
            before = self.lines.get(line.number)
            if before is not None:
                self.heads.pop(before.head, None)
                self.facts[before.head] = Fact(before.number, before.seq, before.hybrid, before.position)
            self._keep_line(line)
        self.removals.update(draft.removals)
        for number, followed in draft.followed.items():
            (self.followed.add if followed else self.followed.discard)(number)
        self.lanes.update(draft.lanes)
        self.tips.update(draft.tips)
        self.facts.update(draft.facts)
        self.membership += draft.rearranges
        self.cluster = draft.cluster
        self.position = draft.position
        self.hybrid = draft.hybrid
        self.own = draft.own
        self.log_hash = draft.log_hash
        self.forget()

    def _keep_line(self, line: Line) -> None:
        if line.number not in self.lines:
            self.feeds.setdefault((line.machine, line.epoch), []).append(line.number)
            self.last_line = max(self.last_line, line.number)
        self.lines[line.number] = line
        self.heads[line.head] = line.number


class Draft:
    """Records on their way into the log, and the state as it will be with them."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.cluster = state.cluster
        self.position = state.position
        self.log_hash = state.log_hash
        self.hybrid = state.hybrid
        self.own = state.own
        self.records: list[Appended] = []
        self.lines: dict[int, Line] = {}
        self.facts: dict[RecordId, Fact] = {}
        self.removals: dict[int, tuple[tuple[int, Removals], ...]] = {}
        self.last_line = state.last_line
        self.followed: dict[int, bool] = {}
        self.lanes: dict[Path, tuple[Lane, ...]] = {}
        self.tips: dict[tuple[str, bytes], Tip] = {}
        self.changes: dict[str, list[Change]] = {}
        self.put: dict[tuple[Path, RecordId], Lane] = {}
        self.taken: list[tuple[Path, RecordId]] = []
        self.secrets_taken: list[tuple[Path, RecordId]] = []
        self.secrets: dict[RecordId, Secrets] = {}
        #: Whether a register was written that is no setting: the read model is another then.
        self.rearranges = False

    def standing(self, path: Path) -> tuple[Lane, ...]:
        """Return the lanes that stand in a register. Its scope must be loaded."""
        lanes = self.lanes.get(path)
        if lanes is not None:
            return lanes
        assert scope_of(path) in self.state.scopes, path
        return self.state.lanes.get(path, ())

    def under(self, prefix: str) -> list[tuple[Path, tuple[Lane, ...]]]:
        """Return the registers whose paths begin with a prefix, as far as their scopes are loaded, sorted."""
        merged = {path: lanes for path, lanes in self.state.lanes.items() if path.startswith(prefix)}
        merged |= {path: lanes for path, lanes in self.lanes.items() if path.startswith(prefix)}
        return sorted((path, lanes) for path, lanes in merged.items() if lanes)

    def line(self, number: int) -> Line:
        """Return a line."""
        return self.lines.get(number) or self.state.lines[number]

    def fact(self, record: RecordId) -> Fact | None:
        """Return where a record stands, None if it is neither stored nor drafted."""
        return self.facts.get(record) or self.state.fact(record)

    def has_feed(self, machine: MachineId, epoch: Epoch) -> bool:
        """Say whether there is a record of a feed."""
        if (machine, epoch) in self.state.feeds:
            return True
        return any((line.machine, line.epoch) == (machine, epoch) for line in self.lines.values())

    def removals_at(self, line: int, seq: int) -> Removals:
        """Return the removals known at a record."""
        if line not in self.removals:
            return self.state.removals_at(line, seq)
        known = NO_REMOVALS
        for since, removals in self.removals[line]:
            if since > seq:
                break
            known = removals
        return known

    def past_removals(self, record: Record, parent: Fact | None) -> Removals:
        """Return the removals in a record's causal past."""
        if not self.state.removals and not self.removals:
            return NO_REMOVALS
        past = (parent, *(self.fact(seen) for seen in record.envelope.after))
        return NO_REMOVALS.union(*(self.removals_at(fact.line, fact.seq) for fact in past if fact is not None))

    def add(
        self,
        record: Record,
        parent: Fact | None,
        *,
        learnt: int,
        void: str = "",
        removal: Iterable[Removal] = (),
        secrets: Secrets | None = None,
    ) -> None:
        """Put a record after its parent, into its line or a new one, and let it do what it says.

        Args:
            record: authentic, everything that it came after is here.
            parent: where its ``prev`` stands, None for the first record of an epoch.
            learnt: this machine's wall clock, milliseconds.
            void: why it does nothing, or ``""``.
            removal: the removals that it tells.
            secrets: the values that travel beside it.
        """
        envelope = record.envelope
        hybrid = 0 if void else envelope.hybrid
        line = self._place(record, parent, hybrid)
        self.position += 1
        self.hybrid = max(self.hybrid, hybrid)
        past = self.past_removals(record, parent)
        self.lines[line.number] = line
        self.facts[record.id] = Fact(line.number, envelope.seq, hybrid, self.position)
        self.log_hash = hash_on(self.log_hash, bytes.fromhex(record.id), learnt)
        self.records.append(Appended(self.position, line.number, record, void, learnt))
        if not self.cluster:
            self.cluster = record.id
        told = past.union(removal) if removal and not void else past
        if told and told != self.removals_at(line.number, envelope.seq):
            known = self.removals.get(line.number) or self.state.removals.get(line.number, ())
            self.removals[line.number] = (*known, (envelope.seq, told))
        self._note_followed(record, line)
        if secrets:
            self.secrets[record.id] = secrets
        if not void:
            self._apply(record, line.actor)

    def _place(self, record: Record, parent: Fact | None, hybrid: int) -> Line:
        envelope = record.envelope
        at = self.position + 1
        if parent is not None:
            trunk = self.line(parent.line)
            if trunk.seq == parent.seq:
                return msgspec.structs.replace(trunk, seq=envelope.seq, head=record.id, hybrid=hybrid, position=at)
        forked = self.has_feed(envelope.machine, envelope.epoch)
        self.last_line += 1
        return Line(
            number=self.last_line,
            machine=envelope.machine,
            epoch=envelope.epoch,
            parent=parent.line if parent else None,
            forked_at=parent.seq if parent else 0,
            seq=envelope.seq,
            head=record.id,
            hybrid=hybrid,
            position=at,
            actor=actor_of(envelope.machine, envelope.epoch, record.id if forked else ""),
        )

    def is_followed(self, line: int) -> bool:
        """Say whether another record is known to have come after a line's newest one."""
        return self.followed.get(line, line in self.state.followed)

    def _note_followed(self, record: Record, line: Line) -> None:
        self.followed[line.number] = False
        for seen in record.envelope.after:
            fact = self.fact(seen)
            if fact is not None and self.line(fact.line).seq == fact.seq:
                self.followed[fact.line] = True

    def _apply(self, record: Record, actor: bytes) -> None:
        envelope = record.envelope
        derived = derive(
            record.id,
            envelope.hybrid,
            actor,
            envelope.writes,
            self.standing,
            lambda document: self.tips.get((document, actor)) or self.state.tips.get((document, actor)),
            weak=envelope.weak,
        )
        self.lanes.update(derived.lanes)
        if not self.rearranges:
            for path in derived.lanes:
                if not path.startswith(_SETTINGS):
                    self.rearranges = True
                    break
        if record.id in self.secrets:
            self._attach_secrets(record.id)
        for document, change in derived.changes.items():
            self.changes.setdefault(document, []).append(change)
            self.tips[document, actor] = derived.tips[document]
        for path, lane in derived.put:
            self.put[path, lane.id] = lane
        for path, lane_id in derived.taken:
            if self.put.pop((path, lane_id), None) is None:
                self.taken.append((path, lane_id))
        self.secrets_taken += derived.secrets_taken

    def _attach_secrets(self, record: RecordId) -> None:
        """Give the new lanes of secrets their texts: users are read from them."""
        for path in self.secrets[record]:
            self.lanes[Path(path)] = tuple(self.with_text(Path(path), lane) for lane in self.lanes[Path(path)])

    def with_text(self, path: Path, lane: Lane) -> Lane:
        """Return a lane with its secret's text, where this draft brought it."""
        known = self.secrets.get(lane.id, {}).get(path)
        return msgspec.structs.replace(lane, text=known[1]) if known else lane
