"""``replay``: the log told again from its first record, and whether it ends where the store is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from cluster_store.core.errors import InvalidValue
from cluster_store.core.naming import counted
from cluster_store.core.state import Appended
from cluster_store.exporting import Export
from cluster_store.replaying import Replayed
from cluster_store.replaying import replay as rebuild

from .failures import BAD, DONE
from .log import line_of
from .moments import Until, chosen_by, events_until, moment_of
from .progress import progress_bar
from .session import Session, note, say


def replay(
    context: typer.Context,
    until: Until = None,
    begin: Annotated[
        str | None, typer.Option("--from", metavar="WHEN", help="Show steps only from here on; all are replayed.")
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option("--speed", metavar="X", help="X times as fast as it happened; otherwise as fast as it can."),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="DIR", help="Write each event to a file there, for outside auditors."),
    ] = None,
) -> int:
    """Rebuild the state event by event, and compare it.

    Every record passes the same checks as when it first came, its seal among them. The state is made twice, through
    the documents and from the envelopes alone. Prints each step and ends with the digest, that of the store too. Exit
    status 3: the records do not come to what the store says. With --export the steps are written to files, beside a
    program that checks them and needs nothing of this one.
    """
    if speed is not None and not speed > 0:
        raise InvalidValue(f"{speed} is no speed", "give a number above 0: 1 is as fast as it happened")
    session: Session = context.obj
    with session.read() as store:
        wanted = None if until is None else events_until(moment_of(until, store), store)
        total = store.count if wanted is None else len(wanted)
        cluster = store.cluster()
        shows = chosen_by(begin, None, store)
        pace = Pace(speed)
        exported = Export(export) if export is not None else None
        told = 0

        def step(added: Appended) -> None:
            nonlocal told
            told += 1
            progress("replaying", told, total)
            if exported is not None:
                exported.add(added)
            elif shows(added):
                pace.wait_for(added)
                if not session.as_json:
                    say(f"{told:>{len(str(total))}}/{total}  {line_of(added, cluster)}")

        with progress_bar("replaying", quiet=exported is None and not session.as_json) as progress:
            outcome = rebuild(store, step, wanted)
        if exported is not None:
            exported.finish(store.cluster_id, complete=wanted is None)
            note(f"{counted(told, 'event')} exported to {export}: 'python3 verify.py' there checks them")
    session.show(_to_json(outcome), lambda: _tell(outcome))
    return DONE if outcome.agrees else BAD


class Pace:
    """Waits between events as long as their authors did, divided by the speed."""

    def __init__(self, speed: float | None) -> None:
        self._speed = speed
        self._before: int | None = None

    def wait_for(self, added: Appended) -> None:
        """Wait until an event is due."""
        now = added.record.envelope.time
        if self._speed is not None and self._before is not None and now > self._before:
            time.sleep((now - self._before) / 1000 / self._speed)
        self._before = now if self._before is None else max(now, self._before)


def _to_json(outcome: Replayed) -> dict[str, Any]:
    return {**msgspec.to_builtins(outcome), "complete": outcome.live_digest is not None, "agrees": outcome.agrees}


def _tell(outcome: Replayed) -> None:
    say(f"{counted(outcome.records, 'record')}, digest {outcome.digest}")
    if outcome.documents:
        note(f"these documents do not say what the records say: {', '.join(outcome.documents)}")
    if outcome.live_digest is None:
        if outcome.agrees:
            say("the documents and the envelopes alone come to the same")
        return
    if outcome.agrees:
        say("the store has the same digest, and its documents say the same")
    elif not outcome.documents:
        note(f"the store says otherwise: digest {outcome.live_digest}; 'cluster-store verify' shows where")
