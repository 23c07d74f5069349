"""Results as tables: one question's by itself, or two results side by side."""

from __future__ import annotations

from typing import NamedTuple

from rich.table import Table

from benchmarks.harness import Answered, Compared
from benchmarks.results import Result


class _Figure(NamedTuple):
    """One figure of a result; two of different answers cannot be compared."""

    value: float
    shown: str
    answer: str


def speeds(answered: Answered) -> Table:
    """Return what each contestant of a question took."""
    table = Table(title=answered.title, title_justify="left")
    _head(table, "who", answered.scale, f"{answered.operation}s a second", f"one {answered.operation}", "of the rounds")
    for one in answered.measured:
        each = [seconds / one.operations for seconds in one.seconds]
        rate = f"{1 / one.each:,.{0 if one.each < 0.1 else 1}f}"
        span = f"{_duration(min(each))} to {_duration(max(each))}"
        table.add_row(one.contestant, _scale(one.scale), rate, _duration(one.each), span)
    return table


def ratios(answered: Answered) -> Table:
    """Return how the contestants of a question compare."""
    table = Table()
    _head(table, "beside one another", "ratio of", "median", "of the rounds", "target", "stretch")
    for one in answered.compared:
        table.add_row(
            _between(one),
            "speeds" if one.at_most is None else "times",
            _number(one.value),
            f"{_number(min(one.values))} to {_number(max(one.values))}",
            _target(one),
            "" if one.stretch is None else f"{one.stretch:.2f}",
        )
    return table


def comparison(one: Result, other: Result) -> Table:
    """Return two results side by side: the time of each operation, and each ratio."""
    table = Table(title=f"{_origin(one)} beside {_origin(other)}", title_justify="left")
    _head(table, "question", "what", "first", "second", "second / first")
    first, second = _figures(one), _figures(other)
    for question, what in dict.fromkeys((*first, *second)):
        left, right = first.get((question, what)), second.get((question, what))
        factor = ""
        if left and right:
            factor = f"{right.value / left.value:.2f}" if left.answer == right.answer else "other work"
        table.add_row(question, what, left.shown if left else "", right.shown if right else "", factor)
    return table


def _head(table: Table, first: str, *others: str) -> None:
    table.add_column(first)
    for heading in others:
        table.add_column(heading, justify="left" if heading in {"what", "ratio of"} else "right")


def _figures(result: Result) -> dict[tuple[str, str], _Figure]:
    figures = {}
    for answered in result.questions:
        answers = {(one.contestant, one.scale): one.answer for one in answered.measured}
        for one in answered.measured:
            figures[answered.question, _who(one.contestant, one.scale)] = _Figure(
                one.each, _duration(one.each), one.answer
            )
        for ratio in answered.compared:
            both = answers[ratio.contestant, ratio.scale] + answers[ratio.floor, ratio.floor_scale]
            figures[answered.question, _between(ratio)] = _Figure(ratio.value, _number(ratio.value), both)
    return figures


def _origin(result: Result) -> str:
    return f"{result.commit or 'no commit'} of {result.at[:16]} ({result.size})"


def _between(one: Compared) -> str:
    first = one.contestant if one.scale == one.floor_scale else _who(one.contestant, one.scale)
    return f"{first} : {_who(one.floor, one.floor_scale)}"


def _target(one: Compared) -> str:
    bounds = [f"at least {one.at_least:.2f}" if one.at_least is not None else ""]
    bounds.append(f"at most {one.at_most:.2f}" if one.at_most is not None else "")
    wanted = next(filter(None, bounds), "")
    return wanted and f"{wanted}: {'met' if one.met else 'missed'}"


def _who(contestant: str, scale: int) -> str:
    return f"{contestant} {_scale(scale)}".rstrip()


def _scale(scale: int) -> str:
    return f"{scale:,}" if scale else ""


def _number(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"


def _duration(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:,.1f} us"
