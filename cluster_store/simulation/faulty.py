"""Records as a faulty program would write them: authentic, so every machine has to take them, and not acceptable."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from cluster_store.core.admission import void_reason
from cluster_store.core.limits import COMMENT_BYTES_MAX
from cluster_store.core.records import Envelope, decode, encode, seal_record
from cluster_store.core.registers import Write
from cluster_store.core.replica import Replica
from cluster_store.core.state import Draft
from cluster_store.core.types import HybridTime, Path

#: What the comments of such records begin with, so that checkers know them whatever the core makes of them.
MARK = "faulty"

#: What is wrong with it: its comment is too long, it writes what its kind may not, its removal names nobody who stays,
#: or its time is not after what it had seen.
FLAWS = ("comment", "kind", "removal", "time")


def faulty_draft(replica: Replica, sign: Callable[[bytes], bytes], now: int, dice: Random) -> Draft | None:
    """Return a record that must count for nothing, as the next one of a machine; None where it has no feed to extend.

    Args:
        replica: of the machine. Its scopes are loaded as far as it needs them itself.
        sign: makes signatures with the machine's identity.
        now: the machine's wall clock, milliseconds.
        dice: decide what is wrong.
    """
    state, members = replica.state, replica.cluster.machines
    if state.own is None or state.me not in members:
        return None
    flaw = dice.choice(FLAWS)
    line, draft = state.lines[state.own], Draft(state)
    parent = draft.fact(line.head)
    assert parent is not None
    writes = {
        "kind": Write(Path("cluster/name"), '"hijacked"', ()),
        "removal": Write(Path(f"machine/{dice.choice(sorted(members))}/removed"), "1", ()),
    }
    envelope = Envelope(
        after=(),
        auth="local",
        cluster=state.cluster,
        comment=MARK + "!" * (COMMENT_BYTES_MAX if flaw == "comment" else 0),
        epoch=line.epoch,
        hybrid=HybridTime(parent.hybrid if flaw == "time" else state.hybrid + 1),
        kind="MachinesRemoved" if flaw == "removal" else "SettingSet",
        machine=state.me,
        params={},
        prev=line.head,
        seq=line.seq + 1,
        time=now,
        user="os:root",
        writes=(writes.get(flaw, Write(Path("setting/cluster/smtp.banner"), '"faulty"', ())),),
    )
    record = seal_record(decode(encode(envelope), b""), sign)
    draft.add(record, parent, learnt=now, void=void_reason(draft, record, parent))
    draft.own = draft.records[-1].line
    return draft
