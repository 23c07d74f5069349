"""The machines: who they are, what they run on, how they start and end, find each other, and become members."""

from __future__ import annotations

from random import Random

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cluster_store.core.commands import AdmitMachine, BeginEpoch, Card, Command, CreateCluster, InitialiseMachine
from cluster_store.core.records import machine_id
from cluster_store.core.replica import Replica
from cluster_store.core.types import MachineId
from cluster_store.simulation.clock import Clock, Life, Pause
from cluster_store.simulation.disk import Disk, DiskLog
from cluster_store.simulation.network import Network
from cluster_store.simulation.options import Options
from cluster_store.simulation.process import Asked, Process, Witness

#: What wall clocks say when the simulation begins: some moment of 2023, milliseconds since 1970.
BEGINNING_MS = 1_700_000_000_000

#: Names of machines; a fleet that is larger counts on.
NAMES = ("anna", "bert", "cleo", "dora", "emil", "fred", "gina", "hugo", "ines", "jean")
#: How long nothing may happen before a machine that waits for something gives it up, milliseconds.
_PATIENCE_MS = 8000


class Identity:
    """A machine's identity key."""

    def __init__(self, seed: bytes) -> None:
        private = Ed25519PrivateKey.from_private_bytes(seed)
        self.key = private.public_key().public_bytes_raw()
        self.machine = machine_id(self.key)
        self.sign = private.sign


class Host:
    """Where a store is kept and run: a name, a disk, a wall clock, and a process while one runs."""

    def __init__(self, name: str, identity: Identity, log: DiskLog) -> None:
        self.name = name
        self.identity = identity
        self.log = log
        self.process: Process | None = None
        #: Whether it is a member that goes by its own log; a machine that is joining is not.
        self.joined = False
        #: How far its wall clock is off, milliseconds.
        self.offset_ms = 0
        self.backups: list[Disk] = []
        #: A second instance of another host's machine.
        self.cloned = False

    @property
    def machine(self) -> MachineId:
        """The machine that it is."""
        return self.identity.machine

    @property
    def replica(self) -> Replica | None:
        """What its process knows, None where none runs or it has not read its disk yet."""
        return self.process.replica if self.process is not None else None

    @property
    def is_detached(self) -> bool:
        """Whether it knows that it is detached: then it can let nobody in, who would keep away from it."""
        machines = self.replica.cluster.machines if self.replica is not None else {}
        return self.machine in machines and machines[self.machine].detached is not None

    @property
    def has_caught_up(self) -> bool:
        """Whether a peer has sent all it had, this machine's admission included."""
        if self.replica is None or self.machine not in self.replica.cluster.machines:
            return False
        state = self.replica.state
        return any(one.caught_up_received and not one.behind(state) for one in self.replica.sessions.values())

    @property
    def knows_that_all_is_sent(self) -> bool:
        """Whether no session of its own says that one side lacks anything."""
        replica = self.replica
        return replica is not None and not any(
            session.behind(replica.state) or session.ahead(replica.state) for session in replica.sessions.values()
        )

    @property
    def card(self) -> Card:
        """What it says of itself when it joins."""
        return Card(
            key=self.identity.key.hex(),
            hostname=self.name,
            serial=f"SERIAL-{self.name}",
            version="1.0",
            ssh_port=22,
            ccs_port=2222,
            listen="",
            host_key=f"ssh-ed25519 host-{self.name}",
            client_key=f"ssh-ed25519 client-{self.name}",
        )


class Fleet:
    """All hosts, on one clock and one network."""

    def __init__(self, options: Options, dice: Random, witness: Witness) -> None:
        self.clock = Clock()
        self.network = Network(self.clock, dice, options.delay_ms)
        self.hosts: list[Host] = []
        self.life = Life()
        self.options = options
        self._dice = dice
        self._witness = witness

    # --- hosts ---------------------------------------------------------------------------------------

    def add(self) -> Host:
        """Add a host with an empty disk."""
        number = sum(not host.cloned for host in self.hosts)
        name = NAMES[number] if number < len(NAMES) else f"machine{number}"
        host = Host(name, Identity(self._dice.randbytes(32)), self.opened(Disk()))
        self.hosts.append(host)
        return host

    def clone(self, host: Host, disk: Disk, name: str) -> Host:
        """Add a host that runs a copy of another one's store."""
        clone = Host(name, host.identity, self.opened(disk))
        clone.joined = clone.cloned = True
        self.hosts.append(clone)
        return clone

    def opened(self, disk: Disk) -> DiskLog:
        """Return a log on a disk."""
        return DiskLog(disk, self._dice, self.options.write_ms_max, self.options.batch_records)

    def now(self, host: Host) -> int:
        """Return what a host's wall clock says, milliseconds since 1970."""
        return max(0, BEGINNING_MS + self.clock.now + host.offset_ms)

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
            dice=self._dice,
            witness=self._witness,
            reason=reason,
        )
        host.process = process
        self.clock.spawn(self._keep_linked(host, process), process.life)
        return process

    def crash(self, host: Host, *, power_lost: bool = False) -> None:
        """End a host's process wherever it is; peers are told unless the whole host lost power."""
        process, host.process = host.process, None
        if process is None:
            return
        self._witness.saw(host.name, "loses power" if power_lost else "is killed")
        process.life.end()
        for end in process.links.values():
            self.network.crashed(end, power_lost=power_lost)

    def discard(self, host: Host, disk: Disk) -> None:
        """Put another disk into a host whose process has ended; what was only on the one before is gone."""
        self.crash(host)
        self._witness.discards(host.log.disk)
        host.log = self.opened(disk)

    def remove(self, host: Host) -> None:
        """Take a host away for good, with its disk."""
        self.crash(host)
        self.hosts.remove(host)
        self._witness.discards(host.log.disk)

    # --- links ---------------------------------------------------------------------------------------

    async def _keep_linked(self, host: Host, process: Process) -> None:
        while True:
            await Pause(self._dice.randint(100, 600))
            if process.replica is None or not host.joined or not process.replica.cluster.name:
                continue
            for machine in process.replica.cluster.machines:
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
        """Make a host's machine a member, trying again until it is one."""
        while not host.joined:
            await Pause(self._dice.randint(50, 500))
            through = [
                other
                for other in self.members
                if not (other.cloned or other.is_detached) and self.network.reachable(host.name, other.name)
            ]
            if through:
                await self._join_through(host, self._dice.choice(through))

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
