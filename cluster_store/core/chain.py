"""The log as a chain of hashes: whether stored rows are the records that were written, each in its place.

A record's id is the hash of its envelope and seal, and each record of a feed names the id of the one before, so one
changed byte shows, and a seal vouches for all of its feed up to it. The running hash over all ids and the times at
which they were learnt shows what changed in the order of the log and in those times, where no record is to blame.

Nothing here trusts a row: its columns may be of any type, and it may hold anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import msgspec

from cluster_store.core.errors import Malformed
from cluster_store.core.events import FIRST_KINDS
from cluster_store.core.limits import ENVELOPE_BYTES_MAX
from cluster_store.core.records import HASH_DIGITS, SEAL_BYTES, Envelope, Record, decode, machine_id, seal_is_valid
from cluster_store.core.state import hash_on
from cluster_store.core.types import Epoch, MachineId, RecordId

_KEY_KINDS = ("MachineInitialised", "MachineAdmitted")
_ID_BYTES = HASH_DIGITS // 2
#: The greatest number that a column holds; a void record's hybrid time may be beyond it.
_INTEGER_MAX = (1 << 63) - 1

_decoder = msgspec.json.Decoder(Envelope)
_encoder = msgspec.json.Encoder(order="deterministic")


#: A row of the log: position, id, line, number, hybrid time, when it was learnt, seal, envelope.
Row = tuple[Any, ...]


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Something stored that is not what was written."""

    #: ``file``, ``record``, ``seal``, ``log``, ``table``, ``secret`` or ``document``.
    kind: str
    text: str
    #: Of the record that it is about, as far as that can be told.
    position: int | None = None
    record: str = ""
    machine: MachineId = MachineId("")
    seq: int | None = None


class Meta(msgspec.Struct, frozen=True):
    """What a store says of its log."""

    me: MachineId
    #: Id of the first record.
    cluster: str
    #: The line that this machine goes on writing.
    own: int | None
    count: int
    log_hash: bytes


class _Head(msgspec.Struct):
    """The newest record of a line so far."""

    id: str
    seq: int
    machine: MachineId
    #: Empty where no record of it could be read yet.
    epoch: Epoch
    #: What its id would be by its bytes, where that is another one.
    alias: str = ""
    #: The newest one with a seal.
    sealed: Record | None = None
    sealed_at: int = 0


class Chain:
    """Checks a log's rows, in the order of their positions."""

    def __init__(
        self, cluster: str, authors: Mapping[int, MachineId] | None = None, *, every_signature: bool = False
    ) -> None:
        """Begin with the first row.

        Args:
            cluster: id of the cluster's first record.
            authors: what is said elsewhere of who wrote each line; only to name a record that does not tell.
            every_signature: check all seals, not only the last one of each line, which vouches for the others.
        """
        self.position = 0
        self.log_hash = b""
        self.signatures = 0
        #: The record of the last row that had no fault.
        self.record: Record | None = None
        self._cluster = cluster
        self._authors = authors or {}
        self._every_signature = every_signature
        self._heads: dict[int, _Head] = {}
        #: Where each record stands: its line and number.
        self._known: dict[bytes, tuple[int, int]] = {}
        self._keys: dict[MachineId, bytes] = {}
        #: The row before, where its record has no seal: the next one must go on from it.
        self._unsealed: str | None = None

    def check(self, row: Row) -> list[Fault]:
        """Check the next row; return what is wrong with it."""
        position, record, line, seq, hybrid, learnt, seal, envelope = row
        if not (
            type(position) is type(line) is type(seq) is type(hybrid) is type(learnt) is int
            and type(record) is type(envelope) is bytes
            and (seal is None or type(seal) is bytes)
        ):
            return self._misshapen(row)
        identity = sha256(envelope + seal if seal else envelope).digest()
        content = _read(envelope, seal or b"", identity)
        self.log_hash = hash_on(self.log_hash, record, learnt)
        name = record.hex()
        head = self._heads.get(line)
        if (
            content is None
            or identity != record
            or position != self.position + 1
            or head is None
            or content.prev != head.id
            or not head.seq + 1 == seq == content.seq
            or content.machine != head.machine
            or content.epoch != head.epoch
            or content.hybrid != hybrid
            or content.cluster != self._cluster
            or (self._unsealed and self._unsealed != content.prev)
        ):
            told = content if identity == record else None
            faults = [
                self._fault(position, name, line, seq, told, text) for text in self._compare(row, identity, content)
            ]
        else:
            faults = []
        self._go_on(row, name, identity, content)
        if faults:
            self.record = None
        return faults

    def _misshapen(self, row: Row) -> list[Fault]:
        """Return the fault of a row whose columns are of other types than were written."""
        position, record, line, seq, *_ = row
        self.record = self._unsealed = None
        self.position = position if type(position) is int else self.position + 1
        name = record.hex() if type(record) is bytes else ""
        author = self._authors.get(line, MachineId("")) if type(line) is int else MachineId("")
        if type(line) is int:
            head = self._heads.get(line) or self._begin(line)
            head.id, head.seq = name, head.seq + 1
        return [
            Fault(
                kind="record",
                text="its columns are not of the types that were written",
                position=self.position,
                record=name,
                machine=author,
                seq=seq if type(seq) is int else None,
            )
        ]

    def _fault(self, position: int, name: str, line: int, seq: int, content: Envelope | None, text: str) -> Fault:
        head = self._heads.get(line)
        author = head.machine if head else self._authors.get(line, MachineId(""))
        machine = content.machine if content else author
        number = content.seq if content else seq
        return Fault(kind="record", text=text, position=position, record=name, machine=machine, seq=number)

    def _compare(self, row: Row, identity: bytes, content: Envelope | None) -> list[str]:
        """Say what is wrong with a row; nothing, where it only begins a line."""
        position, record, line, seq, hybrid, *_ = row
        texts = []
        if position != self.position + 1:
            texts.append(f"the records {self.position + 1} to {position - 1} are missing before it")
        if identity != record:
            texts.append("its bytes are not those that its id was made from")
        if content is None:
            return texts or ["its envelope is not in canonical form"]
        if content.seq != seq:
            texts.append(f"its column says number {seq}, its envelope {content.seq}")
        if min(content.hybrid, _INTEGER_MAX) != hybrid:
            texts.append("its column says another hybrid time than its envelope")
        if self._cluster not in (content.cluster, record.hex()):
            texts.append("it belongs to another cluster")
        if self._unsealed and self._unsealed != content.prev:
            texts.append("the record before it has no seal, and this one does not go on from there")
        return texts + self._place(line, content)

    def _place(self, line: int, content: Envelope) -> list[str]:
        """Say what is wrong with where a record stands among those before it."""
        head = self._heads.get(line)
        if head is not None and content.prev and content.prev in (head.id, head.alias):
            unknown = not head.epoch and head.seq + 1 == content.seq
            mine = (head.machine, head.epoch, head.seq + 1) == (content.machine, content.epoch, content.seq)
            return [] if mine or unknown else ["it goes on from a record of another feed"]
        if head is not None:
            return [f"the record before it, {content.prev or 'none'}, is not the one that its line ends with"]
        if line != max(self._heads, default=0) + 1:
            return [f"its line has the number {line}, which is not the next one"]
        if not content.prev:
            begins = content.seq == 1 and content.kind in FIRST_KINDS
            return [] if begins else ["it has no record before it, and does not begin a feed"]
        parent = self._known.get(_bytes_of(content.prev))
        if parent is None:
            return [f"the record before it, {content.prev}, is not here"]
        trunk = self._heads[parent[0]]
        mine = (trunk.machine, trunk.epoch, parent[1] + 1) == (content.machine, content.epoch, content.seq)
        if (trunk.epoch and not mine) or trunk.id == content.prev:
            return ["it stands in a line that is not its own"]
        return []

    def _go_on(self, row: Row, name: str, identity: bytes, content: Envelope | None) -> None:
        """Take a row for what it says, so that a fault is told once and not again with each row behind it."""
        position, record, line, seq, _, _, seal, envelope = row
        self.position = position
        true = identity == record
        head = self._heads.get(line) or self._begin(line)
        head.id, head.seq, head.alias = name, seq, "" if true else identity.hex()
        self._known[record] = (line, seq)
        self._unsealed = None if seal or not true else name
        if content is None or not true:
            return
        head.machine, head.epoch = content.machine, content.epoch
        self.record = Record(content, envelope, seal or b"", RecordId(name))
        if content.kind in _KEY_KINDS:
            self._learn_keys(content)
        if seal:
            head.sealed, head.sealed_at = self.record, position

    def _begin(self, line: int) -> _Head:
        head = self._heads[line] = _Head("", 0, self._authors.get(line, MachineId("")), Epoch(""))
        return head

    def _learn_keys(self, content: Envelope) -> None:
        """Note the keys that a record brings; a machine's id is the hash of its key, so there is but one."""
        for write in content.writes:
            kind, _, rest = write.path.partition("/")
            machine, _, attribute = rest.partition("/")
            if kind == "machine" and attribute == "key" and isinstance(write.value, str):
                key = _bytes_of(write.value.strip('"'))
                if key and machine_id(key) == machine:
                    self._keys[MachineId(machine)] = key

    def check_seal(self) -> list[Fault]:
        """Check the seal of the last row's record, if it has one and every signature is to be checked."""
        if not self._every_signature or self.record is None or not self.record.seal:
            return []
        return self._seal_faults(self.record, self.position)

    def _seal_faults(self, record: Record, position: int) -> list[Fault]:
        self.signatures += 1
        envelope = record.envelope
        key = self._keys.get(envelope.machine)
        if key is not None and seal_is_valid(record, key):
            return []
        text = "its seal is not its machine's" if key else "nobody let its machine in"
        return [
            Fault(
                kind="seal",
                text=text,
                position=position,
                record=record.id,
                machine=envelope.machine,
                seq=envelope.seq,
            )
        ]

    @property
    def ends(self) -> dict[int, tuple[MachineId, Epoch, int]]:
        """Each line's machine, epoch and newest number so far, as far as its records tell."""
        return {line: (head.machine, head.epoch, head.seq) for line, head in self._heads.items()}

    def finish(self, count: int, log_hash: bytes) -> list[Fault]:
        """Check what only the whole log shows: its length, its running hash and the last seal of each line."""
        faults = []
        if self.position != count:
            last = f"should hold {count} records and ends with number {self.position}"
            faults.append(Fault(kind="log", text=f"the log {last}: its tail was cut off or added to"))
        if self.log_hash != log_hash:
            text = (
                "the running hash of the log is another one: records were changed, taken out, added or reordered, or "
                "the times at which they were learnt were"
            )
            faults.append(Fault(kind="log", text=text))
        if self._unsealed:
            text = "no seal vouches for it"
            faults.append(Fault(kind="seal", text=text, position=self.position, record=self._unsealed))
        if not self._every_signature:
            for head in self._heads.values():
                if head.sealed is not None:
                    faults += self._seal_faults(head.sealed, head.sealed_at)
        return faults


def _read(envelope: bytes, seal: bytes, identity: bytes) -> Envelope | None:
    """Return an envelope's content, None where the bytes are no canonical envelope.

    What this encoder makes of the content is nearly always what was stored, and takes a quarter of the time of the
    full comparison, which decides the rest.
    """
    if len(envelope) > ENVELOPE_BYTES_MAX or len(seal) not in (0, SEAL_BYTES) or len(identity) != _ID_BYTES:
        return None
    try:
        content = _decoder.decode(envelope)
        if _encoder.encode(content) == envelope:
            return content
        return decode(envelope, seal).envelope
    except (msgspec.MsgspecError, Malformed, RecursionError, UnicodeError):
        return None


def _bytes_of(digits: str) -> bytes:
    try:
        return bytes.fromhex(digits)
    except ValueError:
        return b""
