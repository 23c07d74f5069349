"""pycrdt, the Yjs of Python, with its own store: every change is an update that ``SQLiteYStore`` keeps."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from time import perf_counter

from pycrdt import Doc, Map, TransactionEvent
from pycrdt.store import SQLiteYStore

from benchmarks import floors

NAME = "pycrdt-store"


def commit(start: Mapping[str, str], writes: Sequence[tuple[str, str]], folder: Path) -> tuple[float, dict[str, str]]:
    """Write one after the other; return the seconds that it took, and what a new document reads from the store."""
    return asyncio.run(_commit(start, writes, folder / "pycrdt.db"))


async def _commit(
    start: Mapping[str, str], writes: Sequence[tuple[str, str]], path: Path
) -> tuple[float, dict[str, str]]:
    document, updates = _document(1)
    settings = document.get("settings", type=Map)
    async with _store(path) as store:
        with document.transaction():
            settings.update(start)
        await store.write(updates.pop())
        begun = perf_counter()
        for key, value in writes:
            settings[key] = value
            await store.write(updates.pop())
        seconds = perf_counter() - begun
        kept = Doc()
        await store.apply_updates(kept)
        return seconds, kept.get("settings", type=Map).to_py() or {}


def _document(client: int) -> tuple[Doc, list[bytes]]:
    """Return a document, and the list that its updates are put into."""
    document, updates = Doc(client_id=client), []

    def keep(event: TransactionEvent) -> None:
        updates.append(event.update)

    document.observe(keep)
    return document, updates


def _store(path: Path) -> SQLiteYStore:
    """Return a store as durable as the others: WAL, and SQLite's own default of a full sync at every commit."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    store = SQLiteYStore("settings")
    store.db_path = str(path)
    return store


class Apart:
    """Two documents of one cluster that were changed apart: what each has to send to the other."""

    def __init__(self, start: Mapping[str, str], sides: Sequence[Sequence[tuple[str, str]]]) -> None:
        """Make them; ``sides`` is what each wrote."""
        first, updates = _document(1)
        with first.transaction():
            first.get("settings", type=Map).update(start)
        self._start = updates.pop()
        self._sent = []
        self._whole = []
        for client, writes in enumerate(sides, 10):
            document, _ = _document(client)
            document.apply_update(self._start)
            before = document.get_state()
            settings = document.get("settings", type=Map)
            for key, value in writes:
                settings[key] = value
            self._sent.append(document.get_update(before))
            self._whole.append(document.get_update())

    def merge(self, folder: Path) -> tuple[float, list[dict[str, str]]]:
        """Let each take what the other sent, and keep it; return the seconds that it took, and what each says."""
        documents = []
        for client, whole in enumerate(self._whole, 20):
            document, _ = _document(client)
            document.apply_update(whole)
            documents.append(document)
        seconds = 0.0
        for number, (document, update) in enumerate(zip(documents, reversed(self._sent), strict=True)):
            with floors.table_of_records(folder / f"{number}.db") as connection:
                begun = perf_counter()
                document.apply_update(update)
                floors.insert_together(connection, [(update, b"")])
                seconds += perf_counter() - begun
        return seconds, [document.get("settings", type=Map).to_py() or {} for document in documents]
