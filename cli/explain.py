"""``explain``: where a value comes from."""

from __future__ import annotations

from typing import Any

import msgspec
import typer

from cluster_store.core import explain as explaining
from cluster_store.core import values
from cluster_store.core.errors import NotFound
from cluster_store.core.history import read_event
from cluster_store.core.naming import SHORT_ID_DIGITS, one_line

from .parameters import Key, Machine
from .session import say
from .views import AsKnownBy, At, machine_in, past


def explain(
    context: typer.Context, key: Key, machine: Machine = None, at: At = None, as_known_by: AsKnownBy = None
) -> None:
    """Show where a key's value comes from.

    Its level, who wrote it, when and why, what it overrides at other levels, and which concurrent values it beat.
    """
    values.check_key(key)
    with context.obj.read() as store, store.snapshot():
        looked_at = store if at is None and as_known_by is None else past(store, at, as_known_by)
        cluster = looked_at.cluster()
        explanation = explaining.explain(looked_at, cluster, machine_in(looked_at, machine).id, key)
        told = explaining.to_json(explanation, cluster, lambda record: read_event(store.event(record)))
    if not explanation.stories:
        raise NotFound(
            f"{key} was never set for {told['machine']}", f"'set {key} VALUE' sets it; 'log --key {key}' shows the rest"
        )
    context.obj.show(told, lambda: _tell(told))


def _tell(told: dict[str, Any]) -> None:
    if told["set"]:
        say(f"{told['key']} = {_text(told['value'])} on {one_line(told['machine'])}, a set")
        for element in told["elements"]:
            presence = "is in it" if element["present"] else "is not in it"
            say(f"  {_text(element['element'])} {presence}{_at(element)}")
            _tell_reasons(element, "    ")
    else:
        value = "unset" if told["level"] is None else f"= {_text(told['value'])}"
        say(f"{told['key']} {value} on {one_line(told['machine'])}{_at(told)}")
        _tell_reasons(told, "  ")


def _at(story: dict[str, Any]) -> str:
    return "" if story["level"] is None else f", from {one_line(story['level'])}"


def _tell_reasons(story: dict[str, Any], indent: str) -> None:
    """Tell who wrote what counts, what it beat, what it overrides, and what was unset."""
    if story["written"] is not None:
        say(f"{indent}written by {_who(story['written'])}")
    _tell_beaten(story, indent)
    _tell_timer(story, indent)
    for other in story["overrides"]:
        what = f"{'a newer value at ' if other['newer'] else ''}{one_line(other['level'])}: {_text(other['value'])}"
        say(f"{indent}overrides {what}, by {_who(other['written'])}")
        _tell_beaten(other, indent + "  ")
    for other in story["unset"]:
        say(f"{indent}unset at {one_line(other['level'])} by {_who(other['written'])}")
        _tell_beaten(other, indent + "  ")


def _tell_timer(story: dict[str, Any], indent: str) -> None:
    """Tell when a value goes back by itself, and to what."""
    timer = story.get("timer")
    if timer is not None:
        why = " unless somebody confirms it" if timer["kind"] == "confirm" else ""
        say(one_line(f"{indent}goes back at {timer['until']}{why}, which {timer['machine']} sees to"))
        for other in story["covers"]:
            say(f"{indent}covers {_text(other['value'])}, by {_who(other)}")


def _tell_beaten(story: dict[str, Any], indent: str) -> None:
    for beaten in story["beat"]:
        say(f"{indent}beat {_text(beaten['value'])}, by {_who(beaten)}: {beaten['why']}")


def _who(written: dict[str, Any]) -> str:
    """Return who wrote something, where, when, why, and when this machine learnt of it."""
    where = f"{written['user']} on {written['machine']}#{written['seq']} at {written['time']}"
    why = f", '{written['comment']}'" if written["comment"] else ""
    learnt = "" if written["learnt"] == written["time"] else f", learnt here at {written['learnt']}"
    return one_line(f"{where}{why} (event {written['event'][:SHORT_ID_DIGITS]}{learnt})")


def _text(value: Any) -> str:
    return one_line(value if isinstance(value, str) else msgspec.json.encode(value).decode())
