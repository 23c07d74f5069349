"""Machines on real stores, made without the network: the same keys, clocks and records on every run."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.workload import MACHINES, Change, configuration
from cluster_store.adapters.keys import Keys
from cluster_store.adapters.sqlite_file import DATABASE
from cluster_store.adapters.sqlite_log import SqliteLog
from cluster_store.adapters.sqlite_reader import StoreReader
from cluster_store.core.commands import AdmitMachine, Card, CreateCluster, InitialiseMachine, LoadConfig, SetSetting
from cluster_store.core.records import machine_id
from cluster_store.core.types import MachineId
from cluster_store.node import Node, open_node

USER = "os:root"
_SALT = bytes(16)
#: Milliseconds since 1970.
_BEGINNING = 1_700_000_000_000


@dataclass(frozen=True)
class Machine:
    """One machine of the benchmark's cluster."""

    hostname: str
    keys: Keys
    id: MachineId
    #: No two machines' clocks ever show the same millisecond, so it is always clear who was later.
    clock: Callable[[], int]

    @property
    def card(self) -> Card:
        """What it says of itself."""
        return Card(
            key=self.keys.identity_public.hex(),
            hostname=self.hostname,
            serial=self.id[:12].upper(),
            version="1",
            ssh_port=22,
            ccs_port=2222,
            listen="",
            host_key=self.keys.host_key_line,
            client_key=self.keys.client_key_line,
        )

    async def open(self, log: SqliteLog) -> Node:
        """Return the machine's node, alive on its log."""
        node = await open_node(log, self.id, self.keys.sign, self.clock)
        await node.start()
        return node


def machine(hostname: str) -> Machine:
    """Return the machine of this name."""
    keys = Keys(*(_key(f"{hostname} {purpose}") for purpose in ("identity", "host", "client")))
    number = MACHINES.index(hostname)
    ticks = itertools.count(_BEGINNING + number, len(MACHINES))
    return Machine(hostname, keys, machine_id(keys.identity_public), ticks.__next__)


def _key(seed: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(sha256(seed.encode()).digest())


async def found_cluster(first: Machine, folder: Path) -> Node:
    """Make the store of a cluster's first machine, which lets the others in and loads the cluster's configuration."""
    folder.mkdir(parents=True)
    node = await first.open(await SqliteLog.create(folder / DATABASE, first.id))
    await node.submit(InitialiseMachine(card=first.card, salt=_SALT), USER)
    await node.submit(CreateCluster(name="americas", salt=_SALT), USER)
    for hostname in MACHINES:
        if hostname != first.hostname:
            await node.submit(AdmitMachine(card=machine(hostname).card), USER)
    await node.submit(LoadConfig(level="cluster", settings=configuration(), source="main.cf", salt=_SALT), USER)
    return node


async def commit(node: Node, change: Change) -> None:
    """Commit one change; return when it is durable."""
    command = SetSetting(
        level=change.level, key=change.key, value=change.value, comment=change.comment, salt=_SALT
    )
    await node.submit(command, USER)


async def commit_in_bursts(node: Node, changes: Sequence[Change], burst: int) -> None:
    """Commit changes so many at a time, each burst under one seal."""
    for start in range(0, len(changes), burst):
        await asyncio.gather(*(commit(node, change) for change in changes[start : start + burst]))


def paths_of_settings() -> dict[str, str]:
    """Return what the paths of each level's settings begin with: level as an operator writes it -> text."""
    return {
        "cluster": "setting/cluster/",
        "group:Main_Group": "setting/group/main_group/",
        **{f"machine:{hostname}": f"setting/machine/{machine(hostname).id}/" for hostname in MACHINES},
    }


def standing_in(folder: Path) -> dict[str, list[str]]:
    """Return what stands in a store's settings, as a reader finds it on the disk."""
    with StoreReader(folder / DATABASE) as store:
        return {path: [str(lane.value) for lane in lanes] for path, lanes in store.under("setting/")}


def records_in(folder: Path) -> list[tuple[bytes, bytes]]:
    """Return a store's records, envelope and seal, in the order of its log."""
    with StoreReader(folder / DATABASE) as store:
        return [(event.envelope, event.seal) for event in store.events()]
