"""Results as tables at a terminal: one question's by itself, or two results side by side."""

from __future__ import annotations

from typing import NamedTuple

from rich.table import Table

from benchmarks import wording
from benchmarks.harness import Answered
from benchmarks.results import Result


class _Figure(NamedTuple):
    """One figure of a result; two of different answers cannot be compared."""

    value: float
    shown: str
    answer: str


def amounts(answered: Answered) -> Table:
    """Return what each contestant of a question took."""
    table = Table(title=answered.title, title_justify="left")
    _head(table, "who", answered.scale, f"{answered.operation}s a second", f"one {answered.operation}", "of the rounds")
    for one in answered.measured:
        shown = wording.amount(one.each, one.unit)
        table.add_row(one.contestant, wording.thousands(one.scale), wording.rate(one), shown, wording.span(one))
    return table


def comparisons(answered: Answered) -> Table:
    """Return how the contestants of a question compare, with each other and with what is wanted."""
    table = Table()
    _head(table, "beside one another", "of", "median", "of the rounds", "target", "stretch")
    for one in answered.compared:
        wanted = f"{wording.target(one)}: {wording.verdict(one)}" if one.wanted else ""
        span = f"{wording.number(one, min(one.values))} to {wording.number(one, max(one.values))}"
        stretch = "" if one.stretch is None else wording.number(one, one.stretch)
        table.add_row(
            wording.between(one),
            wording.of(one, answered.operation),
            wording.number(one, one.value),
            span,
            wanted,
            stretch,
        )
    return table


def side_by_side(one: Result, other: Result) -> Table:
    """Return two results side by side: the amount of each operation, and each comparison."""
    table = Table(title=f"{_origin(one)} beside {_origin(other)}", title_justify="left")
    _head(table, "question", "what", "first", "second", "second / first")
    first, second = _figures(one), _figures(other)
    for question, what in dict.fromkeys((*first, *second)):
        left, right = first.get((question, what)), second.get((question, what))
        factor = ""
        if left and right and left.answer != right.answer:
            factor = "other work"
        elif left and right and left.value:
            factor = f"{right.value / left.value:.2f}"
        table.add_row(question, what, left.shown if left else "", right.shown if right else "", factor)
    return table


def _head(table: Table, first: str, *others: str) -> None:
    table.add_column(first)
    for heading in others:
        table.add_column(heading, justify="left" if heading in {"what", "of"} else "right")


def _figures(result: Result) -> dict[tuple[str, str], _Figure]:
    figures = {}
    for answered in result.questions:
        answers = {(one.contestant, one.scale): one.answer for one in answered.measured}
        for one in answered.measured:
            shown = wording.amount(one.each, one.unit)
            what = wording.who(one.contestant, one.scale)
            figures[answered.question, what] = _Figure(one.each, shown, one.answer)
        for two in answered.compared:
            both = answers[two.contestant, two.scale] + answers.get((two.floor, two.floor_scale), "")
            shown = wording.number(two, two.value)
            what = wording.between(two) if two.floor else f"{wording.between(two)}, {two.kind}"
            figures[answered.question, what] = _Figure(two.value, shown, both)
    return figures


def _origin(result: Result) -> str:
    return f"{result.commit or 'no commit'} of {result.at[:16]} ({result.size})"
