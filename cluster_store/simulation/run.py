"""Seed in, verdict out: a fleet is formed, lives under faults while checkers watch, is healed, and must converge."""

from __future__ import annotations

from collections.abc import Coroutine
from random import Random
from typing import Any

import msgspec

from cluster_store.core.causality import vector
from cluster_store.core.cluster import read
from cluster_store.core.commands import AdmitMachine, ReconnectMachines, SetSetting
from cluster_store.core.conflicts import conflicts
from cluster_store.core.digest import digest
from cluster_store.core.effects import Close, Effect, Input, Message
from cluster_store.simulation.clock import Life, Pause
from cluster_store.simulation.disk import Disk
from cluster_store.simulation.faults import Faults
from cluster_store.simulation.fleet import Fleet, Host
from cluster_store.simulation.invariants import Invariants, Violation
from cluster_store.simulation.network import End
from cluster_store.simulation.options import Options
from cluster_store.simulation.process import Asked, Process
from cluster_store.simulation.trace import Moment, Sent, Trace
from cluster_store.simulation.workload import work

#: Steps within which a healed fleet must have converged: for each machine and each of its peers, and each record.
_STEPS_A_PAIR, _STEPS_A_RECORD = 600, 60
#: How long clones live on after the healing, milliseconds.
_CLONES_END_MS = 4000
#: Steps within which machines that nothing troubles form a cluster, each.
_STEPS_A_JOIN = 20_000


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How one seed went."""

    seed: int
    options: Options
    passed: bool
    #: Of the state that all machines ended in; "" where they did not.
    digest: str
    #: Records in the first machine's log.
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


class Run:
    """One seed's run."""

    def __init__(self, seed: int, options: Options) -> None:
        dice = Random(f"run {seed}")
        self.seed = seed
        self.options = options
        self.trace = Trace()
        self.fleet = Fleet(options, dice, self)
        self.invariants = Invariants(self.fleet)
        self.faults = Faults(self.fleet, dice, self)
        self._dice = dice

    # --- as the witness ------------------------------------------------------------------------------

    def saw(self, process: Process | str, thing: Input | Effect | str) -> None:
        """See ``Witness``."""
        clock = self.fleet.clock
        place = process if isinstance(process, str) else process.place
        self.trace.moments.append(Moment(clock.steps, clock.now, place, thing))
        if isinstance(thing, Close) and isinstance(process, Process):
            self.invariants.closes(process, thing)

    def sends(self, process: Process, end: End, message: Message) -> None:
        """See ``Witness``."""
        clock = self.fleet.clock
        self.trace.moments.append(Moment(clock.steps, clock.now, process.place, Sent(end.peer, end.number, message)))
        self.invariants.sends(process, end, message)

    def answers(self, process: Process, asked: Asked) -> None:
        """See ``Witness``."""
        assert asked.reply is not None
        self.saw(process, asked.reply)
        self.invariants.answers(process, asked)

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
        hosts = [self._add() for _ in range(self.options.founders)]
        self._finish(self.fleet.found(hosts[0]), _STEPS_A_JOIN)
        for host in hosts[1:]:
            self._finish(self.fleet.join(host), _STEPS_A_JOIN)

    def _add(self) -> Host:
        host = self.fleet.add()
        self.trace.names[host.machine] = host.name
        return host

    def _live(self) -> None:
        """The safety phase: work, joins and faults, until the work is done."""
        self.saw("-", "faults begin")
        self.faults.begin()
        for _ in range(self.options.machines - self.options.founders):
            self.fleet.clock.spawn(self._join_late(), self.fleet.life)
        self._finish(work(self.fleet, self._dice), 10_000 * (1 + self.options.events))

    async def _join_late(self) -> None:
        await Pause(self._dice.randint(0, self.options.events * self.options.event_ms))
        await self.fleet.join(self._add())

    def _heal(self) -> None:
        """Undo all faults; all must converge, and then be able to write, and converge again."""
        self.saw("-", "everything is healed")
        self.fleet.life.end()
        self.faults.heal()
        self._converge()
        for host in self.fleet.hosts:
            self._finish(self._write_last(host), _STEPS_A_JOIN)
        self._converge()
        self.invariants.check_all()
        self.invariants.check_acknowledged()

    async def _settle(self) -> None:
        """Do what an operator would, for as long as it takes: stop clones, take back the detached, let in strangers."""
        await Pause(_CLONES_END_MS)
        for host in [host for host in self.fleet.hosts if host.cloned]:
            self.fleet.remove(host)
        while True:
            if detached := self._detached():
                await self.fleet.ask(self._dice.choice(self.fleet.members), ReconnectMachines(machines=(detached[0],)))
            elif strangers := self._strangers():
                member, stranger = strangers
                await self.fleet.ask(member, AdmitMachine(card=stranger.card, group="Main_Group"))
            await Pause(1000)

    def _strangers(self) -> tuple[Host, Host] | None:
        """Return two machines that no chain of machines which know each other ties together.

        That is where machines were put back to before others joined: those others cannot make themselves known.
        """
        known = {host: host.replica.cluster.machines for host in self.fleet.members if host.replica is not None}
        first, *others = known or [self.fleet.hosts[0]]
        tied = [first] if others else []
        for host in tied:
            tied += [
                other
                for other in others
                if other not in tied and other.machine in known[host] and host.machine in known[other]
            ]
        return next(((first, other) for other in others if other not in tied), None)

    def _detached(self) -> list[str]:
        clusters = [host.replica.cluster for host in self.fleet.members if host.replica is not None]
        return [machine.id for cluster in clusters for machine in cluster.machines.values() if machine.detached]

    async def _write_last(self, host: Host) -> None:
        salt = self._dice.randbytes(16)
        written = await self.fleet.ask(
            host, SetSetting(key=f"last.{host.name}", value='"word"', level="cluster", salt=salt)
        )
        if written is None:
            raise Violation(12, host.name, "it cannot write")

    # --- steps -----------------------------------------------------------------------------------------

    def _finish(self, work: Coroutine[Any, Any, None], steps_max: int) -> None:
        """Go on until some work is done."""
        life = Life()
        self.fleet.clock.spawn(work, life)
        limit = self.fleet.clock.steps + steps_max
        while life.tasks:
            self._step()
            if self.fleet.clock.steps > limit:
                raise Violation(12, "-", f"{getattr(work, '__qualname__', work)} is not done after {steps_max} steps")

    def _converge(self) -> None:
        """Go on until all machines hold the same, within a bound."""
        life = Life()
        self.fleet.clock.spawn(self._settle(), life)
        for host in self.fleet.hosts:
            self.fleet.clock.spawn(self.fleet.join(host), life)
        hosts, records = len(self.fleet.hosts), len(self.fleet.hosts[0].log.disk.records)
        steps_max = _STEPS_A_PAIR * hosts * hosts + _STEPS_A_RECORD * records
        limit = self.fleet.clock.steps + steps_max
        while not self._converged():
            for _ in range(20):
                self._step()
            if self.fleet.clock.steps > limit:
                vectors = {host.name: len(host.log.disk.records) for host in self.fleet.hosts}
                raise Violation(12, "-", f"not converged after {steps_max} steps: {vectors}")
        life.end()

    def _converged(self) -> bool:
        hosts = self.fleet.hosts
        first = vector(hosts[0].log.disk.lines.values())
        return not self._detached() and all(
            not host.cloned
            and host.knows_that_all_is_sent
            and host.process is not None
            and host.joined
            and host.process.idle
            and vector(host.log.disk.lines.values()) == first
            for host in hosts
        )

    def _step(self) -> None:
        try:
            self.fleet.clock.step()
        except Violation:
            raise
        except Exception as error:
            raise Violation(14, "-", _where(error)) from error
        self.invariants.check_step()
        if self.fleet.clock.steps % self.options.check_every == 0:
            self.invariants.check_all()

    def _verdict(self, violation: Violation | None) -> Verdict:
        disk = self.fleet.hosts[0].log.disk
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


def simulate(seed: int, options: Options) -> Verdict:
    """Return the verdict on a seed; where it fails, the trace ends at the first step at which that shows."""
    verdict = Run(seed, options).play()
    if not verdict.passed and options.check_every > 1:
        # Checkers change nothing, so with more of them the same run ends as early as it can.
        shortest = Run(seed, msgspec.structs.replace(options, check_every=1)).play()
        return msgspec.structs.replace(shortest, options=options)
    return verdict
