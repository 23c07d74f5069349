"""Whether a received record counts: the three verdicts, as functions of the record and its causal past.

* *Drop*: not authentic. Nothing of its run is stored, and the link that brought it is to blame.
* *Wait*: what it came after, or its format, is not here yet. Not stored; the next session brings it again.
* *Void*: authentic, but not acceptable. Stored, numbered, relayed and built upon, but it writes nothing.

None of them looks at a clock, at the order of arrival, at who brought the record, or at anything that is not
in its causal past; otherwise two machines could disagree for ever. What a record came after is its ``prev``,
its ``after`` and every lane that it replaces.

Records come in *runs*: consecutive records of one feed of which the last is sealed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Annotated

import msgspec
import orjson

from cluster_store.core.causality import Removal, is_removed
from cluster_store.core.errors import Malformed
from cluster_store.core.events import FIRST_KINDS, TIMED_OUT, misplaced
from cluster_store.core.limits import (
    ENVELOPE_BYTES_MAX,
    HYBRID_MAX,
    PATH_BYTES_MAX,
    RUN_BYTES_MAX,
    RUN_RECORDS_MAX,
    VALUE_BYTES_MAX,
    WRITES_PER_EVENT_MAX,
)
from cluster_store.core.records import (
    KEY_BYTES,
    SALT_BYTES,
    SEAL_BYTES,
    Envelope,
    FutureFormat,
    Record,
    decode,
    fault,
    is_value,
    machine_id,
    seal_is_valid,
    secret_hash,
)
from cluster_store.core.registers import CLUSTER, Secret, Secrets, Write, scope_of, valid_path
from cluster_store.core.state import Draft, Fact, Needs, State
from cluster_store.core.types import MachineId, Path, RecordId

#: Sizes that leave no room for many in a few bytes.
_SecretValue = tuple[
    Annotated[str, msgspec.Meta(min_length=1, max_length=PATH_BYTES_MAX)],
    Annotated[bytes, msgspec.Meta(min_length=SALT_BYTES, max_length=SALT_BYTES)],
    Annotated[str, msgspec.Meta(min_length=1, max_length=VALUE_BYTES_MAX)],
]


class Incoming(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A record as it travels."""

    data: Annotated[bytes, msgspec.Meta(min_length=2, max_length=ENVELOPE_BYTES_MAX)]
    seal: Annotated[bytes, msgspec.Meta(max_length=SEAL_BYTES)]
    #: (path, salt, JSON text) of the secret values it wrote, as far as the sender still has them.
    secrets: Annotated[tuple[_SecretValue, ...], msgspec.Meta(max_length=WRITES_PER_EVENT_MAX)] = ()

    @classmethod
    def of(cls, data: bytes, seal: bytes, secrets: Secrets) -> Incoming:
        """Return a record with the values of its secrets."""
        if not secrets:
            return cls(data, seal)
        return cls(data, seal, tuple((path, *value) for path, value in sorted(secrets.items())))

    @property
    def size(self) -> int:
        """Bytes that it takes in a frame, but for the framing."""
        if not self.secrets:
            return len(self.data)
        return len(self.data) + sum(len(path) + len(salt) + len(text.encode()) for path, salt, text in self.secrets)


class Wait(Exception):  # noqa: N818 - a verdict, not an error: the record is fine, its past is missing
    """What a record came after is not here."""


class Run(msgspec.Struct):
    """Consecutive records of a feed under one seal, with the values that travel beside them."""

    records: list[Record]
    secrets: dict[RecordId, Secrets]


def split(items: Iterable[Incoming]) -> tuple[list[Run], list[str]]:
    """Decode received records and cut them into runs; also return what has to wait for an upgrade.

    Raises:
        Malformed: a record that is not canonical, a run that no frame could carry on, or records after the last seal.
    """
    runs: list[Run] = []
    future: list[str] = []
    run = Run([], {})
    readable = True
    size = count = 0
    for item in items:
        size, count = size + item.size, count + 1
        if size > RUN_BYTES_MAX or count > RUN_RECORDS_MAX:
            raise Malformed(f"a run of more than {RUN_BYTES_MAX} bytes or {RUN_RECORDS_MAX} records")
        try:
            record = decode(item.data, item.seal)
        except FutureFormat as error:
            future.append(error.message)
            readable = False
        else:
            run.records.append(record)
            if item.secrets:
                run.secrets[record.id] = {path: (salt, text) for path, salt, text in item.secrets}
        if item.seal:
            if readable:
                runs.append(run)
            run, readable, size, count = Run([], {}), True, 0, 0
    if run.records or not readable:
        raise Malformed("records after the last seal")
    return runs, future


class _Standing:
    """The ids of the lanes that stand in a register, gathered once: many a record may replace many of them."""

    def __init__(self, state: State) -> None:
        self._lanes = state.lanes
        self._gathered: dict[Path, frozenset[RecordId]] = {}

    def has(self, path: Path, record: RecordId) -> bool:
        """Say whether a record's lane stands in a register."""
        lanes = self._lanes.get(path, ())
        if len(lanes) == 1:
            return lanes[0].id == record
        if path not in self._gathered:
            self._gathered[path] = frozenset(lane.id for lane in lanes)
        return record in self._gathered[path]


def needs_of(runs: Sequence[Run], state: State) -> Needs:
    """Return what must be known to judge these runs."""
    needs = Needs({CLUSTER})
    stand = _Standing(state)
    fresh: set[RecordId] = set()
    for run in runs:
        first = run.records[0].envelope
        ids = [record.id for record in run.records]
        begins_feed = not first.prev and (first.machine, first.epoch) not in state.feeds
        if begins_feed or first.prev in state.heads or first.prev in fresh:
            fresh.update(ids)
        else:
            needs.records.update(ids)
            if first.prev:
                needs.records.add(RecordId(first.prev))
        needs.records.update(_admission(run.records[0]))
        for record in run.records:
            needs.records.update(record.envelope.after)
            for write in record.envelope.writes:
                if valid_path(write.path):
                    needs.scopes.add(scope_of(write.path))
                for replaced in write.replaced:
                    if not stand.has(write.path, replaced):
                        needs.records.add(replaced)
                if record.envelope.weak:
                    # Whose they are decides whether a timer may take them away.
                    needs.records.update(write.replaced)
    needs.records.difference_update(fresh)
    return needs


def admit(draft: Draft, run: Run, learnt: int) -> int:
    """Add the records of a run that are not here yet to the draft; return how many those were.

    Raises:
        Malformed: the run is to be dropped, with the reason, and the draft with it.
        Wait: something that it came after is missing.
    """
    records = run.records
    for earlier, later in pairwise(records):
        _check_chain(earlier, later)
    records = [record for record in records if draft.fact(record.id) is None]
    if not records:
        return 0
    if not draft.cluster:
        raise Malformed("a record before the cluster's identity is known")
    if any(draft.cluster not in (record.envelope.cluster, record.id) for record in records):
        raise Malformed("a record of another cluster")
    parent = _parent(draft, records[0])
    _check_past(draft, records)
    if not seal_is_valid(records[-1], _author_key(draft, records[0])):
        raise Malformed(f"a record of {records[-1].envelope.machine} whose seal is not its machine's")
    for record in records:
        removals = draft.past_removals(record, parent)
        if removals and is_removed(record.envelope.machine, removals):
            raise Malformed(f"a record of {record.envelope.machine} that knew of its own removal")
        void = void_reason(draft, record, parent)
        told = [] if void else removals_told(record)
        secrets = {} if void else _true_secrets(record, run.secrets.get(record.id, {}))
        draft.add(record, parent, learnt=learnt, void=void, removal=told, secrets=secrets)
        parent = draft.fact(record.id)
    return len(records)


def _check_chain(earlier: Record, later: Record) -> None:
    one, two = earlier.envelope, later.envelope
    if earlier.seal or (one.machine, one.epoch, one.seq + 1, earlier.id) != (
        two.machine,
        two.epoch,
        two.seq,
        two.prev,
    ):
        raise Malformed("records that do not follow each other under one seal")


def _parent(draft: Draft, record: Record) -> Fact | None:
    envelope = record.envelope
    if not envelope.prev:
        if envelope.seq != 1 or envelope.kind not in FIRST_KINDS:
            raise Malformed("a feed that does not begin at its beginning")
        return None
    parent = draft.fact(RecordId(envelope.prev))
    if parent is None:
        raise Wait(f"record {envelope.seq} of {envelope.machine}: the one before it is not here")
    line = draft.line(parent.line)
    if (line.machine, line.epoch, parent.seq + 1) != (envelope.machine, envelope.epoch, envelope.seq):
        raise Malformed("a record that continues another feed")
    return parent


def _check_past(draft: Draft, records: Sequence[Record]) -> None:
    here = {record.id for record in records}
    stand = _Standing(draft.state)
    if any(draft.fact(admission) is None for admission in _admission(records[0])):
        raise Wait(f"the first record of {records[0].envelope.machine}: the one that let it in is not here")
    for record in records:
        envelope = record.envelope
        if any(seen not in here and draft.fact(seen) is None for seen in envelope.after):
            raise Wait(f"record {envelope.seq} of {envelope.machine}: a record that it had seen is not here")
        for write in envelope.writes:
            for replaced in write.replaced:
                if replaced in here or draft.fact(replaced) is not None:
                    continue
                # Of a lane that stands nothing was looked up, and a record before this one may have taken it away.
                if not stand.has(write.path, replaced):
                    raise Wait(f"record {envelope.seq} of {envelope.machine}: a record that it replaces is not here")


def _admission(first: Record) -> list[RecordId]:
    """Return the record that let the author in, as the first record of a later feed names it."""
    envelope = first.envelope
    admission = envelope.params.get("admission")
    if envelope.prev or envelope.kind != "EpochBegun" or not isinstance(admission, str):
        return []
    return [RecordId(admission)]


def _author_key(draft: Draft, first: Record) -> bytes:
    envelope = first.envelope
    if first.id == draft.cluster:
        return _key_written(envelope, envelope.machine)
    admissions = _admission(first)
    if not envelope.prev and not admissions:
        raise Malformed(f"a feed of {envelope.machine} that does not say who let it in")
    for lane in draft.standing(key_path(envelope.machine)):
        if isinstance(lane.value, str) and (envelope.prev or lane.id in admissions):
            return bytes.fromhex(orjson.loads(lane.value))
    raise Malformed(f"a record of {envelope.machine}, which nobody let in")


def _key_written(envelope: Envelope, machine: MachineId) -> bytes:
    for write in envelope.writes:
        if write.path == key_path(machine) and not _key_fault(write):
            return bytes.fromhex(orjson.loads(str(write.value)))
    raise Malformed("a first record without its machine's key")


def key_path(machine: MachineId) -> Path:
    """Return the register of a machine's identity key: JSON text of 64 hex digits."""
    return Path(f"machine/{machine}/key")


def void_reason(draft: Draft, record: Record, parent: Fact | None) -> str:
    """Return why an authentic record counts for nothing, or ``""``. A function of it and its past alone."""
    envelope = record.envelope
    reason = fault(envelope) or misplaced(envelope.kind, envelope.writes)
    if reason:
        return reason
    if envelope.prev and envelope.kind in FIRST_KINDS:
        return f"is a {envelope.kind} in the middle of its feed"
    latest = latest_seen(draft, parent, envelope.after)
    if envelope.hybrid <= latest:
        return "its hybrid time is not after that of what it had seen"
    if envelope.hybrid > hybrid_ceiling(latest):
        return "its time is outside the calendar"
    if envelope.weak != (envelope.kind in TIMED_OUT):
        # A label in the audit log must not hide who did something.
        return f"is a {envelope.kind} and {'says' if envelope.weak else 'does not say'} that a timer wrote it"
    for write in envelope.writes:
        if reason := _membership_fault(envelope.kind, write) or _timer_fault(draft, envelope, write):
            return reason
    return ""


def latest_seen(draft: Draft, parent: Fact | None, after: Iterable[RecordId]) -> int:
    """Return the greatest hybrid time among what a record directly came after."""
    latest = parent.hybrid if parent is not None else 0
    for seen in after:
        fact = draft.fact(seen)
        if fact is not None and fact.hybrid > latest:
            latest = fact.hybrid
    return latest


def hybrid_ceiling(latest: int) -> int:
    """Return the greatest hybrid time that a record may have after what it had seen.

    Whoever claims the end of the calendar cannot stop the clock there: beyond it everybody counts on, one by one.
    """
    return max(HYBRID_MAX, latest + 1)


def _membership_fault(kind: str, write: Write) -> str:
    """Return why a write to a register that decides who belongs is not acceptable."""
    if not write.path.startswith("machine/"):
        return ""
    attribute = write.path.rsplit("/", 1)[1]
    if attribute == "key":
        if kind not in ("MachineInitialised", "MachineAdmitted"):
            return f"is a {kind} but writes a machine's key"
        return _key_fault(write)
    if attribute == "removed":
        if kind != "MachinesRemoved":
            return f"is a {kind} but removes a machine"
        return "" if not write.replaced and _left(write) is not None else "removes a machine in a wrong shape"
    return ""


def _timer_fault(draft: Draft, envelope: Envelope, write: Write) -> str:
    """Return why a write that has to do with timers is not acceptable.

    A timer takes away what its own machine wrote, and puts nothing: so whatever it says of itself, nobody else's change
    can be lost by it. Only its own machine begins one, because nobody else would take that back.
    """
    if envelope.weak:
        if write.value is not False:
            return "is a timer's and yet puts a value"
        facts = [draft.fact(replaced) for replaced in write.replaced]
        if any(fact is None or draft.line(fact.line).machine != envelope.machine for fact in facts):
            return "is a timer's and takes away what another machine wrote"
    if write.path.startswith("timer/") and write.value is not False:
        if write.path.split("/")[1] != envelope.machine:
            return "begins a timer of another machine"
        return "" if isinstance(write.value, str) else "writes a timer that says nothing"
    return ""


def _key_fault(write: Write) -> str:
    machine = write.path.split("/")[1]
    try:
        key = bytes.fromhex(orjson.loads(write.value if isinstance(write.value, str) else "null"))
    except (ValueError, TypeError):
        return "writes a malformed machine key"
    if write.replaced or len(key) != KEY_BYTES or machine_id(key) != machine:
        return "writes a key that is not its machine's"
    return ""


def _left(write: Write) -> tuple[MachineId, ...] | None:
    try:
        left = msgspec.json.decode(write.value if isinstance(write.value, str) else "null", type=list[str])
    except msgspec.DecodeError:
        return None
    return tuple(MachineId(member) for member in left)


def removals_told(record: Record) -> list[Removal]:
    """Return the removals that an acceptable record tells."""
    envelope = record.envelope
    if envelope.kind != "MachinesRemoved":
        return []
    return [
        Removal(MachineId(write.path.split("/")[1]), envelope.hybrid, record.id, _left(write) or ())
        for write in envelope.writes
        if write.path.endswith("/removed")
    ]


def _true_secrets(record: Record, offered: Secrets) -> Secrets:
    """Return the offered values whose hashes the envelope holds."""
    if not offered:
        return {}
    return {
        write.path: offered[write.path]
        for write in record.envelope.writes
        if isinstance(write.value, Secret) and write.path in offered and _is_true(write.value, *offered[write.path])
    }


def _is_true(secret: Secret, salt: bytes, text: str) -> bool:
    # Without the size of the salt, whoever passes a record on could move the border between salt and value.
    if len(salt) != SALT_BYTES or len(text.encode()) > VALUE_BYTES_MAX:
        return False
    return secret_hash(salt, text) == secret.secret and is_value(text)
