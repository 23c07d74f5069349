"""Is a store what was written? Its records against their hashes and seals, and all else against its records.

One reading of the log checks the chain and folds what is sound into the state that it must have come to; the tables
and documents are compared with that. Whatever is found, damage included, is a finding and never an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Protocol

import msgspec

from cluster_store.core.causality import is_removed
from cluster_store.core.chain import Chain, Fault, Meta, Row
from cluster_store.core.document import Change, Document
from cluster_store.core.errors import EngineError, StoreError
from cluster_store.core.history import came_after
from cluster_store.core.naming import SHORT_ID_DIGITS, one_line
from cluster_store.core.records import Record
from cluster_store.core.registers import Secret, Standing
from cluster_store.core.replay import Replay, document_contents
from cluster_store.core.rules import read
from cluster_store.core.state import State
from cluster_store.core.types import Epoch, MachineId, Path, RecordId

#: Called with what is being done, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]
#: The kinds of findings that are about one record.
_OF_RECORDS = ("record", "seal")
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

    def ends(self) -> Mapping[int, int]:
        """Return what the store says of the number of each line's newest record."""

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

    #: Rows of the log that could be read.
    records: int = 0
    signatures: int = 0
    documents: int = 0
    faults: list[Fault] = []
    #: Faults beyond those told, by kind.
    untold: dict[str, int] = {}
    #: Positions of the records that are not what was written, or that nothing vouches for.
    bad: set[int] = set()
    #: What the machines are called, as far as the sound records tell.
    hostnames: dict[MachineId, str] = {}
    #: Of each epoch of this machine, the number of its newest record.
    own: dict[Epoch, int] = {}

    @property
    def found(self) -> int:
        """How many findings there are, told or not; none where the store is what was written."""
        return len(self.faults) + sum(self.untold.values())

    @property
    def first(self) -> Fault | None:
        """The first bad record in the order of the log."""
        bad = [fault for fault in self.faults if fault.kind in _OF_RECORDS and fault.position is not None]
        return min(bad, key=lambda fault: fault.position or 0, default=None)

    def add(self, faults: Iterable[Fault]) -> None:
        """Take in findings."""
        for fault in faults:
            if fault.kind in _OF_RECORDS and fault.position is not None:
                self.bad.add(fault.position)
            if sum(told.kind == fault.kind for told in self.faults) < _TOLD_MAX:
                self.faults.append(fault)
            else:
                self.untold[fault.kind] = self.untold.get(fault.kind, 0) + 1

    def compare(self, peer: str, told: Mapping[Epoch, int]) -> None:
        """Take in what a peer has of this machine's own feeds: it can have nothing that this machine had not.

        Args:
            peer: what it is called.
            told: of each epoch, the number of the newest record that it has.
        """
        for epoch, seq in told.items():
            newest = self.own.get(epoch, 0)
            if seq > newest:
                lost = _numbers(newest + 1, seq)
                text = (
                    f"{one_line(peer)} has {lost} of this machine's own feed, and this store has not: its tail was cut "
                    "off, or it was put back from an earlier copy"
                )
                self.add([Fault(kind="log", text=text, seq=newest + 1)])

    def name(self, fault: Fault) -> str:
        """Return what a finding is about, as people speak of it; ``""`` where it is no record."""
        if fault.position is None and not fault.record:
            return ""
        who = self.hostnames.get(fault.machine, fault.machine) or "?"
        number = "?" if fault.seq is None else fault.seq
        at = "" if fault.position is None else f" at position {fault.position}"
        return one_line(f"{who}#{number} ({fault.record[:SHORT_ID_DIGITS] or '?'}){at}")

    def trustworthy(self) -> str:
        """Say what can still be relied on."""
        if not self.found:
            return "everything"
        if not self.records:
            return "unknown: no record could be read"
        if not self.bad:
            if any(fault.kind == "log" for fault in self.faults):
                return "each record by itself, but not that all are there and in the order in which they were appended"
            return "every record; tables and documents can be rebuilt from them"
        before = min(self.bad) - 1
        behind = self.records - before
        sound = behind - len(self.bad)
        return f"the records up to position {before}, and each of {max(sound, 0)} of the {behind} behind them by itself"


def verify(store: Audited, *, every_signature: bool = False, progress: Progress = lambda *_: None) -> Report:
    """Check a whole store.

    Args:
        store: seen as it is at one moment.
        every_signature: check every seal, and not only the last one of each line, which vouches for those before
            while its chain is whole. Once a record is bad, every seal is checked, so that the first bad one is named.
        progress: told how far it is.
    """
    report = _verified(store, progress, every_signature=every_signature)
    if report.bad and not every_signature:
        return _verified(store, progress, every_signature=True)
    return report


def _verified(store: Audited, progress: Progress, *, every_signature: bool) -> Report:
    report = Report()
    progress("pages", 0, 0)
    try:
        report.add(Fault(kind="file", text=one_line(text)) for text in store.damage())
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
        self._fold = Replay(meta.me, meta.cluster)
        self._folding = True
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
                if not faults and chain.record is not None and self._folding:
                    faults = self._fold_record(chain.record, row, void)
                if faults:
                    self._folding = False
                    report.add(faults)
        except StoreError as error:
            self._folding = False
            position = chain.position + 1
            text = f"it cannot be read, nor what comes behind it: {one_line(error.message)}"
            report.add([Fault(kind="record", text=text, position=position)])
        faults = chain.finish(meta.count, meta.log_hash)
        self._folding &= not faults
        report.add(faults)
        report.signatures = chain.signatures
        self._fold.settle()
        report.hostnames = _hostnames(self._fold.state)
        report.add(self._lost(chain))

    def _lost(self, chain: Chain) -> Iterator[Fault]:
        """Name the records at the end of each line that the store says it has, and has not."""
        report, ends = self._report, chain.ends
        for machine, epoch, seq in ends.values():
            if machine == self._meta.me:
                report.own[epoch] = max(seq, report.own.get(epoch, 0))
        if report.bad and report.records >= self._meta.count:
            return  # which row stands for which record is in doubt, and none is missing at the end
        authors = self._authors()
        for line, said in self._said().items():
            machine, _, seq = ends.get(line, (authors.get(line, MachineId("")), "", 0))
            if said > seq:
                who = one_line(report.hostnames.get(machine, machine)) or "?"
                lost = _numbers(seq + 1, said) if line in ends else f"what it wrote up to #{said}"
                text = f"lost at the end: {lost} of {who}, which the table of lines tells of"
                yield Fault(kind="log", text=text, machine=machine, seq=seq + 1)

    def _said(self) -> Mapping[int, int]:
        try:
            return self._store.ends()
        except StoreError:
            return {}  # the comparison of the tables will tell

    def _authors(self) -> Mapping[int, MachineId]:
        try:
            return self._store.authors()
        except StoreError:
            return {}  # only names depend on it; the comparison of the tables will tell

    def _fold_record(self, record: Record, row: Row, void: object) -> list[Fault]:
        """Fold a record whose bytes and place are right; return what it, or its row, says that cannot be."""
        envelope = record.envelope
        draft = self._fold.draft
        for seen in came_after(envelope):
            if draft.fact(seen) is None:
                return [_fault_of(record, row, f"a record that it came after, {seen}, is not before it")]
        parent = draft.fact(RecordId(envelope.prev)) if envelope.prev else None
        if is_removed(envelope.machine, draft.past_removals(record, parent)):
            return [_fault_of(record, row, "its machine knew that it had been removed")]
        added = self._fold.add(record, row[5])
        # The reason is in the words of the version that stored it; only that there is one is the same everywhere.
        if not (void is None or isinstance(void, str)) or bool(void) != bool(added.void):
            marked = "is marked as void, and should count" if not added.void else "should be void, because it"
            return [_fault_of(record, row, f"it {marked} {added.void}".rstrip())]
        for write in envelope.writes if not added.void else ():
            if isinstance(write.value, Secret):
                self._secrets[record.id, write.path] = write.value.secret
        return []

    # --- what the records add up to ----------------------------------------------------------------

    def check_tables(self) -> None:
        """Compare the tables with the fold."""
        if not self._folding:
            return
        self._progress("tables", 0, 0)
        state, own = self._fold.state, self._meta.own
        if own is not None and (own not in state.lines or state.lines[own].machine != self._meta.me):
            self._report.add([Fault(kind="table", text=f"this machine is said to go on with line {own}, not its own")])
        self._report.add(self._store.differences(state))
        self._report.add(self._store.secrets(state, self._secrets))

    def check_documents(self) -> None:
        """Compare every document with the changes that its records make, and with the standing lanes."""
        if not self._folding:
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


def _numbers(first: int, last: int) -> str:
    return f"#{first}" if first == last else f"#{first} to #{last}"


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


def _hostnames(state: State) -> dict[MachineId, str]:
    cluster = read(Standing(state.lanes))
    return {machine.id: machine.hostname for machine in (*cluster.removed.values(), *cluster.machines.values())}
