"""Values, keys and names as the operator writes them, and the register path parts they become.

A value is kept as JSON text and comes back exactly as it was given. Keys and names are checked here, where people and
files bring them in, and never when a record is admitted: Unicode's tables differ between versions of Python, and a
record must mean the same on every machine.
"""

from __future__ import annotations

import json
import re
import shlex
import unicodedata
from typing import Any, Final

from cluster_store.core import json_text, limits
from cluster_store.core.errors import InvalidValue, OverLimit
from cluster_store.core.json_text import excerpt

#: Bound of a key as it stands in a path, in bytes. Half a path: a group's id, or a set's element, needs the rest.
KEY_BYTES_MAX: Final = limits.PATH_BYTES_MAX // 2
#: Bound of a name as it stands in a path, in bytes: with the longest key, ``setting/group/`` and a counter it fits one.
NAME_BYTES_MAX: Final = limits.PATH_BYTES_MAX - KEY_BYTES_MAX - 32

#: RFC 3986 allows these in one segment of a path as they are.
_SAFE: Final = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@]*")
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9\-._~!$&'()*+,;=:@]+")
_ESCAPED: Final = re.compile(r"(?:%[0-9A-F]{2})+")
#: Joiners are invisible but part of the spelling of Persian, of Indic scripts and of emoji.
_JOINERS: Final = "\u200c\u200d"
_INVISIBLE: Final = ("Cc", "Cf", "Cs", "Zl", "Zp")
#: Signs that have a meaning of their own beside a name; see ``check_name``.
_RESERVED: Final = re.compile(r"[/:~]")


def parse_argument(text: str) -> str:
    """Return the JSON text of a VALUE given on the command line.

    What JSON would print for itself is that JSON value; any other bare word is a string, so ``1.10``, ``007`` and
    ``1e5`` come back as they were typed. Text that begins like an object, array or quoted string is surely meant as
    JSON: InvalidValue tells where it is not, or what in it would not come back. OverLimit beyond VALUE_BYTES_MAX.
    """
    where = "the value"
    if text.startswith(("{", "[", '"')):
        try:
            return check_json(text, where)
        except InvalidValue as error:
            as_string = f"to keep it all as a string, give {shlex.quote(from_python(excerpt(text), where))}"
            raise InvalidValue(error.message, f"{error.hint}; {as_string}" if error.hint else as_string) from error
    if text in {"true", "false", "null"}:
        return text
    if json_text.printed(text) == text and len(text) <= limits.VALUE_BYTES_MAX:
        return text
    return from_python(text, where)


def check_json(text: str, where: str) -> str:
    """Return the stored text of a JSON document: compact, UTF-8, members in the order written.

    ``where`` (a key, a file and line) begins every message. Raises InvalidValue for what is not JSON or would not come
    back exactly (``1.10``, ``1e400``, ``-0``, a member name twice, half a surrogate pair, nesting over JSON_DEPTH_MAX)
    and OverLimit beyond VALUE_BYTES_MAX.
    """
    return json_text.write(json_text.read(text, where), where)


def from_python(value: Any, where: str) -> str:
    """Return the stored text of a Python value made of None, bool, int, float, str, list and dict.

    ``where`` begins every message. Raises InvalidValue for any other type, for a member name that is not a string and
    for numbers that JSON cannot write; OverLimit beyond VALUE_BYTES_MAX.
    """
    return json_text.write(value, where)


def to_python(text: str) -> Any:
    """Return the Python value of stored text; integers of any size are exact."""
    return json.loads(text, parse_int=json_text.to_int)


def show(text: str) -> str:
    """Return stored text for scripts: a string without its quotes, anything else as JSON."""
    return str(to_python(text)) if text.startswith('"') else text


def check_key(key: str) -> str:
    """Return a setting's key: dotted parts, none of them empty.

    Raises InvalidValue for a part that is empty or begins or ends with a blank, for characters that cannot be seen, and
    for a spelling that looks like another key's (not NFC); OverLimit beyond KEY_BYTES_MAX as it stands in a path.
    """
    _check_visible(key, "key")
    for part in key.split("."):
        if not part:
            raise InvalidValue(
                f"the key '{excerpt(key)}' has an empty part" if key else "a key is empty",
                "write parts joined by single dots: smtp.banner",
            )
        if part != part.strip():
            raise InvalidValue(f"a part of the key '{excerpt(key)}' begins or ends with a blank", "leave the blank out")
    if len(quote_part(key)) > KEY_BYTES_MAX:
        raise OverLimit(
            f"the key '{excerpt(key)}' takes {len(quote_part(key))} bytes in a path; {KEY_BYTES_MAX} are allowed",
            "choose a shorter key; a letter outside ASCII takes 3 bytes for each of its UTF-8 bytes",
        )
    return key


def check_name(name: str, what: str) -> str:
    """Return a name of ``what`` (``group name``, ``hostname``) if it can be one.

    Names stand in levels and paths (``group:NAME:KEY``) and in file names, so they have no ``:`` or ``/``. ``~`` marks
    the id of a name used again; a leading ``-`` would be an option, and ``.`` and ``..`` are folders. Blanks inside are
    fine. Raises InvalidValue for these, for invisible characters and for a spelling that is not NFC; OverLimit beyond
    NAME_CHARS_MAX, or NAME_BYTES_MAX as it stands in a path.
    """
    _check_visible(name, what)
    if not name:
        raise InvalidValue(f"a {what} is empty", "give a name")
    if name != name.strip():
        raise InvalidValue(f"the {what} '{excerpt(name)}' begins or ends with a blank", "leave the blank out")
    found = _RESERVED.search(name)
    if found:
        raise InvalidValue(f"the {what} '{excerpt(name)}' holds {found[0]}, which names cannot", "leave it out")
    if name.startswith("-") or name in {".", ".."}:
        raise InvalidValue(f"the {what} '{excerpt(name)}' would be taken for something else", "choose another name")
    in_path = len(quote_part(unicodedata.normalize("NFC", name.casefold())))
    if len(name) > limits.NAME_CHARS_MAX or in_path > NAME_BYTES_MAX:
        raise OverLimit(
            f"the {what} '{excerpt(name)}' has {len(name)} characters, {in_path} bytes in a path; "
            f"{limits.NAME_CHARS_MAX} and {NAME_BYTES_MAX} are allowed",
            "choose a shorter name",
        )
    return name


def _check_visible(text: str, what: str) -> None:
    """Refuse what two people could not tell apart on a screen."""
    if text.isascii() and text.isprintable():
        return
    for at, sign in enumerate(text):
        if unicodedata.category(sign) in _INVISIBLE and sign not in _JOINERS:
            raise InvalidValue(
                f"the {what} {text!a} has an invisible character, U+{ord(sign):04X}, at {at + 1}",
                "leave it out",
            )
    usual = unicodedata.normalize("NFC", text)
    if usual != text:
        raise InvalidValue(
            f"the {what} {text!a} is not in Unicode's usual form (NFC), {usual!a}",
            f"write it as {excerpt(usual)}",
        )


def quote_part(text: str) -> str:
    """Return one part of a register path, percent-encoded where it must be. The inverse is ``unquote_part``.

    Raises InvalidValue for an unpaired surrogate, which UTF-8 cannot encode.
    """
    if _SAFE.fullmatch(text):
        return text
    try:
        return _UNSAFE.sub(lambda run: "".join(f"%{byte:02X}" for byte in run[0].encode()), text)
    except UnicodeEncodeError as error:
        raise InvalidValue(f"{text!a} has an unpaired surrogate", "give text in UTF-8") from error


def unquote_part(part: str) -> str:
    """Return the text of a path part. Raises InvalidValue for anything that ``quote_part`` would not have written."""
    if _SAFE.fullmatch(part):
        return part
    try:
        text = _ESCAPED.sub(lambda run: bytes.fromhex(run[0].replace("%", "")).decode(), part)
    except UnicodeDecodeError as error:
        raise InvalidValue(f"the path part '{excerpt(part)}' does not encode UTF-8") from error
    if quote_part(text) != part:
        raise InvalidValue(f"the path part '{excerpt(part)}' is not percent-encoded as it must be")
    return text
