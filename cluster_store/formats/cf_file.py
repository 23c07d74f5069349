"""Files of ``name = value`` lines as Postfix reads and writes them; every value is a string.

Postfix works on bytes, so a blank is one of C's six and never one of Unicode's, and a line ends at a newline only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from cluster_store.core.errors import InvalidValue, OverLimit
from cluster_store.core.json_text import excerpt
from cluster_store.core.values import check_key, from_python, show

_BLANKS: Final = " \t\n\v\f\r"
_SETTING: Final = re.compile(r"([^ \t\n\v\f\r=]+)[ \t\n\v\f\r]*=(.*)", re.DOTALL)
#: What a name cannot have inside, or begin with.
_NOT_A_NAME: Final = re.compile(r"[ \t\n\v\f\r=]|^#")


def read(text: str, name: str, warnings: list[str]) -> dict[str, str]:
    """Return the settings of a file, values as JSON strings.

    ``name`` begins every message; what Postfix itself would only warn of is added to ``warnings``. Raises InvalidValue
    for a line that is no setting (Postfix stops there too) and for a key that cannot be one; OverLimit for a value.
    """
    settings: dict[str, str] = {}
    lines: dict[str, int] = {}
    for line, content in _logical_lines(text, name, warnings):
        where = f"{name}: line {line}"
        match = _SETTING.match(content)
        if match is None:
            raise InvalidValue(f"{where}: '{excerpt(content)}' is not of the form name = value", "add what is missing")
        key = match[1]
        try:
            check_key(key)
        except (InvalidValue, OverLimit) as error:
            raise type(error)(f"{where}: {error.message}", error.hint) from error
        if key in settings:
            warnings.append(f"{where}: {excerpt(key)} is set again, first on line {lines[key]}; the last one counts")
        lines[key] = line
        settings[key] = from_python(match[2].strip(_BLANKS), f"{where}: {excerpt(key)}")
    return settings


def _logical_lines(text: str, name: str, warnings: list[str]) -> Iterator[tuple[int, str]]:
    """Yield each logical line with the number of its first line.

    A line that begins with a blank continues the one before, also across comments and empty lines; the newline between
    them goes and all other blanks stay.
    """
    pieces: list[str] = []
    first = 0
    for number, line in enumerate(text.split("\n"), 1):
        start = line.lstrip(_BLANKS)
        if not start or start[0] == "#":
            continue
        if line[0] not in _BLANKS:
            if pieces:
                yield first, "".join(pieces)
            pieces, first = [line], number
        elif pieces:
            pieces.append(line)
        else:
            warnings.append(f"{name}: line {number}: begins with a blank but continues nothing; ignored")
    if pieces:
        yield first, "".join(pieces)


def write(settings: Mapping[str, str]) -> str:
    """Return settings as lines sorted by name, one each.

    Numbers, true and false are written as their text. Raises InvalidValue, naming the key, for what such a line cannot
    say: null, lists, objects, a newline or a NUL in a value, blanks around it, a name with a blank or ``=``.
    """
    return "".join(_line(key, settings[key]) for key in sorted(settings))


def _line(key: str, text: str) -> str:
    value = show(text)
    fault = ""
    if _NOT_A_NAME.search(key):
        fault = "a name there has no blank and no =, and does not begin with #"
    elif text[0] in "[{" or text == "null":
        fault = "a value there is text, and this one is " + ("null" if text == "null" else "a list or an object")
    elif "\n" in value or "\0" in value:
        fault = "a value there is one line of text"
    elif value != value.strip(_BLANKS):
        fault = "blanks around a value are not kept there"
    if fault:
        raise InvalidValue(f"{excerpt(key)} cannot be written as cf: {fault}", "write json or yaml")
    return f"{key} = {value}".rstrip(" ") + "\n"
