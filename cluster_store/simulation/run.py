"""Seed in, verdict out: a fleet is formed, lives under faults while checkers watch, is healed, and must converge."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from random import Random
from typing import Any, Protocol

import msgspec

from cluster_store.core.commands import SetSetting
from cluster_store.core.conflicts import conflicts
from cluster_store.core.digest import digest
from cluster_store.core.effects import Append, Close, Effect, Input, Message
from cluster_store.core.rules import read
from cluster_store.core.types import MachineId
from cluster_store.simulation.clock import Life, Pause
from cluster_store.simulation.collisions import Collided
from cluster_store.simulation.disk import Disk
from cluster_store.simulation.faults import Faults
from cluster_store.simulation.fleet import Fleet
from cluster_store.simulation.host import Host
from cluster_store.simulation.invariants import Invariants, Violation
from cluster_store.simulation.network import End
from cluster_store.simulation.operators import Operators
from cluster_store.simulation.options import Options
from cluster_store.simulation.process import Asked, Process
from cluster_store.simulation.shrink import RUNS_MAX, Shrinking
from cluster_store.simulation.trace import Moment, Sent, Trace
from cluster_store.simulation.workload import WINDOWS_MS, work

#: Steps within which a healed fleet must have converged: for each machine and each of its peers, and each record.
_STEPS_A_PAIR, _STEPS_A_RECORD = 600, 60
#: Steps within which machines that nothing troubles form a cluster, each.
_STEPS_A_JOIN = 20_000
#: How long a process takes to start, at most, milliseconds.
_START_MS = 1000
#: How late a machine may take back what is over, milliseconds.
_LATE_MS = 3000


class Smallest(msgspec.Struct, frozen=True, kw_only=True):
    """The smallest run that was found to break the same invariant, with fewer commands and faults."""

    options: Options
    failure: str
    #: Until the failure showed.
    steps: int
    trace: tuple[str, ...]
    #: How many runs were tried to find it.
    runs: int


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How one seed went."""

    seed: int
    options: Options
    passed: bool
    #: Of the state that all machines ended in; "" where they did not.
    digest: str
    #: Records in the log of the first machine that stays.
    events: int
    #: Registers in conflict at the end, 0 where there is no common one.
    conflicts: int
    steps: int
    #: The number of the invariant that broke and what was seen, 0 and "" where none did.
    invariant: int = 0
    failure: str = ""
    #: Hash of the whole trace.
    trace_digest: str = ""
    trace: tuple[str, ...] = ()
    #: What collided, where the fleet had a history.
    collided: tuple[Collided, ...] = ()
    #: None where it passed, or where nobody looked for it.
    smallest: Smallest | None = None


class Beginning(Protocol):
    """A fleet that has a history, in the place of one that is formed in the run."""

    @property
    def names(self) -> Mapping[MachineId, str]:
        """What every machine is called that any record speaks of."""

    def form(self, fleet: Fleet) -> None:
        """Put the hosts into a fleet and start those that are members."""

    def collided(self, fleet: Fleet) -> tuple[Collided, ...]:
        """Return the conflicts that came up in a run, also those that a later change settled."""


class Run:
    """One seed's run."""

    def __init__(self, seed: int, options: Options, beginning: Beginning | None = None) -> None:
        self.seed = seed
        self.options = options
        self.trace = Trace()
        self.fleet = Fleet(options, seed, self)
        self.invariants = Invariants(self.fleet)
        self.faults = Faults(self.fleet, seed, self)
        self._beginning = beginning
        self.operators = Operators(self.fleet, Random(f"operators {seed}"))
        self._dice = Random(f"run {seed}")

    # --- as the witness ------------------------------------------------------------------------------

    def saw(self, process: Process | str, thing: Input | Effect | str) -> None:
        """See ``Witness``."""
        clock = self.fleet.clock
        place = process if isinstance(process, str) else process.place
        self.trace.moments.append(Moment(clock.steps, clock.now, place, thing))
        if isinstance(thing, Close) and isinstance(process, Process):
            self.invariants.check_closed(process, thing)
        elif isinstance(thing, Append) and isinstance(process, Process):
            self.invariants.appends(process, thing)

    def sends(self, process: Process, end: End, message: Message) -> None:
        """See ``Witness``."""
        clock = self.fleet.clock
        self.trace.moments.append(Moment(clock.steps, clock.now, process.place, Sent(end.peer, end.number, message)))
        self.invariants.check_sent(process, end, message)

    def answers(self, process: Process, asked: Asked) -> None:
        """See ``Witness``."""
        assert asked.reply is not None
        self.saw(process, asked.reply)
        self.invariants.check_answer(process, asked)

    def starts(self, process: Process) -> None:
        """See ``Witness``."""
        self.invariants.check_start(process)

    def discards(self, disk: Disk) -> None:
        """See ``Witness``."""
        self.invariants.discards(disk)

    # --- the phases ------------------------------------------------------------------------------------

    def play(self) -> Verdict:
        """Go through all phases; say how it went."""
        try:
            self._form()
            self._live()
            self._heal()
        except Violation as violation:
            self.saw("-", str(violation))
            return self._verdict(violation)
        finally:
            self.fleet.clock.end()
        return self._verdict(None)

    def _form(self) -> None:
        if self._beginning is not None:
            self.trace.names.update(self._beginning.names)
            self._beginning.form(self.fleet)
            self._finish(self._all_started(), _STEPS_A_JOIN)
            return
        hosts = [self._add() for _ in range(self.options.founders)]
        self._finish(self.fleet.found(hosts[0]), _STEPS_A_JOIN)
        for host in hosts[1:]:
            self._finish(self.fleet.join(host), _STEPS_A_JOIN)

    async def _all_started(self) -> None:
        while any(host.joined and host.replica is None for host in self.fleet.hosts):
            await Pause(1)

    def _add(self) -> Host:
        host = self.fleet.add()
        self.trace.names[host.machine] = host.name
        return host

    def _live(self) -> None:
        """The safety phase: work, joins and faults, until the work is done."""
        self.saw("-", "faults begin")
        self.faults.begin()
        for moment in self.options.joins_ms[: self.options.machines - self.options.founders]:
            self.fleet.clock.spawn(self._join_late(moment), self.fleet.life)
        for host in self.fleet.hosts:
            if not host.joined:
                self.fleet.clock.spawn(self.fleet.join(host), self.fleet.life)
        self._finish(work(self.fleet, Random(f"work {self.seed}")), 10_000 * (1 + self.options.events))

    async def _join_late(self, moment: int) -> None:
        await Pause(moment)
        await self.fleet.join(self._add())

    def _heal(self) -> None:
        """Undo all faults; all must converge, and then be able to write, and converge again."""
        self.saw("-", "everything is healed")
        self.fleet.life.end()
        self.faults.heal()
        self._converge()
        for host in self.operators.staying:
            self._finish(self._write_last(host), _STEPS_A_JOIN)
        self._finish(self._outlast(), _STEPS_A_JOIN * len(self.fleet.hosts))
        self._converge()
        self.invariants.check_all()
        self.invariants.check_acknowledged(self.operators.staying)
        self.invariants.check_timers(self.operators.staying)

    async def _write_last(self, host: Host) -> None:
        salt = self._dice.randbytes(16)
        # Logs only grow, so nobody has used this key, in a run before that the log comes from either.
        key = f"last.{host.name}.{len(host.log.disk.records)}"
        command = SetSetting(key=key, value='"word"', level="cluster", salt=salt)
        written = await self.fleet.ask(host, command)
        if written is None and self.operators.restart_younger(host):
            await self.fleet.clock.until(lambda: host.replica is not None, _START_MS)
            written = await self.fleet.ask(host, command)
        if written is None:
            raise Violation(15, host.name, "it is refused or not answered")

    async def _outlast(self) -> None:
        """Wait until every window is over; a machine may take back what it changed somewhat later."""
        await Pause(max(WINDOWS_MS) + _LATE_MS)

    # --- steps -----------------------------------------------------------------------------------------

    def _finish(self, work: Coroutine[Any, Any, None], steps_max: int) -> None:
        """Go on until some work is done."""
        life = Life()
        self.fleet.clock.spawn(work, life)
        limit = self.fleet.clock.steps + steps_max
        while life.tasks:
            self._step()
            if self.fleet.clock.steps > limit:
                raise Violation(14, "-", f"{getattr(work, '__qualname__', work)} is not done after {steps_max} steps")

    def _converge(self) -> None:
        """Go on until all machines hold the same, within a bound."""
        life = Life()
        self.fleet.clock.spawn(self.operators.settle(), life)
        for host in self.fleet.hosts:
            self.fleet.clock.spawn(self.fleet.join(host), life)
        hosts, records = len(self.fleet.hosts), max(len(host.log.disk.records) for host in self.fleet.hosts)
        steps_max = _STEPS_A_PAIR * hosts * hosts + _STEPS_A_RECORD * records
        limit = self.fleet.clock.steps + steps_max
        while not self.operators.have_converged():
            for _ in range(20):
                self._step()
            if self.fleet.clock.steps > limit:
                vectors = {host.name: len(host.log.disk.records) for host in self.fleet.hosts}
                raise Violation(14, "-", f"not converged after {steps_max} steps: {vectors}")
        life.end()

    def _step(self) -> None:
        try:
            self.fleet.clock.step()
        except Violation:
            raise
        except Exception as error:
            raise Violation(17, "-", _where(error)) from error
        self.invariants.check_step()
        if self.fleet.clock.steps % self.options.check_every == 0:
            self.invariants.check_all()

    def _verdict(self, violation: Violation | None) -> Verdict:
        disk = next(iter(self.operators.staying or self.fleet.hosts)).log.disk
        return Verdict(
            seed=self.seed,
            options=self.options,
            passed=violation is None,
            digest="" if violation else digest(read(disk), disk),
            events=len(disk.records),
            conflicts=0 if violation else len(conflicts(disk)),
            steps=self.fleet.clock.steps,
            invariant=violation.number if violation else 0,
            failure=str(violation) if violation else "",
            trace_digest=self.trace.digest(),
            trace=tuple(self.trace.lines()) if violation else (),
            collided=self._beginning.collided(self.fleet) if self._beginning is not None else (),
        )


def _where(error: Exception) -> str:
    """Return what was raised, and the innermost places that it came through."""
    places = []
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        places.append(f"{code.co_filename.rpartition('/')[2]}:{code.co_name}")
        traceback = traceback.tb_next
    return f"{type(error).__name__}: {error} in {' > '.join(places[-5:])}"


def simulate(seed: int, options: Options, beginning: Beginning | None = None, *, runs_max: int = RUNS_MAX) -> Verdict:
    """Return the verdict on a seed; where it fails, the trace ends at the first step at which that shows.

    Args:
        seed: decides the run, with the options.
        options: as drawn, or changed.
        beginning: what the fleet begins with instead of forming a cluster.
        runs_max: how many runs may be tried, where it fails, to find the smallest one that does so too.
    """
    verdict = Run(seed, options, beginning).play()
    if verdict.passed:
        return verdict
    earliest = _earliest(seed, options, beginning)

    def fails(candidate: Options) -> bool:
        return Run(seed, candidate, beginning).play().invariant == earliest.invariant

    shrinking = Shrinking(options, fails, runs_max)
    smallest = _earliest(seed, shrinking.search(), beginning)
    return msgspec.structs.replace(
        earliest,
        smallest=Smallest(
            options=smallest.options,
            failure=smallest.failure,
            steps=smallest.steps,
            trace=smallest.trace,
            runs=shrinking.runs,
        ),
    )


def _earliest(seed: int, options: Options, beginning: Beginning | None) -> Verdict:
    """Run once more what failed, and look at everything after each step: checkers change nothing."""
    closely = Run(seed, msgspec.structs.replace(options, check_every=1), beginning).play()
    return msgspec.structs.replace(closely, options=options)
