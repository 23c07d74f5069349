"""The log in memory and the log in SQLite side by side: asked the same, they answer the same."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_store.adapters.memory_log import MemoryLog
from cluster_store.adapters.sqlite_log import SqliteLog
from cluster_store.core import commands
from cluster_store.core.admission import Incoming, Wait, admit, needs_of, split
from cluster_store.core.effects import LogRow
from cluster_store.core.errors import Malformed
from cluster_store.core.records import decode
from cluster_store.core.registers import scope_of
from cluster_store.core.state import Draft, Facts, Needs, ScopeFacts, State, Stored
from cluster_store.core.types import MachineId
from cluster_store.ports import EventLog, SavedDocument
from tests.core.builders import identity
from tests.core.histories import History, Step, step_lists
from tests.replicas import Fleet, restored

Answer = TypeVar("Answer")


def ordered(facts: Facts) -> Facts:
    """Return facts with each register's lanes in the order of their ids: a log may give them in any."""
    scopes = {
        scope: ScopeFacts(
            {path: tuple(sorted(lanes, key=lambda lane: lane.id)) for path, lanes in known.lanes.items()}, known.tips
        )
        for scope, known in facts.scopes.items()
    }
    return msgspec.structs.replace(facts, scopes=scopes)


async def spare_the_disk(log: SqliteLog) -> SqliteLog:
    """Let a log not wait for its disk: what is compared here is what it says, not what it survives."""
    await log._connection.execute("PRAGMA synchronous = OFF")
    return log


class Twin:
    """Both logs as one. Every question goes to both, and they must agree."""

    def __init__(self, memory: MemoryLog, sqlite: SqliteLog) -> None:
        self.memory = memory
        self.sqlite = sqlite

    @classmethod
    async def create(cls, path: Path, me: MachineId, cluster: str) -> Twin:
        """Make a pair of empty logs."""
        return cls(MemoryLog(cluster), await spare_the_disk(await SqliteLog.create(path, me, cluster)))

    async def reopen(self) -> None:
        """Close the file and open it again."""
        await self.sqlite.close()
        self.sqlite = await spare_the_disk(await SqliteLog.open(self.sqlite.path))

    async def load(self) -> Stored:
        """See ``EventLog``."""
        one, other = await self.memory.load(), await self.sqlite.load()
        assert other == msgspec.structs.replace(one, lines=sorted(one.lines, key=lambda line: line.number))
        return other

    async def lookup(self, needs: Needs) -> Facts:
        """See ``EventLog``."""
        one, other = await self.memory.lookup(needs), await self.sqlite.lookup(needs)
        assert ordered(one) == ordered(other)
        return other

    async def append(self, draft: Draft) -> None:
        """See ``EventLog``."""
        await self.memory.append(draft)
        await self.sqlite.append(draft)

    async def first_missing(self, covered: Mapping[int, int]) -> int:
        """See ``EventLog``."""
        return await self._same(lambda log: log.first_missing(covered))

    async def read(self, after: int, records: int, size: int) -> list[LogRow]:
        """See ``EventLog``."""
        return await self._same(lambda log: log.read(after, records, size))

    async def load_document(self, document: str) -> SavedDocument:
        """See ``EventLog``."""
        return await self._same(lambda log: log.load_document(document))

    async def save_documents(self, documents: Mapping[str, bytes]) -> None:
        """See ``EventLog``."""
        await self.memory.save_documents(documents)
        await self.sqlite.save_documents(documents)

    async def erase_secrets(self, before: int) -> int:
        """See ``EventLog``."""
        return await self._same(lambda log: log.erase_secrets(before))

    async def close(self) -> None:
        """See ``EventLog``."""
        await self.sqlite.close()

    async def _same(self, ask: Callable[[EventLog], Awaitable[Answer]]) -> Answer:
        one, other = await ask(self.memory), await ask(self.sqlite)
        assert one == other
        return other


async def compare_all(twin: Twin) -> None:
    """Ask a pair of logs everything there is to ask."""
    stored = await twin.load()
    rows = await twin.read(0, 1_000_000, 1 << 40)
    scopes = {scope_of(path) for path, _ in twin.memory.lanes}
    steps = {(row.line, row.seq) for row in rows}
    await twin.lookup(Needs(scopes, {decode(row.item.data, row.item.seal).id for row in rows}, steps))
    for line in stored.lines:
        await twin.first_missing({other.number: other.seq for other in stored.lines} | {line.number: line.seq // 2})
    for document in sorted({document for document, _ in twin.memory.tips}):
        await twin.load_document(document)


async def test_both_logs_agree_while_machines_talk(tmp_path: Path) -> None:
    """Machines that change things on both sides of a detachment, reconnect and restart get one answer from both."""

    async def make(name: str, me: MachineId, cluster: str) -> EventLog:
        return await Twin.create(tmp_path / f"{name}.db", me, cluster)

    fleet = Fleet(make)
    anna, bert, cleo = await fleet.fleet_of("anna", "bert", "cleo")
    try:
        await bert.command(commands.DetachMachines(machines=("cleo",)))
        await fleet.pump()
        assert not cleo.links
        for machine in (anna, cleo):
            await machine.set("smtp.banner", f'"{machine.name}"')
            await machine.command(commands.AddElements(key="relay", elements=(f'"{machine.name}"',)))
            await machine.set("smtp.password", f'"of {machine.name}"', secret=True)
        await cleo.command(commands.MoveMachines(machines=("cleo",), group="Main_Group"), commands.AddGroup(name="sea"))
        await fleet.pump()
        await cleo.command(commands.ReconnectMachines(machines=("cleo",)))
        for other in (anna, bert):
            await fleet.connect(cleo, other)
        await fleet.pump()
        assert anna.state.position == bert.state.position == cleo.state.position
        for machine in (anna, bert, cleo):
            assert isinstance(machine.log, Twin)
            await compare_all(machine.log)
            await machine.log.reopen()
            await fleet.restart(machine)
            await machine.set("smtp.banner", f'"{machine.name} again"')
            await compare_all(machine.log)
    finally:
        await fleet.close()


async def offer(log: EventLog, state: State, items: Iterable[Incoming]) -> None:
    """Offer a batch as a peer would: whatever of it is to be stored goes into the log and the state."""
    runs, _ = split(items)
    while missing := state.missing(needs_of(runs, state)):
        state.learn(await log.lookup(missing))
    draft = Draft(state)
    for run in runs:
        try:
            admit(draft, run, learnt=state.position)
        except (Wait, Malformed):
            continue
    if draft.records:
        await log.append(draft)
        state.absorb(draft)


@settings(max_examples=25)
@given(step_lists(), st.integers(0, 3))
async def test_both_logs_agree_on_any_history(steps: Sequence[Step], reopened: int) -> None:
    """Forks, removals, void records and secrets of machines that were rolled back, cloned and misbehave."""
    history = History().play(steps)
    with tempfile.TemporaryDirectory() as folder:
        reader = identity("reader")
        twin = await Twin.create(Path(folder) / "reader.db", reader.id, history.cluster)
        try:
            state = (await restored(reader, twin, "")).state
            for number, run in enumerate(history.runs):
                if reopened and number % (4 * reopened) == 0:
                    await twin.reopen()
                    state = (await restored(reader, twin, "")).state
                await offer(twin, state, run.items)
            await compare_all(twin)
            for before in (state.position // 2, state.position):
                await twin.erase_secrets(before)
                await compare_all(twin)
        finally:
            await twin.close()
