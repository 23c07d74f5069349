"""``confirm``, and what waits for that or goes back by itself anyway."""

from __future__ import annotations

import os
from time import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster_store import bootstrap
from cluster_store.core.commands import ConfirmConfig
from cluster_store.core.errors import NotFound, Refused
from cluster_store.core.history import describe, read_event, timer_to_json, written_to_json
from cluster_store.core.naming import SHORT_ID_DIGITS, counted, one_line, show_path

from .parameters import Comment
from .session import Session, note, say

if TYPE_CHECKING:
    from cluster_store.adapters.sqlite_reader import StoreReader
    from cluster_store.core.timers import Timer
    from cluster_store.core.types import RecordId


def confirm(
    context: typer.Context,
    events: Annotated[
        list[str] | None, typer.Argument(metavar="[EVENT]...", help="Which commits; left out: the only one that waits.")
    ] = None,
    comment: Comment = "",
) -> None:
    """Let a commit stay that waits to be confirmed.

    On any machine that has heard of it. A change that was made for a while stays too, where it is named. A value that
    somebody has changed meanwhile is left as it is, and so is one that another change covers for a while. Where the
    machine that committed takes it back at the same time, because it has not heard of this yet, the confirmed values
    win.
    """
    session: Session = context.obj
    with session.read() as store, store.snapshot():
        cluster = store.cluster()
        waiting = [one for one in cluster.timers.standing if one.waits_for_a_person]
        chosen = [store.event(text).id for text in events or ()] or [_only(waiting, store)]
        found = [read_event(store.event(event)) for event in chosen]
        late = [one for one in cluster.timers.standing if one.event in chosen and _is_over(one)]
        for timer in late:
            name = cluster.hostname(timer.machine)
            note(one_line(f"its time is over: {name} may have taken it back already, and the values count there again"))
    paths = tuple(dict.fromkeys(write.path for added in found for write in added.record.envelope.writes))
    command = ConfirmConfig(events=tuple(chosen), paths=paths, salt=os.urandom(16), comment=comment)
    result = session.submit(command)
    left = [show_path(path, cluster) for path in result.get("left", ())]
    for path in left:
        note(one_line(f"left as it is: {path}: another change of it counts at the moment"))
    session.report({**result, "left": left}, f"{counted(len(chosen), 'commit')} confirmed")


def _only(waiting: list[Timer], store: StoreReader) -> RecordId:
    """Return the commit that waits. Raises NotFound where there is none, and Refused where there are several."""
    if not waiting:
        raise NotFound("nothing waits to be confirmed", "'log' shows what became of a commit that did")
    if len(waiting) > 1:
        ids = ", ".join(f"{one.event[:SHORT_ID_DIGITS]} of {store.cluster().hostname(one.machine)}" for one in waiting)
        raise Refused("several commits wait to be confirmed", f"say which: {one_line(ids)}")
    return waiting[0].event


def _is_over(timer: Timer) -> bool:
    """Say whether a timer is over by this host's clock, which its machine need not share."""
    return timer.told.until < time() * 1000


def tell_unwatched(session: Session) -> None:
    """Say that nothing takes a change back in time, where no daemon runs that would."""
    if bootstrap.ask_daemon(session.root, "status") is None:
        note("no daemon watches the time here: it goes back once 'serve' runs, or before the next command that writes")


def pending(store: StoreReader) -> list[dict[str, Any]]:
    """Return what goes back by itself: of which event, until when, why, and what that did; what is over first."""
    cluster = store.cluster()
    shown = []
    for timer in cluster.timers.standing:
        added = read_event(store.event(timer.event))
        told = {**timer_to_json(timer, cluster), "over": _is_over(timer), "text": describe(added, cluster)}
        shown.append({**written_to_json(added, cluster), **told})
    return shown


def tell_pending(shown: list[dict[str, Any]]) -> None:
    """Say what goes back by itself, and when."""
    for one in shown:
        say(f"pending: {pending_text(one)}")


def pending_text(one: dict[str, Any]) -> str:
    """Return what goes back by itself, and when, as a line."""
    how = "before" if one["kind"] == "confirm" else "until"
    over = f", which is over, to be taken back by {one['machine']}" if one["over"] else ""
    who = f"by {one['user']} on {one['machine']}, event {one['event'][:SHORT_ID_DIGITS]}"
    return one_line(f"{one['text']} {how} {one['until']}{over}, {who}")
