"""``clustercheck``: what collided, what merging could not keep in order, and what settles it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from time import time
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from cluster_store import bootstrap
from cluster_store.core.aftermath import Known, aftermath_since
from cluster_store.core.conflicts import TWO_LIVES, Problem, to_json
from cluster_store.core.errors import InvalidValue
from cluster_store.core.history import describe, read_event
from cluster_store.core.inbox import Inbox, inbox, overdue, problem_to_json, resolve
from cluster_store.core.naming import SHORT_ID_DIGITS, counted, excerpt, one_line
from cluster_store.core.redress import holds, named, of_one, worth_a_look
from cluster_store.core.types import MachineId

from .confirm import pending, tell_pending
from .failures import BAD, DONE
from .moments import machine_named
from .parameters import Comment
from .session import Session, note, say

if TYPE_CHECKING:
    from cluster_store.adapters.sqlite_reader import StoreReader

#: A removed machine's last events, among which one is looked for to look into it from there on.
_LAST = 100
#: For how long after its removal that is told unasked, milliseconds.
_FRESH_MS = 30 * 86_400_000
#: Where no daemon runs, nobody is known to have acknowledged anything.
NOBODY: Mapping[MachineId, int] = {}


def clustercheck(
    context: typer.Context,
    settle: Annotated[
        list[str] | None,
        typer.Option(
            "--resolve", metavar="PATH=EVENT", help="Settle what is open at PATH with the value of EVENT; repeat it."
        ),
    ] = None,
    machine: Annotated[
        str | None,
        typer.Option("--machine", metavar="NAME", help="Only what this machine did since EVENT: a stolen one, say."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="EVENT", help="With --machine: this one, and all that it had not seen."),
    ] = None,
    comment: Comment = "",
) -> int:
    """Show what was changed on both sides of a cut.

    And what else needs an operator: names that are used twice, settings without effect, machines that lived twice, and
    what a removed machine did that whoever removed it did not know of. The first value of a conflict is the one that
    counts until somebody sets another, or settles it with --resolve: PATH as it is printed here, EVENT the one whose
    value is to count. Exit status 3: something was found.
    """
    session: Session = context.obj
    if (since is None) != (machine is None) or (machine is not None and settle):
        context.fail("give --machine NAME and --since EVENT together, and nothing else with them")
    if settle:
        _resolve(session, settle, comment)
        return DONE
    with session.read() as store, store.snapshot():
        if machine is not None and since is not None:
            found, leads = Inbox([], _done_since(store, machine, since), []), []
        else:
            daemon = bootstrap.ask_daemon(session.root, "status")
            found = inbox_of(store, daemon["reached"] if daemon is not None else NOBODY)
            found = msgspec.structs.replace(found, problems=[*found.problems, *told_by(daemon)])
            leads = _leads(store)
        cluster = store.cluster()
        told = {
            "conflicts": [
                to_json(conflict, cluster, lambda record: read_event(store.event(record)))
                for conflict in found.conflicts
            ],
            "problems": [problem_to_json(problem) for problem in found.problems],
            "pending": pending(store),
            "removed": leads,
        }
    session.show(told, lambda: _tell(told))
    return BAD if found.conflicts or found.problems else DONE


def inbox_of(store: StoreReader, reached: Mapping[MachineId, int] = NOBODY) -> Inbox:
    """Return what is open in a store; ``reached``: up to where members acknowledged its log."""
    found = inbox(_known(store, reached), map(read_event, store.voids()), store.secret)
    late = overdue(store.cluster(), round(time() * 1000))
    return msgspec.structs.replace(found, problems=[*found.problems, *late])


def told_by(daemon: Mapping[str, Any] | None) -> list[Problem]:
    """Return what only this machine's daemon knows of, by its status.

    That it lets nobody in where the record says, that links cannot move to where the record says, and that this machine
    was removed and its own log does not tell.
    """
    kinds = {"deaf": "listener", "astray": "link", "dismissed": "this machine was removed"}
    return [Problem(kind, daemon[name]) for name, kind in kinds.items() if daemon is not None and daemon[name]]


def reached(session: Session, store: StoreReader) -> Mapping[MachineId, int]:
    """Return up to where members acknowledged this log, as the daemon saw it; asked only where it matters."""
    told = bootstrap.ask_daemon(session.root, "status") if store.cluster().removed else None
    return told["reached"] if told is not None else NOBODY


def _known(store: StoreReader, reached: Mapping[MachineId, int] = NOBODY) -> Known:
    return Known(
        store.me,
        store.cluster(),
        store,
        store.lines(),
        store.removals(),
        lambda until=None: map(read_event, store.events(until=until, newest_first=True)),
        lambda: map(read_event, store.events()),
        lambda record: store.event(record).position,
        reached,
    )


def lead(store: StoreReader, machine: MachineId) -> dict[str, str] | None:
    """Return from where to look into what a machine did: an event of its last ones, in words, and the command.

    None where it wrote nothing here that gave or took anybody a hold on the cluster.
    """
    cluster = store.cluster()
    last = store.events(newest_first=True, limit=_LAST, machine=machine)
    first = worth_a_look(map(read_event, last), store.me)
    if first is None:
        return None
    since = first.record.id[:SHORT_ID_DIGITS]
    return {
        "machine": cluster.hostname(machine),
        "since": first.record.id,
        "text": describe(first, cluster),
        "command": f"clustercheck --machine {named(machine, cluster)} --since {since}",
        "log": f"log --machine {named(machine, cluster)}",
    }


def show_lead(lead: Mapping[str, str]) -> str:
    """Return in a sentence how to look into what a machine did."""
    return one_line(
        f"if {lead['machine']} was in the wrong hands: '{lead['command']}' lists what it did since it "
        f"{lead['text']}, and what takes that back; '{lead['log']}' has other events to begin at"
    )


def _leads(store: StoreReader) -> list[dict[str, str]]:
    """Return from where to look into the machines removed of late, while something of that kind still stands."""
    now = round(time() * 1000)
    late = [gone.id for gone in store.cluster().removed.values() if now - gone.removed_at < _FRESH_MS]
    found = {machine: lead(store, machine) for machine in late if machine != store.me}
    return [one for machine, one in found.items() if one and holds(_done_since(store, machine, one["since"]))]


def _done_since(store: StoreReader, machine: str, since: str) -> list[Problem]:
    known = _known(store)
    moment = store.event(since).id
    return of_one(aftermath_since(known, machine_named(machine, known.cluster), moment), known, store.secret)


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
        found = inbox_of(store, reached(session, store))
        command = resolve(choices, found, store.cluster(), store, os.urandom(16))
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
    for one in told["removed"]:
        note(show_lead(one))
    tell_pending(told["pending"])


def _hint(problem: dict[str, Any]) -> str:
    since = f" (since {problem['since']})" if problem["since"] else ""
    if len(problem["events"]) == 1:
        # There is nothing to choose: naming the event says that one has looked.
        seen = f"{one_line(problem['path'])}={problem['events'][0][:SHORT_ID_DIGITS]}"
        done = "once that is so" if problem["kind"] == TWO_LIVES else "once that is seen to"
        return f"{since}; {done}: clustercheck --resolve {seen}"
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
