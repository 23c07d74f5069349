"""``simulate``: a fleet in this process, under faults, with checkers that watch."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .failures import BAD, DONE
from .session import Session, note, print_json, say

if TYPE_CHECKING:
    from cluster_store.simulation.options import Options
    from cluster_store.simulation.run import Verdict

#: Lines of a failed run that people are shown; ``--json`` has all of them.
_TRACE_SHOWN = 60


def simulate(
    context: typer.Context,
    machines: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=20, help="Members in the end; otherwise drawn.")
    ] = None,
    events: Annotated[
        int | None, typer.Option(metavar="N", min=0, max=100_000, help="Commands that are asked for; otherwise drawn.")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="S", min=0, help="Decides everything; otherwise drawn.")] = None,
    seeds: Annotated[int, typer.Option(metavar="COUNT", min=1, help="Run so many seeds, from this one on.")] = 1,
    faults: Annotated[
        str, typer.Option(metavar="NAMES", help="all (which of them, is drawn), none, or names joined by commas.")
    ] = "all",
) -> int:
    """Run a fleet under faults in virtual time, and check it.

    Real stores' code on virtual clocks, links and disks; then all faults end, and all machines must come to the same
    state. The same seed gives the same run anywhere. A run that fails ends with the steps that led there. Exit status
    3: an invariant broke.
    """
    from cluster_store.simulation.options import draw
    from cluster_store.simulation.run import simulate as run

    first = _drawn() if seed is None else seed
    names = _faults(faults)
    chosen = ((one, draw(one, machines=machines, events=events, faults=names)) for one in range(first, first + seeds))
    verdicts = (_told(context.obj, run(one, options)) for one, options in _shown(chosen, seeds))
    failed = [verdict.seed for verdict in verdicts if not verdict.passed]
    if seeds > 1:
        note(f"{seeds - len(failed)} of {seeds} seeds passed" + (f"; these failed: {failed}" if failed else ""))
    return BAD if failed else DONE


def _drawn() -> int:
    import secrets

    return secrets.randbelow(1 << 32)


def _faults(text: str) -> Sequence[str] | None:
    from cluster_store.simulation.options import FAULTS

    if text in ("all", "none"):
        return None if text == "all" else ()
    names = text.split(",")
    for name in names:
        if name not in FAULTS:
            known = "; ".join(f"{known}: {what}" for known, what in FAULTS.items())
            raise typer.BadParameter(f"there is no fault '{name}'. There are {known}", param_hint="--faults")
    return names


def _shown(chosen: Iterator[tuple[int, Options]], count: int) -> Iterator[tuple[int, Options]]:
    """Yield what is to be run, and show how far that is to whoever waits for many at a terminal."""
    if count == 1 or not sys.stderr.isatty():
        yield from chosen
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(chosen, "seeds", total=count, console=Console(stderr=True), transient=True)


def _told(session: Session, verdict: Verdict) -> Verdict:
    """Tell how one seed went."""
    if session.as_json:
        print_json(_document(verdict))
        return verdict
    options = ", ".join(f"{name} {_word(value)}" for name, value in _document(verdict)["options"].items())
    said = "passed" if verdict.passed else "FAILED"
    say(
        f"seed {verdict.seed}: {said}, {verdict.events} events, {verdict.conflicts} conflicts, {verdict.steps} steps, "
        f"digest {verdict.digest[:12]}\n  {options}"
    )
    if not verdict.passed:
        say("\n".join([f"  {verdict.failure}", "", *verdict.trace[-_TRACE_SHOWN:]]))
    return verdict


def _document(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict for scripts; what only a failed run has is left out of the others."""
    import msgspec

    told: dict[str, Any] = msgspec.to_builtins(verdict)
    told["options"]["faults"] = verdict.options.faults
    for name in ("invariant", "failure", "trace") if verdict.passed else ():
        del told[name]
    return told


def _word(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}:{each}" for name, each in value.items()) or "none"
    return "-".join(map(str, value)) if isinstance(value, list) else str(value)
