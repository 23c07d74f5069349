"""The open Automerge documents: kept close behind the log, saved now and then, closed when idle.

Documents never hold what the log does not. Whatever happens to one here, it can be opened again from its
saved form and the changes behind it, both of which the log keeps. So what has just been appended is gathered
first: many changes at once cost the engine a fraction of as many one by one. For the same reason a document
that nobody has asked for stays closed until the changes behind its saved form have outgrown it; then it takes
all of them at once and is saved. Whoever asks for a document gets it up to the log.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import msgspec

from cluster_store.core.document import Change, Document
from cluster_store.core.errors import EngineError
from cluster_store.core.limits import DOCUMENT_TAIL_BYTES, DOCUMENTS_OPEN_MAX
from cluster_store.ports import EventLog, SavedDocument

#: So many changes are brought into the documents together: a few milliseconds of the event loop.
_GATHERED_MAX = 256
#: A change takes so many times fewer bytes in a saved form, about, than it does behind it.
_TAIL_TO_SAVED = 5
#: So many documents are saved in one go, about 2 ms each. Those that are left out are due again with their next change.
_SAVED_MAX = 8


class _Kept(msgspec.Struct):
    """How many bytes the log keeps of a document: its saved form, and the changes behind it."""

    saved: int
    tail: int

    @property
    def is_due(self) -> bool:
        """Whether to save it again. Waiting for the tail to outgrow it keeps the cost a change the same for ever."""
        return self.tail > max(DOCUMENT_TAIL_BYTES, _TAIL_TO_SAVED * self.saved)


async def _no_turn() -> None:
    """Nobody else waits."""


class Documents:
    """Opens documents when first needed and keeps the recently used ones."""

    def __init__(self, log: EventLog, turn: Callable[[], Awaitable[None]] = _no_turn) -> None:
        """Work on a log's documents.

        Args:
            log: what keeps them.
            turn: lets others have a turn between pieces of work that take long.
        """
        self._log = log
        self._turn = turn
        self._open: OrderedDict[str, Document] = OrderedDict()
        #: Of every document that was ever open here; the gathered changes are left out.
        self._kept: dict[str, _Kept] = {}
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
        """Bring every open document up to the log, and save those that are due. Closed ones stay closed.

        Raises EngineError for a document that the engine gives up on; the others are brought up all the same.
        """
        self._gathered_count = 0
        failure: EngineError | None = None
        due: dict[str, bytes] = {}
        for name in [*self._gathered, *(name for name in self._open if name not in self._gathered)]:
            was_open = name in self._open
            try:
                await self._take(name, self._gathered.pop(name, []))
                if self._kept[name].is_due and len(due) < _SAVED_MAX:
                    if not was_open:
                        await self._load(name)
                    await self._turn()
                    due[name] = self._open[name].save()
            except EngineError as error:
                was_open = False
                failure = error
            if not was_open:
                self._open.pop(name, None)
        # A saved form takes the place of all that the log has of its document: each of these is up to the log.
        await self._log.save_documents(due)
        self._kept.update({name: _Kept(len(data), 0) for name, data in due.items()})
        self._close_unused()
        if failure is not None:
            raise failure

    async def _take(self, name: str, some: Sequence[Change]) -> None:
        if name in self._open:
            await self._bring_up(name, some)
            return
        kept = self._kept.get(name)
        if kept is None:
            kept = self._kept[name] = _kept(await self._log.load_document(name))
        else:
            kept.tail += _size(some)

    def _close_unused(self) -> None:
        while len(self._open) > DOCUMENTS_OPEN_MAX:
            self._open.popitem(last=False)

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
            elif some:
                self._open.move_to_end(name)
                document.apply(some)
                self._kept[name].tail += _size(some)
        except EngineError:
            # The engine gave up on this object, not on the data: the log has all of it.
            self._open.pop(name, None)
            await self._load(name)

    async def _load(self, name: str) -> None:
        stored = await self._log.load_document(name)
        document = Document.open(stored.saved)
        await self._turn()
        document.apply(stored.tail)
        self._open[name] = document
        self._kept[name] = _kept(stored)

    async def close(self) -> None:
        """Bring documents up to the log once more, and let all of them go."""
        await self.catch_up()
        self._open.clear()


def _kept(stored: SavedDocument) -> _Kept:
    return _Kept(len(stored.saved or b""), _size(stored.tail))


def _size(changes: Iterable[Change]) -> int:
    return sum(len(change.data) for change in changes)
