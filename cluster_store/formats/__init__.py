"""Configuration files: what is in them as settings (dotted key -> JSON text), and settings as a file.

What ``write_config`` writes, ``read_config`` reads back as the same settings. What a file cannot say exactly, or says
twice, is refused by name and place rather than guessed at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from cluster_store.core import json_text, limits
from cluster_store.core.errors import InvalidValue, OverLimit
from cluster_store.formats import cf_file, toml_file, writing
from cluster_store.formats.tree import FILE_DEPTH_MAX, flatten

#: File endings and the formats they stand for.
ENDINGS: Final = {".json": "json", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".cf": "cf", ".conf": "cf"}
READABLE: Final = ("json", "yaml", "toml", "cf")
WRITABLE: Final = ("json", "yaml", "cf")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a file holds: settings (dotted key -> JSON text) in its own order, and what its reader should know."""

    settings: dict[str, str]
    warnings: list[str]


def read_config(data: bytes, name: str, format: str | None = None) -> Loaded:  # noqa: A002 - the option's own name
    """Read a configuration file.

    Args:
        data: the whole file.
        name: its name, for messages, and for the format by its ending.
        format: ``json``, ``yaml``, ``toml`` or ``cf``, where the ending does not tell.

    Raises:
        InvalidValue: the file is not UTF-8, not in its format, or holds what cannot be kept exactly.
        OverLimit: the file, one of its keys or values, or the number of its settings is beyond a bound.
    """
    chosen = format or ENDINGS.get(PurePath(name).suffix.lower())
    if chosen not in READABLE:
        raise InvalidValue(
            f"{name}: {format!r} is not a format" if format else f"{name}: its ending tells no format",
            f"choose one of {', '.join(READABLE)} with --format",
        )
    warnings: list[str] = []
    text = _decode(data, name)
    if text.startswith("\ufeff"):
        text = text[1:]
        warnings.append(f"{name}: begins with a byte order mark, which was skipped")
    try:
        settings = cf_file.read(text, name, warnings) if chosen == "cf" else flatten(_parse(text, name, chosen), name)
    except InvalidValue as error:
        raise InvalidValue(error.message, error.hint or "mend the file there; nothing of it was taken") from error
    if len(settings) > limits.WRITES_PER_EVENT_MAX:
        raise OverLimit(
            f"{name}: {len(settings)} settings; one event takes {limits.WRITES_PER_EVENT_MAX}",
            "load them from several files",
        )
    return Loaded(settings, warnings)


def write_config(
    settings: Mapping[str, str],
    format: str,  # noqa: A002 - the option's own name
    nested: bool = False,  # noqa: FBT001, FBT002 - the option's own name
    *,
    exact: bool = True,
) -> str:
    """Return settings as the text of a file, sorted by key.

    Args:
        settings: dotted key -> JSON text, as ``check_key`` and ``check_json`` leave them.
        format: ``json``, ``yaml`` or ``cf``, where every value reads back as a string.
        nested: write dotted keys as objects within objects; ``cf`` knows none. A key that others continue stays
            whole, and so do they: both ``a`` and ``a.b`` can be set.
        exact: refuse a value that is an object with members, which would read back as settings of their own. Without
            it, such a value is shown as it is.

    Raises:
        InvalidValue: not one of these formats, or a key or value would not read back the same; names the key.
    """
    if format == "cf":
        return cf_file.write(settings)
    if format not in WRITABLE:
        raise InvalidValue(f"settings cannot be written as {format!r}", f"choose one of {', '.join(WRITABLE)}")
    if exact:
        writing.refuse_objects(settings)
    write = writing.write_json if format == "json" else writing.write_yaml
    return write(settings, nested=nested)


def _parse(text: str, name: str, chosen: str) -> dict[str, object]:
    if chosen == "toml":
        return toml_file.read(text, name)
    if chosen == "yaml":
        # YAML's library takes longer to load than all the rest of a command, so only who reads YAML waits for it.
        from cluster_store.formats import yaml_file  # noqa: PLC0415 - see above

        return yaml_file.read(text, name)
    if not text.strip():
        return {}
    tree = json_text.read(text, name, FILE_DEPTH_MAX)
    if not isinstance(tree, dict):
        raise InvalidValue(f"{name}: holds a single value", 'write an object: {"key": value}')
    return tree


def _decode(data: bytes, name: str) -> str:
    if len(data) > limits.CONFIG_FILE_BYTES_MAX:
        raise OverLimit(
            f"{name}: {len(data)} bytes; {limits.CONFIG_FILE_BYTES_MAX} can be read", "load it in several files"
        )
    try:
        text = data.decode()
        at = data.find(0)
    except UnicodeDecodeError as error:
        text, at = "", error.start
    if at < 0:
        return text
    line = data.count(b"\n", 0, at) + 1
    column = at - data.rfind(b"\n", 0, at)
    why = "is not UTF-8" if data[at] else "is no text"
    raise InvalidValue(f"{name}: line {line}, byte {column} (0x{data[at]:02X}) {why}", "save the file as UTF-8 text")
