"""A host: who it is, what its store is on, and the process that runs there."""

from __future__ import annotations

from collections.abc import Container

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cluster_store.core.commands import Card
from cluster_store.core.records import machine_id
from cluster_store.core.replica import Replica
from cluster_store.core.types import MachineId
from cluster_store.simulation.disk import Disk
from cluster_store.simulation.disk_log import DiskLog
from cluster_store.simulation.process import Process


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
        #: How often it was started, and when it was last, milliseconds of virtual time.
        self.boots = 0
        self.booted_ms = 0
        #: How far its wall clock is off, milliseconds.
        self.offset_ms = 0
        self.backups: list[Disk] = []
        #: A second instance of another host's machine.
        self.cloned = False
        #: The platform version that is installed.
        self.version = "9.0"
        #: What it says of itself, where that is not made up for the run.
        self.told: Card | None = None
        #: Somebody is making it a member just now.
        self.joining = False

    @property
    def machine(self) -> MachineId:
        """The machine that it is."""
        return self.identity.machine

    @property
    def replica(self) -> Replica | None:
        """What its process knows, None where none runs or it has not read its disk yet."""
        return self.process.replica if self.process is not None else None

    @property
    def is_apart(self) -> bool:
        """Whether it knows that it is detached or removed: then it can let nobody in, who would keep away from it."""
        if self.replica is None:
            return False
        machines = self.replica.cluster.machines
        return self.machine not in machines or machines[self.machine].detached is not None

    @property
    def is_in_the_middle_of_a_sync(self) -> bool:
        """Whether it has taken in records of a peer that has more."""
        sessions = self.replica.sessions.values() if self.replica is not None else ()
        return any(session.received_batches and not session.caught_up_received for session in sessions)

    def has_link_to(self, machine: MachineId) -> bool:
        """Say whether it believes in a link to a machine."""
        return self.process is not None and self.process.link_to(machine) is not None

    @property
    def has_caught_up(self) -> bool:
        """Whether a peer has sent all it had, this machine's admission included."""
        if self.replica is None or self.machine not in self.replica.cluster.machines:
            return False
        state = self.replica.state
        return any(one.caught_up_received and not one.behind(state) for one in self.replica.sessions.values())

    def knows_that_all_is_sent(self, machines: Container[MachineId]) -> bool:
        """Say whether no session of its own with any of these machines says that one side lacks anything."""
        replica = self.replica
        return replica is not None and not any(
            session.behind(replica.state) or session.ahead(replica.state)
            for session in replica.sessions.values()
            if session.peer in machines
        )

    @property
    def card(self) -> Card:
        """What it says of itself when it joins."""
        if self.told is not None:
            return msgspec.structs.replace(self.told, version=self.version)
        return Card(
            key=self.identity.key.hex(),
            hostname=self.name,
            serial=f"SERIAL-{self.name}",
            version=self.version,
            ssh_port=22,
            ccs_port=2222,
            listen="",
            host_key=f"ssh-ed25519 host-{self.name}",
            client_key=f"ssh-ed25519 client-{self.name}",
        )
