"""Two machines that were cut apart, changed the same things, and met again: what the history commands have to show."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cluster_store.adapters.memory_log import MemoryLog
from cluster_store.adapters.sqlite_log import SqliteLog
from cluster_store.core import commands
from cluster_store.core.document import Document
from cluster_store.core.registers import SHARDS, Lane, Standing
from cluster_store.core.state import Appended
from cluster_store.core.types import MachineId, RecordId
from cluster_store.core.types import Path as Register
from cluster_store.ports import EventLog
from tests.replicas import Fleet, LogFactory, Machine, in_memory


def in_folder(folder: Path) -> LogFactory:
    """Return what makes each machine's log in a store's folder of its own."""

    async def make(name: str, me: MachineId, cluster: str) -> EventLog:
        (folder / name).mkdir(parents=True)
        return await SqliteLog.create(folder / name / "cluster.db", me, cluster)

    return make


class Collision:
    """The machines ``mx1`` and ``mx2`` and what they did."""

    def __init__(self, fleet: Fleet, mx1: Machine, mx2: Machine) -> None:
        self.fleet = fleet
        self.mx1 = mx1
        self.mx2 = mx2

    async def cut(self) -> None:
        """Break the links between the two."""
        await self.fleet.cut(self.mx1, self.mx2)

    async def meet(self) -> None:
        """Let the two exchange what they have."""
        await self.fleet.connect(self.mx1, self.mx2)
        await self.fleet.pump()


async def two_machines(make_log: LogFactory = in_memory) -> Collision:
    """Return two linked machines of one cluster."""
    fleet = Fleet(make_log)
    mx1, mx2 = await fleet.fleet_of("mx1", "mx2")
    return Collision(fleet, mx1, mx2)


async def collision(make_log: LogFactory = in_memory) -> Collision:
    """Return the two after a cut in which both set ``smtp.banner`` and added to ``relay``."""
    pair = await two_machines(make_log)
    mx1, mx2 = pair.mx1, pair.mx2
    await mx1.set("smtp.banner", '"hello"')
    await mx1.set("smtp.banner", '"on mx1"', "machine:mx1")
    await mx1.set("password", '"s3cret"', secret=True)
    await pair.fleet.pump()
    await pair.cut()
    await mx1.set("smtp.banner", '"one"', "cluster")
    await mx2.set("smtp.banner", '"two"')
    await mx1.command(commands.AddElements(key="relay", elements=('"192.0.2.1"',)))
    await mx2.command(commands.AddElements(key="relay", elements=('"192.0.2.2"',), comment="our own"))
    await pair.meet()
    return pair


async def stored_collision(folder: Path, *, save: bool = False) -> None:
    """Leave the stores of such machines in the folders ``mx1`` and ``mx2``.

    Args:
        folder: where.
        save: save the documents half way.
    """
    pair = await collision(in_folder(folder))
    if save:
        scopes = ("cluster", f"machine/{pair.mx1.id}")
        names = [f"{scope}#{shard:x}" for scope in scopes for shard in range(SHARDS)]
        for machine in (pair.mx1, pair.mx2):
            await save_documents(machine.log, names)
    await pair.mx1.set("dns.primary", '"192.0.2.53"')
    await pair.fleet.pump()
    await pair.fleet.close()


async def save_documents(log: EventLog, names: Iterable[str]) -> None:
    """Save documents as they are now, as a node does when their tails have grown."""
    for name in names:
        stored = await log.load_document(name)
        if stored.tail:
            document = Document.open(stored.saved)
            document.apply(stored.tail)
            await log.save_documents({name: document.save()})


async def stored_pair(folder: Path) -> None:
    """Leave two small stores in the folders ``mx1`` and ``mx2``: a record of each beyond what makes them a cluster."""
    pair = await two_machines(in_folder(folder))
    await pair.mx1.set("a", "1")
    await pair.fleet.pump()
    await pair.mx2.set("a", "2")
    await pair.fleet.pump()
    await pair.fleet.close()


def registers_of(machine: Machine) -> Standing:
    """Return all that stands on a machine whose log is in memory."""
    assert isinstance(machine.log, MemoryLog)
    lanes: dict[Register, tuple[Lane, ...]] = {}
    for (path, _), lane in machine.log.lanes.items():
        lanes[path] = (*lanes.get(path, ()), lane)
    return Standing(lanes)


def event_of(machine: Machine, record: RecordId) -> Appended:
    """Return one event of a machine whose log is in memory."""
    assert isinstance(machine.log, MemoryLog)
    return next(added for added in machine.log.records if added.record.id == record)
