"""Figures in words: amounts with their units, targets, and whether they were met."""

from __future__ import annotations

from benchmarks.harness import Compared, Kind, Measured, Unit

_MIB = 1024 * 1024


def amount(value: float, unit: Unit) -> str:
    """Return an amount as people read it."""
    if unit is Unit.SECONDS:
        return _duration(value)
    if unit is Unit.BYTES:
        return f"{value / _MIB:,.1f} MiB" if abs(value) >= _MIB else f"{value:,.{_places(value)}f} bytes"
    return f"{value:,.{_places(value)}f}"


def _places(value: float) -> int:
    return 1 if abs(value) < 100 and value != int(value) else 0


def span(one: Measured) -> str:
    """Return the least and the most that one operation took, of the rounds."""
    each = [amount_ / one.operations for amount_ in one.amounts]
    return f"{amount(min(each), one.unit)} to {amount(max(each), one.unit)}"


def rate(one: Measured) -> str:
    """Return how many operations a contestant does in a second; nothing where it is not about time."""
    if one.unit is not Unit.SECONDS or not one.each:
        return ""
    return _rate(1 / one.each)


def who(contestant: str, scale: int) -> str:
    """Return a contestant's name with how much it works on."""
    return f"{contestant} {thousands(scale)}".rstrip()


def thousands(scale: int) -> str:
    """Return a scale, nothing where there is none."""
    return f"{scale:,}" if scale else ""


def between(one: Compared) -> str:
    """Return what is compared."""
    if not one.floor:
        return who(one.contestant, one.scale)
    first = one.contestant if one.scale == one.floor_scale else who(one.contestant, one.scale)
    return f"{first} : {who(one.floor, one.floor_scale)}"


def number(one: Compared, value: float) -> str:
    """Return a value of a comparison."""
    if one.kind in {Kind.EACH, Kind.ABOVE}:
        return amount(value, one.unit)
    if one.kind is Kind.RATE:
        return _rate(value)
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def of(one: Compared, operation: str) -> str:
    """Return what a comparison is of."""
    if one.kind is Kind.AMOUNTS:
        return "times" if one.unit is Unit.SECONDS else "sizes"
    words = {Kind.RATE: f"{operation}s a second", Kind.EACH: f"one {operation}", Kind.ABOVE: "difference"}
    return words.get(one.kind, one.kind)


def target(one: Compared) -> str:
    """Return what is wanted, nothing where nothing is."""
    if one.at_least is not None:
        return f"at least {number(one, one.at_least)}"
    return "" if one.at_most is None else f"at most {number(one, one.at_most)}"


def verdict(one: Compared) -> str:
    """Return whether it is as wanted."""
    if not one.wanted:
        return ""
    return "met" if one.met else "missed"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _duration(seconds: float) -> str:
    if abs(seconds) >= 1:
        return f"{seconds:,.2f} s"
    return f"{seconds * 1e3:,.1f} ms" if abs(seconds) >= 1e-3 else f"{seconds * 1e6:,.1f} us"
