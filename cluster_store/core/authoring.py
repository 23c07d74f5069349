"""From a decision to this machine's next record: its envelope, its place in the feed, its seal."""

from __future__ import annotations

from collections.abc import Callable

from cluster_store.core.admission import Incoming, hybrid_ceiling, latest_seen, removals_told, void_reason
from cluster_store.core.causality import Line, is_removed
from cluster_store.core.effects import Request, Submit
from cluster_store.core.errors import OverLimit, Refused
from cluster_store.core.events import FIRST_KINDS, TIMED_OUT, Event
from cluster_store.core.limits import AFTER_MAX, BATCH_BYTES_TARGET, ENVELOPE_BYTES_MAX
from cluster_store.core.records import Envelope, seal_record, written
from cluster_store.core.state import Draft
from cluster_store.core.types import HYBRID_LOGICAL_BITS, HybridTime, RecordId

_SMALLER = "make it smaller, or split it into several"


def author(
    draft: Draft,
    event: Event,
    request: Request,
    given: Submit,
    sign: Callable[[bytes], bytes],
    *,
    unsealed: int,
    last: bool,
) -> int:
    """Write an event as this machine's next record; seal it if it is the last, or where a batch has come together.

    Args:
        draft: takes the record.
        event: what was decided.
        request: who asked for it.
        given: the batch that it is decided in: its time, and the epoch to begin where there is none.
        sign: makes ed25519 signatures with the machine's identity.
        unsealed: bytes of records in the draft that have no seal yet.
        last: whether this is the last record of the batch.

    Returns:
        The bytes that have no seal now.

    Raises:
        OverLimit: the other machines would not count it, or could not take it.
        Refused: this machine was removed.
    """
    me = draft.state.me
    line = None if draft.own is None or event.kind in FIRST_KINDS else draft.line(draft.own)
    parent = draft.fact(line.head) if line else None
    after = tuple(_after(draft, line))
    latest = max(given.now << HYBRID_LOGICAL_BITS, draft.hybrid + 1)
    ceiling = hybrid_ceiling(latest_seen(draft, parent, after))
    envelope = Envelope(
        after=after,
        auth=request.auth,
        cluster=draft.cluster,
        comment=request.command.comment,
        epoch=line.epoch if line else given.epoch,
        hybrid=HybridTime(min(latest, ceiling)),
        kind=event.kind,
        machine=me,
        params=event.params,
        prev=line.head if line else "",
        seq=line.seq + 1 if line else 1,
        time=given.now,
        user=request.user,
        weak=event.kind in TIMED_OUT,
        writes=event.writes,
    )
    # What the other machines could not read, or would not count or take, must not count here.
    record = written(envelope)
    size = Incoming.of(record.data, b"", event.secrets).size
    if size > ENVELOPE_BYTES_MAX:
        raise OverLimit(f"the change has {size} bytes; the limit is {ENVELOPE_BYTES_MAX}", _SMALLER)
    why = void_reason(draft, record, parent)
    if why:
        raise OverLimit(f"the change {why}", _SMALLER)
    removals = draft.past_removals(record, parent)
    if removals and is_removed(me, removals):
        raise Refused("this machine was removed from the cluster", "make a new store to join again")
    # A machine that was removed is shown the record that did it, and no other: it has to prove itself.
    sealed = last or event.kind == "MachinesRemoved" or unsealed + size > BATCH_BYTES_TARGET
    if sealed:
        record = seal_record(record, sign)
    draft.add(record, parent, learnt=given.now, removal=removals_told(record), secrets=event.secrets)
    draft.own = draft.records[-1].line
    return 0 if sealed else unsealed + size


def _after(draft: Draft, own: Line | None) -> list[RecordId]:
    """Return the ids of the newest records of other lines since this machine's last record, sorted."""
    seen_up_to = own.position if own else 0
    if seen_up_to == draft.position:
        return []
    # A head that some record came after is behind another head that is no older, and need not be named beside it.
    heads = [
        line
        for line in {**draft.state.lines, **draft.lines}.values()
        if line.position > seen_up_to
        and (own is None or line.number != own.number)
        and not draft.is_followed(line.number)
    ]
    # Beyond the limit the record would be void: what it leaves out it merely does not tell of.
    newest = sorted(heads, key=lambda line: line.position)[-AFTER_MAX:]
    return sorted(line.head for line in newest)
