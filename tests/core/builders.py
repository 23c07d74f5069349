"""Records made by hand, honest and not, and a store that they are offered to."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cluster_store.adapters.memory_log import MemoryLog
from cluster_store.adapters.sqlite_reader import StoredEvent
from cluster_store.core.admission import Incoming, Run, Wait, admit, needs_of, split
from cluster_store.core.errors import Malformed
from cluster_store.core.records import Envelope, Record, encode, machine_id, record_id, seal_record, secret_hash
from cluster_store.core.registers import CLUSTER, Secret, Secrets, Write, WriteValue
from cluster_store.core.state import Appended, Draft, Needs, State
from cluster_store.core.types import Epoch, HybridTime, MachineId, Path, RecordId

#: The hybrid time of a first record: some moment of 2023 and no logical counts.
BEGINNING = HybridTime(1_700_000_000_000 << 12)
EPOCH = Epoch("00000000000000e1")
#: Whose store it is that a test offers records to; nobody admits it.
READER = MachineId("reader")

_Result = TypeVar("_Result")


def finished(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a coroutine that never waits, as those of the log in memory do not, and return its result."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: _Result = stop.value
        return result
    raise AssertionError("the coroutine waits for something")


def rows_of(events: Iterable[Appended]) -> Iterator[StoredEvent]:
    """Yield events as the rows of a store's file."""
    for added in events:
        record = added.record
        yield StoredEvent(
            position=added.position,
            id=record.id,
            line=added.line,
            seq=record.envelope.seq,
            envelope=record.data,
            seal=record.seal,
            void=added.void,
            learnt=added.learnt,
        )


class Identity:
    """A machine's identity key; the same name always has the same."""

    def __init__(self, name: str) -> None:
        private = Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest())
        self.name = name
        self.key = private.public_key().public_bytes_raw()
        self.id = machine_id(self.key)
        self.sign = private.sign

    @property
    def key_text(self) -> str:
        """The value of its key register."""
        return f'"{self.key.hex()}"'


@lru_cache
def identity(name: str) -> Identity:
    """Return the identity of a name."""
    return Identity(name)


def write(path: str, value: WriteValue, *replaced: str) -> Write:
    """Return a write of a register."""
    return Write(Path(path), value, tuple(map(RecordId, replaced)))


def envelope(author: Identity, **fields: Any) -> Envelope:
    """Return an envelope: the first of the author's feed, setting nothing, unless the fields say otherwise."""
    given: dict[str, Any] = {
        "after": (),
        "auth": "local",
        "cluster": "",
        "comment": "",
        "epoch": EPOCH,
        "hybrid": BEGINNING,
        "kind": "SettingSet",
        "machine": author.id,
        "params": {},
        "prev": "",
        "seq": 1,
        "time": 1_700_000_000_000,
        "user": "os:root",
        **fields,
    }
    return Envelope(**given)


def unsealed(content: Envelope) -> Record:
    """Return the record of an envelope, without a seal."""
    data = encode(content)
    return Record(content, data, b"", record_id(data, b""))


def sealed(content: Envelope, author: Identity) -> Record:
    """Return the record of an envelope with the seal of a machine, be it the right one or not."""
    return seal_record(unsealed(content), author.sign)


def first_record(author: Identity, **fields: Any) -> Record:
    """Return a cluster's first record."""
    writes = (
        write(f"machine/{author.id}/key", author.key_text),
        write(f"machine/{author.id}/hostname", f'"{author.name}"'),
        write(f"machine/{author.id}/epoch:{fields.get('epoch', EPOCH)}", '{"reason":"created"}'),
    )
    return sealed(envelope(author, **{"kind": "MachineInitialised", "writes": writes, **fields}), author)


def following(record: Record, **fields: Any) -> Envelope:
    """Return an honest envelope that comes after a record in its feed."""
    before = record.envelope
    given = {
        "cluster": before.cluster or record.id,
        "epoch": before.epoch,
        "hybrid": before.hybrid + 1,
        "machine": before.machine,
        "prev": record.id,
        "seq": before.seq + 1,
        "writes": (),
        "params": {},
        "after": (),
        "comment": "",
        "kind": "SettingSet",
        **fields,
    }
    return msgspec.structs.replace(before, **given)


def admitting(record: Record, joiner: Identity, **fields: Any) -> Envelope:
    """Return the envelope after a record, by its author, that lets a machine in."""
    writes = (
        write(f"machine/{joiner.id}/group", '"main_group"'),
        write(f"machine/{joiner.id}/hostname", f'"{joiner.name}"'),
        write(f"machine/{joiner.id}/key", joiner.key_text),
    )
    return following(record, **{"kind": "MachineAdmitted", "writes": writes, **fields})


def beginning(joiner: Identity, admission: Record, **fields: Any) -> Envelope:
    """Return the first envelope of a machine that a record let in."""
    epoch = fields.get("epoch", EPOCH)
    given = {
        "after": (admission.id,),
        "cluster": admission.envelope.cluster,
        "hybrid": admission.envelope.hybrid + 1,
        "kind": "EpochBegun",
        "params": {"admission": admission.id, "reason": "joined"},
        "writes": (write(f"machine/{joiner.id}/epoch:{epoch}", '{"reason":"joined"}'),),
        **fields,
    }
    return envelope(joiner, **given)


def secret(path: str, text: str, salt: bytes = b"0123456789abcdef") -> tuple[Secret, Secrets]:
    """Return what stands in an envelope for a secret, and what travels beside it."""
    return Secret(secret_hash(salt, text)), {path: (salt, text)}


def incoming(record: Record, secrets: Mapping[str, tuple[bytes, str]] | None = None) -> Incoming:
    """Return a record as it travels."""
    beside = tuple((path, salt, text) for path, (salt, text) in sorted((secrets or {}).items()))
    return Incoming(record.data, record.seal, beside)


class Store:
    """A log and its state. Records go in as a replica takes them: looked up, judged, appended, absorbed."""

    def __init__(self, cluster: str, me: MachineId = READER) -> None:
        self.log = MemoryLog(cluster)
        self.state = State(me, cluster)
        self.learn(Needs({CLUSTER}))

    def learn(self, needs: Needs) -> None:
        """Look up what is needed and not known."""
        missing = self.state.missing(needs)
        if missing:
            self.state.learn(finished(self.log.lookup(missing)))

    def restart(self) -> None:
        """Forget everything but the log, and open it again."""
        self.state = State.restored(self.state.me, finished(self.log.load()))
        self.learn(Needs({CLUSTER}))

    def offer(self, items: Iterable[Incoming]) -> list[str]:
        """Offer a batch; return for each of its runs ``""``, or why it has to wait.

        Raises Malformed where the batch is to be dropped; then nothing of it is stored.
        """
        runs, future = split(items)
        self.learn(needs_of(runs, self.state))
        draft = Draft(self.state)
        answers = [self._admit(draft, run) for run in runs]
        if draft.records:
            finished(self.log.append(draft))
            self.state.absorb(draft)
        return [*answers, *future]

    @staticmethod
    def _admit(draft: Draft, run: Run) -> str:
        try:
            admit(draft, run, learnt=0)
        except Wait as wait:
            return str(wait)
        return ""

    def take(self, *records: Record) -> None:
        """Take records that must be neither dropped nor have to wait."""
        assert not any(self.offer(map(incoming, records)))

    def refusal(self, *records: Record) -> str:
        """Return why a batch of these records is dropped."""
        position = self.state.position
        try:
            answers = self.offer(map(incoming, records))
        except Malformed as error:
            assert self.state.position == position
            return error.message
        raise AssertionError(f"not dropped: {answers}")

    def void(self, record: Record) -> str:
        """Return why a stored record counts for nothing, or ``""``."""
        (added,) = [added for added in self.log.records if added.record.id == record.id]
        return added.void

    @property
    def stored(self) -> set[RecordId]:
        """The ids of all stored records."""
        return {added.record.id for added in self.log.records}

    def values(self, path: str) -> list[WriteValue]:
        """Return what stands in a register, sorted by its text."""
        lanes = [lane.value for (where, _), lane in self.log.lanes.items() if where == path]
        return sorted(lanes, key=str)


def store_of(*records: Record) -> Store:
    """Return a store that holds these records, the first of which begins the cluster."""
    store = Store(records[0].id)
    store.take(*records)
    return store


def seal_last(records: Sequence[Envelope], author: Identity) -> list[Record]:
    """Return envelopes, each made after the one before by the caller, as one run under one seal."""
    return [*map(unsealed, records[:-1]), sealed(records[-1], author)]
