"""``loadconfig``: every setting of a configuration file, as one event."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from cluster_store.core.commands import LoadConfig
from cluster_store.core.errors import InvalidValue, NotFound, Refused
from cluster_store.core.limits import CONFIG_FILE_BYTES_MAX
from cluster_store.formats import read_config

from . import rehearsal
from .parameters import Level, Reason
from .session import SECRET, Session, note

if TYPE_CHECKING:
    from cluster_store.core.settings import Value


class Format(StrEnum):
    """What configuration files can be read as."""

    JSON = "json"
    YAML = "yaml"
    TOML = "toml"
    CF = "cf"


def loadconfig(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A configuration file; - is standard input.")],
    level: Level = None,
    prefix: Annotated[str, typer.Option("--prefix", metavar="P", help="Put every key under this one: P.KEY.")] = "",
    comment: Reason = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    format: Annotated[  # noqa: A002 - the option's own name
        Format | None,
        typer.Option("--format", help="How to read it, where its ending does not tell.", case_sensitive=False),
    ] = None,
) -> None:
    """Set every key of a configuration file, as one event.

    JSON, YAML, TOML, and files of NAME = VALUE lines as Postfix has them. Keys that the file does not name stay as
    they are. Without -m all of it is staged.
    """
    session: Session = context.obj
    loaded = read_config(_read(file), file, format)
    under = f"{prefix.removesuffix('.')}." if prefix else ""
    found = {under + key: value for key, value in loaded.settings.items()}
    command = LoadConfig(settings=found, source=file, level=level, salt=os.urandom(16))
    if dry_run:
        _rehearse(session, session.aimed(command))
        _tell_of(loaded.warnings)
        return
    result = session.change(command, comment)
    _tell_of(loaded.warnings)
    level = result["level"]
    session.report(
        result,
        f"{file}: {len(found)} settings set at {level}",
        f"{file}: nothing to change at {level}",
        f"{file}: {len(found)} settings staged at {level}",
        settings=len(found),
        warnings=loaded.warnings,
    )


def _tell_of(warnings: list[str]) -> None:
    # Not before the settings are loaded: whoever is refused is told why, and nothing else.
    for warning in warnings:
        note(warning)


def _read(file: str) -> bytes:
    """Return what is in a file, or a little more than is allowed. Raises Refused and its kin."""
    if file == "-":
        return sys.stdin.buffer.read(CONFIG_FILE_BYTES_MAX + 1)
    try:
        with Path(file).open("rb") as opened:
            return opened.read(CONFIG_FILE_BYTES_MAX + 1)
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {file}", "check its name") from error
    except IsADirectoryError as error:
        raise InvalidValue(f"{file} is a folder", "name a file in it") from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", error)
        raise Refused(f"{file} cannot be read: {why}", "check its name and mode") from error


def _rehearse(session: Session, command: LoadConfig) -> None:
    """Decide a command on what the store holds now, and show what it would write."""
    from cluster_store.core.decide import decide
    from cluster_store.core.decision import Context
    from cluster_store.core.registers import split_setting
    from cluster_store.core.settings import effective
    from cluster_store.core.types import Epoch

    with session.read() as store, store.snapshot():
        context = Context(store, store.cluster(), store.me, "", 0, Epoch(""))
        decision = decide(command, context)
        writes = decision.event.writes if decision.event else ()
        places = dict.fromkeys(place[:2] for write in writes if (place := split_setting(write.path)))
        before = [(key, effective(store, [level], key)) for level, key in places]
    # Another look at the store, that with the values of secrets: they are compared, and never shown.
    told = rehearsal.rehearse(session, command).told
    changes = [Change.of(key, value, command.settings[key]) for key, value in before]
    _show_changes(session, decision.result["level"], changes, told)


class Change(NamedTuple):
    """What a key is at a level, empty where it is not set, and what it would become, as JSON text."""

    key: str
    old: str
    new: str

    @classmethod
    def of(cls, key: str, old: Value | None, new: str) -> Change:
        """Compare; a key that is secret stays so, whatever a file says of it."""
        if old is None:
            return cls(key, "", new)
        if not isinstance(old.value, str):
            return cls(key, SECRET, SECRET)
        return cls(key, old.value, new)


def _show_changes(session: Session, level: str, changes: list[Change], told: Mapping[str, Any]) -> None:
    import msgspec

    from .tables import print_table

    note(f"{len(changes)} settings would change at {level}; nothing was changed")
    document = [
        {"key": key, "old": msgspec.Raw(old.encode()) if old else None, "new": msgspec.Raw(new.encode())}
        for key, old, new in changes
    ]

    def words() -> None:
        print_table(Change._fields, changes)
        rehearsal.tell_radius(told)

    session.show({"level": level, "changes": document, **told}, words)
