"""A store's log told again from its first record, and whether it ends where the store is now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import msgspec

from cluster_store.core.admission import Run
from cluster_store.core.cluster import Cluster
from cluster_store.core.digest import digest, lanes_digest
from cluster_store.core.errors import StoreCorrupt
from cluster_store.core.history import Stored, read_event
from cluster_store.core.registers import Lane, Registers, Secret, Standing
from cluster_store.core.replay import Replay, documents_that_differ
from cluster_store.core.rules import read
from cluster_store.core.state import Appended
from cluster_store.core.types import Path, RecordId
from cluster_store.ports import StoredLog


class Logged(StoredLog, Registers, Protocol):
    """What a replay reads of it."""

    def cluster(self) -> Cluster:
        """Return the read model."""

    def events(self, after: int = 0) -> Iterable[Stored]:
        """Return the log's rows behind a position."""

    def secret(self, path: Path, record: RecordId) -> str | None:
        """Return a secret's JSON text where it is known."""


class Replayed(msgspec.Struct, frozen=True):
    """What a log came to."""

    records: int
    digest: str
    lanes_digest: str
    #: The store's own; None where only a part of its log was replayed.
    live_digest: str | None
    live_lanes_digest: str | None
    #: Documents that do not say what the lanes say.
    documents: list[str]

    @property
    def agrees(self) -> bool:
        """Whether it is what the store says, by lanes, view and documents."""
        live = (self.live_digest, self.live_lanes_digest)
        return not self.documents and live in ((None, None), (self.digest, self.lanes_digest))


def replay(store: Logged, step: Callable[[Appended], None], wanted: set[RecordId] | None = None) -> Replayed:
    """Build a store's state again, record by record, through admission and fold alone.

    Args:
        store: what was appended while it is told is told too.
        step: called with each record.
        wanted: replay only these, which hold all that each of them came after; None for everything.

    Raises:
        StoreCorrupt: a record that is not what was written, or could never have been stored.
        EngineError: the merge engine does not take a change that the records make.
    """
    telling = Replay(store.me, store.cluster_id)
    position = told = 0
    while True:
        for events in _runs(store.events(position)):
            count = len(events) if wanted is None else sum(event.record.id in wanted for event in events)
            if count:
                run = Run([event.record for event in events], {})
                for added in telling.admit(run, events[0].learnt, count):
                    step(added)
            position, told = events[-1].position, told + count
        with store.snapshot():
            if store.count <= position:
                return _outcome(store, telling, told, complete=wanted is None)


def _runs(rows: Iterable[Stored]) -> Iterator[list[Appended]]:
    """Cut a log into runs: the last record of each is sealed."""
    run: list[Appended] = []
    for row in rows:
        run.append(read_event(row))
        if row.seal:
            yield run
            run = []
    if run:
        raise StoreCorrupt(f"no seal vouches for the record {run[-1].record.id}", "run 'cluster-store verify'")


def _outcome(store: Logged, telling: Replay, told: int, *, complete: bool) -> Replayed:
    telling.settle()
    lanes = telling.state.lanes
    registers = Standing(
        {path: tuple(_with_text(store, path, lane) for lane in standing) for path, standing in lanes.items()}
    )
    return Replayed(
        records=told,
        digest=digest(read(registers), registers),
        lanes_digest=lanes_digest(registers),
        live_digest=digest(store.cluster(), store) if complete else None,
        live_lanes_digest=lanes_digest(store) if complete else None,
        documents=documents_that_differ(telling.changes, lanes.items()),
    )


def _with_text(store: Logged, path: Path, lane: Lane) -> Lane:
    """Give a lane its secret's text, which no record holds: users are read from it."""
    if not isinstance(lane.value, Secret):
        return lane
    return msgspec.structs.replace(lane, text=store.secret(path, lane.id))
