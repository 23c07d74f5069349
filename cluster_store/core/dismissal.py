"""How a machine that was removed is shown so, and when it believes it.

Whoever knows of a removal opens no session with that machine. It shows it the sealed record that removed it, and
nothing else. A peer's word alone is believed by nobody: the record must remove this machine, and bear the seal of one
whose key this machine's own log knows. Even then it is only told to the operator. The log, which may lack what the
record came after, has the last word, so the machine leaves when its own log says so, or its operator.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from cluster_store.core.admission import key_path, removals_told
from cluster_store.core.cluster import Cluster, Removed
from cluster_store.core.effects import Bye, Close, Effect, LogRow, Read, Send
from cluster_store.core.errors import Malformed
from cluster_store.core.events import misplaced
from cluster_store.core.limits import REASON_CHARS_MAX
from cluster_store.core.naming import show_removal
from cluster_store.core.records import decode, fault, seal_is_valid
from cluster_store.core.state import Draft, State
from cluster_store.core.types import MachineId


class Dismissals:
    """Whom this machine turns away, and what it was shown itself."""

    def __init__(self) -> None:
        #: How this machine was removed, by a record that a peer showed; its own log need not have it.
        self.shown: Removed | None = None
        #: The machine whose record that is.
        self.author = MachineId("")
        #: Link -> the machine that is to be turned away on it, while its record is read.
        self._waiting: dict[int, Removed] = {}

    def turn_away(self, link: int, removed: Removed, state: State) -> list[Effect]:
        """Answer a link of a machine that was removed: have the record read by which it was."""
        fact = state.fact(removed.record)
        if fact is None:
            return _leave(link, removed)
        self._waiting[link] = removed
        return [Read(link, fact.position - 1, {})]

    def is_waiting(self, link: int) -> bool:
        """Say whether what was read for a link is for a machine that is turned away."""
        return link in self._waiting

    def show(self, link: int, rows: Sequence[LogRow]) -> list[Effect]:
        """Show a machine the record that removed it, the first of the rows, and take leave."""
        return _leave(link, self._waiting.pop(link), *rows[:1])

    def forget(self, link: int) -> None:
        """A link is gone."""
        self._waiting.pop(link, None)

    def heed(self, link: int, bye: Bye, draft: Draft, cluster: Cluster) -> list[Effect]:
        """Take in that a peer ends the link. That this machine was removed is true if it is shown, else only said."""
        if bye.state != "removed":
            return [Close(link, bye.state, bye.reason or "the peer ended the link without a reason")]
        try:
            self.shown = proven(bye.record, bye.seal, draft, cluster)
            self.author = decode(bye.record, bye.seal).envelope.machine
        except Malformed as error:
            told = f"the peer says that this machine was removed, without proof: {error.message}"
            return [Close(link, "dropped", told[:REASON_CHARS_MAX])]
        return [Close(link, "removed", show_removal(self.shown))]


def _leave(link: int, removed: Removed, *rows: LogRow) -> list[Effect]:
    told = show_removal(removed)
    # In a batch that an earlier version wrote, the seal is on a later record, which is not this machine's to see.
    item = rows[0].item if rows and rows[0].item.seal else None
    bye = Bye("removed", told, item.data, item.seal) if item is not None else Bye("removed", told)
    return [Send(link, bye), Close(link, "removed", told)]


def proven(data: bytes, seal: bytes, draft: Draft, cluster: Cluster) -> Removed:
    """Return how this machine was removed, by the bytes of a record and its seal.

    Args:
        data: the record's envelope.
        seal: its seal.
        draft: this machine's log, with the cluster's registers.
        cluster: the read model of these.

    Raises:
        Malformed: they prove nothing, with the reason.
    """
    if not data:
        raise Malformed("it showed no record")
    record = decode(data, seal)
    envelope, me = record.envelope, draft.state.me
    if envelope.cluster != draft.cluster:
        raise Malformed("the record is of another cluster")
    void = fault(envelope) or misplaced(envelope.kind, envelope.writes)
    if void or me not in [removal.machine for removal in removals_told(record)]:
        raise Malformed("the record does not remove this machine")
    lanes = draft.standing(key_path(envelope.machine))
    keys = [bytes.fromhex(orjson.loads(lane.value)) for lane in lanes if isinstance(lane.value, str)]
    if not keys:
        raise Malformed(f"the record is of {envelope.machine}, a machine that is not known here")
    if not seal or not any(seal_is_valid(record, key) for key in keys):
        raise Malformed(f"the record's seal is not that of {cluster.hostname(envelope.machine)}")
    known = cluster.machine_or_removed(me)
    return Removed(
        id=me,
        hostname=known.hostname if known is not None else "",
        record=record.id,
        removed_by=envelope.user,
        removed_on=cluster.hostname(envelope.machine),
        removed_at=envelope.time,
    )
