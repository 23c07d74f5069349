"""An event log in memory: the reference that the real one is compared with, and the tutorial's and tests' store."""

from __future__ import annotations

from collections.abc import Mapping

from cluster_store.core.admission import Incoming
from cluster_store.core.causality import Line, Removals
from cluster_store.core.derivation import Tip
from cluster_store.core.document import Change
from cluster_store.core.effects import LogRow
from cluster_store.core.errors import StoreError
from cluster_store.core.registers import Lane, Secrets, scope_of
from cluster_store.core.state import Appended, Draft, Fact, Facts, Needs, ScopeFacts, Stored
from cluster_store.core.types import Level, Path, RecordId
from cluster_store.ports import SavedDocument


class MemoryLog:
    """Keeps everything in lists and dictionaries; nothing survives the object."""

    def __init__(self, cluster: str = "") -> None:
        """Begin an empty log; ``cluster`` is the id of the first record that it is to receive."""
        self.cluster = cluster
        self.records: list[Appended] = []
        self.lines: dict[int, Line] = {}
        self.removals: dict[int, tuple[tuple[int, Removals], ...]] = {}
        self.lanes: dict[tuple[Path, RecordId], Lane] = {}
        self.tips: dict[tuple[str, bytes], Tip] = {}
        self.secrets: dict[RecordId, Secrets] = {}
        self.replaced: dict[tuple[Path, RecordId], int] = {}
        self.saved: dict[str, bytes] = {}
        self.tails: dict[str, list[Change]] = {}
        self.log_hash = b""
        self.own: int | None = None
        #: Set to make the next append fail, as a full disk does.
        self.failure: StoreError | None = None

    async def load(self) -> Stored:
        """See ``EventLog``."""
        return Stored(
            self.cluster, len(self.records), self.log_hash, list(self.lines.values()), dict(self.removals), self.own
        )

    async def lookup(self, needs: Needs) -> Facts:
        """See ``EventLog``."""
        return Facts(
            {scope: self._scope(scope) for scope in needs.scopes},
            {record: self._fact(record) for record in needs.records},
            {
                (added.line, added.record.envelope.seq): added.record.id
                for added in self.records
                if (added.line, added.record.envelope.seq) in needs.steps
            },
        )

    def _scope(self, scope: Level) -> ScopeFacts:
        lanes: dict[Path, tuple[Lane, ...]] = {}
        for (path, _), lane in self.lanes.items():
            if scope_of(path) == scope:
                lanes[path] = (*lanes.get(path, ()), lane)
        tips = {key: tip for key, tip in self.tips.items() if key[0].rpartition("#")[0] == scope}
        return ScopeFacts(lanes, tips)

    def _fact(self, record: RecordId) -> Fact | None:
        for added in self.records:
            if added.record.id == record:
                envelope = added.record.envelope
                return Fact(added.line, envelope.seq, 0 if added.void else envelope.hybrid, added.position)
        return None

    async def append(self, draft: Draft) -> None:
        """See ``EventLog``."""
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        self.records += draft.records
        self.lines |= draft.lines
        self.removals |= draft.removals
        for path, record in draft.taken:
            del self.lanes[path, record]
            self.replaced[path, record] = draft.records[-1].learnt
        for (path, record), lane in draft.put.items():
            self.lanes[path, record] = draft.with_text(path, lane)
        self.tips |= draft.tips
        self.secrets |= draft.secrets
        for record, secrets in draft.secrets.items():
            for name in secrets:
                # A lane that the same draft took away again never stands.
                if (Path(name), record) not in draft.put:
                    self.replaced[Path(name), record] = draft.records[-1].learnt
        for document, changes in draft.changes.items():
            self.tails.setdefault(document, []).extend(changes)
        self.cluster, self.log_hash, self.own = draft.cluster, draft.log_hash, draft.own

    async def first_missing(self, covered: Mapping[int, int]) -> int:
        """See ``EventLog``."""
        for added in self.records:
            if added.record.envelope.seq > covered.get(added.line, 0):
                return added.position - 1
        return len(self.records)

    async def read(self, after: int, records: int, size: int) -> list[LogRow]:
        """See ``EventLog``."""
        rows: list[LogRow] = []
        taken = 0
        for added in self.records[after:]:
            record = added.record
            secrets = self.secrets.get(record.id, {})
            item = Incoming.of(record.data, record.seal, secrets)
            rows.append(LogRow(added.position, added.line, record.envelope.seq, item))
            taken += item.size
            if record.seal and (len(rows) >= records or taken >= size):
                break
        return rows

    async def load_document(self, document: str) -> SavedDocument:
        """See ``EventLog``."""
        return SavedDocument(self.saved.get(document), list(self.tails.get(document, ())))

    async def save_documents(self, documents: Mapping[str, bytes]) -> None:
        """See ``EventLog``."""
        for document, saved in documents.items():
            self.saved[document] = saved
            self.tails.pop(document, None)

    async def erase_secrets(self, before: int) -> int:
        """See ``EventLog``."""
        old = [
            (path, record)
            for (path, record), replaced in self.replaced.items()
            if replaced < before and path in self.secrets.get(record, {})
        ]
        for path, record in old:
            del self.secrets[record][path]
        return len(old)

    async def close(self) -> None:
        """See ``EventLog``."""
