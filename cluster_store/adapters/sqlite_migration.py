"""Bringing a store of an earlier version up to this one.

The file is copied first. All steps and the rebuilding of the projection are one transaction, so that a store
is either as it was or as it should be, whenever the power fails.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from cluster_store.adapters.sqlite_projection import rebuild
from cluster_store.adapters.sqlite_schema import SCHEMA_VERSION, transaction
from cluster_store.core.types import MachineId

#: Changes the tables to the next version's. Records and secrets must keep what they hold; all else is rebuilt.
Step = Callable[[sqlite3.Connection], None]

#: The first one leads from schema 1 to 2, and so on.
STEPS: tuple[Step, ...] = ()

assert len(STEPS) == SCHEMA_VERSION - 1


def migrate(connection: sqlite3.Connection, path: Path, version: int, steps: Sequence[Step]) -> None:
    """Take a store from a version to the one after the last step.

    Raises sqlite3.Error or StoreCorrupt; the store is then as it was.
    """
    if version > len(steps):
        return
    _copy(connection, path.with_name(f"{path.name}.schema-{version}"))
    with transaction(connection):
        for step in steps[version - 1 :]:
            step(connection)
        (me,) = connection.execute("SELECT me FROM meta").fetchone()
        rebuild(connection, MachineId(me))
        connection.execute(f"PRAGMA user_version = {len(steps) + 1}")


def _copy(connection: sqlite3.Connection, target: Path) -> None:
    """Copy what is durable. A copy that an earlier, failed attempt left is written anew."""
    target.unlink(missing_ok=True)
    target.touch(mode=0o600)
    with closing(sqlite3.connect(target)) as copy:
        connection.backup(copy)
