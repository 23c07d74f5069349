"""``log``: who changed what, where, when and why."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Annotated

import typer

from cluster_store.adapters.sqlite_reader import StoreReader
from cluster_store.core.cluster import Cluster
from cluster_store.core.graph import draw, nearest_shown
from cluster_store.core.history import Filter, came_after, describe, read_event, to_json
from cluster_store.core.naming import SHORT_ID_DIGITS, excerpt, one_line
from cluster_store.core.state import Appended

from .commitdetail import detail_of, tell
from .moments import Since, Until, chosen_by, local_time, machine_named
from .session import Session, note, print_json, say

#: How often the store is looked at for more, seconds.
_INTERVAL_S = 0.2


def log(
    context: typer.Context,
    key: Annotated[
        str, typer.Option("--key", metavar="PREFIX", help="Only changes of keys that begin with this.")
    ] = "",
    machine: Annotated[str | None, typer.Option("--machine", metavar="NAME", help="Only what it wrote.")] = None,
    user: Annotated[str, typer.Option("--user", metavar="USER", help="Only what this user changed.")] = "",
    since: Since = None,
    until: Until = None,
    number: Annotated[int | None, typer.Option("-n", metavar="N", min=0, help="Only the last N of these.")] = None,
    graph: Annotated[bool, typer.Option("--graph", help="Draw which changes were made side by side.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until interrupted.")] = False,
    detail: Annotated[bool, typer.Option("--detail", help="All about each change, as commitdetail shows it.")] = False,
) -> None:
    """Show who changed what, where, when and why.

    The newest change comes last. WHEN is an ISO 8601 time, or an event: its id, six or more digits of it, or
    MACHINE#NUMBER. With --json, each line is a document.
    """
    session: Session = context.obj
    if graph and (follow or detail or session.as_json):
        context.fail("--graph is a picture for people of what is there: leave --follow, --detail and --json out")
    with session.read() as store:
        with store.snapshot():
            cluster, mark = store.cluster(), (store.cluster_id, store.count)
        wanted = Filter(key, machine_named(machine, cluster), user)
        between = chosen_by(since, until, store)

        def takes(added: Appended) -> bool:
            return wanted.takes(added) and between(added)

        if graph:
            _draw(store, cluster, takes, number)
        else:
            for added in _chosen(store, wanted, takes, number):
                _print(session, added, store, cluster, detail=detail)
        if user:
            _tell_users(store, user)
    if follow:
        _follow(session, mark, wanted.takes, detail=detail)


def _tell_users(store: StoreReader, user: str) -> None:
    """Say who changed anything, where nobody did under this name: names of the system begin with ``os:``."""
    users = sorted({added.record.envelope.user for added in map(read_event, store.events())})
    if user not in users:
        note(f"no change is by {excerpt(user)}; there are changes by {', '.join(map(one_line, users))}")


def _chosen(
    store: StoreReader, wanted: Filter, takes: Callable[[Appended], bool], number: int | None
) -> Iterable[Appended]:
    """Return the events that were asked for, the oldest first; the last few are found from the end."""
    rows = store.events(newest_first=number is not None, machine=wanted.machine or None)
    found = filter(takes, map(read_event, rows))
    return found if number is None else reversed(list(islice(found, min(number, sys.maxsize))))


def _draw(store: StoreReader, cluster: Cluster, takes: Callable[[Appended], bool], number: int | None) -> None:
    """Print events with their branches beside them."""
    shown: dict[str, Appended] = {}
    parents = []
    for added in map(read_event, store.events()):
        parents.append((added.record.id, came_after(added.record.envelope)))
        if takes(added):
            shown[added.record.id] = added
    last = list(shown.values())[len(shown) - min(len(shown) if number is None else number, len(shown)) :]
    for strands, event in draw(list(nearest_shown(parents, frozenset(added.record.id for added in last)))):
        say(strands if event is None else f"{strands}  {line_of(shown[event], cluster)}")


def _follow(session: Session, mark: tuple[str, int], takes: Callable[[Appended], bool], *, detail: bool) -> None:
    """Print events as they come.

    The store is opened anew each time: a join puts another file in its place, whose log is told from its beginning.
    """
    while True:
        # Whoever follows through a pipe waits for it.
        sys.stdout.flush()
        time.sleep(_INTERVAL_S)
        with session.read() as store, store.snapshot():
            now = (store.cluster_id, store.count)
            if now != mark:
                cluster = store.cluster()
                for added in filter(takes, map(read_event, store.events(mark[1] if now[0] == mark[0] else 0))):
                    _print(session, added, store, cluster, detail=detail)
                mark = now


def _print(session: Session, added: Appended, store: StoreReader, cluster: Cluster, *, detail: bool) -> None:
    if detail:
        told = detail_of(added, store, cluster)
        if session.as_json:
            print_json(told)
        else:
            tell(told)
            say("")
    elif session.as_json:
        print_json(to_json(added, cluster))
    else:
        say(line_of(added, cluster))


def line_of(added: Appended, cluster: Cluster) -> str:
    """Return an event on one line: id, when by this host's clock, where, who, what, and why."""
    envelope = added.record.envelope
    who = one_line(f"{cluster.hostname(envelope.machine)}#{envelope.seq}  {envelope.user}")
    words = f"{envelope.kind}: {describe(added, cluster)}"
    why = f"  ({one_line(envelope.comment)})" if envelope.comment else ""
    return f"{added.record.id[:SHORT_ID_DIGITS]}  {local_time(envelope.time)}  {who}  {one_line(words)}{why}"
