"""Between a file's objects within objects and the store's dotted keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from cluster_store.core import limits
from cluster_store.core.errors import InvalidValue, OverLimit
from cluster_store.core.json_text import Members, excerpt
from cluster_store.core.values import check_key, from_python

#: Nesting of a whole file: as many objects around a value as there may be lists and objects in one.
FILE_DEPTH_MAX: Final = 2 * limits.JSON_DEPTH_MAX

#: Part of a key -> JSON text, or what is below that part.
Tree = dict[str, "str | Tree"]


def flatten(tree: Mapping[str, Any], name: str) -> dict[str, str]:
    """Return a file's tree as settings: an object's members become dotted keys, anything else is a value.

    An empty object is a value, so that it is not lost. ``name`` begins every message. Raises InvalidValue for a key
    given twice (``{"a.b": 1, "a": {"b": 2}}``), naming both places, and for keys and values that cannot be kept.
    """
    settings: dict[str, str] = {}
    places: dict[str, str] = {}
    for key, place, value in _leaves(tree, name, "", ()):
        where = f"{name}: {place}"
        if key in places:
            raise InvalidValue(f"{where}: the key is there twice, first at {places[key]}", "keep one of them")
        try:
            check_key(key)
        except (InvalidValue, OverLimit) as error:
            raise type(error)(f"{where}: {error.message}", error.hint) from error
        places[key] = place
        settings[key] = from_python(value, where)
        # Checked while they are gathered: in YAML a few lines can stand for a number of settings without end.
        if len(settings) > limits.WRITES_PER_EVENT_MAX:
            raise OverLimit(
                f"{name}: more than the {limits.WRITES_PER_EVENT_MAX} settings that one event takes",
                "load them from several files",
            )
    return settings


def _leaves(
    members: Mapping[str, Any], name: str, prefix: str, above: tuple[str, ...]
) -> Iterator[tuple[str, str, Any]]:
    """Yield the dotted key, the place and the value of all that is below; the parts above are as they were written."""
    for part, value in members.items():
        written = (*above, f"'{excerpt(part)}'")
        place = ".".join(written)
        if isinstance(members, Members):
            place = f"{members.places[part]}: {excerpt(prefix + part)}"
        if not (isinstance(value, dict) and value):
            yield prefix + part, place, value
        elif len(written) >= limits.JSON_DEPTH_MAX:
            raise InvalidValue(f"{name}: {place}: nested more than {limits.JSON_DEPTH_MAX} deep", "write dotted keys")
        else:
            yield from _leaves(value, name, f"{prefix}{part}.", written)


def nest(settings: Mapping[str, str]) -> Tree:
    """Return settings as a tree whose objects are the keys' parts; ``flatten`` is the inverse.

    A key whose beginning is itself a key keeps the two together as one dotted part: with ``a`` set, ``a.b`` stands
    beside it. So does all that would be nested too deep to read back.
    """
    tree: Tree = {}
    for key in sorted(settings):
        *objects, last = _parts(key, settings)
        inner = tree
        for part in objects:
            below = inner.setdefault(part, {})
            assert isinstance(below, dict)
            inner = below
        inner[last] = settings[key]
    return tree


def _parts(key: str, settings: Mapping[str, str]) -> list[str]:
    parts: list[str] = []
    begun = 0
    for at, sign in enumerate(key):
        if sign == "." and key[:at] not in settings and len(parts) < limits.JSON_DEPTH_MAX - 2:
            parts.append(key[begun:at])
            begun = at + 1
    return [*parts, key[begun:]]
