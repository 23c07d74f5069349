"""The host's clocks."""

from __future__ import annotations

import time
from functools import cache
from hashlib import sha256
from pathlib import Path

from cluster_store.core.timers import Boot

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def now() -> int:
    """Return the wall clock in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def boot() -> Boot:
    """Return the clock since the host's start, which nobody sets and which goes on while the host sleeps."""
    identity = _boot_id()
    if not identity:
        return Boot()
    return Boot(identity, time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000)


@cache
def _boot_id() -> str:
    """Return what tells this start of the host from others, ``""`` where nothing does: then the wall clock counts."""
    try:
        # It goes into the log, where a hash tells as much.
        return sha256(_BOOT_ID.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""
