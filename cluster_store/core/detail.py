"""All about one event: what it came after, what each of its writes took the place of, and what became of it."""

from __future__ import annotations

from typing import Any

from cluster_store.core.cluster import Cluster
from cluster_store.core.history import FindEvent, describe, plain, to_json, write_to_json, written_to_json
from cluster_store.core.naming import iso_time, show_path
from cluster_store.core.registers import Registers, Write, WriteValue, valid_path
from cluster_store.core.state import Appended
from cluster_store.core.timers import begun_by
from cluster_store.core.types import RecordId


def detail(added: Appended, cluster: Cluster, registers: Registers, find: FindEvent) -> dict[str, Any]:
    """Return what ``commitdetail --json`` says: what ``log --json`` says, and more of each write.

    ``shown`` is its path in an operator's words, ``was`` what it took the place of, and ``stands`` whether it is still
    there: False where it was replaced since, or never put anything.
    """
    envelope = added.record.envelope
    found = to_json(added, cluster)
    found["text"] = describe(added, cluster)
    found["timers"] = [{"kind": told.kind, "until": iso_time(told.until)} for told in begun_by(envelope.writes)]
    found["sealed"] = bool(added.record.seal)
    found["saw"] = [written_to_json(find(RecordId(one)), cluster) for one in envelope.after]
    found["writes"] = [_write(write, added, cluster, registers, find) for write in envelope.writes]
    return found


def _write(write: Write, added: Appended, cluster: Cluster, registers: Registers, find: FindEvent) -> dict[str, Any]:
    if not valid_path(write.path):
        # Only a void record has such, and it replaces nothing.
        return {**write_to_json(write, cluster), "shown": write.path, "was": [], "stands": False}
    was = []
    for replaced in () if added.void else write.replaced:
        before = find(replaced)
        value = next((one.value for one in before.record.envelope.writes if one.path == write.path), None)
        was.append({**written_to_json(before, cluster), **_value(value)})
    stands = any(lane.id == added.record.id for lane in registers.standing(write.path))
    return {**write_to_json(write, cluster), "shown": show_path(write.path, cluster), "was": was, "stands": stands}


def _value(value: WriteValue) -> dict[str, Any]:
    return {"value": plain(value), "unset": value is None or value is False}
