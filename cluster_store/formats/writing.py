"""Settings as JSON and YAML.

YAML is written so that no reader, old or new, can take a word for something else: keys are plain only where that is
beyond doubt, every string is in double quotes, and lists are JSON's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from cluster_store.core.errors import InvalidValue
from cluster_store.core.json_text import excerpt
from cluster_store.core.values import from_python, to_python
from cluster_store.formats.tree import Tree, nest

#: Words that YAML 1.1 or 1.2 reads as something other than a string, and those that look like numbers, are not plain.
_PLAIN_KEY: Final = re.compile(r"(?!(?i:null|true|false|yes|no|on|off|y|n)$)[A-Za-z_][A-Za-z0-9_.-]*")
#: JSON has these in strings as they are; YAML takes them for line breaks, or not at all.
_NOT_IN_YAML: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
#: YAML looks no further than 1,024 characters for the colon that makes a word a name.
_YAML_NAME_CHARS_MAX: Final = 1000


def refuse_objects(settings: Mapping[str, str]) -> None:
    """Raise InvalidValue for an object with members: read back, they would be settings of their own."""
    for key in sorted(settings):
        if settings[key].startswith("{") and settings[key] != "{}":
            raise InvalidValue(
                f"the value of {excerpt(key)} is an object, whose members a file has as settings of their own",
                "set its members as dotted keys, or put the object into a list",
            )


def write_json(settings: Mapping[str, str], *, nested: bool) -> str:
    """Return a JSON object, one setting a line, each value's text exactly as it is kept."""
    return _json(nest(settings) if nested else dict(settings), "") + "\n"


def _json(tree: Tree, indent: str) -> str:
    if not tree:
        return "{}"
    lines = [
        f"{indent}  {_quoted(part)}: {below if isinstance(below, str) else _json(below, indent + '  ')}"
        for part, below in sorted(tree.items())
    ]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


def write_yaml(settings: Mapping[str, str], *, nested: bool) -> str:
    """Return a YAML mapping, one setting a line."""
    return "".join(_yaml(nest(settings) if nested else dict(settings), "")) or "{}\n"


def _yaml(tree: Tree, indent: str) -> list[str]:
    lines = []
    for part, below in sorted(tree.items()):
        name = part if _PLAIN_KEY.fullmatch(part) else _escaped(_quoted(part))
        if isinstance(below, str):
            lines.append(f"{indent}{name}: {_flow(to_python(below))}\n")
        else:
            lines += [f"{indent}{name}:\n", *_yaml(below, indent + "  ")]
    return lines


def _flow(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flow_name(name)}: {_flow(item)}" for name, item in value.items()) + "}"
    return _escaped(_quoted(value))


def _flow_name(name: str) -> str:
    text = _escaped(_quoted(name))
    return text if len(text) <= _YAML_NAME_CHARS_MAX else f"? {text} "


def _quoted(value: Any) -> str:
    return from_python(value, "a value")


def _escaped(text: str) -> str:
    return _NOT_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
