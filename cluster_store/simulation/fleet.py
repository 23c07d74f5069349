"""The machines: who they are, what they run on, how they start and end, find each other, and become members."""

from __future__ import annotations

from random import Random

from cluster_store.core.commands import (
    AdmitMachine,
    BeginEpoch,
    ChangeMachine,
    Command,
    CreateCluster,
    InitialiseMachine,
)
from cluster_store.core.rules import read
from cluster_store.core.timers import Boot
from cluster_store.core.types import MachineId
from cluster_store.simulation.clock import Clock, Life, Pause
from cluster_store.simulation.damage import examine, salvaged
from cluster_store.simulation.disk import Disk
from cluster_store.simulation.disk_log import DiskLog
from cluster_store.simulation.host import Host, Identity
from cluster_store.simulation.network import Network
from cluster_store.simulation.options import Options
from cluster_store.simulation.process import Asked, Process, Witness
from cluster_store.simulation.timing import keep_time
from cluster_store.simulation.vocabulary import Vocabulary

#: What wall clocks say when the simulation begins: some moment of 2023, milliseconds since 1970.
BEGINNING_MS = 1_700_000_000_000

#: Names of machines; a fleet that is larger counts on.
NAMES = ("anna", "bert", "cleo", "dora", "emil", "fred", "gina", "hugo", "ines", "jean")
#: How long nothing may happen before a machine that waits for something gives it up, milliseconds.
_PATIENCE_MS = 8000


class Fleet:
    """All hosts, on one clock and one network."""

    def __init__(self, options: Options, seed: int, witness: Witness) -> None:
        self.clock = Clock()
        self.network = Network(self.clock, Random(f"network {seed}"), options.delay_ms)
        self.hosts: list[Host] = []
        #: Of what ends with the healing.
        self.life = Life()
        #: Of what operators do, who go on to the end.
        self.care = Life()
        self.options = options
        #: What wall clocks that nobody has put wrong say when the simulation begins, milliseconds since 1970.
        self.beginning_ms = BEGINNING_MS
        #: What people call things.
        self.words = Vocabulary()
        #: The newest platform version.
        self.version = "9.0"
        self._dice = Random(f"fleet {seed}")
        self._disk_dice = Random(f"disks {seed}")
        self._clones = 0
        self._witness = witness

    # --- hosts ---------------------------------------------------------------------------------------

    def add(self) -> Host:
        """Add a host with an empty disk."""
        number = sum(not host.cloned for host in self.hosts)
        name = NAMES[number] if number < len(NAMES) else f"machine{number}"
        host = Host(name, Identity(self._dice.randbytes(32)), self.opened(Disk()))
        host.version = self.version
        self.hosts.append(host)
        return host

    def clone(self, host: Host, disk: Disk) -> Host:
        """Add a host that runs a copy of another one's store."""
        self._clones += 1
        clone = Host(f"{host.name}'{self._clones}", host.identity, self.opened(disk))
        clone.version = host.version
        clone.joined = clone.cloned = True
        self.hosts.append(clone)
        return clone

    def next_version(self) -> str:
        """Bring out another platform version."""
        self.version = f"{int(self.version.partition('.')[0]) + 1}.0"
        return self.version

    def opened(self, disk: Disk) -> DiskLog:
        """Return a log on a disk."""
        return DiskLog(disk, self._disk_dice, self.options.write_ms_max, self.options.batch_records)

    def now(self, host: Host) -> int:
        """Return what a host's wall clock says, milliseconds since 1970."""
        return max(0, self.beginning_ms + self.clock.now + host.offset_ms)

    @property
    def members(self) -> list[Host]:
        """The hosts that are members and whose process takes commands just now."""
        return [host for host in self.hosts if host.joined and host.replica is not None]

    def host(self, name: str) -> Host:
        """Return a host by its name."""
        return next(host for host in self.hosts if host.name == name)

    # --- processes -----------------------------------------------------------------------------------

    def start(self, host: Host, reason: str = "moved") -> Process:
        """Start a host's process on what is on its disk."""
        assert host.process is None
        self._witness.saw(host.name, "starts")
        process = Process(
            place=host.name,
            machine=host.machine,
            sign=host.identity.sign,
            log=host.log,
            network=self.network,
            now=lambda: self.now(host),
            boot=lambda: Boot(f"{host.name} {host.boots}", self.clock.now - host.booted_ms),
            dice=self._dice,
            witness=self._witness,
            reason=reason,
            damaged=lambda: self.clock.spawn(self._mend(host, process), self.care),
        )
        host.process = process
        self.clock.spawn(self._keep_linked(host, process), process.life)
        self.clock.spawn(keep_time(process), process.life)
        return process

    def crash(self, host: Host, *, power_lost: bool = False) -> None:
        """End a host's process wherever it is; peers are told unless the whole host lost power."""
        process, host.process = host.process, None
        if process is None:
            return
        self._witness.saw(host.name, "loses power" if power_lost else "is killed")
        if power_lost:
            host.boots, host.booted_ms = host.boots + 1, self.clock.now
        process.life.end()
        for end in process.links.values():
            self.network.crashed(end, power_lost=power_lost)

    def discard(self, host: Host, disk: Disk) -> None:
        """Put another disk into a host whose process has ended; what was only on the one before is gone."""
        self.crash(host)
        gone, host.log = host.log.disk, self.opened(disk)
        self._witness.discards(gone)

    def remove(self, host: Host) -> None:
        """Take a host away for good, with its disk."""
        self.crash(host)
        self.hosts.remove(host)
        self._witness.discards(host.log.disk)

    # --- damage --------------------------------------------------------------------------------------

    def can_spare(self, host: Host) -> bool:
        """Say whether a host's disk may come to harm: all others are sound, and another member has the cluster."""
        gone = self.removed
        others = [other for other in self.hosts if other is not host and not other.cloned and other.machine not in gone]
        return not any(one.log.disk.damage for one in self.hosts) and any(other.joined for other in others)

    @property
    def removed(self) -> set[MachineId]:
        """The machines that any record on any disk removes."""
        return {machine for host in self.hosts for machine in host.log.disk.removed}

    async def _mend(self, host: Host, process: Process) -> None:
        """Do what an operator would whose machine says that its store is damaged."""
        await Pause(self._dice.randint(0, 3000))
        if host.process is not process:
            return
        way = self._dice.choice(("salvage", "salvage", "backup", "anew"))
        disk = salvaged(host.log.disk, examine(host.log.disk).sound)
        if way == "backup" and host.backups:
            disk = self._dice.choice(host.backups).copy()
            disk.own = None
        cluster = read(disk)
        if way == "anew" or not cluster.name or host.machine not in cluster.machines:
            self._witness.saw(host.name, "its store is thrown away, and taken back from the others")
            host.joined = False
            self.discard(host, Disk())
            await self.join(host)
            return
        self._witness.saw(host.name, f"is mended: {way}, {len(disk.records)} of {len(host.log.disk.records)} records")
        self.discard(host, disk)
        self.start(host, reason="repaired")

    # --- links ---------------------------------------------------------------------------------------

    async def _keep_linked(self, host: Host, process: Process) -> None:
        while True:
            await Pause(self._dice.randint(100, 600))
            if process.replica is None or not host.joined or not process.replica.cluster.name:
                continue
            machines = process.replica.cluster.machines
            if host.machine in machines and machines[host.machine].version != host.version and not host.cloned:
                await self.ask(host, ChangeMachine(version=host.version))
            for machine in machines:
                rested = process.resting.get(machine, 0) <= self.clock.now
                if machine != host.machine and rested and process.link_to(machine) is None:
                    self._dial(process, machine)

    def _dial(self, process: Process, machine: MachineId) -> None:
        """Open a link to a machine if it can be reached and knows the one that dials."""
        listening = [
            host.process
            for host in self.members
            if host.machine == machine
            and host.process is not None
            and host.replica is not None
            and process.machine in host.replica.cluster.machines
            and self.network.reachable(process.place, host.name)
        ]
        if not listening:
            return
        peer = self._dice.choice(listening)
        before = peer.link_to(process.machine)
        if before is not None:
            peer.close(before)
        self.network.connect(process, peer)

    # --- membership ----------------------------------------------------------------------------------

    async def ask(self, host: Host, command: Command) -> Asked | None:
        """Ask a host for a change and wait; return what was answered, None where nothing was in time."""
        process = host.process
        if process is None:
            return None
        asked = process.submit(command)
        answered = await self.clock.until(lambda: asked.reply is not None or host.process is not process, _PATIENCE_MS)
        return asked if answered and asked.reply is not None and asked.reply.error is None else None

    async def found(self, host: Host) -> None:
        """Make a cluster of a host's machine."""
        self.start(host)
        await self.ask(host, InitialiseMachine(card=host.card, salt=self._dice.randbytes(16)))
        await self.ask(host, CreateCluster(name="ships", salt=self._dice.randbytes(16)))
        host.joined = True

    async def join(self, host: Host) -> None:
        """Make a host's machine a member, trying again until it is one. Once is enough: then the others do nothing."""
        if host.joining:
            return
        host.joining = True
        try:
            while not host.joined:
                await Pause(self._dice.randint(50, 500))
                through = [
                    other
                    for other in self.members
                    if not (other.cloned or other.is_apart) and self.network.reachable(host.name, other.name)
                ]
                if through:
                    await self._join_through(host, self._dice.choice(through))
        finally:
            host.joining = False

    async def _join_through(self, host: Host, member: Host) -> None:
        """Ask to be let in, take the whole log into a fresh store, say so; a failure leaves nothing behind."""
        groups = sorted(member.replica.cluster.groups) if member.replica is not None else [""]
        if await self.ask(member, AdmitMachine(card=host.card, group=self._dice.choice(groups))) is None:
            return
        self.discard(host, Disk(member.log.disk.cluster))
        process = self.start(host, reason="joined")
        await self.clock.until(lambda: process.replica is not None, _PATIENCE_MS)
        begun = None
        if self._link(process, host, member) and await self._catch_up(host):
            begun = await self.ask(host, BeginEpoch(reason="joined"))
        host.joined = begun is not None and host.process is process
        if host.process is process:
            # The daemon that joined becomes another process, on the store that has taken its place.
            self.crash(host)
            if host.joined:
                self.start(host)

    async def _catch_up(self, host: Host) -> bool:
        """Wait until a machine has its peer's whole log, as long as it goes on; say whether it has."""
        disk = host.log.disk
        while not host.has_caught_up:
            before = len(disk.records)

            def advanced(at: int = before) -> bool:
                return host.has_caught_up or len(disk.records) > at

            if not await self.clock.until(advanced, _PATIENCE_MS):
                return False
        return True

    def _link(self, process: Process, host: Host, member: Host) -> bool:
        """Open a link for a machine that is joining; say whether that was possible."""
        alive = host.process is process and process.replica is not None and member.process is not None
        if alive and member.process is not None and self.network.reachable(host.name, member.name):
            self.network.connect(process, member.process)
            return True
        return False
