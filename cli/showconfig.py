"""``showconfig`` and ``saveconfig``: settings as a configuration file."""

from __future__ import annotations

import os
import tempfile
from enum import StrEnum
from pathlib import Path, PurePath
from typing import Annotated

import typer

from cluster_store.core import settings
from cluster_store.core.errors import StoreError
from cluster_store.formats import ENDINGS, write_config

from .parameters import Machine, Prefix, ViewedLevel, refuse_both
from .session import note, print_bytes
from .views import AsKnownBy, At, View, machine_in, view


class Format(StrEnum):
    """What configuration files can be written as."""

    JSON = "json"
    YAML = "yaml"
    CF = "cf"


Written = Annotated[Format | None, typer.Option("--format", help="How to write it.", case_sensitive=False)]
Nested = Annotated[bool, typer.Option("--nested", help="Dotted keys as objects within objects.")]


def showconfig(
    context: typer.Context,
    level: ViewedLevel = None,
    machine: Machine = None,
    prefix: Prefix = "",
    at: At = None,
    as_known_by: AsKnownBy = None,
    format: Written = None,  # noqa: A002 - the option's own name
    nested: Nested = False,
) -> None:
    """Print settings as a configuration file.

    What is effective on this machine, on another one, or what a level keeps of its own. Secrets are left out. With
    --at, as it was then: names of machines, groups and levels are those of that time too.
    """
    refuse_both(context, machine, level)
    with view(context.obj, at, as_known_by) as shown:
        found, secrets = _settings(shown, machine, level, prefix)
    print_bytes(write_config(found, format or Format.JSON, nested=nested, exact=False).encode())
    _tell_of(secrets)


def saveconfig(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to; - is standard output.")],
    level: ViewedLevel = None,
    machine: Machine = None,
    prefix: Prefix = "",
    format: Written = None,  # noqa: A002 - the option's own name
    nested: Nested = False,
) -> None:
    """Save settings to a configuration file.

    As showconfig, in the format that the file's ending names. The file is replaced whole and is readable by its
    owner only.
    """
    refuse_both(context, machine, level)
    with view(context.obj, None, None) as shown:
        found, secrets = _settings(shown, machine, level, prefix)
    text = write_config(found, format or ENDINGS.get(PurePath(file).suffix.lower(), Format.JSON), nested=nested)
    if file == "-":
        print_bytes(text.encode())
    else:
        _replace(Path(file), text)
        note(f"{len(found)} settings are in {file}")
        context.obj.show({"file": file, "settings": len(found), "left_out": secrets})
    _tell_of(secrets)


def _settings(looked_at: View, machine: str | None, level: str | None, prefix: str) -> tuple[dict[str, str], list[str]]:
    """Return keys and JSON text of what is asked for, and the keys that are secret."""
    cluster = looked_at.cluster()
    if level is not None:
        found = settings.settings_at(looked_at, cluster.level(level), prefix)
    else:
        levels = cluster.levels_for(machine_in(looked_at, machine).id)
        found = settings.effective_settings(looked_at, levels, prefix)
    shown = {key: value.value for key, value in found.items() if isinstance(value.value, str)}
    return shown, sorted(found.keys() - shown.keys())


def _tell_of(secrets: list[str]) -> None:
    if secrets:
        note(f"left out, being secret: {', '.join(secrets)}")


def _replace(path: Path, text: str) -> None:
    """Put a file in a path's place at once, whole and durable. Raises StoreError where it cannot be written."""
    try:
        # Beside the file, so that it can take its place; mkstemp gives it to its owner only.
        handle, name = tempfile.mkstemp(".new", f"{path.name}.", path.parent)
        fresh = Path(name)
        try:
            with open(handle, "w", encoding="utf-8", newline="") as file:  # noqa: PTH123 - a descriptor
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}", "choose another file") from error
