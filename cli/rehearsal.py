"""What a command would come to, shown before it is carried out: its own result, and whose effective values change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from cluster_store import bootstrap

from .session import Session, note, say

if TYPE_CHECKING:
    from cluster_store.core.commands import Command

#: Names in a sentence; the rest are counted.
_NAMED_MAX = 4


class Rehearsal(NamedTuple):
    """What would come of a command."""

    #: What the command would tell, without its event.
    result: Mapping[str, Any]
    #: Whether anything would be written.
    changes: bool
    #: Whose effective values would change: ``machines``, and ``changes`` with ``key``, ``old``, ``new``, ``level``.
    impact: list[dict[str, Any]]


def rehearse(session: Session, command: Command) -> Rehearsal:
    """Decide a command on what the store holds now, and write nothing. Raises Refused and its kin as it would."""
    from cluster_store.core.decide import decide
    from cluster_store.core.decision import Context
    from cluster_store.core.impact import Foreseen, impact, to_json
    from cluster_store.core.types import Epoch

    # With the values of secrets, whoever asks: they are compared, and never shown.
    with bootstrap.read(session.root) as store, store.snapshot():
        context = Context(store, store.cluster(), store.me, "", 0, Epoch(""))
        decision = decide(session.aimed(command), context)
        foreseen = Foreseen(store, [decision.event] if decision.event else [])
        told = to_json(impact(foreseen), foreseen.cluster_after)
    return Rehearsal(decision.result, decision.event is not None, told)


def show(session: Session, rehearsal: Rehearsal, would: str) -> None:
    """Show a rehearsal: to people ``would``, then a table for each group of machines to which the same happens."""
    document = {**rehearsal.result, "dry_run": True, "changed": rehearsal.changes, "impact": rehearsal.impact}
    note(f"{would if rehearsal.changes else 'nothing would change'}; nothing was changed")
    session.show(document, lambda: _tell(rehearsal))


def _tell(rehearsal: Rehearsal) -> None:
    from .tables import print_table

    if not rehearsal.impact:
        say("no machine's effective values change")
    for one in rehearsal.impact:
        say(f"{', '.join(one['machines'])}:")
        rows = (
            [change["key"], _text(change["old"]), "unset" if change["unset"] else _text(change["new"]), change["level"]]
            for change in one["changes"]
        )
        print_table(["key", "now", "then", "from"], [[cell or "" for cell in row] for row in rows])


def summarise(rehearsal: Rehearsal, verb: str = "change") -> None:
    """Tell whose effective values change, and which, in a line for all machines with whom it is the same keys."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for one in rehearsal.impact:
        alike.setdefault(tuple(change["key"] for change in one["changes"]), []).extend(one["machines"])
    for keys, machines in alike.items():
        note(f"effective values {verb} on {some(machines)}: {some(keys)}")


def some(names: Sequence[str]) -> str:
    """Return names for a sentence: the first of them, and how many more there are."""
    shown = list(names[:_NAMED_MAX])
    return ", ".join(shown + [f"{len(names) - len(shown)} more"] * (len(names) > len(shown)))


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else msgspec.json.encode(value).decode()
