"""JSON text that comes back exactly as it was written, or is refused by name.

The reader is our own because the standard library's neither says where in a document a number would be rounded or a
member name stands twice, nor can be stopped at a depth. What it returns are plain Python values, so writing them again
gives the same text with its blanks and needless escapes removed: there is one printed form for every value.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any, Final, NoReturn

from cluster_store.core import limits
from cluster_store.core.errors import InvalidValue, OverLimit

_BLANKS: Final = re.compile(r"[ \t\n\r]*")
_WORD: Final = re.compile(r"[A-Za-z0-9+\-._]+")
_NUMBER: Final = re.compile(r"(-?(?:0|[1-9][0-9]*))((?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_LITERALS: Final = {"true": True, "false": False, "null": None}
_EXCERPT_CHARS_MAX: Final = 60
#: Python refuses to convert longer integers from and to text, because its own conversion takes quadratic time.
_PLAIN_DIGITS_MAX: Final = 4000
_decode_at: Final = json.JSONDecoder().raw_decode
_encode: Final = json.JSONEncoder(ensure_ascii=False).encode


class Members(dict[str, Any]):
    """An object as it stood in a file: ``places`` tells for each name where it was written, in words."""

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[str, str] = {}


def printed(word: str) -> str | None:
    """Return what JSON prints for the number that ``word`` spells, or None if it spells none.

    The number survives exactly if the two are equal. ``1.10`` prints as ``1.1``, ``1e400`` as ``inf``.
    """
    match = _NUMBER.fullmatch(word)
    if match is None:
        return None
    if match[2]:
        return repr(float(word))
    return "0" if word == "-0" else word


def to_int(digits: str) -> int:
    """Return the integer of any number of digits; only ``Decimal`` converts long ones quickly."""
    return int(digits) if len(digits) <= _PLAIN_DIGITS_MAX else int(Decimal(digits))


def to_number(word: str) -> int | float:
    """Return the number that ``word``, which survives (see ``printed``), stands for."""
    return to_int(word) if word.removeprefix("-").isdigit() else float(word)


def refuse_number(where: str, word: str) -> NoReturn:
    """Raise InvalidValue for a number that would not come back as it was written."""
    shown = excerpt(word)
    raise InvalidValue(
        f"{where}: the number {shown} would come back as {printed(word)}",
        f'write it as a string, "{shown}", or as the number that is meant',
    )


def excerpt(text: str) -> str:
    """Return the text for a message: cut where it would fill the screen, what cannot be printed escaped."""
    start = text[:_EXCERPT_CHARS_MAX]
    shown = start if start.isprintable() else repr(start)[1:-1]
    return shown if len(text) <= _EXCERPT_CHARS_MAX else f"{shown}…"


def read(text: str, where: str, depth_max: int = limits.JSON_DEPTH_MAX) -> Any:
    """Read one JSON document; its objects are ``Members``.

    ``where`` begins every message: a key, or a file's name. Raises InvalidValue for whatever is not JSON or would not
    come back exactly, with line, column and the path inside the document; OverLimit for a number too long to be kept.
    """
    return _Reader(text, where, depth_max).document()


def write(value: Any, where: str) -> str:
    """Return the one printed form of a value: compact, UTF-8, members in their own order.

    ``where`` begins every message. Raises InvalidValue for what JSON cannot hold and OverLimit beyond VALUE_BYTES_MAX.
    """
    writer = _Writer(where)
    writer.put_value(value, where, 0)
    return "".join(writer.pieces)


class _Reader:
    """A recursive descent over one text. ``_path`` has an entry for each container around the current place."""

    def __init__(self, text: str, where: str, depth_max: int) -> None:
        self._text = text
        self._where = where
        self._depth_max = depth_max
        self._at = 0
        self._path: list[str] = []
        self._line = 1
        self._counted = 0

    def document(self) -> Any:
        value = self._value()
        self._skip_blanks()
        if self._at != len(self._text):
            self._fail("there is more after the end of the value")
        return value

    def _value(self) -> Any:
        self._skip_blanks()
        first = self._text[self._at : self._at + 1]
        if first == '"':
            return self._string()
        if first == "{":
            return self._object()
        if first == "[":
            return self._array()
        return self._scalar()

    def _object(self) -> Members:
        self._open()
        members = Members()
        if self._take("}"):
            return members
        while True:
            self._skip_blanks()
            if not self._text.startswith('"', self._at):
                self._fail('expected a member name in "quotes"')
            place = self._place(self._at)
            name = self._string()
            if name in members:
                self._refuse(place, f"the member '{excerpt(name)}' is there twice, first at {members.places[name]}")
            members.places[name] = place
            if not self._take(":"):
                self._fail("expected : after the member name")
            self._path.append(f".{name}")
            members[name] = self._value()
            self._path.pop()
            if self._take("}"):
                return members
            if not self._take(","):
                self._fail("expected , or }")

    def _array(self) -> list[Any]:
        self._open()
        items: list[Any] = []
        if self._take("]"):
            return items
        while True:
            self._path.append(f"[{len(items)}]")
            items.append(self._value())
            self._path.pop()
            if self._take("]"):
                return items
            if not self._take(","):
                self._fail("expected , or ]")

    def _scalar(self) -> Any:
        match = _WORD.match(self._text, self._at)
        if match is None:
            found = self._text[self._at : self._at + 1]
            self._fail(f"expected a value, found {found!r}" if found else "expected a value, found the end")
        word = match[0]
        if word in _LITERALS:
            self._at = match.end()
            return _LITERALS[word]
        if len(word) > limits.VALUE_BYTES_MAX:
            raise OverLimit(f"{self._here()}: a number of {len(word)} digits; {limits.VALUE_BYTES_MAX} can be kept")
        number = printed(word)
        if number is None:
            self._fail(f"{excerpt(word)} is not a JSON value", f'write a string in quotes: "{excerpt(word)}"')
        if number != word:
            refuse_number(self._here(), word)
        self._at = match.end()
        return to_number(word)

    def _string(self) -> str:
        try:
            value, end = _decode_at(self._text, self._at)
        except json.JSONDecodeError as error:
            self._refuse(self._place(error.pos), error.msg.removesuffix(" at").removesuffix(" starting").lower())
        if _SURROGATE.search(value):
            self._fail("the string has an unpaired surrogate, which is half a character")
        self._at = end
        return str(value)

    def _open(self) -> None:
        if len(self._path) >= self._depth_max:
            self._fail(f"nested more than {self._depth_max} deep")
        self._at += 1

    def _take(self, sign: str) -> bool:
        self._skip_blanks()
        found = self._text.startswith(sign, self._at)
        self._at += found
        return found

    def _skip_blanks(self) -> None:
        match = _BLANKS.match(self._text, self._at)
        assert match is not None
        self._at = match.end()

    def _place(self, at: int) -> str:
        # Lines are counted onwards from the last place asked for, or a long file would be counted from its start for
        # every member name.
        self._line += self._text.count("\n", self._counted, at)
        self._counted = at
        return f"line {self._line}, column {at - self._text.rfind(chr(10), 0, at)}"

    def _here(self, place: str | None = None) -> str:
        path = "".join(self._path).removeprefix(".")
        return ": ".join(filter(None, (self._where, place or self._place(self._at), excerpt(path))))

    def _refuse(self, place: str, why: str, hint: str = "") -> NoReturn:
        raise InvalidValue(f"{self._here(place)}: {why}", hint)

    def _fail(self, why: str, hint: str = "") -> NoReturn:
        self._refuse(self._place(self._at), why, hint)


class _Writer:
    """Gathers the pieces of one text, and stops when they are too many: a shared list may expand without end."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._size = 0
        self.pieces: list[str] = []

    def put_value(self, value: Any, where: str, depth: int) -> None:
        if value is None or isinstance(value, bool):
            self._put({None: "null", True: "true", False: "false"}[value])
        elif isinstance(value, str):
            self._put_string(value, where)
        elif isinstance(value, int):
            self._put_int(value)
        elif isinstance(value, float | Decimal):
            self._put_fraction(value, where)
        elif isinstance(value, list | dict):
            if depth >= limits.JSON_DEPTH_MAX:
                raise InvalidValue(f"{excerpt(where)}: nested more than {limits.JSON_DEPTH_MAX} deep")
            self._put_container(value, where, depth + 1)
        else:
            raise InvalidValue(
                f"{where}: a value of type {type(value).__name__} cannot be kept as JSON",
                "write it as a string",
            )

    def _put_container(self, value: list[Any] | dict[Any, Any], where: str, depth: int) -> None:
        if isinstance(value, list):
            self._put("[")
            for index, item in enumerate(value):
                self._put("," if index else "")
                self.put_value(item, f"{where}[{index}]", depth)
            self._put("]")
            return
        self._put("{")
        for index, (name, item) in enumerate(value.items()):
            if not isinstance(name, str):
                raise InvalidValue(f"{where}: the member name {name!r} is not a string", "write the name in quotes")
            self._put("," if index else "")
            self._put_string(name, where)
            self._put(":")
            self.put_value(item, f"{where}.{excerpt(name)}", depth)
        self._put("}")

    def _put_string(self, value: str, where: str) -> None:
        found = _SURROGATE.search(value)
        if found:
            raise InvalidValue(
                f"{where}: character {found.start() + 1}, {ascii(found[0])[1:-1]}, is an unpaired surrogate",
                "give text in UTF-8",
            )
        self._put(_encode(value))

    def _put_int(self, value: int) -> None:
        # Three bits are less than a digit: such a number is too long, and converting it might take for ever.
        if value.bit_length() > 4 * limits.VALUE_BYTES_MAX:
            self._refuse_size()
        self._put(int.__repr__(value) if value.bit_length() < 3 * _PLAIN_DIGITS_MAX else str(Decimal(value)))

    def _put_fraction(self, value: float | Decimal, where: str) -> None:
        word = str(value) if isinstance(value, Decimal) else float.__repr__(value)
        number = printed(word)
        if number is None:
            raise InvalidValue(f"{where}: {word} is not a number that JSON has", "write it as a string")
        if number != word:
            refuse_number(where, word)
        self._put(word)

    def _put(self, piece: str) -> None:
        self._size += len(piece.encode())
        if self._size > limits.VALUE_BYTES_MAX:
            self._refuse_size()
        self.pieces.append(piece)

    def _refuse_size(self) -> NoReturn:
        raise OverLimit(
            f"{self._where}: the value is longer than {limits.VALUE_BYTES_MAX} bytes",
            "split it into several settings, or keep it in a file and set the file's name",
        )
