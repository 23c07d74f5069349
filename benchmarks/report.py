"""Results as tables: one result by itself, or two side by side."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from rich.table import Table

from benchmarks.harness import Answered, Compared, Measured
from benchmarks.results import Result


def speeds(answered: Answered) -> Table:
    """Return what each contestant of a question took."""
    table = Table(title=answered.title, title_justify="left")
    table.add_column("who")
    for heading in (answered.scale, f"{answered.operation}s a second", f"a {answered.operation}", "fastest", "slowest"):
        table.add_column(heading, justify="right")
    for one in answered.measured:
        each = [seconds / one.operations for seconds in one.seconds]
        rate = f"{1 / one.each:,.0f}" if one.each < 1 else f"{1 / one.each:,.2f}"
        table.add_row(one.contestant, _scale(one.scale), rate, *map(_duration, (one.each, min(each), max(each))))
    return table


def ratios(answered: Answered) -> Table:
    """Return how the contestants of a question compare."""
    table = Table()
    table.add_column("ratio")
    for heading in ("of", "median", "of the rounds", "target", "stretch"):
        table.add_column(heading, justify="right" if heading != "of" else "left")
    for one in answered.compared:
        verdict = "" if one.at_least is None and one.at_most is None else (" met" if one.met else " missed")
        table.add_row(
            _between(one),
            "times" if one.at_least is None else "speeds",
            f"{one.value:.2f}",
            f"{min(one.values):.2f} to {max(one.values):.2f}",
            _target(one) + verdict,
            "" if one.stretch is None else f"{one.stretch:.2f}",
        )
    return table


def comparison(one: Result, other: Result) -> Table:
    """Return two results side by side: each contestant's time for an operation, and each ratio."""
    table = Table(title=f"{_origin(one)}  beside  {_origin(other)}", title_justify="left")
    table.add_column("question")
    table.add_column("what")
    for heading in ("first", "second", "second / first"):
        table.add_column(heading, justify="right")
    for before, after in _pairs(one, other):
        for left, right in zip(before.measured, after.measured, strict=False):
            pass
    return table
