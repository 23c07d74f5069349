"""Machines on real stores and an in-process network: the same keys, clocks and changes on every run."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.workload import CROWD, MACHINES, Change, answer, configuration
from cluster_store.adapters.keys import Keys
from cluster_store.adapters.memory_transport import MemoryNetwork, MemoryTransport
from cluster_store.adapters.sqlite_log import SqliteLog
from cluster_store.adapters.sqlite_reader import StoreReader
from cluster_store.adapters.store_folder import StoreFolder
from cluster_store.core.commands import AdmitMachine, Card, CreateCluster, InitialiseMachine, LoadConfig, SetSetting
from cluster_store.core.records import machine_id
from cluster_store.core.types import MachineId
from cluster_store.gatekeeper import Doorkeeper
from cluster_store.links import Links
from cluster_store.node import Node, open_node
from cluster_store.ports import PeerAddress

USER = "os:root"
#: Records of a cluster that ``found_cluster`` made: two of its own, one for each machine let in, its configuration.
FOUNDING_RECORDS = 2 + len(MACHINES) - 1 + 1

_SALT = bytes(16)
#: The port of machines that no daemon runs for. Nobody listens there: whoever dials them hears so at once.
_NOBODY = 9
#: Milliseconds since 1970.
_BEGINNING = 1_700_000_000_000


@dataclass(frozen=True)
class Machine:
    """One machine of the benchmarks' cluster."""

    hostname: str
    keys: Keys
    id: MachineId
    #: No two machines' clocks ever show the same millisecond, so it is always clear who was later.
    clock: Callable[[], int]
    port: int

    @property
    def host(self) -> str:
        """Where it listens: each has a loopback address of its own."""
        return f"127.0.0.{CROWD.index(self.hostname) + 1}"

    @property
    def card(self) -> Card:
        """What it says of itself."""
        return Card(
            key=self.keys.identity_public.hex(),
            hostname=self.hostname,
            serial=self.id[:12].upper(),
            interfaces={"Management": self.host},
            version="9",
            ssh_port=self.port,
            ccs_port=0,
            listen=self.host,
            host_key=self.keys.host_key_line,
            client_key=self.keys.client_key_line,
        )

    @property
    def address(self) -> PeerAddress:
        """Where others dial it."""
        return PeerAddress(self.id, self.host, self.port, self.keys.host_key_line)

    async def create(self, folder: Path, cluster: str = "") -> SqliteLog:
        """Make the machine's log in a folder, which is there; ``cluster`` as for ``SqliteLog.create``."""
        return await SqliteLog.create(StoreFolder(folder).database, self.id, cluster)

    async def open(self, folder: Path) -> Node:
        """Return the machine's node, alive on the log in a folder."""
        return await self.wake(await SqliteLog.open(StoreFolder(folder).database))

    async def wake(self, log: SqliteLog) -> Node:
        """Return the machine's node, alive on its log."""
        node = await open_node(log, self.id, self.keys.sign, self.clock)
        await node.start()
        return node

    @asynccontextmanager
    async def online(self, node: Node, network: MemoryNetwork) -> AsyncIterator[Links]:
        """Let others dial a node of this machine."""
        transport = MemoryTransport(network, self.hostname, self.keys)
        links = Links(node, transport, self.id)
        door = Doorkeeper(node, links, _no_password, _no_answer)
        listener = await transport.listen(self.host, self.port, door)
        try:
            yield links
        finally:
            await links.stop()
            await listener.close()


async def _no_password(_stored: str, _given: str) -> bool:
    return False


async def _no_answer(_user: str, _request: Mapping[str, Any]) -> Mapping[str, Any]:
    return {}


def machine(hostname: str, port: int = _NOBODY) -> Machine:
    """Return the machine of this name, its clock at the beginning; ``port`` where a daemon is to run for it."""
    keys = Keys(*(_key(f"{hostname} {purpose}") for purpose in ("identity", "host", "client")))
    ticks = itertools.count(_BEGINNING + CROWD.index(hostname), len(CROWD))
    return Machine(hostname, keys, machine_id(keys.identity_public), ticks.__next__, port)


def identity_of(hostname: str) -> Ed25519PrivateKey:
    """Return the key that is a machine's identity."""
    return _key(f"{hostname} identity")


def _key(seed: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(sha256(seed.encode()).digest())


async def found_cluster(
    first: Machine, folder: Path, *known: Machine, password: str = "", configured: bool = True
) -> Node:
    """Make the store of a cluster's first machine, which lets the others in and loads the cluster's configuration.

    Args:
        first: the machine.
        folder: where its store is to be.
        known: those of the other machines that daemons are to run for.
        password: of ``admin``, an argon2id hash; empty for none.
        configured: whether it loads the configuration at once; else ``configure`` does.
    """
    node = await first.wake(await first.create(folder))
    await node.submit(InitialiseMachine(card=first.card, password=password, salt=_SALT), USER)
    await node.submit(CreateCluster(name="americas", by="ip", salt=_SALT), USER)
    others = {hostname: machine(hostname) for hostname in MACHINES if hostname != first.hostname}
    for other in (others | {one.hostname: one for one in known}).values():
        await node.submit(AdmitMachine(card=other.card), USER)
    if configured:
        await configure(node)
    return node


async def configure(node: Node) -> None:
    """Load the cluster's configuration."""
    await node.submit(LoadConfig(level="cluster", settings=configuration(), source="main.cf", salt=_SALT), USER)


async def commit(node: Node, change: Change) -> None:
    """Commit one change; return when it is durable."""
    command = SetSetting(level=change.level, key=change.key, value=change.value, comment=change.comment, salt=_SALT)
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
        **{f"machine:{hostname}": f"setting/machine/{machine(hostname).id}/" for hostname in CROWD},
    }


def standing_in(folder: Path) -> dict[str, list[str]]:
    """Return what stands in a store's settings, as a reader finds it on the disk."""
    with StoreReader(StoreFolder(folder).database) as store:
        return {path: [str(lane.value) for lane in lanes] for path, lanes in store.under("setting/")}


def records_in(folder: Path) -> list[tuple[bytes, bytes]]:
    """Return a store's records, envelope and seal, in the order of its log."""
    with StoreReader(StoreFolder(folder).database) as store:
        return [(event.envelope, event.seal) for event in store.events()]


async def documents_say(node: Node, folder: Path) -> str:
    """Return the hash of what stands in the settings as a node's documents have them, all of which are opened."""
    with StoreReader(StoreFolder(folder).database) as store:
        names = [stored.name for stored in store.documents()]
    standing: dict[str, list[str]] = {}
    for name in names:
        for key, text in (await node.documents.get(name)).items().items():
            standing.setdefault(key.rpartition("@")[0], []).append(text[1:])
    return answer(standing)
