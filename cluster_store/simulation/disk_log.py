"""The event log that a process has on a virtual disk: it takes time, and it can fail.

An append becomes durable at one moment. It can fail before that, or its host can lose power, when any number of its
records is written already. What a flipped bit changed is noticed when the record is read, or when the store is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from cluster_store.core.effects import LogRow
from cluster_store.core.errors import StoreCorrupt, StoreError, StoreFull
from cluster_store.core.records import record_id
from cluster_store.core.state import Draft, Facts, Needs, Stored
from cluster_store.ports import SavedDocument
from cluster_store.simulation.clock import Clock, Pause, Signal
from cluster_store.simulation.damage import examine
from cluster_store.simulation.disk import Disk


class Trouble:
    """What goes wrong with the next append, when part of its records is written."""

    def __init__(self, clock: Clock, share: float, *, power_lost: bool) -> None:
        """Wait for an append.

        Args:
            clock: virtual time.
            share: how much of the append is written by then, 0 to 1.
            power_lost: the process ends there; otherwise it is told of an error.
        """
        self.share = share
        self.power_lost = power_lost
        #: Set when an append came to it.
        self.struck = Signal(clock)

    def position(self, records: int) -> int:
        """Return how many of so many records are written."""
        return min(records, int(self.share * (records + 1)))


class DiskLog:
    """An event log on a virtual disk; see ``EventLog`` for its methods."""

    def __init__(self, disk: Disk, dice: Random, write_ms_max: int, batch_records: int) -> None:
        """Open a disk.

        Args:
            disk: what is durable.
            dice: decide how long things take.
            write_ms_max: how long it may take until an append is durable, and again until the process knows.
            batch_records: about so many records are read for a peer at once, few so that short logs take several.
        """
        self.disk = disk
        #: No room: appends and saves fail until there is.
        self.full = False
        self.trouble: Trouble | None = None
        #: An append hangs, and its host's power is about to fail.
        self.hangs = False
        self._dice = dice
        self._write_ms_max = write_ms_max
        self._batch_records = batch_records

    async def load(self) -> Stored:
        """See ``EventLog``. Raises StoreCorrupt where anything on the disk is not what was written."""
        self.hangs = False
        self.disk.recover()
        await self._take(2)
        # To examine a disk costs a real start's time; one of which no bit was ever flipped has nothing to find.
        found = examine(self.disk).fault if self.disk.damage else ""
        if found:
            raise StoreCorrupt(f"the virtual disk is damaged: {found}", "take back what the peers have")
        return self.disk.stored()

    async def lookup(self, needs: Needs) -> Facts:
        """See ``EventLog``."""
        facts = self.disk.facts(needs)
        await self._take(2)
        return facts

    async def append(self, draft: Draft) -> None:
        """See ``EventLog``."""
        await self._take(self._write_ms_max)
        self._require_room()
        if self.trouble is not None:
            await self._fail(draft, self.trouble)
        self.disk.commit(draft)
        await self._take(self._write_ms_max)

    async def _fail(self, draft: Draft, trouble: Trouble) -> None:
        """Come as far as the trouble lets it. Raises StoreError, or never returns."""
        self.trouble = None
        written = trouble.position(len(draft.records))
        self.disk.uncommitted = draft.records[:written]
        trouble.struck.set()
        self.hangs = trouble.power_lost
        while self.hangs:
            await Pause(1000)
        self.disk.recover()
        raise StoreError(f"the virtual disk failed after {written} of {len(draft.records)} records", "try again")

    async def first_missing(self, covered: Mapping[int, int]) -> int:
        """See ``EventLog``."""
        records = self.disk.records
        missing = (added.position for added in records if added.record.envelope.seq > covered.get(added.line, 0))
        first = next(missing, len(records) + 1)
        await self._take(2)
        return first - 1

    async def read(self, after: int, records: int, size: int) -> list[LogRow]:
        """See ``EventLog``. Raises StoreCorrupt for a record whose bytes are not those that its id was made from."""
        rows = self.disk.rows(after, min(records, self._batch_records), size)
        for row in rows:
            if record_id(row.item.data, row.item.seal) != self.disk.records[row.position - 1].record.id:
                raise StoreCorrupt(f"the record at position {row.position} is damaged", "take it back from a peer")
        await self._take(2)
        return rows

    async def load_document(self, document: str) -> SavedDocument:
        """See ``EventLog``."""
        found = SavedDocument(self.disk.saved.get(document), list(self.disk.tails.get(document, ())))
        await self._take(1)
        return found

    async def save_documents(self, documents: Mapping[str, bytes]) -> None:
        """See ``EventLog``."""
        await self._take(self._write_ms_max)
        self._require_room()
        self.disk.saved |= documents
        for document in documents:
            self.disk.tails.pop(document, None)

    async def erase_secrets(self, before: int) -> int:
        """See ``EventLog``."""
        await self._take(self._write_ms_max)
        return self.disk.erase_secrets(before)

    async def close(self) -> None:
        """Nothing is held."""

    def _require_room(self) -> None:
        if self.full:
            raise StoreFull("no space is left on the virtual disk", "wait until the fault is over")

    async def _take(self, longest_ms: int) -> None:
        await Pause(self._dice.randint(0, longest_ms))
