"""``simulate --scale``: the figures of a large fleet, as a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from .progress import progress_bar
from .session import Session, say
from .tables import print_table

if TYPE_CHECKING:
    from cluster_store.simulation.scale import Connecting, Report, Spread

_COLUMNS = ("what", "seconds", "hops", "sent, times its size", "dials at once", "links")


def measure(session: Session, machines: int, seed: int, events: int, plot: str | None) -> str | None:
    """Let a large fleet go through what it has to bear, and show how it did.

    Where a file is named for a picture, that is returned; where it is standard output, nothing else is shown.
    """
    from cluster_store.simulation.scale import scale

    with progress_bar("founding", quiet=session.as_json) as told:
        report = scale(machines, seed, events, told)
    if plot != "-":
        session.show(msgspec.to_builtins(report), lambda: _print(report))
    if plot is None:
        return None
    from cluster_store.simulation.scale_plot import draw

    return draw(report)


def _print(report: Report) -> None:
    say(f"{report.machines} machines, seed {report.seed}, events of {report.event_bytes} bytes")
    print_table(_COLUMNS, list(_rows(report)))


def _rows(report: Report) -> Iterator[tuple[str, ...]]:
    yield _connecting("all start", report.start)
    yield _spread("one event", report.single)
    yield ("many events at once", f"{report.burst_seconds:g}", "", f"{report.burst_sent_mean:g}", "", "")
    yield _spread(f"one event, {report.dead} just died", report.dead_at_once)
    yield _connecting("others stand in for the dead", report.dead_replaced)
    yield _spread("one event after that", report.dead_later)
    yield ("the dead are back, and have all", f"{report.returned_seconds:g}", "", "", "", "")
    yield ("cut in half: each half agrees", f"{report.half_seconds:g}", "", "", "", "")
    yield ("healed: all agree", f"{report.healed_seconds:g}", "", "", "", "")
    yield _connecting("all start again", report.restart)
    yield ("an event of the first that is up", f"{report.restart_seconds:g}", "", "", "", "")


def _spread(what: str, spread: Spread) -> tuple[str, ...]:
    return (
        what,
        f"{spread.seconds_mean:g}, at most {spread.seconds_max:g}",
        f"{spread.hops_mean:g}, at most {spread.hops_max}",
        f"{spread.sent_mean:g}, at most {spread.sent_max:g}",
        "",
        "",
    )


def _connecting(what: str, connecting: Connecting) -> tuple[str, ...]:
    links = f"{connecting.links_mean:g}, at most {connecting.links_max}"
    return (what, f"{connecting.seconds:g}", "", "", str(connecting.dialling_max), links)
