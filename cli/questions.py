"""Questions with numbered choices, and defaults in brackets, as menus ask them.

An empty answer leaves, ``exit`` and ``quit`` too; ``help`` shows the choices again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cluster_store.core.naming import one_line

from . import prompts
from .session import note

#: Said where somebody may not know.
LEAVING = "Answer with nothing to leave."
_LEAVING_WORDS = ("exit", "quit")
HELP = "help"


class Left(Exception):  # noqa: N818 - nothing went wrong
    """Somebody gave an empty answer, or closed the terminal: they want to leave."""


class Choice(NamedTuple):
    """One of several things to choose from."""

    #: What a command takes for it.
    word: str
    #: What people are shown.
    shown: str


def ask(question: str, default: str = "") -> str:
    """Ask for a line; return the default for an empty one. Raises Left where there is none."""
    note(question)
    return _answer(default)


def _answer(default: str = "") -> str:
    line = prompts.read(f"[{default}]> ")
    text = line.strip() or default
    if not line or not text or text.lower() in _LEAVING_WORDS:
        raise Left
    return text


def confirm(question: str, *, default: bool) -> bool:
    """Ask a yes-or-no question until it is answered."""
    while True:
        answer = ask(question, "Y" if default else "N").lower()
        if answer in {"y", "yes", "n", "no"}:
            return answer.startswith("y")
        note("Answer yes or no.")


def choose(question: str, choices: Sequence[Choice], default: str = "") -> str:
    """Ask for one of several, by number or by name; return its word. Raises Left."""
    return _choose(question, choices, default, several=False)[0]


def choose_several(question: str, choices: Sequence[Choice]) -> list[str]:
    """Ask for some of several, as numbers, ranges and names with commas between them. Raises Left."""
    return _choose(f"{question} Separate several with commas; 1-3 is a range.", choices, "", several=True)


def _choose(question: str, choices: Sequence[Choice], default: str, *, several: bool) -> list[str]:
    _show(question, choices)
    while True:
        answer = _answer(default)
        if answer.lower() == HELP:
            _show(question, choices)
            continue
        try:
            chosen = parse(answer, choices)
        except ValueError as error:
            note(one_line(str(error)))
            continue
        if several or len(chosen) == 1:
            return chosen
        note("Choose one of them.")


def _show(question: str, choices: Sequence[Choice]) -> None:
    note(question)
    for number, choice in enumerate(choices, 1):
        note(f"{number}. {choice.shown}")


def parse(text: str, choices: Sequence[Choice]) -> list[str]:
    """Return the words that numbers, ranges and names mean, each once. Raises ValueError for what means none."""
    found: dict[str, None] = {}
    for part in (part.strip() for part in text.split(",") if part.strip()):
        named = [choice.word for choice in choices if part.casefold() in (choice.word.casefold(), _name(choice))]
        found.update(dict.fromkeys(named or (choices[at].word for at in _numbers(part, len(choices)))))
    if not found:
        raise ValueError(f"Choose something. {LEAVING}")
    return list(found)


def _name(choice: Choice) -> str:
    return choice.shown.partition(" ")[0].casefold()


def _numbers(part: str, count: int) -> range:
    first, dash, last = part.partition("-")
    try:
        begin, end = int(first), int(last if dash else first)
    except ValueError:
        raise ValueError(f"'{part}' is none of them.") from None
    if not 1 <= begin <= end <= count:
        raise ValueError(f"'{part}' is not within 1-{count}.")
    return range(begin - 1, end)
