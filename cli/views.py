"""What a command that looks is to look at: the store as it is, as it was, or as another machine knew it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from cluster_store.core.cluster import Cluster, Machine
from cluster_store.core.errors import NotFound
from cluster_store.core.registers import Registers
from cluster_store.core.types import MachineId

from .session import Session, note

if TYPE_CHECKING:
    from cluster_store.adapters.sqlite_reader import StoreReader
    from cluster_store.core.past import Chosen, Past

At = Annotated[
    str | None,
    typer.Option("--at", metavar="WHEN", help="As it was at a time, or right after an event."),
]
AsKnownBy = Annotated[
    str | None,
    typer.Option("--as-known-by", metavar="MACHINE", help="Only what this machine knew then."),
]


class View(Registers, Protocol):
    """Registers of every scope, and the cluster that they make."""

    @property
    def me(self) -> MachineId:
        """The machine whose store it is."""

    def cluster(self) -> Cluster:
        """Return the read model."""


@contextmanager
def view(session: Session, at: str | None, known_by: str | None) -> Iterator[View]:
    """Give what is to be looked at. Raises InvalidValue, NotFound and Refused for what names no time or machine."""
    with session.read() as store, store.snapshot():
        yield store if at is None and known_by is None else past(store, at, known_by)


def past(store: StoreReader, at: str | None, known_by: str | None = None) -> Past:
    """Return what stood at a moment, as everybody knows now or as one machine knew then; see ``view``.

    Of another machine is known what its own records prove that it had seen; of this one, when it learnt of each.
    """
    from cluster_store.core.history import read_event
    from cluster_store.core.past import Moment, belongs, past_of

    from .moments import machine_named, moment_of

    machine = machine_named(known_by, store.cluster()) if known_by is not None else None
    moment = until = None
    if at is not None:
        named = moment_of(at, store)
        event = read_event(store.event(named.event)) if named.event is not None else None
        moment = Moment(event, named.time)
        if event is not None and machine in (None, event.record.envelope.machine):
            # What is behind it in the log is no part of what it came after.
            until = event.position
    newest_first = store.events(until=until, newest_first=True)
    chosen = belongs(moment, machine, store.me)
    found = past_of(newest_first, chosen, store.me, store.secret)
    if not found.records:
        who = "nothing had happened" if known_by is None else f"{known_by} knew nothing"
        raise NotFound(f"{who} by {at}", "'cluster-store log' shows when the first event was")
    if machine not in (None, store.me) and until is None:
        _tell_bound(store, machine, chosen)
    return found


def _tell_bound(store: StoreReader, machine: MachineId, chosen: Chosen) -> None:
    """Say that another machine may have known more, and up to where it is known what it did."""
    from cluster_store.core.history import read_event, read_sight
    from cluster_store.core.naming import iso_time, one_line

    rows = store.events(newest_first=True, machine=machine)
    last = read_event(next(row for row in rows if chosen(row, read_sight(row)))).record.envelope
    note(
        f"{one_line(store.cluster().hostname(machine))} may have known more: this is what its own records prove that "
        f"it had seen, up to #{last.seq} at {iso_time(last.time)}"
    )


def machine_in(shown: View, name: str | None) -> Machine:
    """Return the machine that is asked about: a named one, or this one. Raises NotFound and Refused."""
    cluster = shown.cluster()
    if name is not None:
        return cluster.machine(name)
    machine = cluster.machine_or_removed(shown.me)
    if machine is None:
        raise NotFound("this machine was not in the cluster then", "name one that was, with --machine, or a --level")
    return machine
