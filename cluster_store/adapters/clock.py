"""The host's clocks."""

from __future__ import annotations

import time


def now() -> int:
    """Return the wall clock in milliseconds since 1970."""
    return time.time_ns() // 1_000_000
