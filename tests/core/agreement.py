"""Whether machines agree: on records, verdicts, standing lanes, and all that can be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster_store.adapters.memory_log import MemoryLog
from cluster_store.core.aftermath import Known
from cluster_store.core.causality import vector
from cluster_store.core.digest import digest, lanes_digest
from cluster_store.core.document import Document
from cluster_store.core.registers import Registers, scope_of
from cluster_store.core.rules import read
from cluster_store.core.state import Draft, Needs, State
from cluster_store.core.types import MachineId, Path
from tests.replicas import Machine


def log_of(machine: Machine) -> MemoryLog:
    """Return a machine's log, which is one in memory."""
    assert isinstance(machine.log, MemoryLog)
    return machine.log


async def registers_of(machine: Machine) -> Draft:
    """Return all registers of a machine."""
    scopes = {scope_of(path) for path, _ in log_of(machine).lanes}
    while needs := machine.state.missing(Needs(scopes | set(machine.cluster.levels_for(machine.id)))):
        machine.replica.learn(await machine.log.lookup(needs))
    return Draft(machine.state)


def known_to(log: MemoryLog, state: State, registers: Registers, reached: Mapping[MachineId, int]) -> Known:
    """Return all that is asked of a store when something may be in question."""
    records = log.records
    positions = {added.record.id: added.position for added in records}
    return Known(
        state.me,
        read(registers),
        registers,
        list(state.lines.values()),
        {line: steps[-1][1] for line, steps in state.removals.items()},
        lambda until=None: reversed(records[:until]),
        lambda: records,
        positions.__getitem__,
        reached,
    )


async def summary(machine: Machine) -> dict[str, Any]:
    """Return what must be the same on machines that have heard of each other."""
    registers = await registers_of(machine)
    documents: dict[str, str] = {}
    for name, changes in sorted(log_of(machine).tails.items()):
        document = Document()
        document.apply(changes)
        documents |= {f"{name} {key}": value for key, value in document.items().items()}
    return {
        "records": {added.record.id: added.void for added in log_of(machine).records},
        "vector": vector(machine.state.lines.values()),
        "digest": digest(machine.cluster, registers),
        "lanes": lanes_digest(registers),
        "documents": documents,
    }


async def agree(*machines: Machine) -> None:
    """Assert that machines agree in everything."""
    first, *others = [await summary(machine) for machine in machines]
    for other in others:
        for name, value in first.items():
            assert other[name] == value, name


async def values(machine: Machine, key: str, level: str = "cluster") -> list[str]:
    """Return what stands in a setting's register as a machine sees it, sorted."""
    registers = await registers_of(machine)
    return sorted(str(lane.value) for lane in registers.standing(Path(f"setting/{level}/{key}")))
