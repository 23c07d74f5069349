"""``watch``: this machine's effective settings as they change, wherever the change was made."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Annotated, NamedTuple

import msgspec
import typer

from cluster_store.core.naming import one_line, show_level
from cluster_store.core.registers import LaneValue
from cluster_store.core.settings import Value, effective_settings

from .session import SECRET, Session, note, say

#: How often the store is looked at, seconds: a glance costs about a millisecond.
_INTERVAL_S = 0.2


class Change(NamedTuple):
    """What a key was and is, as JSON text, None where it is not set; and the level that it is from now."""

    key: str
    old: str | None
    new: str | None
    level: str | None


class View(NamedTuple):
    """What was seen of a store: which log and how much of it, and the effective settings with their levels."""

    cluster: str
    records: int
    settings: dict[str, tuple[Value, str]]


def watch(
    context: typer.Context,
    prefix: Annotated[str, typer.Argument(metavar="PREFIX", help="Only keys that begin with this.")] = "",
    command: Annotated[
        str | None,
        typer.Option(
            "--exec",
            metavar="COMMAND",
            help="Run by the shell at each change, with $CLUSTER_STORE_KEY, $CLUSTER_STORE_OLD and $CLUSTER_STORE_NEW.",
        ),
    ] = None,
) -> None:
    """Print this machine's effective changes as they come.

    Until it is interrupted. Values are JSON; where a key is not set there is none, also in COMMAND's environment.
    """
    for change in _changes(context.obj, prefix):
        _print(context.obj, change)
        if command is not None:
            _run(command, change)


def _changes(session: Session, prefix: str) -> Iterator[Change]:
    """Yield changes for ever; those that come at once are in the order of their keys."""
    before = _look(session, prefix)
    note(f"watching {one_line(prefix) or 'every key'}; an interrupt ends it")
    while True:
        time.sleep(_INTERVAL_S)
        now = _look(session, prefix, before)
        for key in sorted(before.settings.keys() | now.settings.keys()):
            old, new = before.settings.get(key), now.settings.get(key)
            if _essence(old) != _essence(new):
                yield Change(key, _text(old), _text(new), new[1] if new else None)
        before = now


def _look(session: Session, prefix: str, before: View | None = None) -> View:
    """Return what the store holds now; the former view where nothing was appended since.

    The store is opened anew each time: a join puts another file in its place.
    """
    with session.read() as store, store.snapshot():
        mark = (store.cluster_id, store.count)
        if before is not None and before[:2] == mark:
            return before
        cluster = store.cluster()
        found = effective_settings(store, cluster.levels_for(store.me), prefix)
        return View(*mark, {key: (value, show_level(value.level, cluster)) for key, value in found.items()})


def _essence(seen: tuple[Value, str] | None) -> tuple[LaneValue, str] | None:
    """Return what makes two looks at a key differ: its value, a secret's by its hash, and its level."""
    return (seen[0].value, seen[1]) if seen else None


def _text(seen: tuple[Value, str] | None) -> str | None:
    if seen is None:
        return None
    return seen[0].value if isinstance(seen[0].value, str) else SECRET


def _print(session: Session, change: Change) -> None:
    old, new = (None if text is None else msgspec.Raw(text.encode()) for text in (change.old, change.new))
    session.show(
        {"key": change.key, "old": old, "new": new, "level": change.level},
        lambda: say(f"{change.key}: {change.old or 'unset'} -> {change.new or 'unset'} ({change.level or 'no level'})"),
    )
    sys.stdout.flush()


def _run(command: str, change: Change) -> None:
    told = {"KEY": change.key, "OLD": change.old, "NEW": change.new}
    environment = {f"CLUSTER_STORE_{name}": value for name, value in told.items() if value is not None}
    status = subprocess.run(["/bin/sh", "-c", command], env={**os.environ, **environment}, check=False).returncode
    if status:
        note(f"{command}: exit status {status}")
