"""Memory that the process has no use for any more goes back to the system, where its C library is glibc.

By itself glibc keeps as much as twice the largest block that was ever freed: one check of a password makes that
40 MB. And what a long merge took and freed stays, because something small lies behind it.
"""

from __future__ import annotations

import ctypes
from functools import cache

_CALLS = ("mallopt", "malloc_trim")
#: ``mallopt``'s numbers for them.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
#: Blocks of this size are the system's own, and so much may lie free at the end of the heap.
_BLOCK_BYTES = 1 << 20
#: Heaps of the process, which threads share.
_ARENAS = 2


@cache
def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
    return library if all(hasattr(library, name) for name in ("gnu_get_libc_version", *_CALLS)) else None


def keep_small() -> None:
    """Have the process keep little of what it frees, from now on. Does nothing without glibc."""
    glibc = _glibc()
    if glibc is not None:
        glibc.mallopt(_ARENA_MAX, _ARENAS)
        glibc.mallopt(_MMAP_THRESHOLD, _BLOCK_BYTES)
        glibc.mallopt(_TRIM_THRESHOLD, _BLOCK_BYTES)


def give_back() -> None:
    """Give back what is free wherever in the heap it lies: some milliseconds. Does nothing without glibc."""
    glibc = _glibc()
    if glibc is not None:
        glibc.malloc_trim(0)
