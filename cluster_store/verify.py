"""Is a store what was written? Its records against their hashes and seals, and all else against its records.

One reading of the log checks the chain and folds what is sound into the state that it must have come to; the tables
and documents are compared with that. Whatever is found, damage included, is a finding and never an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Protocol

import msgspec

from cluster_store.core.causality import is_removed
from cluster_store.core.chain import Chain, Fault, Meta, Row
from cluster_store.core.document import Change, Document
from cluster_store.core.errors import EngineError, StoreError
from cluster_store.core.history import came_after
from cluster_store.core.naming import one_line
from cluster_store.core.records import Record
from cluster_store.core.registers import Secret
from cluster_store.core.replay import Replay, document_contents
from cluster_store.core.state import State
from cluster_store.core.types import MachineId, Path, RecordId

#: Called with what is being done, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]
#: Findings of one kind that are told; the rest is counted.
_TOLD_MAX = 100
#: Records between two calls of the progress.
_PROGRESS_RECORDS = 2000


class Audited(Protocol):
    """A store that is read without trusting it. What cannot be read raises StoreError."""

    def meta(self) -> Meta:
        """Return what the store says of its log."""

    def authors(self) -> Mapping[int, MachineId]:
        """Return what the store says of who wrote each line."""

    def rows(self) -> Iterator[tuple[Row, object]]:
        """Yield the log's rows in the order of their positions, each with why it is void."""

    def damage(self) -> list[str]:
        """Return what is wrong with the file itself."""

    def differences(self, state: State) -> Iterator[Fault]:
        """Yield what the tables say otherwise than the state that the records add up to."""

    def secrets(self, state: State, written: Mapping[tuple[RecordId, Path], str]) -> Iterator[Fault]:
        """Yield what is wrong with the values of secrets, given the hashes that records tell of them."""

    def document(self, name: str) -> tuple[bytes | None, list[Change]]:
        """Return a document's saved form and the changes behind it."""

    def document_names(self) -> list[str]:
        """Return the documents that are stored."""


class Report(msgspec.Struct):
    """What was checked and found."""

    records: int = 0
    signatures: int = 0
    documents: int = 0
    faults: list[Fault] = []
    #: Faults beyond those told, by kind.
    untold: dict[str, int] = {}
    #: Records without a fault of their own, and how many of them come before the first one with one.
    sound: int = 0
    sound_before: int = 0

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return not self.faults

    @property
    def first(self) -> Fault | None:
        """The first bad record in the order of the log."""
        named = [fault for fault in self.faults if fault.position is not None]
        return min(named, key=lambda fault: fault.position or 0, default=None)

    def add(self, faults: list[Fault]) -> None:
        """Take in findings."""
        for fault in faults:
            if sum(told.kind == fault.kind for told in self.faults) < _TOLD_MAX:
                self.faults.append(fault)
            else:
                self.untold[fault.kind] = self.untold.get(fault.kind, 0) + 1

    def trustworthy(self) -> str:
        """Say what can still be relied on."""
        if self.passed:
            return "everything"
        if self.sound == self.records:
            return "every record; the state can be rebuilt from them"
        behind = self.sound - self.sound_before
        return (
            f"the records up to position {self.sound_before}, and of the {self.records - self.sound_before} behind "
            f"them the {behind} that have no fault of their own"
        )


def verify(store: Audited, *, every_signature: bool = False, progress: Progress = lambda *_: None) -> Report:
    """Check a whole store.

    Args:
        store: seen as it is at one moment.
        every_signature: check every seal, and not only the last one of each line, which vouches for those before.
        progress: told how far it is.
    """
    report = Report()
    progress("pages", 0, 0)
    try:
        report.add([Fault(kind="file", text=one_line(text)) for text in store.damage()])
        meta = store.meta()
    except StoreError as error:
        report.add([Fault(kind="file", text=one_line(error.message))])
        return report
    audit = _Audit(store, meta, report, progress)
    for step in (
        partial(audit.check_records, every_signature=every_signature),
        audit.check_tables,
        audit.check_documents,
    ):
        try:
            step()
        except StoreError as error:
            report.add([Fault(kind="file", text=one_line(error.message))])
    return report


class _Audit:
    """One verification under way."""

    def __init__(self, store: Audited, meta: Meta, report: Report, progress: Progress) -> None:
        self._store = store
        self._meta = meta
        self._report = report
        self._progress = progress
        #: Folds the records as long as each of them is sound.
        self._fold: Replay | None = Replay(meta.me, meta.cluster)
        #: The hash of every secret that a record wrote.
        self._secrets: dict[tuple[RecordId, Path], str] = {}

    # --- records -----------------------------------------------------------------------------------

    def check_records(self, *, every_signature: bool) -> None:
        """Check each row, and fold its record while nothing was wrong yet."""
        report, meta = self._report, self._meta
        chain = Chain(meta.cluster, self._authors(), every_signature=every_signature)
        try:
            for row, void in self._store.rows():
                report.records += 1
                if report.records % _PROGRESS_RECORDS == 0:
                    self._progress("records", report.records, meta.count)
                faults = chain.check(row)
                faults += chain.check_seal()
                if not faults and chain.record is not None and self._fold is not None:
                    faults = self._fold_record(self._fold, chain.record, row, void)
                if faults:
                    self._fold = None
                    report.add(faults)
                else:
                    report.sound += 1
                    report.sound_before += report.sound == report.records
        except StoreError as error:
            self._fold = None
            position = chain.position + 1
            text = f"it cannot be read, nor what comes behind it: {one_line(error.message)}"
            report.add([Fault(kind="record", text=text, position=position)])
        faults = chain.finish(meta.count, meta.log_hash)
        if faults:
            self._fold = None
        report.add(faults)
        report.signatures = chain.signatures
        report.records = max(report.records, meta.count)

    def _authors(self) -> Mapping[int, MachineId]:
        try:
            return self._store.authors()
        except StoreError:
            return {}  # only names depend on it; the comparison of the tables will tell

    def _fold_record(self, fold: Replay, record: Record, row: Row, void: object) -> list[Fault]:
        """Fold a record whose bytes and place are right; return what it, or its row, says that cannot be."""
        envelope = record.envelope
        draft = fold.draft
        for seen in came_after(envelope):
            if draft.fact(seen) is None:
                return [_fault_of(record, row, f"a record that it came after, {seen}, is not before it")]
        parent = draft.fact(RecordId(envelope.prev)) if envelope.prev else None
        if is_removed(envelope.machine, draft.past_removals(record, parent)):
            return [_fault_of(record, row, "its machine knew that it had been removed")]
        added = fold.add(record, row[5])
        if added.void != (void or ""):
            return [
                _fault_of(record, row, f"it is marked as void for '{void or ''}', and should be for '{added.void}'")
            ]
        for write in envelope.writes if not added.void else ():
            if isinstance(write.value, Secret):
                self._secrets[record.id, write.path] = write.value.secret
        return []

    # --- what the records add up to ----------------------------------------------------------------

    def check_tables(self) -> None:
        """Compare the tables with the fold."""
        if self._fold is None:
            return
        self._progress("tables", 0, 0)
        self._fold.settle()
        state, own = self._fold.state, self._meta.own
        if own is not None and (own not in state.lines or state.lines[own].machine != self._meta.me):
            self._report.add([Fault(kind="table", text=f"this machine is said to go on with line {own}, not its own")])
        self._report.add(list(self._store.differences(state)))
        self._report.add(list(self._store.secrets(state, self._secrets)))

    def check_documents(self) -> None:
        """Compare every document with the changes that its records make, and with the standing lanes."""
        if self._fold is None:
            return
        contents = document_contents(self._fold.state.lanes.items())
        names = sorted({*self._fold.changes, *self._store.document_names()})
        for index, name in enumerate(names):
            self._progress("documents", index, len(names))
            reason = self._document_fault(name, self._fold.changes.get(name, []), contents.get(name, {}))
            if reason:
                self._report.add([Fault(kind="document", text=f"the document {one_line(name)} {reason}")])
        self._report.documents = len(names)

    def _document_fault(self, name: str, changes: list[Change], content: dict[str, str]) -> str:
        try:
            saved, tail = self._store.document(name)
            if tail != changes[len(changes) - len(tail) :]:
                return "has changes behind its saved form that its records do not make"
            document = Document.open(saved)
            document.apply(tail)
            if document.items() != content:
                return "does not say what the standing lanes say"
            dependencies = {dependency for change in changes for dependency in change.deps}
            heads = sorted(change.hash for change in changes if change.hash not in dependencies)
            return "" if list(document.heads()) == heads else "has a history that is not what its records make"
        except (EngineError, StoreError) as error:
            return f"cannot be read: {one_line(error.message)}"


def _fault_of(record: Record, row: Row, text: str) -> Fault:
    envelope = record.envelope
    return Fault(
        kind="record",
        text=one_line(text),
        position=row[0],
        record=record.id,
        machine=envelope.machine,
        seq=envelope.seq,
    )
