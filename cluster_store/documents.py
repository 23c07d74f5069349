"""The open Automerge documents: brought up to the log after each append, saved now and then, closed when idle.

Documents never hold what the log does not. Whatever happens to one here, it can be opened again from its
saved form and the changes behind it, both of which the log keeps.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from cluster_store.core.document import Change, Document
from cluster_store.core.errors import EngineError
from cluster_store.core.limits import DOCUMENT_SAVE_INTERVAL, DOCUMENTS_OPEN_MAX
from cluster_store.ports import EventLog

#: A document with more changes than this behind its saved form is saved when it is closed.
_TAIL_MAX = 64


class Documents:
    """Opens documents when first needed and keeps the recently used ones."""

    def __init__(self, log: EventLog) -> None:
        """Work on a log's documents."""
        self._log = log
        self._open: OrderedDict[str, Document] = OrderedDict()
        self._unsaved: dict[str, int] = {}

    async def apply(self, changes: Mapping[str, Sequence[Change]]) -> None:
        """Bring documents up to changes that the log holds already."""
        for name, some in changes.items():
            document = self._open.get(name)
            try:
                if document is None:
                    await self._load(name)
                else:
                    self._open.move_to_end(name)
                    document.apply(some)
                    self._unsaved[name] += len(some)
            except EngineError:
                # The engine gave up on this object, not on the data: the log has all of it.
                self._drop(name)
                await self._load(name)
        if sum(self._unsaved.values()) > DOCUMENT_SAVE_INTERVAL:
            await self.save()
        while len(self._open) > DOCUMENTS_OPEN_MAX:
            await self._close_oldest()

    async def get(self, name: str) -> Document:
        """Return a document, opened if need be. Raises EngineError where its saved form cannot be read."""
        if name not in self._open:
            await self._load(name)
        return self._open[name]

    async def _load(self, name: str) -> None:
        stored = await self._log.load_document(name)
        document = Document.open(stored.saved)
        document.apply(stored.tail)
        self._open[name] = document
        self._unsaved[name] = len(stored.tail)

    def _drop(self, name: str) -> None:
        del self._open[name], self._unsaved[name]

    async def _close_oldest(self) -> None:
        name = next(iter(self._open))
        if self._unsaved[name] > _TAIL_MAX:
            await self._log.save_documents({name: self._open[name].save()})
        self._drop(name)

    async def save(self) -> None:
        """Save every document that has changed."""
        changed = [name for name, count in self._unsaved.items() if count]
        await self._log.save_documents({name: self._open[name].save() for name in changed})
        self._unsaved.update(dict.fromkeys(changed, 0))

    async def close(self) -> None:
        """Save the documents whose opening would otherwise take long, and let all of them go."""
        while self._open:
            await self._close_oldest()
