"""``clustercheck``: what collided, and what merging could not keep in order."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from cluster_store.core.conflicts import conflicts, problems, to_json
from cluster_store.core.errors import Refused
from cluster_store.core.history import read_event
from cluster_store.core.naming import SHORT_ID_DIGITS, excerpt, one_line

from .failures import BAD, DONE
from .session import say


def clustercheck(
    context: typer.Context,
    resolve: Annotated[
        list[str] | None,
        typer.Option("--resolve", metavar="PATH=EVENT", help="Settle a conflict with the value of an event."),
    ] = None,
) -> int:
    """Show what was changed on both sides of a cut.

    And what else needs an operator: names that are used twice, settings without effect, machines that lived twice. The
    first value of a conflict is the one that counts until somebody sets another. Exit status 3: something was found.
    """
    if resolve:
        raise Refused(
            "this version cannot settle a conflict by naming an event",
            "set the value that is to be, at the level shown: a newer change replaces all that stand",
        )
    with context.obj.read() as store, store.snapshot():
        cluster = store.cluster()
        found = [
            to_json(conflict, cluster, lambda record: read_event(store.event(record))) for conflict in conflicts(store)
        ]
        voids = [read_event(event) for event in store.events() if event.void]
        wrong = problems(cluster, store, store.lines(), voids)
    told = {"conflicts": found, "problems": msgspec.to_builtins(wrong)}
    context.obj.show(told, lambda: _tell(told))
    return BAD if found or wrong else DONE


def _tell(told: dict[str, Any]) -> None:
    for conflict in told["conflicts"]:
        say(f"conflict: {one_line(conflict['path'])}")
        for lane in conflict["lanes"]:
            mark = "*" if lane["event"] == conflict["winner"] else " "
            say(f"  {mark} {_value(lane)}  {_who(lane)}")
    for problem in told["problems"]:
        say(f"{problem['kind']}: {problem['text']}")
    if not told["conflicts"] and not told["problems"]:
        say("no conflicts and no problems")


def _value(lane: dict[str, Any]) -> str:
    if lane["unset"]:
        return "unset"
    value = lane["value"]
    return excerpt(value if isinstance(value, str) else msgspec.json.encode(value).decode())


def _who(lane: dict[str, Any]) -> str:
    why = f" ({lane['comment']})" if lane["comment"] else ""
    event = f"event {lane['event'][:SHORT_ID_DIGITS]}"
    return one_line(f"by {lane['user']} on {lane['machine']}#{lane['seq']} at {lane['time']}, {event}{why}")
