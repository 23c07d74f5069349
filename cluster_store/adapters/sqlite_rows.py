"""How ids, lines and lanes stand in the store's rows: shared by the log, which writes them, and the reader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

from cluster_store.core.causality import Line
from cluster_store.core.registers import NOWHERE, Lane, Place, Secret
from cluster_store.core.types import Epoch, MachineId, Path, RecordId

#: Bytes of a record's id.
_ID_BYTES = 32

#: Lanes as readers want them, to be followed by a condition and an order by path.
SELECT_LANES = """
    SELECT lanes.path, id, hybrid, weak, secret, value, text
    FROM lanes LEFT JOIN secrets ON lanes.secret AND secrets.record = lanes.id AND secrets.path = lanes.path
"""
SELECT_LINES = """
    SELECT number, machine, epoch, parent, forked_at, seq, head, hybrid, position, actor FROM lines ORDER BY number
"""


def record_blob(record: str) -> bytes | None:
    """Return an id's bytes, None for text that is no record's id: envelopes name their past in any text."""
    try:
        blob = bytes.fromhex(record)
    except ValueError:
        return None
    return blob if len(blob) == _ID_BYTES and blob.hex() == record else None


def record_of(blob: bytes) -> RecordId:
    """Return an id from its bytes."""
    return RecordId(blob.hex())


def line_row(line: Line) -> tuple[Any, ...]:
    """Return a line's columns, as ``SELECT_LINES`` names them."""
    return (
        line.number,
        line.machine,
        line.epoch,
        line.parent,
        line.forked_at,
        line.seq,
        bytes.fromhex(line.head),
        line.hybrid,
        line.position,
        line.actor,
    )


def line_of(row: tuple[Any, ...]) -> Line:
    """Return the line of a row of ``SELECT_LINES``."""
    number, machine, epoch, parent, forked_at, seq, head, hybrid, position, actor = row
    return Line(
        number=number,
        machine=MachineId(machine),
        epoch=Epoch(epoch),
        parent=parent,
        forked_at=forked_at,
        seq=seq,
        head=record_of(head),
        hybrid=hybrid,
        position=position,
        actor=actor,
    )


def lane_row(scope: str, path: Path, lane: Lane) -> tuple[Any, ...]:
    """Return a lane's columns, in the order of the table."""
    secret = isinstance(lane.value, Secret)
    value = lane.value.secret if isinstance(lane.value, Secret) else lane.value
    place = lane.place
    blob = bytes.fromhex(lane.id)
    return (
        *(scope, path, blob, lane.hybrid, lane.weak, secret, value),
        *(place.actor, place.op, place.change, place.last_op),
    )


def registers_of(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Path, tuple[Lane, ...]]]:
    """Return registers from rows sorted by path: path, id, hybrid, weak, secret, value, text and perhaps the place."""
    for path, lanes in groupby(rows, key=itemgetter(0)):
        yield Path(path), tuple(map(_lane_of, lanes))


def _lane_of(row: tuple[Any, ...]) -> Lane:
    _, record, hybrid, weak, secret, value, text, *place = row
    return Lane(
        id=record_of(record),
        value=Secret(value) if secret else value,
        hybrid=hybrid,
        weak=bool(weak),
        place=Place(*place) if place else NOWHERE,
        text=text,
    )
