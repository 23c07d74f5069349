"""How the verdict on a seed is told: to people, to scripts, and with what it takes to see a failure again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from cluster_store.simulation.invariants import INVARIANTS
from cluster_store.simulation.options import Options
from cluster_store.simulation.run import Verdict

#: Lines of a failed run that people are shown; ``--json`` has all of them.
_TRACE_SHOWN = 60
#: Where the invariants are explained.
INVARIANTS_PAGE = "docs/invariants.md"


def to_json(verdict: Verdict, repeat: Sequence[str]) -> dict[str, Any]:
    """Return a verdict for scripts; what only a failed run or a rehearsal has is left out of the others.

    Args:
        verdict: on one seed.
        repeat: the command that repeats it, or its failure in the smallest form that was found.
    """
    told: dict[str, Any] = msgspec.to_builtins(verdict)
    if not verdict.collided:
        del told["collided"]
    if verdict.passed:
        for name in ("invariant", "failure", "trace", "smallest"):
            del told[name]
        return told
    return {**told, "broken": INVARIANTS[verdict.invariant], "page": INVARIANTS_PAGE, "repeat": shlex.join(repeat)}


def to_words(verdict: Verdict, repeat: Sequence[str]) -> str:
    """Return a verdict for people; see ``to_json``."""
    said = "passed" if verdict.passed else "FAILED"
    lines = [
        f"seed {verdict.seed}: {said}, events {verdict.events}, conflicts {verdict.conflicts}, steps {verdict.steps}"
        + (f", digest {verdict.digest[:12]}" if verdict.digest else ""),
        f"  {_options(verdict.options)}",
        *(f"  collided: {line}" for line in _collided(verdict)),
    ]
    if not verdict.passed:
        lines += _failure(verdict, repeat)
    return "\n".join(lines)


def _failure(verdict: Verdict, repeat: Sequence[str]) -> Iterator[str]:
    smallest, number = verdict.smallest, verdict.invariant
    trace, failure, steps = verdict.trace, verdict.failure, verdict.steps
    yield f"  {failure}"
    yield f"  {INVARIANTS_PAGE} says what invariant {number} means, and how it is checked"
    if smallest is not None:
        trace, failure, steps = smallest.trace, smallest.failure, smallest.steps
        faults = ", ".join(smallest.options.faults) or "no fault"
        yield (
            f"  the smallest run that fails so, of {smallest.runs} that were tried: {smallest.options.events} of "
            f"{verdict.options.events} commands, {faults}, {steps} steps"
        )
    yield f"  see it again: {shlex.join(repeat)}"
    yield ""
    if len(trace) > _TRACE_SHOWN:
        yield f"  ... {len(trace) - _TRACE_SHOWN} lines before; --json has all of them"
    yield from trace[-_TRACE_SHOWN:]


def _options(options: Options) -> str:
    told = msgspec.to_builtins(options)
    return ", ".join(f"{name} {_word(value)}" for name, value in told.items())


def _word(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}:{each}" for name, each in value.items()) or "none"
    return "-".join(map(str, value)) or "none" if isinstance(value, list | tuple) else str(value)


def _collided(verdict: Verdict) -> Iterator[str]:
    for one in verdict.collided:
        values = " against ".join(f"{value} of {machine}" for machine, value in one.lanes)
        yield f"{one.path}: {values}" + ("; settled by a later change" if one.settled else "")
