"""What a change would come to, shown before it is made: its own result, and its blast radius.

That is whose effective values change, what keeps it from counting somewhere, what is in conflict already, and which of
the machines that it is about have not been heard of lately. All of it comes from the store; a daemon, where one runs,
only adds when it had contact.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from cluster_store import bootstrap

from .session import Session, note, say

if TYPE_CHECKING:
    from cluster_store.adapters.sqlite_reader import StoreReader
    from cluster_store.core.commands import Command
    from cluster_store.core.events import Event
    from cluster_store.core.types import MachineId

#: Names in a sentence; the rest are counted.
_NAMED_MAX = 4
#: A machine that was heard of within so many milliseconds was heard of lately.
_LATELY_MS = 600_000
#: How long ago something was is told in the largest of these that fits: name, seconds.
_UNITS = (("day", 86_400), ("hour", 3600), ("minute", 60))


class Rehearsal(NamedTuple):
    """What would come of a command."""

    #: What the command would tell, without its event.
    result: Mapping[str, Any]
    #: Whether anything would be written.
    changes: bool
    #: The blast radius; see ``foresee``.
    told: Mapping[str, Any]

    @property
    def impact(self) -> list[dict[str, Any]]:
        """Whose effective values would change: ``machines``, and of each key ``old``, ``new`` and ``level``."""
        found: list[dict[str, Any]] = self.told["impact"]
        return found


def rehearse(session: Session, command: Command) -> Rehearsal:
    """Decide a command on what the store holds now, and write nothing. Raises Refused and its kin as it would."""
    from cluster_store.core.decide import decide
    from cluster_store.core.decision import Context
    from cluster_store.core.types import Epoch

    # With the values of secrets, whoever asks: they are compared, and never shown.
    with bootstrap.read(session.root) as store, store.snapshot():
        context = Context(store, store.cluster(), store.me, "", 0, Epoch(""))
        decision = decide(session.aimed(command), context)
        told = foresee(session, store, decision.event)
    return Rehearsal(decision.result, decision.event is not None, told)


def foresee(session: Session, store: StoreReader, event: Event | None) -> dict[str, Any]:
    """Return the blast radius of an event that nobody has written, for scripts.

    ``impact``, ``shadowed`` and ``conflicts`` as ``core.radius`` has them; ``unheard``: the other machines that it is
    about and that were not heard of lately, with ``last_contact``, ``last_record`` and ``age_s``, the seconds since the
    later of the two; None for never.
    """
    from cluster_store.core.impact import Foreseen
    from cluster_store.core.radius import radius, to_json

    foreseen = Foreseen(store, [event] if event else [])
    found = radius(foreseen)
    unheard = _unheard(session, store, [machine for machine in found.concerned if machine != store.me])
    return {**to_json(found, foreseen.cluster_after), "unheard": unheard}


def _unheard(session: Session, store: StoreReader, machines: Iterable[MachineId]) -> list[dict[str, Any]]:
    import time
    from datetime import datetime

    from cluster_store.core.naming import iso_time

    wanted = list(machines)
    daemon = bootstrap.ask_daemon(session.root, "connstatus") if wanted else None
    links = {link["id"]: link for link in daemon["machines"]} if daemon is not None else {}
    newest: dict[MachineId, int] = {}
    for line in store.lines():
        newest[line.machine] = max(newest.get(line.machine, 0), line.position)
    lately = round(time.time() * 1000) - _LATELY_MS
    found = []
    for machine in wanted:
        at = newest.get(machine, 0)
        learnt = next((event.learnt for event in store.events(at - 1, until=at)), 0) if at else 0
        link = links.get(machine, {"state": "", "last_contact": None})
        contact = link["last_contact"]
        if link["state"] == "connected" or learnt > lately or (contact is not None and contact > iso_time(lately)):
            continue
        record = iso_time(learnt) if learnt else None
        last = max(filter(None, (contact, record)), default=None)
        age = round(time.time() - datetime.fromisoformat(last).timestamp()) if last else None
        told = {"machine": store.cluster().hostname(machine), "last_contact": contact, "last_record": record}
        found.append({**told, "age_s": age})
    return found


def show(session: Session, rehearsal: Rehearsal, would: str) -> None:
    """Show a rehearsal: to people ``would``, then a table for each group of machines to which the same happens."""
    document = {**rehearsal.result, "dry_run": True, "changed": rehearsal.changes, **rehearsal.told}
    note(f"{would if rehearsal.changes else 'nothing would change'}; nothing was changed")
    session.show(document, lambda: tell(rehearsal.told))


def tell(told: Mapping[str, Any]) -> None:
    """Tell people of a blast radius: a table for each group of machines to which the same happens, and the rest."""
    from .tables import print_table

    if not told["impact"]:
        say("no machine's effective values change")
    for one in told["impact"]:
        say(f"{', '.join(one['machines'])}:")
        rows = (
            [change["key"], _text(change["old"]), "unset" if change["unset"] else _text(change["new"]), change["level"]]
            for change in one["changes"]
        )
        print_table(["key", "now", "then", "from"], [[cell or "" for cell in row] for row in rows])
    tell_limits(told)


def tell_limits(told: Mapping[str, Any]) -> None:
    """Tell people what keeps a change from counting, or may yet meet it."""
    from cluster_store.core.naming import one_line

    for one in told["shadowed"]:
        say(one_line(f"hidden on {some(one['machines'])}: {one['key']} at {one['level']}, by {one['hidden_by']}"))
    for one in told["conflicts"]:
        values = " and ".join(_text(value) or "unset" for value in one["values"])
        say(one_line(f"in conflict: {one['path']} is {values}; this {'settles' if one['settled'] else 'leaves'} it"))
    unheard = [f"{one['machine']} ({_last_of(one)})" for one in told["unheard"]]
    if unheard:
        say(f"not heard of lately: {some(unheard)}")


def _last_of(one: Mapping[str, Any]) -> str:
    from cluster_store.core.naming import counted

    if one["age_s"] is None:
        return "never"
    unit, seconds = next(((name, size) for name, size in _UNITS if one["age_s"] >= size), _UNITS[-1])
    return f"last {counted(one['age_s'] // seconds, unit)} ago"


def tell_radius(told: Mapping[str, Any], verb: str = "would change") -> None:
    """Tell people of a blast radius in a line or two, where a table has the values already."""
    for line in _summary(told, verb):
        say(line)
    tell_limits(told)


def summarise(rehearsal: Rehearsal, verb: str = "change") -> None:
    """Tell whose effective values change, and which, beside the answer."""
    for line in _summary(rehearsal.told, verb):
        note(line)


def _summary(told: Mapping[str, Any], verb: str) -> list[str]:
    """Return whose effective values change, and which, in a line for all machines with whom it is the same keys."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for one in told["impact"]:
        alike.setdefault(tuple(change["key"] for change in one["changes"]), []).extend(one["machines"])
    return [f"effective values {verb} on {some(machines)}: {some(keys)}" for keys, machines in alike.items()]


def some(names: Sequence[str]) -> str:
    """Return names for a sentence: the first of them, and how many more there are."""
    shown = list(names[:_NAMED_MAX])
    return ", ".join(shown + [f"{len(names) - len(shown)} more"] * (len(names) > len(shown)))


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else msgspec.json.encode(value).decode()
