"""Two halves of a cluster meet again: both take what the other did, everything checked, durable and up to date.

The floor does in one process, one after the other, what nobody can do without: the merge engine applies the same
changes in the same batches, and SQLite makes the same record bytes durable.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from benchmarks import floors
from benchmarks.harness import Contestant, Question, Ratio, Size, Stage, Trial, WrongAnswer
from benchmarks.machines import (
    Machine,
    commit_in_bursts,
    found_cluster,
    machine,
    paths_of_settings,
    records_in,
    standing_in,
)
from benchmarks.workload import MACHINES, answer, changes, fold, outcome
from cluster_store.adapters.memory_transport import MemoryNetwork, MemoryTransport
from cluster_store.adapters.sqlite_file import DATABASE
from cluster_store.adapters.sqlite_log import SqliteLog
from cluster_store.adapters.sqlite_projection import changes_of
from cluster_store.adapters.sqlite_reader import StoreReader
from cluster_store.core.document import Document
from cluster_store.core.state import Draft
from cluster_store.gatekeeper import Doorkeeper
from cluster_store.joining import fetch
from cluster_store.links import Links, address_of
from cluster_store.node import Node

_SIDES = MACHINES[:2]


class _RecordingLog(SqliteLog):
    """Remembers what was appended to it."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.drafts: list[Draft] = []

    async def append(self, draft: Draft) -> None:
        """See ``EventLog``."""
        await super().append(draft)
        self.drafts.append(draft)
