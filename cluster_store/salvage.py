"""Records out of a damaged store into a fresh log: whatever still proves itself, admitted like records from a peer.

Nothing is believed because of where it was found. A record counts if its run ends with its author's seal and what it
came after is here; one behind a gap waits, in the hope that somebody else has what is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from cluster_store.core.admission import Run, Wait, admit, needs_of
from cluster_store.core.errors import Malformed
from cluster_store.core.limits import BATCH_BYTES_TARGET, BATCH_RECORDS_MAX, TIME_MAX
from cluster_store.core.records import Record, decode
from cluster_store.core.registers import Secrets
from cluster_store.core.state import Draft, State
from cluster_store.core.types import Epoch, MachineId, RecordId
from cluster_store.ports import EventLog

#: A machine in one of its epochs.
Feed = tuple[MachineId, Epoch]
#: Position, when it was learnt, seal, envelope: as they were found.
Row = tuple[int, int, bytes, bytes]


@dataclass(frozen=True)
class Piece:
    """A run of records as it was found."""

    run: Run
    #: When it was learnt, milliseconds since 1970.
    learnt: int

    @property
    def feed(self) -> Feed:
        """Whose it is."""
        envelope = self.run.records[0].envelope
        return envelope.machine, envelope.epoch

    @property
    def numbers(self) -> range:
        """The numbers of its records."""
        return range(self.run.records[0].envelope.seq, self.run.records[-1].envelope.seq + 1)


def pieces_of(rows: Iterable[Row], secrets: Mapping[tuple[bytes, str], tuple[bytes, str]]) -> list[Piece]:
    """Cut what was found into runs, in the order of the log. What is no record, and what has no seal, is left out.

    Args:
        rows: of the log, with any number of copies, in any order; nothing of them is believed.
        secrets: (record's id, path) -> salt and text.
    """
    found: dict[RecordId, tuple[int, int, Record]] = {}
    for position, learnt, seal, envelope in rows:
        try:
            record = decode(envelope, seal)
        except Malformed:
            continue
        found.setdefault(record.id, (position, learnt, record))
    beside: dict[RecordId, Secrets] = {}
    for (name, path), value in secrets.items():
        beside.setdefault(RecordId(name.hex()), {})[path] = value
    pieces = []
    for position, learnt, record in found.values():
        if not record.seal:
            continue
        records = [record]
        while (before := found.get(RecordId(records[0].envelope.prev))) is not None and not before[2].seal:
            records.insert(0, before[2])
        values = {one.id: beside[one.id] for one in records if one.id in beside}
        pieces.append((position, Piece(Run(records, values), min(max(learnt, 0), TIME_MAX))))
    return [piece for _, piece in sorted(pieces, key=lambda pair: pair[0])]


def cluster_of(pieces: Iterable[Piece], me: MachineId) -> str:
    """Return the id of the cluster that most records say they belong to, a machine's own before all others.

    ``""`` where there are none.
    """
    named: Counter[tuple[bool, str]] = Counter()
    for piece in pieces:
        first = piece.run.records[0]
        named[first.envelope.machine == me, first.envelope.cluster or first.id] += 1
    return max(named, key=lambda one: (one[0], named[one]))[1] if named else ""


@dataclass
class Intake:
    """What has become of pieces that were offered to a log."""

    #: Records that the log took.
    taken: int = 0
    #: What came after records that are not here.
    waiting: list[Piece] | None = None
    #: Runs that are not authentic.
    refused: int = 0


async def take(
    log: EventLog, me: MachineId, pieces: Iterable[Piece], progress: Callable[[str], None] = lambda _: None
) -> Intake:
    """Offer pieces to a log that nobody else writes to, again and again until it takes no more of them.

    Raises StoreError and its kin where the log cannot be written.
    """
    state = State.restored(me, await log.load())
    begun = state.position
    outcome = Intake(waiting=list(pieces))
    while True:
        before, waiting = state.position, outcome.waiting or []
        outcome.waiting = []
        for batch in _batches(waiting):
            progress(f"{state.position} records are safe")
            outcome.waiting += await _admit(log, state, batch, outcome)
        if state.position == before or not outcome.waiting:
            outcome.taken = state.position - begun
            return outcome


def _batches(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    batch: list[Piece] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += sum(len(record.data) for record in piece.run.records)
        if len(batch) >= BATCH_RECORDS_MAX or size >= BATCH_BYTES_TARGET:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


async def _admit(log: EventLog, state: State, batch: list[Piece], outcome: Intake) -> list[Piece]:
    """Append what can be of a batch; return what has to wait."""
    while needs := state.missing(needs_of([piece.run for piece in batch], state)):
        state.learn(await log.lookup(needs))
    sound = list(batch)
    while True:
        draft = Draft(state)
        waiting = []
        for piece in sound:
            try:
                admit(draft, piece.run, piece.learnt)
            except Wait:
                waiting.append(piece)
            except Malformed:
                # A part of it may be in the draft already, so that one is begun anew.
                sound.remove(piece)
                outcome.refused += 1
                break
        else:
            if draft.records:
                await log.append(draft)
                state.absorb(draft)
            return waiting
