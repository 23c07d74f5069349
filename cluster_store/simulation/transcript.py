"""A log that is read to be rehearsed with, and the same history written once more under other names.

The private keys of a fleet are on its machines, and none of them belongs in a rehearsal. So every record is written
again as it was, with other names for machines, keys and records, and sealed anew. What comes before what, who wrote
where at what time, what replaced what and which values stand stays the same, and the transcript passes the same checks
as the records of any peer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Protocol

import msgspec

from cluster_store.core.admission import Run as SealedRun
from cluster_store.core.document import Document
from cluster_store.core.errors import OverLimit, StoreCorrupt
from cluster_store.core.history import Stored, read_event
from cluster_store.core.records import KEY_BYTES, Envelope, Record, decode, encode, seal_record, secret_hash
from cluster_store.core.registers import Secret, Secrets, Write
from cluster_store.core.replay import Replay
from cluster_store.core.state import Appended
from cluster_store.core.types import MachineId, Path, RecordId
from cluster_store.ports import StoredLog
from cluster_store.simulation.disk import Disk
from cluster_store.simulation.host import Identity

#: Checkers compare every machine's whole log again and again: beyond this a run would take minutes.
RECORDS_MAX = 10_000
#: What the ids of records and keys (64 digits) and of machines (32) look like, wherever they stand.
_NAME = re.compile(r"(?<![0-9a-f])(?:[0-9a-f]{64}|[0-9a-f]{32})(?![0-9a-f])")
_KEY_REGISTER = re.compile(r"machine/([0-9a-f]{32})/key")


class Log(StoredLog, Protocol):
    """What a rehearsal reads of it."""

    def events(self) -> Iterable[Stored]:
        """Return the log's rows."""

    def secret(self, path: Path, record: RecordId) -> str | None:
        """Return a secret's JSON text where it is known."""


class History(msgspec.Struct, frozen=True):
    """A log that has been checked. Plain content, for as many runs and processes as are wanted."""

    me: MachineId
    cluster: RecordId
    records: tuple[Appended, ...]
    #: Record -> path -> JSON text.
    secrets: dict[RecordId, dict[Path, str]]

    @classmethod
    def of(cls, log: Log) -> History:
        """Read a log and check every record of it, its seal too.

        Raises:
            OverLimit: it is too long.
            Refused: nothing can be rehearsed with it.
            StoreCorrupt: a record is not what was written, or could never have been stored.
        """
        with log.snapshot():
            if log.count > RECORDS_MAX:
                raise OverLimit(
                    f"the log has {log.count} records; a rehearsal takes up to {RECORDS_MAX}",
                    "rehearse with the log of a smaller cluster, or with drawn fleets: leave --replay-log out",
                )
            records = tuple(read_event(row) for row in log.events())
            history = cls(log.me, RecordId(log.cluster_id), records, _secrets(log, records))
        checked = Replay(history.me, history.cluster)
        for run in _runs(records):
            checked.admit(SealedRun([added.record for added in run], {}), run[0].learnt)
        return history


def _secrets(log: Log, records: Iterable[Appended]) -> dict[RecordId, dict[Path, str]]:
    found: dict[RecordId, dict[Path, str]] = {}
    for added in records:
        for write in added.record.envelope.writes:
            if isinstance(write.value, Secret):
                text = log.secret(write.path, added.record.id)
                if text is not None:
                    found.setdefault(added.record.id, {})[write.path] = text
    return found


def _runs(records: Iterable[Appended]) -> Iterator[list[Appended]]:
    """Cut a log into runs: the last record of each is sealed."""
    run: list[Appended] = []
    for added in records:
        run.append(added)
        if added.record.seal:
            yield run
            run = []
    if run:
        raise StoreCorrupt(f"no seal vouches for the record {run[-1].record.id}", "run 'cluster-store verify'")


class _Kept(Replay):
    """Keeps what it settles on a disk."""

    def __init__(self, me: MachineId, cluster: RecordId) -> None:
        self.disk = Disk(cluster)
        super().__init__(me, cluster)

    def settle(self) -> None:
        """Make everything up to here durable, then part of the state."""
        self.disk.commit(self.draft)
        super().settle()


class Transcript:
    """A history under other names, on a disk."""

    def __init__(self, history: History) -> None:
        #: The machines as they are called here.
        self.identities: dict[MachineId, Identity] = {}
        self._secrets = history.secrets
        #: Machine, key or record -> its name here.
        self._names: dict[str, str] = {}
        for added in history.records:
            self._name_machines(added.record.envelope)
        runs = list(_runs(history.records))
        first = self._transcribed(runs[0][0].record)[0]
        kept = _Kept(MachineId(self._names[history.me]), first.id)
        for run in runs:
            kept.admit(self._sealed_run(run), run[0].learnt)
        kept.settle()
        self.disk = kept.disk
        for name, tail in list(self.disk.tails.items()):
            document = Document.open(None)
            document.apply(tail)
            self.disk.saved[name] = document.save()
        self.disk.tails.clear()

    def _name_machines(self, envelope: Envelope) -> None:
        """Give every machine whose key is written a key of its own."""
        for write in envelope.writes:
            found = _KEY_REGISTER.fullmatch(write.path)
            if found is not None and isinstance(write.value, str):
                identity = Identity(sha256(b"rehearsal " + found[1].encode()).digest())
                self.identities[identity.machine] = identity
                self._names[found[1]] = identity.machine
                key = msgspec.json.decode(write.value, type=str)
                assert len(bytes.fromhex(key)) == KEY_BYTES
                self._names[key] = identity.key.hex()

    def _sealed_run(self, run: Iterable[Appended]) -> SealedRun:
        records, secrets = [], {}
        for added in run:
            record, values = self._transcribed(added.record)
            records.append(record)
            secrets[record.id] = values
        return SealedRun(records, secrets)

    def _transcribed(self, record: Record) -> tuple[Record, Secrets]:
        """Return a record under its new names, and the values of its secrets."""
        text = _NAME.sub(lambda name: self._names.get(name[0], name[0]), record.data.decode())
        envelope = msgspec.json.decode(text, type=Envelope)
        values = self._secrets.get(record.id, {})
        secrets: Secrets = {}
        writes = []
        for before, write in zip(record.envelope.writes, envelope.writes, strict=True):
            if before.path in values:
                # A salt of its own for each: the one that was drawn for the record stays in the store.
                salt = sha256(f"{record.id} {before.path}".encode()).digest()[:16]
                secrets[write.path] = (salt, values[before.path])
                writes.append(Write(write.path, Secret(secret_hash(salt, values[before.path])), write.replaced))
            else:
                writes.append(write)
        written = decode(encode(msgspec.structs.replace(envelope, writes=tuple(writes))), b"")
        if record.seal:
            written = seal_record(written, self.identities[written.envelope.machine].sign)
        self._names[record.id] = written.id
        return written, secrets
