"""``rollbackconfig``: changes of settings taken back, as a new change."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from cluster_store.core.cluster import Cluster
from cluster_store.core.commands import RollBackConfig
from cluster_store.core.errors import NotFound
from cluster_store.core.history import FindEvent, describe, plain, read_event, written_to_json
from cluster_store.core.naming import SHORT_ID_DIGITS, counted, excerpt, one_line, show_level, show_path
from cluster_store.core.registers import split_setting
from cluster_store.core.rollback import Change, Rollback, can_be_taken_back, key_of, plan, value_of
from cluster_store.core.state import Appended
from cluster_store.core.types import MachineId

from . import rehearsal
from .moments import chosen_by, events_until, machine_named, moment_of
from .parameters import Comment, DryRun
from .session import Session, note, say

if TYPE_CHECKING:
    from cluster_store.adapters.sqlite_reader import StoreReader


def rollbackconfig(
    context: typer.Context,
    event: Annotated[str | None, typer.Argument(metavar="[EVENT]", help="Take back this one.")] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="EVENT", help="Take back all that this one had not seen.")
    ] = None,
    last: Annotated[
        int | None, typer.Option("--last", metavar="N", min=1, help="Take back the last N changes of settings here.")
    ] = None,
    machine: Annotated[
        list[str] | None,
        typer.Option(
            "--machine", metavar="NAME", help="Take back only what this machine, removed or not, wrote; repeat it."
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="EVENT", help="Take back this one and all that it had not seen."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Take back also what was changed again later.")] = False,
    dry_run: DryRun = False,
    comment: Comment = "",
) -> None:
    """Take changes of settings back, as a new change.

    Settings get the values that they had before some events. A rollback can itself be taken back. What was changed
    again later is kept and listed. Groups, machines and users stay as they are: only settings are taken back.
    --dry-run shows each value, now and then, and whose effective values change.
    """
    session: Session = context.obj
    named = [one for one in (event, to, last, since) if one is not None]
    if len(named) > 1 or (not machine and not named) or (machine and event is not None):
        context.fail("give EVENT, or one of --to EVENT, --since EVENT, --last N, or --machine NAME, alone or with one")
    with session.read() as store, store.snapshot():
        cluster = store.cluster()
        log = partial(_events, store)
        chosen = _chosen(store, cluster, event=event, to=to, last=last, machine=machine, since=since)
        rollback = plan(log, chosen, store, store.salted, force=force)
        if not rollback.events and not rollback.left:
            raise NotFound("there is nothing to take back", "'cluster-store log' shows the changes")
        told = _to_json(rollback, cluster, lambda record: read_event(store.event(record)))
    command = RollBackConfig(
        events=tuple(added.record.id for added in rollback.events),
        restorations=rollback.restorations,
        comment=comment,
    )
    foreseen = rehearsal.rehearse(session, command)
    if dry_run:
        would = f"{_sentence(rollback)} would be taken back" if foreseen.changes else "nothing would change"
        note(f"{would}; nothing was changed")
        document = {**told, "dry_run": True, "changed": foreseen.changes, **foreseen.told}
        session.show(document, partial(_tell, told))
        rehearsal.summarise(foreseen, "would change")
        if not session.as_json:
            rehearsal.tell_limits(foreseen.told)
        _warn(told)
        return
    rehearsal.summarise(foreseen, "change")
    result = session.submit(command)
    _warn(told)
    session.report(result, f"{_sentence(rollback)} taken back", "nothing to change", **told)


def _events(store: StoreReader) -> Any:
    return map(read_event, store.events())


def _chosen(
    store: StoreReader,
    cluster: Cluster,
    *,
    event: str | None,
    to: str | None,
    last: int | None,
    machine: Sequence[str] | None,
    since: str | None,
) -> Callable[[Appended], bool]:
    """Return what says which events are to be taken back."""
    if event is not None:
        wanted = store.event(event).id
        return lambda added: added.record.id == wanted
    authors = [machine_named(name, cluster) for name in machine or ()]
    if last is not None:
        written = map(read_event, store.events(newest_first=True, machine=authors[0] if len(authors) == 1 else None))
        newest = (added for added in written if can_be_taken_back(added) and _is_by(authors, added))
        ids = {added.record.id for added in islice(newest, min(last, sys.maxsize))}
        return lambda added: added.record.id in ids
    begun = chosen_by(since, None, store)
    seen = events_until(moment_of(to, store), store) if to is not None else set()
    return lambda added: _is_by(authors, added) and added.record.id not in seen and begun(added)


def _is_by(authors: Sequence[MachineId], added: Appended) -> bool:
    return not authors or added.record.envelope.machine in authors


# --- for scripts ---


def _to_json(rollback: Rollback, cluster: Cluster, find: FindEvent) -> dict[str, Any]:
    kept = []
    for change in rollback.kept:
        by = written_to_json(find(change.now.id), cluster) if change.now is not None else None
        covered = [plain(lane.value) for lane in change.covered]
        kept.append({**_change(change, cluster), "by": by, "covered": covered})
    return {
        "events": [added.record.id for added in rollback.events],
        "changes": [_change(change, cluster) for change in rollback.changes],
        "settled": [
            {
                **_change(change, cluster),
                "beside": [
                    {"value": plain(lane.value), **written_to_json(find(lane.id), cluster)} for lane in change.beside
                ],
            }
            for change in rollback.settled
        ],
        "kept": kept,
        "lost": [_change(change, cluster) for change in rollback.lost],
        "left": [{**written_to_json(added, cluster), "text": describe(added, cluster)} for added in rollback.left],
    }


def _change(change: Change, cluster: Cluster) -> dict[str, Any]:
    """Return what becomes of a register; ``set`` tells a value of null from none at all."""
    setting = split_setting(change.path)
    shown: dict[str, Any] = {
        "path": show_path(change.path, cluster),
        "key": key_of(change.path),
        "level": show_level(setting[0], cluster) if setting is not None else None,
        "element": plain(setting[2]) if setting is not None and setting[2] is not None else None,
    }
    for name, lane in (("now", change.now), ("then", change.then)):
        shown[name] = plain(value_of(lane))
        shown[f"set_{name}"] = value_of(lane) is not None
    return shown | {"gone": [{"event": lane.id, "value": plain(lane.value)} for lane in change.gone]}


# --- for people ---


def _sentence(rollback: Rollback) -> str:
    if len(rollback.events) == 1:
        added = rollback.events[0]
        return f"the event {added.record.id[:SHORT_ID_DIGITS]}"
    return counted(len(rollback.events), "event")


def _tell(told: dict[str, Any]) -> None:
    from .tables import print_table

    changes = [change for change in told["changes"] if change["level"] is not None]
    if not changes:
        say("no setting changes")
        return
    rows = [[_key(change), change["level"], _text(change, "now"), _then(change)] for change in changes]
    print_table(["key", "level", "now", "then"], rows)


def _warn(told: dict[str, Any]) -> None:
    """Say what is not taken back, and why."""
    for change in told["kept"]:
        by = change["by"]
        who = f", {_by(by)}" if by is not None else ""
        under = ", ".join(_said(change, value) for value in change["covered"])
        again = f", and {under} is there again once that has gone back" if under else ""
        note(
            one_line(
                f"kept: {_key(change)} at {change['level']} is {_text(change, 'now')}{who}; "
                f"before that event it was {_text(change, 'then')}{again}"
            )
        )
    if told["kept"]:
        note("--force takes these back too")
    for change in told["settled"]:
        for lane in change["beside"]:
            what = f"{_key(change)} at {change['level']}: {_said(change, lane['value'])}, {_by(lane)}"
            note(one_line(f"stood there too, and does not come back: {what}"))
    for change in told["lost"]:
        shown = one_line(f"{_key(change)} at {change['level']}")
        note(f"left out: the secret {shown}: its value of then is not here, or not for you")
    for event in told["left"]:
        what = one_line(f"{event['machine']}#{event['seq']} ({event['event'][:SHORT_ID_DIGITS]}): {event['text']}")
        note(f"not taken back, being no change of settings alone: {what}")


def _by(written: dict[str, Any]) -> str:
    why = f", {written['comment']!r}" if written["comment"] else ""
    event = written["event"][:SHORT_ID_DIGITS]
    return f"by {written['user']} on {written['machine']}#{written['seq']} at {written['time']}{why} (event {event})"


def _key(change: dict[str, Any]) -> str:
    element = change["element"]
    return str(change["key"]) if element is None else f"{change['key']}[{_json(element)}]"


def _then(change: dict[str, Any]) -> str:
    then = _text(change, "then")
    if then != _text(change, "now"):
        return then
    beside = ", ".join(_said(change, lane["value"]) for lane in change["gone"])
    return f"{then}, without {beside} beside or under it"


def _text(change: dict[str, Any], when: str) -> str:
    return _said(change, change[when])


def _said(change: dict[str, Any], value: Any) -> str:
    """Return a value of a register for people; of an element of a set, whether it is in it."""
    if value is None:
        return "unset" if change["element"] is None else "not in it"
    if change["element"] is not None:
        return {"true": "in it", "false": "knocked out"}.get(_json(value), "not in it")
    return _json(value)


def _json(value: Any) -> str:
    return excerpt(value if isinstance(value, str) else msgspec.json.encode(value).decode())
