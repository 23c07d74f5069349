"""What operators do when everything is healed, for as long as it takes: nothing here needs to know what went wrong."""

from __future__ import annotations

from random import Random

from cluster_store.core.causality import vector
from cluster_store.core.commands import AdmitMachine, ReconnectMachines, RemoveMachines
from cluster_store.core.types import MachineId
from cluster_store.simulation.clock import Pause
from cluster_store.simulation.fleet import Fleet
from cluster_store.simulation.host import Host

#: How long clones live on after the healing, milliseconds.
_CLONES_END_MS = 4000


class Operators:
    """Those of one run."""

    def __init__(self, fleet: Fleet, dice: Random) -> None:
        self._fleet = fleet
        self._dice = dice

    @property
    def staying(self) -> list[Host]:
        """The hosts that no record on any disk removes: what they must come to can be demanded."""
        gone = self._fleet.removed
        return [host for host in self._fleet.hosts if host.machine not in gone]

    @property
    def _members(self) -> list[Host]:
        staying = self.staying
        return [host for host in self._fleet.members if host in staying]

    async def settle(self) -> None:
        """Stop clones and start again what gave way to one, take back the detached, let in strangers."""
        await Pause(_CLONES_END_MS)
        for host in [host for host in self._fleet.hosts if host.cloned]:
            self._fleet.remove(host)
        while True:
            for host in self._members:
                self.restart_younger(host)
            if detached := self._detachments():
                await self._take_back(*self._dice.choice(detached))
            if strangers := self._strangers():
                member, stranger = strangers
                groups = sorted(member.replica.cluster.groups) if member.replica is not None else [""]
                await self._fleet.ask(member, AdmitMachine(card=stranger.card, group=groups[0]))
            await Pause(1000)

    async def _take_back(self, member: Host, machine: MachineId) -> None:
        """Reconnect a machine.

        One that has lost its store, and runs a later version than its records say, can neither be reconnected nor say
        so: it is removed.
        """
        done = await self._fleet.ask(member, ReconnectMachines(machines=(machine,)))
        lost = not any(host.joined for host in self._fleet.hosts if host.machine == machine)
        if done is None and lost and member.replica is not None:
            recorded = member.replica.cluster.machines.get(machine)
            if recorded is not None and recorded.version != self._fleet.version:
                await self._fleet.ask(member, RemoveMachines(machines=(machine,)))

    def restart_younger(self, host: Host) -> bool:
        """Start a host anew that takes no changes because it had a clone, which is gone; say whether it was one."""
        younger = host.replica is not None and host.replica.twins.is_younger
        if younger:
            self._fleet.crash(host)
            self._fleet.start(host)
        return younger

    def _strangers(self) -> tuple[Host, Host] | None:
        """Return two machines that no chain of machines which know each other ties together; the first has to learn.

        That is where machines were put back to before others joined: those others cannot make themselves known.
        """
        known = {host: host.replica.cluster.machines for host in self._members if host.replica is not None}
        first, *others = known or [self._fleet.hosts[0]]
        tied = [first] if others else []
        for host in tied:
            tied += [
                other
                for other in others
                if other not in tied and other.machine in known[host] and host.machine in known[other]
            ]
        stranger = next((other for other in others if other not in tied), None)
        if stranger is None:
            return None
        return (stranger, first) if stranger.machine in known[first] else (first, stranger)

    def detached(self) -> list[MachineId]:
        """Return the machines that any member holds to be detached, of those that are to stay."""
        return [machine for _, machine in self._detachments()]

    def _detachments(self) -> list[tuple[Host, MachineId]]:
        """Return who holds which machine to be detached."""
        gone = self._fleet.removed
        return [
            (host, machine.id)
            for host in self._members
            if host.replica is not None
            for machine in host.replica.cluster.machines.values()
            if machine.detached and machine.id not in gone
        ]

    def have_converged(self) -> bool:
        """Say whether all machines that stay hold the same, know it, and are at rest."""
        staying = self.staying
        machines = [host.machine for host in staying]
        first = vector(staying[0].log.disk.lines.values()) if staying else []
        return not self.detached() and all(
            not host.cloned
            and host.knows_that_all_is_sent(machines)
            and host.process is not None
            and host.joined
            and host.process.idle
            and vector(host.log.disk.lines.values()) == first
            for host in staying
        )
