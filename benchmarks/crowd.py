"""What many machines write that hear of each other after every burst: records as each of them would have made them.

They are written here in one go, because forty machines that all take in everything would need forty times as long. In
each round every machine makes one burst. It has seen all rounds before, and nothing of the others' in this one.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from benchmarks.machines import Machine, machine, paths_of_settings
from benchmarks.workload import Change, changes
from cluster_store.adapters.sqlite_reader import StoreReader
from cluster_store.core.causality import Line
from cluster_store.core.document import Delete, Put, encode_change
from cluster_store.core.records import Envelope, Record, encode, record_id, seal_record
from cluster_store.core.registers import Write
from cluster_store.core.types import HYBRID_LOGICAL_BITS, HybridTime, Path, RecordId

#: After everything that was written before, milliseconds since 1970.
_BEGINNING = 1_800_000_000_000

#: Path -> the values that stand, by the record that wrote them.
Lanes = dict[str, dict[RecordId, str]]


class Crowd(NamedTuple):
    """What a crowd wrote."""

    records: list[Record]
    #: The same as changes of one single document of the merge engine, each depending on all that its author had seen.
    #: The first of them is what stood before.
    changes: list[bytes]
    standing: Lanes


def write(reader: StoreReader, writers: Sequence[str], burst: int, events: int) -> Crowd:
    """Let machines that are members in a store write so many events from there on."""
    lines = {line.machine: line for line in reader.lines()}
    authors = [_Author(one, lines[one.id], reader.cluster_id) for one in map(machine, writers)]
    work = [iter(changes(author.machine.hostname, events // len(writers))) for author in authors]
    lanes: Lanes = {path: {lane.id: str(lane.value) for lane in some} for path, some in reader.under("setting/")}
    document, paths, ticks = _Document(lanes), paths_of_settings(), itertools.count(_BEGINNING)
    records = []
    for _ in range(events // len(writers) // burst):
        seen = [author.head for author in authors]
        written = []
        for author, some in zip(authors, work, strict=True):
            theirs = [head for head in seen if head != author.head]
            mine = author.write(list(itertools.islice(some, burst)), paths, lanes, theirs, ticks)
            document.take(mine)
            written += mine
        document.let_all_see()
        for record in written:
            _take(lanes, record)
        records += written
    return Crowd(records, document.changes, lanes)


def _take(lanes: Lanes, record: Record) -> None:
    for write_ in record.envelope.writes:
        standing = lanes.setdefault(write_.path, {})
        for replaced in write_.replaced:
            standing.pop(replaced, None)
        standing[record.id] = str(write_.value)


class _Author:
    """One machine's feed as it grows."""

    def __init__(self, of: Machine, line: Line, cluster: str) -> None:
        self.machine = of
        self.head = line.head
        self._epoch, self._seq, self._cluster = line.epoch, line.seq, cluster

    def write(
        self,
        burst: Sequence[Change],
        paths: Mapping[str, str],
        lanes: Lanes,
        theirs: Sequence[RecordId],
        ticks: Iterator[int],
    ) -> list[Record]:
        """Make a burst of records under one seal.

        Args:
            burst: what they say.
            paths: as for ``outcome``.
            lanes: what stood before the burst.
            theirs: the newest records of the others, which were heard of since the burst before.
            ticks: the clock.
        """
        records: list[Record] = []
        mine: dict[str, RecordId] = {}
        for change in burst:
            path = Path(paths[change.level] + change.key)
            replaced = (mine[path],) if path in mine else tuple(sorted(lanes.get(path, ())))
            after = () if records else tuple(sorted(theirs))
            record = self._next(change, Write(path, change.value, replaced), after, next(ticks))
            if len(records) == len(burst) - 1:
                record = seal_record(record, self.machine.keys.sign)
            self.head, self._seq = record.id, self._seq + 1
            mine[path] = record.id
            records.append(record)
        return records

    def _next(self, change: Change, write_: Write, after: tuple[RecordId, ...], now: int) -> Record:
        envelope = Envelope(
            after=after,
            auth="local",
            cluster=self._cluster,
            comment=change.comment,
            epoch=self._epoch,
            hybrid=HybridTime(now << HYBRID_LOGICAL_BITS),
            kind="SettingSet",
            machine=self.machine.id,
            params={},
            prev=self.head,
            seq=self._seq + 1,
            time=now,
            user="os:root",
            writes=(write_,),
        )
        data = encode(envelope)
        return Record(envelope, data, b"", record_id(data, b""))


class _Document:
    """One document of the merge engine that all authors write to, as whoever uses the engine alone would have it."""

    def __init__(self, lanes: Lanes) -> None:
        #: Path and record -> the actor and the number of the operation that put its value.
        self._places: dict[tuple[str, RecordId], tuple[bytes, int]] = {}
        puts = [(path, record, value) for path, some in lanes.items() for record, value in some.items()]
        first = encode_change(b"\0first", 1, 1, (), [Put(f"{path}@{record}", value) for path, record, value in puts])
        for number, (path, record, _) in enumerate(puts, 1):
            self._places[path, record] = (b"\0first", number)
        self.changes = [first.data]
        #: What all have seen: changes that nothing came after yet, and the greatest number of an operation.
        self._shared: tuple[tuple[bytes, ...], int] = ((first.hash,), len(puts))
        self._heads: dict[bytes, tuple[bytes, int]] = {}
        self._numbers: Counter[bytes] = Counter()

    def take(self, burst: Sequence[Record]) -> None:
        """Put an author's burst into the document; it has not seen the others' of this round."""
        deps, op = self._shared
        actor = bytes.fromhex(burst[0].envelope.machine)
        for record in burst:
            (write_,) = record.envelope.writes
            self._numbers[actor] += 1
            self._places[write_.path, record.id] = (actor, op + 1)
            gone = [(f"{write_.path}@{one}", *self._places[write_.path, one]) for one in write_.replaced]
            deletes = [Delete(key, number, of) for key, of, number in gone]
            put = Put(f"{write_.path}@{record.id}", str(write_.value))
            change = encode_change(actor, self._numbers[actor], op + 1, deps, [put, *deletes])
            self.changes.append(change.data)
            deps, op = (change.hash,), op + 1 + len(deletes)
        self._heads[actor] = (deps[0], op)

    def let_all_see(self) -> None:
        """End the round."""
        self._shared = (tuple(hash_ for hash_, _ in self._heads.values()), max(op for _, op in self._heads.values()))
