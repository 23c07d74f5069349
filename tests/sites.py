"""Machines in one process with the product's whole shell: nodes, links, doors; logs and network in memory."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any

from cluster_store.adapters.keys import Keys
from cluster_store.adapters.memory_log import MemoryLog
from cluster_store.adapters.memory_transport import MemoryNetwork, MemoryTransport
from cluster_store.core import commands
from cluster_store.core.commands import Card
from cluster_store.core.records import machine_id
from cluster_store.core.registers import Lane
from cluster_store.core.settings import effective
from cluster_store.core.types import Path
from cluster_store.gatekeeper import Doorkeeper
from cluster_store.links import Links
from cluster_store.node import Node, open_node
from cluster_store.ports import Listener
from cluster_store.service import Service

SALT = b"0123456789abcdef"
PASSWORD = "the only password"


async def plain_verify(stored: str, password: str) -> bool:
    """Compare passwords that are kept as they are: argon2 has tests of its own."""
    return bool(stored) and stored == password


class LogRegisters:
    """The registers as a reader beside the node sees them: what is durable."""

    def __init__(self, log: MemoryLog) -> None:
        """Read a log's lanes."""
        self._log = log

    def standing(self, path: Path) -> tuple[Lane, ...]:
        """See ``Registers``."""
        return tuple(lane for (at, _), lane in self._log.lanes.items() if at == path)

    def under(self, prefix: str) -> list[tuple[Path, tuple[Lane, ...]]]:
        """See ``Registers``."""
        paths = sorted({path for path, _ in self._log.lanes if path.startswith(prefix)})
        return [(path, self.standing(path)) for path in paths]


class Site:
    """One machine."""

    def __init__(self, network: MemoryNetwork, name: str) -> None:
        """Describe a machine; ``begin`` brings it to life."""
        self.name = name
        self.network = network
        self.keys = Keys.generate()
        self.id = machine_id(self.keys.identity_public)
        self.log = MemoryLog()
        self.transport = MemoryTransport(network, name, self.keys)
        self.clock = itertools.count(1_700_000_000_000, 1000)
        self.node: Node
        self.links: Links
        self.service: Service
        self.listener: Listener | None = None

    def card(self) -> Card:
        """Return what the machine says of itself."""
        return Card(
            key=self.keys.identity_public.hex(),
            hostname=self.name,
            serial=f"S-{self.name}",
            version="9",
            ssh_port=22,
            ccs_port=2222,
            listen=self.name,
            host_key=self.keys.host_key_line,
            client_key=self.keys.client_key_line,
        )

    async def open(self) -> None:
        """Open the log and go online, as the daemon does."""
        self.node = await open_node(self.log, self.id, self.keys.sign, lambda: next(self.clock))
        await self.node.start()
        self.links = Links(self.node, self.transport, self.id)
        self.service = Service(self.node, self.links)

    async def listen(self) -> None:
        """Let others in, and dial them."""
        door = Doorkeeper(self.node, self.links, plain_verify, self.service.answer_person)
        self.listener = await self.transport.listen(self.name, 22, door)
        self.links.start()

    async def begin(self) -> None:
        """Write the first record, stand alone, listen."""
        await self.open()
        await self.node.submit(commands.InitialiseMachine(card=self.card(), password=PASSWORD, salt=SALT), "os:root")
        await self.listen()

    async def end(self) -> None:
        """Stop, as the daemon does."""
        if self.listener is not None:
            await self.listener.close()
            self.listener = None
        await self.links.stop()
        await self.node.close()

    async def command(self, command: commands.Command) -> Mapping[str, Any]:
        """Carry out a command."""
        return await self.node.submit(command, "os:root")

    async def set(self, key: str, value: str) -> Mapping[str, Any]:
        """Set a key at the default level."""
        return await self.command(commands.SetSetting(key=key, value=value, salt=SALT))

    def get(self, key: str) -> object:
        """Return a key's effective value here as JSON text."""
        value = effective(LogRegisters(self.log), self.node.replica.cluster.levels_for(self.id), key)
        return value.value if value else None

    async def has(self, key: str, value: str, seconds: float = 10.0) -> None:
        """Wait until a key has a value here."""
        async with asyncio.timeout(seconds):
            await self.node.wait_for(lambda: self.get(key) == value)
