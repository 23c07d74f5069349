"""What is known of each peer besides its records: how it stands with it, why, and since when."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from cluster_store.core.limits import REASON_CHARS_MAX
from cluster_store.core.naming import one_line
from cluster_store.core.types import MachineId

logger = logging.getLogger("cluster_store")


@dataclass(slots=True)
class PeerStatus:
    """What is known of a peer besides its records; times in milliseconds since 1970, 0 for never."""

    state: str = "connecting"
    reason: str = ""
    since: int = 0
    #: The same three as they were before the attempt that goes on: where that fails for the same reason, they hold.
    before: tuple[str, str, int] = ("", "", 0)
    last_contact: int = 0
    #: The peer's clock minus ours, milliseconds, as its last hello showed it.
    skew: int = 0


class PeerStatuses(dict[MachineId, PeerStatus]):
    """The status of every peer that this machine has had to do with."""

    def __init__(self, clock: Callable[[], int]) -> None:
        """Know nobody yet; ``clock`` is the wall clock in milliseconds."""
        super().__init__()
        self._clock = clock

    def note(self, machine: MachineId, state: str, reason: str) -> None:
        """Take note of how it stands with a peer.

        An attempt that fails as the one before did changes nothing: it is told since when a link is down, not when it
        was tried last.
        """
        status = self.setdefault(machine, PeerStatus())
        reason = one_line(reason[:REASON_CHARS_MAX])
        if (status.state, status.reason) != (state, reason):
            if state == "connecting":
                status.before = (status.state, status.reason, status.since)
            lasting = status.state == "connecting" and status.before[:2] == (state, reason)
            since = status.before[2] if lasting else self._clock()
            status.state, status.reason, status.since = state, reason, since
            logger.info("%s: %s %s", machine, state, reason)
