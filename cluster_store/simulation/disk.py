"""The virtual disk: what is durable of one store.

It is plain content: it can be copied, as a backup or a cloned machine copies it, and a crash leaves it as it is. An
append that a crash interrupts is either all there or not at all, whatever the process learnt of it.
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster_store.core.admission import Incoming
from cluster_store.core.causality import Line, Removals
from cluster_store.core.derivation import Tip
from cluster_store.core.document import Change
from cluster_store.core.effects import LogRow
from cluster_store.core.errors import StoreError
from cluster_store.core.registers import Lane, Secrets, scope_of
from cluster_store.core.state import Appended, Draft, Fact, Facts, Needs, ScopeFacts, Stored
from cluster_store.core.types import Level, MachineId, Path, RecordId


class Disk:
    """What is durable of one store."""

    def __init__(self, cluster: str = "") -> None:
        """Begin empty; ``cluster`` is the id of the first record that it is to receive."""
        self.cluster = cluster
        self.own: int | None = None
        self.log_hash = b""
        self.records: list[Appended] = []
        self.positions: dict[RecordId, int] = {}
        self.steps: dict[tuple[int, int], RecordId] = {}
        self.lines: dict[int, Line] = {}
        self.removals: dict[int, tuple[tuple[int, Removals], ...]] = {}
        self.registers: dict[Path, dict[RecordId, Lane]] = {}
        #: The machines that any record here removes.
        self.removed: dict[MachineId, RecordId] = {}
        self.tips: dict[tuple[str, bytes], Tip] = {}
        self.secrets: dict[RecordId, Secrets] = {}
        #: When lanes were taken away here, by this machine's wall clock.
        self.replaced: dict[tuple[Path, RecordId], int] = {}
        self.saved: dict[str, bytes] = {}
        self.tails: dict[str, tuple[Change, ...]] = {}
        #: Records that were written and not committed: what is left of an append that came to no end.
        self.uncommitted: list[Appended] = []
        #: The bits that were flipped, in words. Checkers may look at it; whoever runs on this disk has to find out.
        self.damage: list[str] = []

    def recover(self) -> None:
        """Make the disk usable after whatever ended the process before: what was not committed never was."""
        self.uncommitted = []

    def copy(self) -> Disk:
        """Return a copy that goes its own way."""
        copy = Disk(self.cluster)
        copy.__dict__.update(
            {name: value.copy() if isinstance(value, list | dict) else value for name, value in self.__dict__.items()}
        )
        copy.registers = {path: lanes.copy() for path, lanes in self.registers.items()}
        return copy

    def stored(self) -> Stored:
        """Return what a replica is restored from."""
        lines = list(self.lines.values())
        return Stored(self.cluster, len(self.records), self.log_hash, lines, dict(self.removals), self.own)

    def commit(self, draft: Draft) -> None:
        """Make a draft durable. Raises StoreError where it is not one of what is here."""
        if draft.position != len(self.records) + len(draft.records):
            raise StoreError("another process has written to the store", "stop it: a store has one writer")
        self.records += draft.records
        for added in draft.records:
            self.positions[added.record.id] = added.position
            self.steps[added.line, added.record.envelope.seq] = added.record.id
        self.lines |= draft.lines
        self.removals |= draft.removals
        for path, record in draft.taken:
            del self.registers[path][record]
            self.replaced[path, record] = draft.records[-1].learnt
        for (path, record), lane in draft.put.items():
            if path.startswith("machine/") and path.endswith("/removed"):
                self.removed[MachineId(path.split("/")[1])] = record
            self.registers.setdefault(path, {})[record] = draft.with_text(path, lane)
        self.tips |= draft.tips
        self.secrets |= draft.secrets
        for document, changes in draft.changes.items():
            self.tails[document] = (*self.tails.get(document, ()), *changes)
        self.cluster, self.log_hash, self.own = draft.cluster, draft.log_hash, draft.own

    def erase_secrets(self, before: int) -> int:
        """Erase the values of secrets that were replaced before a time; return how many."""
        old = [(path, record) for (path, record), replaced in self.replaced.items() if replaced < before]
        secret = [(path, record) for path, record in old if path in self.secrets.get(record, {})]
        for path, record in secret:
            kept = {other: value for other, value in self.secrets[record].items() if other != path}
            self.secrets[record] = kept
        return len(secret)

    def facts(self, needs: Needs) -> Facts:
        """Answer what a step needs to know."""
        return Facts(
            {scope: self._scope(scope) for scope in sorted(needs.scopes)},
            {record: self._fact(record) for record in sorted(needs.records)},
            {step: self.steps[step] for step in sorted(needs.steps) if step in self.steps},
        )

    def _scope(self, scope: Level) -> ScopeFacts:
        lanes = {path: lanes for path, lanes in self.under("") if scope_of(path) == scope}
        return ScopeFacts(lanes, {key: tip for key, tip in self.tips.items() if key[0].rpartition("#")[0] == scope})

    def _fact(self, record: RecordId) -> Fact | None:
        position = self.positions.get(record)
        if position is None:
            return None
        added = self.records[position - 1]
        hybrid = 0 if added.void else added.record.envelope.hybrid
        return Fact(added.line, added.record.envelope.seq, hybrid, position)

    def rows(self, after: int, records: int, size: int) -> list[LogRow]:
        """Return rows behind a position, ending with a sealed one."""
        rows: list[LogRow] = []
        taken = 0
        for added in self.records[after:]:
            record = added.record
            secrets = self.secrets.get(record.id, {})
            item = Incoming(record.data, record.seal, tuple((path, *value) for path, value in sorted(secrets.items())))
            rows.append(LogRow(added.position, added.line, record.envelope.seq, item))
            taken += len(record.data)
            if record.seal and (len(rows) >= records or taken >= size):
                break
        return rows

    # --- as registers, for whoever reads ---

    def standing(self, path: Path) -> tuple[Lane, ...]:
        """Return the lanes that stand in a register."""
        return tuple(self.registers.get(path, {}).values())

    def lanes(self) -> Iterable[Lane]:
        """Return every lane that stands."""
        return [lane for lanes in self.registers.values() for lane in lanes.values()]

    def under(self, prefix: str) -> Iterable[tuple[Path, tuple[Lane, ...]]]:
        """Return the registers whose paths begin with a prefix, sorted by path."""
        paths = sorted(path for path, lanes in self.registers.items() if lanes and path.startswith(prefix))
        return [(path, tuple(self.registers[path].values())) for path in paths]
