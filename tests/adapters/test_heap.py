"""Memory that is free goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cluster_store.adapters import heap

#: Takes 40 MB in small pieces, frees all but the last one, and tells what the process keeps before and after.
_TAKE_AND_FREE = """
import ctypes, sys
from pathlib import Path
from cluster_store.adapters import heap

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
heap.keep_small()
pieces = [library.malloc(4000) for _ in range(10_000)]
for piece in pieces:
    ctypes.memset(piece, 1, 4000)
for piece in pieces[:-1]:
    library.free(piece)
before = resident()
heap.give_back()
print(before - resident())
"""


@pytest.mark.skipif(heap._glibc() is None, reason="this C library has no way to give memory back")
def test_what_is_free_goes_back_though_something_small_lies_behind_it() -> None:
    """One piece at the end of 40 MB keeps none of them."""
    done = subprocess.run([sys.executable, "-c", _TAKE_AND_FREE], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 30_000_000


def test_without_glibc_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the C library has no such calls, none is made."""
    monkeypatch.setattr(heap, "_glibc", lambda: None)
    heap.keep_small()
    heap.give_back()
