"""The write-ahead log beside a store's file, read as bytes: which of its pages count, and whether some were lost.

SQLite takes what stands in this log up to the first frame whose checksum is wrong, and drops the rest without a word:
after a power failure that is the end of what was written. Where whole commits stand behind such a frame it was damaged
later, and changes that were acknowledged would vanish.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from cluster_store.adapters.sqlite_schema import PAGE_BYTES

_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
#: The last bit of the magic number says in which order the checksums take the bytes.
_MAGIC = 0x377F0682
#: The beginning of the index, in this host's byte order: version, (unused), changes, flags, frames, pages, checksums.
#: Behind these, the salts of the log that it is of, as they stand there.
_INDEX = struct.Struct("=III2sHI12x8s")
_MASK = 0xFFFFFFFF
#: A write that failed and was repeated can leave one whole commit behind the newest; no more than that.
_STRAY_COMMITS_MAX = 1
#: How often the log is read again because it was begun anew meanwhile.
_ATTEMPTS = 5


class WriteAheadLog:
    """What was found."""

    def __init__(self) -> None:
        #: Page number -> where its newest committed content stands in the file.
        self.pages: dict[int, int] = {}
        #: Whether commits stand behind a frame that is not what was written.
        self.damaged = False


def path_beside(database: Path) -> Path:
    """Return where SQLite keeps the write-ahead log of a database."""
    return database.with_name(database.name + "-wal")


def index_beside(database: Path) -> Path:
    """Return where SQLite keeps the shared index of that log."""
    return database.with_name(database.name + "-shm")


def size_beside(database: Path) -> int:
    """Return the size of the write-ahead log of a database, 0 where there is none."""
    try:
        return path_beside(database).stat().st_size
    except OSError:
        return 0


def loss(database: Path) -> str:
    """Return in words what shows that a part of the write-ahead log was taken away, ``""`` where nothing does. Quick.

    SQLite makes the log before its index, removes it after it, and writes a frame before the index tells of it.
    """
    log = path_beside(database)
    # Looked at again, because both may have come into being between the two looks.
    if not log.exists() and index_beside(database).exists() and not log.exists():
        return f"has lost its write-ahead log, {log.name}"
    frames, salts = _told(database)
    try:
        with log.open("rb") as file:
            header = file.read(_HEADER.size)
            size = file.seek(0, 2)
    except OSError:
        return ""
    cut = frames and header[16:24] == salts and size < _HEADER.size + frames * (_FRAME.size + PAGE_BYTES)
    return f"has lost the end of its write-ahead log, {log.name}" if cut else ""


def _told(database: Path) -> tuple[int, bytes]:
    """Return how many frames the index tells of, and the salts of their log; what it says need not be so."""
    try:
        with index_beside(database).open("rb") as file:
            version, _, _, flags, _, frames, salts = _INDEX.unpack(file.read(_INDEX.size))
    except (OSError, struct.error):
        return 0, b""
    return (frames, salts) if version and flags[0] else (0, b"")


def read(database: Path) -> WriteAheadLog:
    """Return what counts in the write-ahead log of a database, also while somebody writes to it. Raises OSError."""
    try:
        file = path_beside(database).open("rb")
    except FileNotFoundError:
        return WriteAheadLog()
    found = WriteAheadLog()
    with file:
        for _ in range(_ATTEMPTS):
            file.seek(0)
            told, salts = _told(database)
            header = file.read(_HEADER.size)
            found = _read(file, header, told if header[16:24] == salts else 0)
            file.seek(0)
            if file.read(_HEADER.size) == header:
                break
    return found


def _read(file: BinaryIO, header: bytes, told: int) -> WriteAheadLog:
    found = WriteAheadLog()
    if len(header) < _HEADER.size:
        return found
    magic, *_, salt, other_salt, one, two = _HEADER.unpack(header)
    order = ">" if magic & 1 else "<"
    sums = _checksum(order, header[:24], (0, 0))
    sound = magic & ~1 == _MAGIC and sums == (one, two)
    salts = (salt, other_salt) if sound else None
    pending: dict[int, int] = {}
    behind: dict[int, int] = {}
    stray = count = 0
    place = _HEADER.size
    while len(frame := file.read(_FRAME.size)) == _FRAME.size and len(page := file.read(PAGE_BYTES)) == PAGE_BYTES:
        number, commit, *frame_salts, one, two = _FRAME.unpack(frame)
        salts = salts or tuple(frame_salts)
        ours = tuple(frame_salts) == salts
        if sound and ours:
            sums = _checksum(order, page, _checksum(order, frame[:8], sums))
        sound = sound and ours and sums == (one, two)
        count += sound
        if ours:
            pending[number] = place + _FRAME.size
            if commit:
                stray += not sound
                if sound:
                    found.pages |= pending
                else:
                    behind |= pending
                pending = {}
        place += _FRAME.size + PAGE_BYTES
    if stray > _STRAY_COMMITS_MAX or count < told:
        found.damaged = True
        found.pages |= behind
    return found


def _checksum(order: str, data: bytes, sums: tuple[int, int]) -> tuple[int, int]:
    one, two = sums
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for word, other in zip(words, words, strict=True):
        one = (one + word + two) & _MASK
        two = (two + other + one) & _MASK
    return one, two
