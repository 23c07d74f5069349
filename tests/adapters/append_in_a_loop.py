"""A process that appends to a store and names each record once it is acknowledged, until it is killed.

python -m tests.adapters.append_in_a_loop DATABASE
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path

from cluster_store.adapters.sqlite_log import SqliteLog
from cluster_store.core.types import MachineId
from cluster_store.ports import EventLog
from tests.replicas import Fleet


async def append_for_ever(path: Path) -> None:
    """Make a store and set one key to 1, 2, 3 …; print the ids of the events."""

    async def make(_name: str, me: MachineId, cluster: str) -> EventLog:
        return await SqliteLog.create(path, me, cluster)

    machine = await Fleet(make).found("anna")
    for number in itertools.count(1):
        event = await machine.set("key", str(number))
        print(event["event"], flush=True)  # noqa: T201 - it is what this process is for


if __name__ == "__main__":
    asyncio.run(append_for_ever(Path(sys.argv[1])))
