"""``clustercheck``: what collided, what merging could not keep in order, and what settles it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from cluster_store.core.conflicts import to_json
from cluster_store.core.errors import InvalidValue
from cluster_store.core.history import read_event
from cluster_store.core.inbox import Inbox, inbox, problem_to_json, resolve
from cluster_store.core.naming import SHORT_ID_DIGITS, counted, excerpt, one_line

from .failures import BAD, DONE
from .parameters import Comment
from .session import Session, say

if TYPE_CHECKING:
    from cluster_store.adapters.sqlite_reader import StoreReader


def clustercheck(
    context: typer.Context,
    settle: Annotated[
        list[str] | None,
        typer.Option(
            "--resolve", metavar="PATH=EVENT", help="Settle what is open at PATH with the value of EVENT; repeat it."
        ),
    ] = None,
    comment: Comment = "",
) -> int:
    """Show what was changed on both sides of a cut.

    And what else needs an operator: names that are used twice, settings without effect, machines that lived twice. The
    first value of a conflict is the one that counts until somebody sets another, or settles it with --resolve: PATH as
    it is printed here, EVENT the one whose value is to count. Exit status 3: something was found.
    """
    session: Session = context.obj
    if settle:
        _resolve(session, settle, comment)
        return DONE
    with session.read() as store, store.snapshot():
        cluster = store.cluster()
        found = inbox_of(store)
        told = {
            "conflicts": [
                to_json(conflict, cluster, lambda record: read_event(store.event(record)))
                for conflict in found.conflicts
            ],
            "problems": [problem_to_json(problem) for problem in found.problems],
        }
    session.show(told, lambda: _tell(told))
    return BAD if found.conflicts or found.problems else DONE


def inbox_of(store: StoreReader) -> Inbox:
    """Return what is open in a store."""
    voids = [read_event(event) for event in store.events() if event.void]
    return inbox(store.cluster(), store, store.lines(), voids, lambda: map(read_event, store.events(newest_first=True)))


def _resolve(session: Session, given: list[str], comment: str) -> None:
    """Settle what was named, all of it as one event."""
    with session.read() as store, store.snapshot():
        choices = []
        for text in given:
            # A key may hold the sign, an event never does.
            path, sign, event = text.rpartition("=")
            if not sign or not path:
                raise InvalidValue(f"'{text}' is not PATH=EVENT", "'clustercheck' prints paths and events")
            choices.append((path, store.event(event).id))
        command = resolve(choices, inbox_of(store), store.cluster(), store, store.lines(), os.urandom(16))
    result = session.submit(msgspec.structs.replace(command, comment=comment))
    session.report(result, f"{counted(result['writes'], 'conflict')} settled")


def _tell(told: dict[str, Any]) -> None:
    for conflict in told["conflicts"]:
        say(f"conflict: {one_line(conflict['path'])}, since {conflict['since']}")
        for lane in conflict["lanes"]:
            mark = "*" if lane["event"] == conflict["winner"] else " "
            say(f"  {mark} {_value(lane)}  {_who(lane)}")
    for problem in told["problems"]:
        say(f"{problem['kind']}: {problem['text']}{_hint(problem)}")
    if not told["conflicts"] and not told["problems"]:
        say("no conflicts and no problems")


def _hint(problem: dict[str, Any]) -> str:
    since = f" (since {problem['since']})" if problem["since"] else ""
    if len(problem["events"]) == 1:
        # There is nothing to choose: naming the event says that one has looked.
        seen = f"{one_line(problem['path'])}={problem['events'][0][:SHORT_ID_DIGITS]}"
        return f"{since}; once that is so: clustercheck --resolve {seen}"
    return since


def _value(lane: dict[str, Any]) -> str:
    if lane["unset"]:
        return "unset"
    value = lane["value"]
    return excerpt(value if isinstance(value, str) else msgspec.json.encode(value).decode())


def _who(lane: dict[str, Any]) -> str:
    why = f" ({lane['comment']})" if lane["comment"] else ""
    event = f"event {lane['event'][:SHORT_ID_DIGITS]}"
    return one_line(f"by {lane['user']} on {lane['machine']}#{lane['seq']} at {lane['time']}, {event}{why}")
