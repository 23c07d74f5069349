"""``simulate``: a fleet in this process, under faults, with checkers that watch."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster_store.core.errors import StoreError

from .failures import BAD, DONE, INTERRUPTED
from .scale import measure
from .session import Session, note, print_bytes, print_json, say

if TYPE_CHECKING:
    from cluster_store.simulation.options import Options
    from cluster_store.simulation.rehearsal import Rehearsal
    from cluster_store.simulation.run import Verdict


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
    jobs: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=256, help="Seeds run at once; otherwise one a core.")
    ] = None,
    plot: Annotated[
        str | None, typer.Option(metavar="FILE", help="Draw the run of one seed, as SVG; - is standard output.")
    ] = None,
    replay_log: Annotated[
        Path | None, typer.Option(metavar="STORE", help="Begin with the log of this store, and with its machines.")
    ] = None,
    scale: Annotated[
        int | None, typer.Option(metavar="N", min=2, max=2000, help="Measure a fleet of so many machines instead.")
    ] = None,
) -> int:
    """Run a fleet under faults in virtual time, and check it.

    Real stores' code on virtual clocks, links and disks; then all faults end, and all machines must come to the same
    state. The same seed gives the same run anywhere. A run that fails ends with the steps that led there, and with the
    command that repeats it in the smallest form that was found. --replay-log rehearses: the store is read and never
    written, while its daemon runs too; changes to its keys and groups meet the faults, and what would collide is
    listed. --scale measures how changes spread in a large fleet, what they cost, and how it bears dead machines, a cut
    and a restart. Exit status 3: an invariant broke.
    """
    if scale is not None:
        others = {"--machines": machines, "--replay-log": replay_log, "--jobs": jobs}
        _refuse_beside_scale({**others, "--seeds": seeds - 1, "--faults": faults != "all"})
        picture = measure(context.obj, scale, _drawn() if seed is None else seed, events or 10, plot)
        if plot is not None and picture is not None:
            _write_picture(picture, plot)
        return DONE
    if plot is not None and seeds > 1:
        raise typer.BadParameter("one run is drawn: leave --seeds out", param_hint="--plot")
    if replay_log is not None and machines is not None:
        raise typer.BadParameter("the machines are those of the log", param_hint="--machines")
    names = _faults(faults)
    plan = Plan(machines, events, names, replay_log)
    first = _drawn() if seed is None else seed
    return plan.run(context.obj, range(first, first + seeds), jobs, plot)


def _refuse_beside_scale(given: Mapping[str, object]) -> None:
    for option, value in given.items():
        if value:
            raise typer.BadParameter("a fleet is measured: leave this out", param_hint=option)


class Plan:
    """What is the same for all seeds of one command."""

    def __init__(
        self, machines: int | None, events: int | None, faults: Sequence[str] | None, store: Path | None
    ) -> None:
        """Read the log of a store, if there is one. Raises StoreError and its kin, OverLimit, Refused."""
        self.machines, self.events, self.faults, self.store = machines, events, faults, store
        self.beginning = _rehearsal(store) if store is not None else None

    def draw(self, seed: int, events: int | None, faults: Sequence[str] | None) -> Options:
        """Return the options of a seed."""
        from cluster_store.simulation.options import draw

        drawn = draw(seed, machines=self.machines, events=events, faults=faults)
        return self.beginning.fit(drawn) if self.beginning is not None else drawn

    def run(self, session: Session, seeds: range, jobs: int | None, plot: str | None) -> int:
        """Run seeds, and tell of each; return the exit status."""
        from .seeds import cores, progress, verdicts

        chosen = ((seed, self.draw(seed, self.events, self.faults)) for seed in seeds)
        failed: list[int] = []
        done = 0
        try:
            with progress(len(seeds)) as told:
                for verdict in verdicts(chosen, min(len(seeds), jobs or cores()), self.beginning):
                    self._tell(session, verdict, aside=plot == "-")
                    failed += [] if verdict.passed else [verdict.seed]
                    done += 1
                    told(verdict)
                    if plot is not None:
                        self._plot(verdict, plot)
        except KeyboardInterrupt:
            rest = f"--seed {seeds.start + done} --seeds {len(seeds) - done}"
            note(f"interrupted after {done} of {len(seeds)} seeds: {_counted(done, failed)}; go on with {rest}")
            return INTERRUPTED
        if len(seeds) > 1:
            note(f"{len(seeds)} seeds: {_counted(done, failed)}")
        return BAD if failed else DONE

    def repeat(self, verdict: Verdict) -> list[str]:
        """Return the shortest command that runs a seed with the options of its smallest failure."""
        wanted = verdict.smallest.options if verdict.smallest is not None else verdict.options
        names = list(wanted.faults)
        for events, faults in ((self.events, self.faults), (wanted.events, self.faults), (wanted.events, names)):
            if self.draw(verdict.seed, events, faults) == wanted:
                break
        return ["cluster-store", "simulate", "--seed", str(verdict.seed), *self._words(events, faults)]

    def _words(self, events: int | None, faults: Sequence[str] | None) -> Iterator[str]:
        if self.machines is not None:
            yield from ("--machines", str(self.machines))
        if events is not None:
            yield from ("--events", str(events))
        if faults is not None:
            yield from ("--faults", ",".join(faults) or "none")
        if self.store is not None:
            yield from ("--replay-log", str(self.store))

    def _tell(self, session: Session, verdict: Verdict, *, aside: bool) -> None:
        from .verdict import to_json, to_words

        if aside:
            note(to_words(verdict, self.repeat(verdict)))
        elif session.as_json:
            print_json(to_json(verdict, self.repeat(verdict)))
        else:
            say(to_words(verdict, self.repeat(verdict)))
            # Whoever waits for the next seed can read of this one, and what is said aside comes behind it.
            sys.stdout.flush()

    def _plot(self, verdict: Verdict, file: str) -> None:
        """Draw the run, or the smallest one that fails as it does. Raises StoreError."""
        import msgspec

        from cluster_store.simulation.plot import draw
        from cluster_store.simulation.recording import Recording

        options = verdict.options
        if verdict.smallest is not None:
            options = msgspec.structs.replace(verdict.smallest.options, check_every=1)
        recording = Recording(verdict.seed, options, self.beginning)
        recording.play()
        _write_picture(draw(recording), file)


def _write_picture(picture: str, file: str) -> None:
    if file == "-":
        print_bytes(picture.encode())
        return
    try:
        Path(file).write_text(picture, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{file} cannot be written: {error.strerror}", "choose another file") from error
    note(f"the run is drawn in {file}")


def _rehearsal(store: Path) -> Rehearsal:
    from cluster_store import bootstrap
    from cluster_store.simulation.rehearsal import Rehearsal
    from cluster_store.simulation.transcript import History

    with bootstrap.read(store) as log:
        history = History.of(log)
    return Rehearsal(history)


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


def _counted(done: int, failed: list[int]) -> str:
    passed = f"{done - len(failed)} passed"
    return passed + (f", and these failed: {', '.join(map(str, failed))}" if failed else "")
