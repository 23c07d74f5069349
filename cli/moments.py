"""Times and machines of the past as operators name them, and the events of the log that they stand for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
import typer

from cluster_store.adapters.sqlite_reader import StoreReader
from cluster_store.core.cluster import Cluster
from cluster_store.core.errors import InvalidValue
from cluster_store.core.history import read_event, with_past
from cluster_store.core.naming import iso_time, machine_ever
from cluster_store.core.state import Appended
from cluster_store.core.types import MachineId, RecordId

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)

Since = Annotated[
    str | None, typer.Option("--since", metavar="WHEN", help="From a time, or from an event, on: what it had not seen.")
]
Until = Annotated[
    str | None,
    typer.Option("--until", metavar="WHEN", help="Up to a time, or to an event: these and all that they came after."),
]


class Moment(msgspec.Struct, frozen=True):
    """A WHEN: an event or, where that is None, a time in milliseconds since 1970."""

    event: RecordId | None
    time: int = 0

    def is_before(self, added: Appended) -> bool:
        """Say whether an event is up to this moment for its own sake."""
        envelope = added.record.envelope
        return added.record.id == self.event if self.event is not None else envelope.time <= self.time


def moment_of(text: str, store: StoreReader) -> Moment:
    """Return what an operator means by WHEN: an event, or a time in ISO 8601, by this host's zone where it names none.

    Raises InvalidValue, NotFound, Refused.
    """
    if "#" in text or "-" not in text:
        return Moment(store.event(text).id)
    try:
        given = datetime.fromisoformat(text)
        return Moment(None, (given.astimezone(UTC) - _BEGINNING) // timedelta(milliseconds=1))
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidValue(
            f"'{text}' is neither a time nor an event",
            "give a time as 2026-01-31T23:59, an event's id, or MACHINE#NUMBER",
        ) from error


def events_until(moment: Moment, store: StoreReader) -> set[RecordId]:
    """Return the events up to a moment and all that they came after."""
    return with_past(map(read_event, store.events(newest_first=True)), moment.is_before)


def chosen_by(since: str | None, until: str | None, store: StoreReader) -> Callable[[Appended], bool]:
    """Return what says whether an event is between two moments."""
    ended = None if until is None else events_until(moment_of(until, store), store)
    begun = None if since is None else moment_of(since, store)
    seen: set[RecordId] = set()
    if begun is not None and begun.event is not None:
        seen = events_until(begun, store) - {begun.event}

    def chosen(added: Appended) -> bool:
        if ended is not None and added.record.id not in ended:
            return False
        if begun is None:
            return True
        if begun.event is not None:
            return added.record.id not in seen
        return added.record.envelope.time >= begun.time

    return chosen


def local_time(milliseconds: int) -> str:
    """Return a time by this host's clock, to the second; one beyond the calendar as its number."""
    try:
        moment = _BEGINNING + timedelta(milliseconds=milliseconds)
        return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return iso_time(milliseconds)


def machine_named(name: str | None, cluster: Cluster) -> MachineId:
    """Return the id of a machine that is or was a member, ``""`` where none was named. Raises NotFound, Refused."""
    if name is None:
        return MachineId("")
    return machine_ever(name, cluster)
