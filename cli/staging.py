"""``commit`` and ``clearchanges``, and what ``diff`` shows of a draft: what is staged, and what changed under it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
import typer

from cluster_store import bootstrap
from cluster_store.core.commands import CommitConfig, Staged
from cluster_store.core.errors import NotFound, Refused
from cluster_store.core.history import describe, plain, read_event, written_to_json
from cluster_store.core.naming import SHORT_ID_DIGITS, counted, excerpt, iso_time, one_line, show_level, show_path
from cluster_store.core.registers import Registers, Standing, WriteValue, split_setting

from . import prompts, rehearsal
from .parameters import Comment, duration, lasting_text
from .session import Session, note, say

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from cluster_store.adapters.sqlite_reader import StoreReader
    from cluster_store.core.cluster import Cluster
    from cluster_store.core.decide_commit import Changed, Preview
    from cluster_store.core.state import Appended
    from cluster_store.core.types import Path, RecordId

_NOTHING = "nothing is staged"


class Review(NamedTuple):
    """A draft as it is looked at."""

    staged: tuple[Staged, ...]
    revision: str
    #: The same with what stands now: what is committed where that was accepted.
    renewed: tuple[Staged, ...]
    #: ``changes`` and the blast radius, ``changed_since`` it was staged, and what is ``refused`` by now; for scripts.
    told: dict[str, Any]


def review(session: Session) -> Review:
    """Look at what is staged, on what the store holds now."""
    from cluster_store.core.decide_commit import preview
    from cluster_store.core.decision import Context
    from cluster_store.core.types import Epoch

    draft = session.draft()
    # With the values of secrets, whoever asks: they are compared, and never shown.
    with bootstrap.read(session.root) as store, store.snapshot():
        cluster = store.cluster()
        # Read once: each command looks at every register that it is about several times.
        registers = Standing(dict(store.under("")))
        found = preview(draft.staged, Context(registers, cluster, store.me, "", 0, Epoch("")))
        lasting = {seen.path: one.command.lasts for one in draft.staged for seen in one.seen}
        stood = {seen.path: {lane for lane, _ in seen.stood} for one in draft.staged for seen in one.seen}
        ended = _ended(store, {one.path: stood[one.path] for one in found.changed if stood.get(one.path)})
        told = {
            "staged": len(draft.staged),
            "changes": _changes(registers, cluster, found, lasting),
            **rehearsal.foresee(session, store, found.event),
            "changed_since": [_three_values(store, cluster, one, ended.get(one.path)) for one in found.changed],
            "refused": [
                {"paths": [show_path(seen.path, cluster) for seen in one.seen], "why": error.message}
                for one, error in found.refused
            ],
        }
    return Review(draft.staged, draft.revision, found.renewed, told)


def _changes(
    registers: Registers, cluster: Cluster, found: Preview, lasting: Mapping[Path, int | None]
) -> list[dict[str, Any]]:
    """Return what a draft changes; ``lasts``: after how many milliseconds that goes back by itself, None for never."""
    from cluster_store.core.comparison import Difference, to_json
    from cluster_store.core.rollback import best

    paths = [write.path for write in found.event.writes] if found.event else []
    return [
        {
            **to_json(
                Difference(path, best(path, registers.standing(path)), best(path, found.after.standing(path))), cluster
            ),
            "lasts": lasting.get(path),
        }
        for path in paths
    ]


def _three_values(store: StoreReader, cluster: Cluster, one: Changed, ended: Appended | None) -> dict[str, Any]:
    """Return what stood when it was staged, what stands now, by whom, and what was staged; None is no value.

    ``ended`` is the event that took what stood away and put nothing in its place, such as a timer's; None for none.
    """
    return {
        **_named(one.path, cluster),
        "stood": [plain(value) for value in one.stood],
        "stands": [
            {"value": plain(lane.value), **written_to_json(read_event(store.event(lane.id)), cluster)}
            for lane in one.stands
        ],
        "ended": {**written_to_json(ended, cluster), "text": describe(ended, cluster)} if ended is not None else None,
        "staged": plain(one.staged),
        "becomes": plain(one.becomes),
    }


def _ended(store: StoreReader, stood: Mapping[Path, Collection[RecordId]]) -> dict[Path, Appended]:
    """Return for registers the newest event that took away what stood there, where it put nothing in its place."""
    ended = {}
    open_ones = dict(stood)
    # The log is read once, and no further back than what stood.
    for event in map(read_event, store.events(newest_first=True)) if stood else ():
        for write in () if event.void else event.record.envelope.writes:
            if any(one in open_ones.get(write.path, ()) for one in write.replaced):
                del open_ones[write.path]
                if write.value is False:
                    ended[write.path] = event
        open_ones = {path: lanes for path, lanes in open_ones.items() if event.record.id not in lanes}
        if not open_ones:
            break
    return ended


def _named(path: Path, cluster: Cluster) -> dict[str, Any]:
    setting = split_setting(path)
    named: dict[str, Any] = {"path": show_path(path, cluster)}
    if setting is not None:
        named |= {"key": setting[1], "level": show_level(setting[0], cluster)}
        named |= {"element": plain(setting[2])} if setting[2] is not None else {}
    return named


# --- the commands --------------------------------------------------------------------------------------


def show(session: Session) -> None:
    """Show what is staged, old and new, and what would come of it."""
    told = review(session).told
    session.show(told, partial(_tell, told))


def commit(
    context: typer.Context,
    comment: Comment = "",
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also where something was changed since it was staged: yours counts then.")
    ] = False,
    within: Annotated[
        str | None,
        typer.Option("--confirm-within", metavar="TIME", help="It goes back unless confirmed by then: 10m, 4h."),
    ] = None,
) -> None:
    """Make all that is staged live, as one event.

    Whole or not at all. Where somebody has changed meanwhile what is staged, here or on another machine, that is shown:
    what stood when it was staged, what stands now, and yours. Then it goes on only with --anyway, or with a yes at a
    terminal. With --confirm-within this machine takes it back by itself unless somebody confirms it in time, on any
    machine; also where it is cut off or was restarted meanwhile.
    """
    session: Session = context.obj
    window = duration(context, within, "--confirm-within")
    found = review(session)
    if not found.staged:
        raise NotFound(_NOTHING, "'set' and its like stage a change when they are given without -m")
    for one in found.told["refused"]:
        what = one_line(rehearsal.some(one["paths"]))
        raise Refused(f"{what} cannot be committed any more: {one['why']}", "'clearchanges' drops all that is staged")
    changed = found.told["changed_since"]
    if changed:
        _insist(session, changed, anyway=anyway)
    staged = found.renewed if changed else found.staged
    command = CommitConfig(staged=staged, confirm_within=window, comment=comment)
    result = session.commit(command, found.revision)
    rehearsal.summarise(rehearsal.Rehearsal({}, changes=True, told=found.told))
    until = iso_time(result["until"]) if result.get("until") else None
    why = f", {'to be confirmed before' if window else 'some of it until'} {until}" if until else ""
    session.report(
        {**result, "until": until},
        f"{counted(len(found.staged), 'staged change')} committed{why}",
        "all that was staged is so already; nothing is staged any more",
    )
    if until is not None:
        from .confirm import tell_unwatched

        tell_unwatched(session)


def _insist(session: Session, changed: list[dict[str, Any]], *, anyway: bool) -> None:
    """Show what was changed under a draft. Raises Refused unless it is to be committed all the same."""
    if not anyway or not session.as_json:
        session.show({"event": None, "changed": False, "changed_since": changed}, partial(_tell_changed, changed))
    if anyway or (prompts.at_terminal() and prompts.confirm("Commit yours in their place?")):
        return
    raise Refused(
        f"{counted(len(changed), 'staged value')} changed since staging; nothing was committed",
        "'commit --anyway' puts yours in their place; 'clearchanges' drops all that is staged",
    )


def clearchanges(context: typer.Context) -> None:
    """Drop all that is staged.

    What it was is shown: whoever wants some of it can stage that again.
    """
    session: Session = context.obj
    draft = session.draft()
    last = {seen.path: seen.becomes for one in draft.staged for seen in one.seen}
    with session.read() as store:
        cluster = store.cluster()
    dropped = [
        {**_named(path, cluster), "staged": plain(value), "unset": not _is_set(value)} for path, value in last.items()
    ]
    if draft.staged:
        session.execute("unstage", revision=draft.revision)
    note(f"{counted(len(draft.staged), 'staged change')} dropped" if draft.staged else _NOTHING)
    session.show({"staged": len(draft.staged), "dropped": dropped}, partial(_tell_dropped, dropped))


def _is_set(value: WriteValue) -> bool:
    return value is not None and value is not False


# --- for people ----------------------------------------------------------------------------------------


def _tell(told: dict[str, Any]) -> None:
    from .tables import print_table

    if not told["staged"]:
        say(_NOTHING)
        return
    changes = [one for one in told["changes"] if "key" in one]
    if changes:
        rows = [[one_line(one["path"]), _either(one, "old"), _either(one, "new") + _for(one)] for one in changes]
        print_table(["what", "now", "staged"], rows)
        rehearsal.tell(told)
    else:
        say("all that is staged is so already")
    if told["changed_since"]:
        say("changed since it was staged:")
        _tell_changed(told["changed_since"])
    for one in told["refused"]:
        say(one_line(f"cannot be committed any more: {rehearsal.some(one['paths'])}: {one['why']}"))


def _tell_changed(changed: list[dict[str, Any]]) -> None:
    from .tables import print_table

    rows = [
        [
            one_line(one["path"]),
            _several(one, one["stood"]),
            _several(one, [lane["value"] for lane in one["stands"]]),
            _word(one, one["staged"]),
        ]
        for one in changed
    ]
    print_table(["what", "when staged", "now", "staged"], rows)
    for one in changed:
        for lane in one["stands"]:
            by = f"{lane['user']} on {lane['machine']}#{lane['seq']} at {lane['time']}"
            why = f", {lane['comment']!r}" if lane["comment"] else ""
            event = lane["event"][:SHORT_ID_DIGITS]
            say(one_line(f"{one['path']} is {_word(one, lane['value'])} by {by}{why} (event {event})"))
        if one["ended"] is not None:
            lane = one["ended"]
            by = f"by {lane['user']} on {lane['machine']}#{lane['seq']} at {lane['time']}"
            say(one_line(f"{one['path']} went back {by}: {lane['text']} (event {lane['event'][:SHORT_ID_DIGITS]})"))
        if _text(one["becomes"]) != _text(one["staged"]):
            say(one_line(f"{one['path']} would become {_word(one, one['becomes'])} by now"))


def _tell_dropped(dropped: list[dict[str, Any]]) -> None:
    from .tables import print_table

    rows = [
        [one_line(one["path"]), _word(one, None if one["unset"] else one["staged"])] for one in dropped if "key" in one
    ]
    if rows:
        print_table(["what", "staged"], rows)


def _either(change: dict[str, Any], when: str) -> str:
    return _word(change, change[when] if change[f"set_{when}"] else None)


def _for(change: dict[str, Any]) -> str:
    """Return for how long a staged change is to count, empty where it stays."""
    return f" for {lasting_text(change['lasts'])}" if change["lasts"] is not None else ""


def _word(about: dict[str, Any], value: Any) -> str:
    """Return a value for people; of an element of a set, whether it is in it."""
    text = _text(value)
    return {"true": "in it", "false": "knocked out"}.get(text, "not in it") if "element" in about else text


def _several(about: dict[str, Any], values: list[Any]) -> str:
    return " and ".join(_word(about, value) for value in values) or _word(about, None)


def _text(value: Any) -> str:
    if value is None:
        return "unset"
    return excerpt(value if isinstance(value, str) else msgspec.json.encode(value).decode())
