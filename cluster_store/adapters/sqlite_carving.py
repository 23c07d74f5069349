"""The rows of records and secrets that still stand in a damaged file, found without SQLite.

SQLite gives up at the first page that is not as it should be. Here each page is read by itself, in SQLite's documented
format, and whatever looks like a row is handed on. Nothing of it is believed: a record proves itself by its hash, its
place in a chain and a seal, and a secret's value by the hash in its record.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from cluster_store.adapters import sqlite_wal
from cluster_store.adapters.sqlite_errors import translated
from cluster_store.adapters.sqlite_schema import PAGE_BYTES
from cluster_store.core.limits import ENVELOPE_BYTES_MAX

#: The first byte of a page of rows of a table, and of leaf and inner pages of a table without row ids.
_TABLE_LEAF, _INDEX_LEAF, _INDEX_INNER = 0x0D, 0x0A, 0x02
_TABLE_INNER = 0x05
#: The file's own header stands before that of its first page.
_FILE_HEADER_BYTES = 100
#: The longest row: an envelope, and room for the other columns.
_ROW_BYTES_MAX = ENVELOPE_BYTES_MAX + 64 * 1024
#: How much of a row stands in its page where the rest is in pages of its own; from the format's documentation.
_TABLE_LOCAL_MAX = PAGE_BYTES - 35
_INDEX_LOCAL_MAX = (PAGE_BYTES - 12) * 64 // 255 - 23
_LOCAL_MIN = (PAGE_BYTES - 12) * 32 // 255 - 23
_HASH_BYTES = 32


@dataclass
class Carved:
    """What was found; nothing of it is checked."""

    #: Position, when it was learnt, seal, envelope.
    records: list[tuple[int, int, bytes, bytes]] = field(default_factory=list)
    #: (record's id, path) -> salt and text.
    secrets: dict[tuple[bytes, str], tuple[bytes, str]] = field(default_factory=dict)
    #: Number of records that the log should have; None where that cannot be read.
    count: int | None = None
    #: What its running hash should be.
    log_hash: bytes | None = None
    #: (machine, epoch) -> the newest number that the tables tell of.
    feeds: dict[tuple[str, str], int] = field(default_factory=dict)
    #: Whether the write-ahead log holds commits that SQLite would not take.
    log_damaged: bool = False


def carve(database: Path) -> Carved:
    """Return what stands in a file and its write-ahead log, whatever is wrong with them. Raises StoreError."""
    carved = Carved()
    with translated(database):
        log = sqlite_wal.read(database)
        carved.log_damaged = log.damaged
        with database.open("rb") as file:
            if log.pages:
                # Pages that the log has newer ones of may still hold rows that were lost there.
                _Pages(file, None, {}).carve(carved)
                with sqlite_wal.path_beside(database).open("rb") as beside:
                    _Pages(file, beside, log.pages).carve(carved)
            else:
                _Pages(file, None, {}).carve(carved)
    return carved


class _Pages:
    """A database's pages, as they are with the write-ahead log or without."""

    def __init__(self, file: BinaryIO, log: BinaryIO | None, newer: dict[int, int]) -> None:
        self._file = file
        self._log = log
        self._newer = newer
        self._count = max([file.seek(0, 2) // PAGE_BYTES, *newer])

    def _page(self, number: int) -> bytes:
        if self._log is not None and number in self._newer:
            self._log.seek(self._newer[number])
            return self._log.read(PAGE_BYTES)
        self._file.seek((number - 1) * PAGE_BYTES)
        return self._file.read(PAGE_BYTES)

    def carve(self, carved: Carved) -> None:
        for number in range(1, self._count + 1):
            page = self._page(number)
            kind = page[_FILE_HEADER_BYTES if number == 1 else 0] if len(page) == PAGE_BYTES else _TABLE_INNER
            # A page whose own type is damaged may be any.
            whole = kind in (_TABLE_LEAF, _INDEX_LEAF, _INDEX_INNER, _TABLE_INNER)
            for kind_ in [kind] if whole else [_TABLE_LEAF, _INDEX_LEAF, _INDEX_INNER]:
                for key, row in self._rows(number, page, kind_):
                    _keep(carved, key, row)

    def _rows(self, number: int, page: bytes, kind: int) -> Iterator[tuple[int, list[Any]]]:
        """Yield what looks like rows of a page: row id (0 in a table without) and columns."""
        if kind == _TABLE_INNER:
            return
        start = _FILE_HEADER_BYTES if number == 1 else 0
        cells = start + (12 if kind == _INDEX_INNER else 8)
        count = min(int.from_bytes(page[start + 3 : start + 5]), (PAGE_BYTES - cells) // 2)
        for index in range(count):
            place = int.from_bytes(page[cells + 2 * index : cells + 2 * index + 2])
            try:
                yield self._row(page, place, kind)
            except (ValueError, IndexError, OverflowError):
                continue  # not a cell, or not any more

    def _row(self, page: bytes, place: int, kind: int) -> tuple[int, list[Any]]:
        key = 0
        if kind == _INDEX_INNER:
            place += 4
        size, place = _varint(page, place)
        if kind == _TABLE_LEAF:
            key, place = _varint(page, place)
        if size > _ROW_BYTES_MAX:
            raise ValueError("longer than any row")
        return key, _columns(self._payload(page, place, size, kind))

    def _payload(self, page: bytes, place: int, size: int, kind: int) -> bytes:
        most = _TABLE_LOCAL_MAX if kind == _TABLE_LEAF else _INDEX_LOCAL_MAX
        local = size
        if size > most:
            local = _LOCAL_MIN + (size - _LOCAL_MIN) % (PAGE_BYTES - 4)
            local = local if local <= most else _LOCAL_MIN
        payload = page[place : place + local]
        follow = int.from_bytes(page[place + local : place + local + 4])
        parts = [payload]
        left = size - local
        while left > 0:
            if not 1 <= follow <= self._count:
                raise ValueError("leads nowhere")
            overflow = self._page(follow)
            parts.append(overflow[4 : 4 + left])
            follow = int.from_bytes(overflow[:4])
            left -= PAGE_BYTES - 4
        return b"".join(parts)


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for index in range(8):
        byte = data[place + index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:  # noqa: PLR2004 - the last one
            return value, place + index + 1
    return value << 8 | data[place + 8], place + 9


#: Serial types of whole numbers -> their bytes.
_NUMBERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}


def _columns(payload: bytes) -> list[Any]:
    """Return the columns of a row. Raises ValueError where it is none of a table that is looked for."""
    end, place = _varint(payload, 0)
    columns: list[Any] = []
    body = end
    while place < end:
        kind, place = _varint(payload, place)
        value: Any = None
        if kind in _NUMBERS:
            value = int.from_bytes(payload[body : body + _NUMBERS[kind]], signed=True)
            body += _NUMBERS[kind]
        elif kind in (8, 9):
            value = kind - 8
        elif kind >= 12:  # noqa: PLR2004 - text and bytes
            raw = payload[body : body + (kind - 12) // 2]
            body += (kind - 12) // 2
            value = raw.decode() if kind & 1 else raw
        elif kind:
            raise ValueError("no column of ours holds a fraction")
        columns.append(value)
    if body != len(payload):
        raise ValueError("columns that do not fill their row")
    return columns


def _keep(carved: Carved, key: int, row: list[Any]) -> None:
    """Take a row in if it has the shape of one that is looked for."""
    match row:
        case [None, bytes(_), int(_), int(_), int(_), int(learnt), None | str(_), None | bytes(_), bytes(envelope)]:
            carved.records.append((key, learnt, row[7] or b"", envelope))
        case [bytes(record), str(path), bytes(salt), str(text), None | int(_)] if len(record) == _HASH_BYTES:
            carved.secrets[record, path] = (salt, text)
        case [None, str(_), str(_), None | int(_), int(count), bytes(log_hash), str(_)]:
            carved.count, carved.log_hash = count, log_hash
        case [None, str(machine), str(epoch), None | int(_), int(_), int(seq), bytes(_), int(_), int(_), bytes(_)]:
            feed = (machine, epoch)
            carved.feeds[feed] = max(carved.feeds.get(feed, 0), seq)
