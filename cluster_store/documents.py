"""The open Automerge documents: kept close behind the log, saved now and then, closed when idle.

Documents never hold what the log does not. Whatever happens to one here, it can be opened again from its
saved form and the changes behind it, both of which the log keeps. So what has just been appended is gathered
first: many changes at once cost the engine a fraction of as many one by one. Whoever asks for a document gets
it up to the log.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from cluster_store.core.document import Change, Document
from cluster_store.core.errors import EngineError
from cluster_store.core.limits import DOCUMENT_SAVE_INTERVAL, DOCUMENTS_OPEN_MAX
from cluster_store.ports import EventLog

#: So many changes are brought into the documents together: a few milliseconds of the event loop.
_GATHERED_MAX = 256
#: A document with more changes than this behind its saved form is saved when it is closed, and not left closed.
_TAIL_MAX = 64


class Documents:
    """Opens documents when first needed and keeps the recently used ones."""

    def __init__(self, log: EventLog) -> None:
        """Work on a log's documents."""
        self._log = log
        self._open: OrderedDict[str, Document] = OrderedDict()
        #: Changes behind the saved form of each document that was ever open here, the gathered ones left out.
        self._unsaved: dict[str, int] = {}
        #: Changes that the log holds and the documents do not yet.
        self._gathered: dict[str, list[Change]] = {}
        self._gathered_count = 0

    async def apply(self, changes: Mapping[str, Sequence[Change]]) -> None:
        """Take changes that the log holds already, in the order of the log."""
        for name, some in changes.items():
            self._gathered.setdefault(name, []).extend(some)
            self._gathered_count += len(some)
        if self._gathered_count >= _GATHERED_MAX:
            await self.catch_up()

    async def catch_up(self) -> None:
        """Bring documents up to the log. One that is closed may stay so while there is little behind its saved form."""
        self._gathered_count = 0
        while self._gathered:
            name, some = self._gathered.popitem()
            behind = self._unsaved.get(name, _TAIL_MAX) + len(some)
            if name in self._open or behind > _TAIL_MAX:
                await self._bring_up(name, some)
            else:
                self._unsaved[name] = behind
        if sum(self._unsaved[name] for name in self._open) > DOCUMENT_SAVE_INTERVAL:
            await self.save()
        while len(self._open) > DOCUMENTS_OPEN_MAX:
            await self._close_oldest()

    async def get(self, name: str) -> Document:
        """Return a document, opened if need be. Raises EngineError where its saved form cannot be read."""
        some = self._gathered.pop(name, [])
        if some or name not in self._open:
            await self._bring_up(name, some)
        return self._open[name]

    async def _bring_up(self, name: str, some: Sequence[Change]) -> None:
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
            self._open.pop(name, None)
            await self._load(name)

    async def _load(self, name: str) -> None:
        stored = await self._log.load_document(name)
        document = Document.open(stored.saved)
        document.apply(stored.tail)
        self._open[name] = document
        self._unsaved[name] = len(stored.tail)

    async def _close_oldest(self) -> None:
        name = next(iter(self._open))
        if self._unsaved[name] > _TAIL_MAX:
            await self._save([name])
        del self._open[name]

    async def save(self) -> None:
        """Save every open document that has changed."""
        await self._save([name for name in self._open if self._unsaved[name]])

    async def _save(self, names: Sequence[str]) -> None:
        # What is saved takes the place of all that the log has of it, so nothing may be left to be brought up.
        saved = {name: (await self.get(name)).save() for name in names}
        await self._log.save_documents(saved)
        self._unsaved.update(dict.fromkeys(names, 0))

    async def close(self) -> None:
        """Save the documents whose opening would otherwise take long, and let all of them go."""
        await self.catch_up()
        while self._open:
            await self._close_oldest()
