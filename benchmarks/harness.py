"""What a question is, and how it is asked: contestants in turn, round after round, right answers only.

Rules that every figure keeps:

1. A ratio is between two contestants of the same run, taken round by round; the median counts. Whatever else the
   host does meanwhile slows both down.
2. A trial ends with a hash of what came out, which is compared with one that was worked out beforehand by other
   means. A wrong answer is never fast: its question has none.
3. Making things ready is not timed; making them durable is.
"""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypeVar

import msgspec


class WrongAnswer(Exception):  # noqa: N818 - named after what happened, as in the rest of the project
    """A contestant did something else than it was asked to."""


class Size(StrEnum):
    """How much work to do."""

    #: Seconds: whether everything still runs and is right. The figures mean nothing.
    SMOKE = "smoke"
    #: Minutes: what docs/performance.md reports.
    REAL = "real"
    #: The same, and the scales that take long to make.
    LONG = "long"


class Unit(StrEnum):
    """What an amount counts."""

    SECONDS = "s"
    BYTES = "bytes"
    #: Things: round trips.
    COUNT = "count"


class Role(StrEnum):
    """What a contestant is there for."""

    #: The product, one way or another.
    PRODUCT = "product"
    #: What nobody gets below, or what is nothing to do with the product and shows the host.
    FLOOR = "floor"
    #: What somebody could use in its place.
    PEER = "peer"


class Trial(msgspec.Struct, frozen=True):
    """What a contestant did in one round."""

    #: In the contestant's unit, for all operations together.
    amount: float
    #: Hash of what came out.
    answer: str
    #: The same of each of the contestant's parts.
    parts: Mapping[str, float] = {}


class Part(msgspec.Struct, frozen=True):
    """Something else that a trial measures beside its amount."""

    name: str
    unit: Unit
    operations: int = 1


class Contestant(msgspec.Struct, frozen=True):
    """Somebody who does the work."""

    name: str
    #: How much there is of what the question varies: records, events.
    scale: int
    #: Operations in one trial.
    operations: int
    #: The answer of whoever does the work right.
    expected: str
    #: Does the work once, in a folder of its own that is empty.
    run: Callable[[Path], Trial]
    role: Role = Role.PRODUCT
    unit: Unit = Unit.SECONDS
    parts: tuple[Part, ...] = ()

    def part(self, name: str) -> Contestant:
        """Return one of the parts as somebody who can be compared."""
        part = next(part for part in self.parts if part.name == name)
        whole = f"{self.name}, {name}"
        return msgspec.structs.replace(self, name=whole, unit=part.unit, operations=part.operations, parts=())


class Ratio(msgspec.Struct, frozen=True):
    """How one contestant compares with another, and what is wanted.

    It is of speeds, unless ``at_most`` asks for one of times or other amounts; ``stretch`` is what would be better
    still.
    """

    contestant: Contestant
    floor: Contestant
    at_least: float | None = None
    at_most: float | None = None
    stretch: float | None = None


class Goal(msgspec.Struct, frozen=True):
    """What is wanted of one contestant by itself.

    ``at_least`` asks for so many operations a second, ``at_most`` for so much of its unit in one operation, or so much
    more than another contestant's.
    """

    contestant: Contestant
    at_least: float | None = None
    at_most: float | None = None
    above: Contestant | None = None


class Stage(msgspec.Struct, frozen=True):
    """A question that is ready to be asked."""

    contestants: Sequence[Contestant]
    ratios: Sequence[Ratio] = ()
    goals: Sequence[Goal] = ()
    #: Who is not here, and why.
    missing: Sequence[str] = ()


class Place(NamedTuple):
    """Where a question makes itself ready."""

    #: Empty; lives as long as the question.
    folder: Path
    #: What several questions need; lives as long as the run.
    shelf: Path


class Question(msgspec.Struct, frozen=True):
    """One thing to find out."""

    name: str
    title: str
    #: What is counted, in the singular.
    operation: str
    #: What the scale counts, in the plural.
    scale: str
    rounds: dict[Size, int]
    scales: dict[Size, tuple[int, ...]]
    #: (where, scales) -> what to run.
    prepare: Callable[[Place, Sequence[int]], Stage]
    #: Whether daemons or servers are started for it.
    daemons: bool = False


class Measured(msgspec.Struct, frozen=True):
    """A contestant's result."""

    contestant: str
    scale: int
    operations: int
    #: Of each round, in the unit.
    amounts: list[float]
    answer: str
    role: Role
    unit: Unit

    @property
    def each(self) -> float:
        """The amount of one operation, the median of the rounds."""
        return median(self.amounts) / self.operations


class Kind(StrEnum):
    """What a comparison is of."""

    SPEEDS = "speeds"
    #: Times, or whatever the unit counts.
    AMOUNTS = "amounts"
    #: Operations a second of one contestant.
    RATE = "a second"
    #: One operation of one contestant.
    EACH = "each"
    #: How much more one operation takes than another contestant's.
    ABOVE = "above"


class Compared(msgspec.Struct, frozen=True):
    """The result of a ratio or a goal."""

    contestant: str
    scale: int
    #: Empty for a goal that is about nobody else.
    floor: str
    floor_scale: int
    kind: Kind
    unit: Unit
    #: Of each round.
    values: list[float]
    at_least: float | None
    at_most: float | None
    stretch: float | None = None

    @property
    def value(self) -> float:
        """The median of the rounds."""
        return median(self.values)

    @property
    def wanted(self) -> bool:
        """Whether there is a target."""
        return self.at_least is not None or self.at_most is not None

    @property
    def met(self) -> bool:
        """Whether it is as wanted."""
        if self.at_least is not None:
            return self.value >= self.at_least
        return self.at_most is None or self.value <= self.at_most


class Answered(msgspec.Struct, frozen=True):
    """A question's result."""

    question: str
    title: str
    operation: str
    scale: str
    measured: list[Measured]
    compared: list[Compared]
    missing: list[str]


_Sized = TypeVar("_Sized")
#: (contestant or part, scale) -> the amount of each round.
_Amounts = dict[tuple[str, int], list[float]]


def ask(
    question: Question, size: Size, folder: Path, shelf: Path, told: Callable[[str, int, int], None] = lambda *_: None
) -> Answered:
    """Ask a question in an empty folder. Raises WrongAnswer.

    ``told`` hears who is at work, how many trials are done, and of how many.
    """
    ready = folder / "ready"
    ready.mkdir()
    scales, rounds = _for(question.scales, size), _for(question.rounds, size)
    told("getting ready", 0, 1)
    stage = question.prepare(Place(ready, shelf), scales)
    amounts: _Amounts = {}
    done, whole = 0, rounds * len(stage.contestants)
    for number in range(rounds):
        # Every other round goes backwards, so that nobody always comes after the same neighbour.
        for contestant in stage.contestants[:: -1 if number % 2 else 1]:
            told(contestant.name, done, whole)
            _note(amounts, contestant, _attempt(contestant, folder / "trial"))
            done += 1
    shutil.rmtree(ready)
    return Answered(
        question.name,
        question.title,
        question.operation,
        question.scale,
        [
            Measured(one.name, one.scale, one.operations, amounts[_key(one)], one.expected, one.role, one.unit)
            for contestant in stage.contestants
            for one in (contestant, *(contestant.part(part.name) for part in contestant.parts))
        ],
        [*(_ratio(one, amounts) for one in stage.ratios), *(_goal(one, amounts) for one in stage.goals)],
        list(stage.missing),
    )


def _for(sizes: Mapping[Size, _Sized], size: Size) -> _Sized:
    """Return what a question has for a size: what it has for the real one where it has no long one."""
    return sizes[size] if size in sizes else sizes[Size.REAL]


def _attempt(contestant: Contestant, folder: Path) -> Trial:
    folder.mkdir()
    gc.collect()
    # What others left to be written would be written during our fsyncs.
    os.sync()
    trial = contestant.run(folder)
    shutil.rmtree(folder)
    if trial.answer != contestant.expected:
        raise WrongAnswer(f"{contestant.name} at {contestant.scale} came to {trial.answer}, not {contestant.expected}")
    return trial


def _note(amounts: _Amounts, contestant: Contestant, trial: Trial) -> None:
    amounts.setdefault(_key(contestant), []).append(trial.amount)
    for part in contestant.parts:
        amounts.setdefault(_key(contestant.part(part.name)), []).append(trial.parts[part.name])


def _key(contestant: Contestant) -> tuple[str, int]:
    return contestant.name, contestant.scale


def _each(one: Contestant, amounts: _Amounts) -> list[float]:
    return [amount / one.operations for amount in amounts[_key(one)]]


def _ratio(ratio: Ratio, amounts: _Amounts) -> Compared:
    one, other = ratio.contestant, ratio.floor
    values = []
    for mine, theirs in zip(_each(one, amounts), _each(other, amounts), strict=True):
        values.append(theirs / mine if ratio.at_most is None else mine / theirs)
    kind = Kind.SPEEDS if ratio.at_most is None else Kind.AMOUNTS
    bounds = (ratio.at_least, ratio.at_most, ratio.stretch)
    return Compared(one.name, one.scale, other.name, other.scale, kind, one.unit, values, *bounds)


def _goal(goal: Goal, amounts: _Amounts) -> Compared:
    one, other = goal.contestant, goal.above
    values = _each(one, amounts)
    if other is not None:
        kind = Kind.ABOVE
        values = [mine - theirs for mine, theirs in zip(values, _each(other, amounts), strict=True)]
    elif goal.at_least is not None:
        kind, values = Kind.RATE, [1 / mine for mine in values]
    else:
        kind = Kind.EACH
    floor = ("", 0) if other is None else _key(other)
    return Compared(one.name, one.scale, *floor, kind, one.unit, values, goal.at_least, goal.at_most)
