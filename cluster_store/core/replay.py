"""The state built again from records alone, one after the other, in the order of a log.

It goes through the product's own admission and fold, with nothing looked up anywhere: whatever a record came after
must have been before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cluster_store.core.admission import Run, Wait, admit, removals_told, void_reason
from cluster_store.core.derivation import lane_text
from cluster_store.core.document import Change, Document
from cluster_store.core.errors import Malformed, StoreCorrupt
from cluster_store.core.records import Record
from cluster_store.core.registers import CLUSTER, Lane, document_of, lane_key, scope_of, valid_path
from cluster_store.core.state import Appended, Draft, State
from cluster_store.core.types import MachineId, Path, RecordId

#: Records folded before they become part of the state: enough to spread what that costs over many.
_SETTLED_RECORDS = 500


class _WholeState(State):
    """Keeps where every record stands, because there is no log to ask."""

    def forget(self) -> None:
        """Forget nothing."""


class Replay:
    """A log's records on their way through admission. ``state`` and ``changes`` are complete after ``settle``."""

    def __init__(self, me: MachineId, cluster: str) -> None:
        """Begin with nothing; ``cluster`` is the id of the first record."""
        self.state: State = _WholeState(me, cluster)
        self.state.scopes.add(CLUSTER)
        #: Document -> the changes that were derived for it, in order.
        self.changes: dict[str, list[Change]] = {}
        self.draft = Draft(self.state)

    def admit(self, run: Run, learnt: int, count: int | None = None) -> list[Appended]:
        """Take a run as if a peer had just sent it; return its records with their verdicts.

        Args:
            run: the next of the log.
            learnt: when this machine learnt of it.
            count: take only so many of its records, but judge all.

        Raises:
            StoreCorrupt: such a run could never have been stored.
        """
        self._know_scopes(run.records)
        partly = count is not None and count < len(run.records)
        if partly:
            self.settle()
        draft = Draft(self.state) if partly else self.draft
        begun = len(draft.records)
        try:
            admit(draft, run, learnt)
        except (Malformed, Wait) as error:
            raise StoreCorrupt(
                f"the record {run.records[0].id} could never have been stored: {error}",
                "run 'cluster-store verify' to see what is wrong with the store",
            ) from error
        if partly:
            return [self.add(record, learnt) for record in run.records[:count]]
        added = draft.records[begun:]
        self._settle_now_and_then()
        return added

    def add(self, record: Record, learnt: int) -> Appended:
        """Fold a record whose seal and past somebody else has checked."""
        self._know_scopes([record])
        parent = self.draft.fact(RecordId(record.envelope.prev)) if record.envelope.prev else None
        void = void_reason(self.draft, record, parent)
        removal = () if void else removals_told(record)
        self.draft.add(record, parent, learnt=learnt, void=void, removal=removal)
        added = self.draft.records[-1]
        self._settle_now_and_then()
        return added

    def _know_scopes(self, records: Iterable[Record]) -> None:
        # Nothing of a scope is anywhere but in the state.
        self.state.scopes.update(
            scope_of(write.path) for record in records for write in record.envelope.writes if valid_path(write.path)
        )

    def _settle_now_and_then(self) -> None:
        if len(self.draft.records) >= _SETTLED_RECORDS:
            self.settle()

    def settle(self) -> None:
        """Make everything up to here part of the state."""
        for document, changes in self.draft.changes.items():
            self.changes.setdefault(document, []).extend(changes)
        self.state.absorb(self.draft)
        self.draft = Draft(self.state)


def document_contents(lanes: Iterable[tuple[Path, Iterable[Lane]]]) -> dict[str, dict[str, str]]:
    """Return what the documents must hold, given the standing lanes: document -> key -> text."""
    contents: dict[str, dict[str, str]] = {}
    for path, standing in lanes:
        for lane in standing:
            contents.setdefault(document_of(path), {})[lane_key(path, lane.id)] = lane_text(lane.value)
    return contents


def documents_that_differ(
    changes: Mapping[str, Sequence[Change]], lanes: Iterable[tuple[Path, Iterable[Lane]]]
) -> list[str]:
    """Build every document from its changes with the merge engine; return those that do not say what the lanes say.

    Raises EngineError where the engine does not take a change.
    """
    contents = document_contents(lanes)
    differing = sorted(contents.keys() - changes.keys())
    for name, some in sorted(changes.items()):
        document = Document.open(None)
        document.apply(some)
        if document.items() != contents.get(name, {}):
            differing.append(name)
    return differing
