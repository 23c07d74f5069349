"""``commitdetail``: all about one change."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from cluster_store.adapters.sqlite_reader import StoreReader
from cluster_store.core.cluster import Cluster
from cluster_store.core.detail import detail
from cluster_store.core.errors import NotFound
from cluster_store.core.history import read_event
from cluster_store.core.naming import SHORT_ID_DIGITS, excerpt, one_line
from cluster_store.core.state import Appended

from .session import say


def commitdetail(
    context: typer.Context,
    event: Annotated[str | None, typer.Argument(metavar="[EVENT]", help="Which; otherwise the last one here.")] = None,
) -> None:
    """Show all about one change.

    Who made it, where, when and why, when this machine learnt of it, what it came after, and for each write what it
    took the place of and whether it still stands.
    """
    with context.obj.read() as store, store.snapshot():
        row = store.event(event) if event is not None else next(store.events(newest_first=True, limit=1), None)
        if row is None:
            raise NotFound("there is no event here yet", "'cluster-store init' makes the first")
        told = detail_of(read_event(row), store, store.cluster())
    context.obj.show(told, lambda: tell(told))


def detail_of(added: Appended, store: StoreReader, cluster: Cluster) -> dict[str, Any]:
    """Return all about an event for scripts."""
    return detail(added, cluster, store, lambda record: read_event(store.event(record)))


def tell(told: dict[str, Any]) -> None:
    """Print all about an event for people."""
    say(f"event    {told['id']}")
    say(one_line(f"author   {told['machine']}#{told['seq']}, epoch {told['epoch']}, machine {told['machine_id']}"))
    say(one_line(f"user     {told['user']} ({told['auth']})"))
    say(f"time     {told['time']}, learnt here at {told['learnt']}")
    say(one_line(f"what     {told['kind']}: {told['text']}" + (", by a timer" if told["weak"] else "")))
    if told["comment"]:
        say(one_line(f"why      {told['comment']}"))
    for timer in told["timers"]:
        how = "to be confirmed before" if timer["kind"] == "confirm" else "goes back at"
        say(f"timer    {how} {timer['until']}")
    if told["void"]:
        say(one_line(f"void     counts for nothing: it {told['void']}"))
    after = [told["prev"][:SHORT_ID_DIGITS]] if told["prev"] else []
    after += [f"{one['machine']}#{one['seq']} ({one['event'][:SHORT_ID_DIGITS]})" for one in told["saw"]]
    say(one_line(f"after    {', '.join(after) or 'nothing: it is the first'}"))
    for write in [write for write in told["writes"] if not write["path"].startswith("timer/")]:
        state = "" if write["stands"] or write["action"] == "remove" else ", replaced since"
        say(one_line(f"  {_shown(write)}{state}"))
        for was in write["was"]:
            value = "unset" if was["unset"] else _text(was["value"])
            say(one_line(f"    was {value}, by {was['user']} on {was['machine']}#{was['seq']} at {was['time']}"))


def _shown(write: dict[str, Any]) -> str:
    if write["action"] in ("set", "unset"):
        return f"{write['shown']} = {'unset' if write['action'] == 'unset' else _text(write['value'])}"
    return f"{write['action']} {write['shown']}"


def _text(value: Any) -> str:
    return excerpt(value if isinstance(value, str) else msgspec.json.encode(value).decode())
