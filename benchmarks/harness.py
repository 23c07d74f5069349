"""What a question is, and how it is asked: contestants in turn, round after round, right answers only.

Rules that every figure keeps:

1. A ratio is between two contestants of the same run, taken round by round; the median counts. Whatever else the
   host does meanwhile slows both down.
2. A trial ends with a hash of what came out, which is compared with one that was worked out beforehand by other
   means. A wrong answer is never fast: it ends the run.
3. Making things ready is not timed; making them durable is.
"""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from statistics import median

import msgspec


class WrongAnswer(Exception):  # noqa: N818 - named after what happened, as in the rest of the project
    """A contestant did something else than it was asked to."""


class Size(StrEnum):
    """How much work to do."""

    #: Seconds: whether everything still runs and is right. The figures mean nothing.
    SMOKE = "smoke"
    #: Minutes: what docs/performance.md reports.
    REAL = "real"


class Trial(msgspec.Struct, frozen=True):
    """What a contestant did in one round."""

    seconds: float
    #: Hash of what came out.
    answer: str


class Contestant(msgspec.Struct, frozen=True):
    """Somebody who does the work: the product one way or another, or a floor below which nobody gets."""

    name: str
    #: How much there is of what the question varies: records, events.
    scale: int
    #: Operations in one trial.
    operations: int
    #: The answer of whoever does the work right.
    expected: str
    #: Does the work once, in a folder of its own that is empty.
    run: Callable[[Path], Trial]


class Ratio(msgspec.Struct, frozen=True):
    """How one contestant compares with another, and what is wanted.

    It is of speeds, unless ``at_most`` asks for one of times; ``stretch`` is what would be better still.
    """

    contestant: Contestant
    floor: Contestant
    at_least: float | None = None
    at_most: float | None = None
    stretch: float | None = None


class Stage(msgspec.Struct, frozen=True):
    """A question that is ready to be asked."""

    contestants: Sequence[Contestant]
    ratios: Sequence[Ratio]


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
    #: (an empty folder that lives as long as the question, scales) -> what to run.
    prepare: Callable[[Path, Sequence[int]], Stage]


class Measured(msgspec.Struct, frozen=True):
    """A contestant's result."""

    contestant: str
    scale: int
    operations: int
    #: Of each round.
    seconds: list[float]
    answer: str

    @property
    def each(self) -> float:
        """Seconds for one operation, the median of the rounds."""
        return median(self.seconds) / self.operations


class Compared(msgspec.Struct, frozen=True):
    """A ratio's result."""

    contestant: str
    scale: int
    floor: str
    floor_scale: int
    #: Of each round: of times where there is ``at_most``, else of speeds.
    values: list[float]
    at_least: float | None
    at_most: float | None
    stretch: float | None

    @property
    def value(self) -> float:
        """The median of the rounds."""
        return median(self.values)

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


def ask(question: Question, size: Size, folder: Path) -> Answered:
    """Ask a question in an empty folder. Raises WrongAnswer."""
    ready = folder / "ready"
    ready.mkdir()
    stage = question.prepare(ready, question.scales[size])
    seconds: dict[tuple[str, int], list[float]] = {}
    for number in range(question.rounds[size]):
        # Every other round goes backwards, so that nobody always comes after the same neighbour.
        for contestant in stage.contestants[:: -1 if number % 2 else 1]:
            trial = _attempt(contestant, folder / "trial")
            seconds.setdefault((contestant.name, contestant.scale), []).append(trial.seconds)
    shutil.rmtree(ready)
    return Answered(
        question.name,
        question.title,
        question.operation,
        question.scale,
        [
            Measured(one.name, one.scale, one.operations, seconds[one.name, one.scale], one.expected)
            for one in stage.contestants
        ],
        [_compare(ratio, seconds) for ratio in stage.ratios],
    )


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


def _compare(ratio: Ratio, seconds: dict[tuple[str, int], list[float]]) -> Compared:
    one, other = ratio.contestant, ratio.floor
    values = []
    for mine, theirs in zip(seconds[one.name, one.scale], seconds[other.name, other.scale], strict=True):
        times = (mine / one.operations) / (theirs / other.operations)
        values.append(1 / times if ratio.at_most is None else times)
    return Compared(one.name, one.scale, other.name, other.scale, values, ratio.at_least, ratio.at_most, ratio.stretch)
