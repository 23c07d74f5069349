"""YAML as version 1.2 means it, and only what JSON can say too.

Built on the parser's events, below the library's own idea of types: there a plain ``no`` is false, ``1:30`` is 90 and
``012`` is ten. Here ``true``, ``false``, ``null`` and the numbers that JSON prints the same are what they look like;
numbers that JSON would print otherwise, and dates, are refused, since one reader's number is another's text; every
other plain word is a string. Recursion ends at a depth of our own, and aliases share what they stand for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import yaml

from cluster_store.core.errors import InvalidValue
from cluster_store.core.json_text import Members, excerpt, printed, refuse_number, to_number
from cluster_store.formats.tree import FILE_DEPTH_MAX

#: libyaml's where it was built in: many times as fast, with the same events.
LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_WORDS: Final = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt \t].*)?")
#: Numbers of YAML 1.2, but for those with leading zeros: 007 is a name, not seven.
_NUMBER: Final = re.compile(
    r"[-+]?(?:0|[1-9][0-9]*|0o[0-7]+|0x[0-9a-fA-F]+)"
    r"|[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)


def read(text: str, name: str) -> dict[str, Any]:
    """Return a YAML document as a tree; an empty one is an empty tree. ``name`` begins every message.

    Raises InvalidValue, with the line, where the text is not YAML and for what JSON could not say: tags, several
    documents, names that are not strings or stand twice, merge keys, dates, numbers that would not come back.
    """
    try:
        return _Reader(text, name).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise InvalidValue(f"{name}: {place}not YAML: {error.problem or error.context}", "mend the file") from error
    except yaml.reader.ReaderError as error:
        # One parser counts bytes and the other characters, but the first of its kind is the one that they stop at.
        before = text.partition(chr(error.character))[0]
        place = f"line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))}"
        why = f"not YAML: U+{error.character:04X} must be written as an escape"
        raise InvalidValue(f"{name}: {place}: {why}", "mend the file") from error


class _Reader:
    """A recursive descent over the events of one text. ``_path`` has an entry for each container around the event."""

    def __init__(self, text: str, name: str) -> None:
        self._name = name
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=LOADER)
        self._path: list[str] = []
        self._anchors: dict[str, Any] = {}

    def document(self) -> dict[str, Any]:
        tree: Any = None
        documents = 0
        for event in self._events:
            if not isinstance(event, yaml.DocumentStartEvent):
                continue
            documents += 1
            if documents > 1:
                self._fail(event, "a second document begins", "load each from a file of its own")
            root = next(self._events)
            tree = self._node(root)
            if not isinstance(tree, dict) and tree is not None:
                self._fail(root, "holds a single value", "write a mapping, key: value")
        return tree or {}

    def _node(self, event: yaml.Event) -> Any:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                self._fail(event, f"*{event.anchor} names nothing that is complete before it")
            return self._anchors[event.anchor]
        assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
        if event.tag is not None:
            self._fail(
                event, f"the tag {excerpt(event.tag)} says what JSON cannot", "leave it out; a string stands in quotes"
            )
        value = self._untagged(event)
        if event.anchor is not None:
            # Only now: an alias inside what it names would have no end.
            self._anchors[event.anchor] = value
        return value

    def _untagged(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> Any:
        if isinstance(event, yaml.ScalarEvent):
            return self._plain(event) if event.implicit[0] else event.value
        if len(self._path) >= FILE_DEPTH_MAX:
            self._fail(event, f"nested more than {FILE_DEPTH_MAX} deep")
        return self._sequence() if isinstance(event, yaml.SequenceStartEvent) else self._mapping()

    def _sequence(self) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            self._path.append(f"[{len(items)}]")
            items.append(self._node(event))
            self._path.pop()
        return items

    def _mapping(self) -> Members:
        members = Members()
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            name = self._member_name(event)
            place = self._place(event)
            if name in members:
                self._fail(event, f"the name '{excerpt(name)}' is there twice, first at {members.places[name]}")
            members.places[name] = place
            self._path.append(f".{name}")
            members[name] = self._node(next(self._events))
            self._path.pop()
        return members

    def _member_name(self, event: yaml.Event) -> str:
        if isinstance(event, yaml.ScalarEvent) and event.implicit[0] and event.value == "<<":
            self._fail(event, "merge keys (<<) are not YAML 1.2", "write the members out")
        name = self._node(event)
        if not isinstance(name, str):
            shown = excerpt(event.value) if isinstance(event, yaml.ScalarEvent) else "here"
            self._fail(event, f"the name {shown or '(empty)'} is not a string", "write a string in quotes")
        return name

    def _plain(self, event: yaml.ScalarEvent) -> Any:
        word = event.value
        if word in _WORDS:
            return _WORDS[word]
        if _DATE.fullmatch(word):
            self._fail(event, f"{excerpt(word)} is a date, which JSON does not have", "write it in quotes")
        if not _NUMBER.fullmatch(word):
            return word
        number = printed(word)
        if number is None:
            self._fail(
                event,
                f"{excerpt(word)} is a number that JSON writes otherwise",
                "write it in quotes, or as the number that is meant",
            )
        if number != word:
            refuse_number(self._where(event), word)
        return to_number(word)

    def _place(self, event: yaml.Event) -> str:
        assert event.start_mark is not None
        return f"line {event.start_mark.line + 1}, column {event.start_mark.column + 1}"

    def _where(self, event: yaml.Event) -> str:
        path = "".join(self._path).removeprefix(".")
        return ": ".join(filter(None, (self._name, self._place(event), excerpt(path))))

    def _fail(self, event: yaml.Event, why: str, hint: str = "") -> NoReturn:
        raise InvalidValue(f"{self._where(event)}: {why}", hint)
