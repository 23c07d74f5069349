"""loro: a document of settings. It brings no store, so what it takes is kept by SQLite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from time import perf_counter

from loro import ExportMode, LoroDoc

from benchmarks import floors

NAME = "loro + SQLite"


class Apart:
    """Two documents of one cluster that were changed apart: what each has to send to the other."""

    def __init__(self, start: Mapping[str, str], sides: Sequence[Sequence[tuple[str, str]]]) -> None:
        """Make them; ``sides`` is what each wrote."""
        first = _document(1)
        _write(first, start.items())
        first.commit()
        shared = first.export(ExportMode.Snapshot())
        self._sent = []
        self._whole = []
        for peer, writes in enumerate(sides, 10):
            document = _document(peer)
            document.import_(shared)
            before = document.oplog_vv
            for write in writes:
                _write(document, [write])
                document.commit()
            self._sent.append(document.export(ExportMode.Updates(before)))
            self._whole.append(document.export(ExportMode.Snapshot()))

    def merge(self, folder: Path) -> tuple[float, list[dict[str, str]]]:
        """Let each take what the other sent, and keep it; return the seconds that it took, and what each says."""
        documents = []
        for peer, whole in enumerate(self._whole, 20):
            documents.append(_document(peer))
            documents[-1].import_(whole)
        seconds = 0.0
        for number, (document, update) in enumerate(zip(documents, reversed(self._sent), strict=True)):
            with floors.table_of_records(folder / f"{number}.db") as connection:
                begun = perf_counter()
                document.import_(update)
                floors.insert_together(connection, [(update, b"")])
                seconds += perf_counter() - begun
        return seconds, [document.get_map("settings").get_deep_value() for document in documents]


def _document(peer: int) -> LoroDoc:
    document = LoroDoc()
    document.peer_id = peer
    return document


def _write(document: LoroDoc, writes: Iterable[tuple[str, str]]) -> None:
    settings = document.get_map("settings")
    for key, value in writes:
        settings.insert(key, value)
