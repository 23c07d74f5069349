"""What an event takes on the disk, beside the bytes of its envelope."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from benchmarks import stores
from benchmarks.harness import Contestant, Place, Question, Ratio, Role, Size, Stage, Trial, Unit
from benchmarks.machines import records_in
from cluster_store.adapters.store_folder import StoreFolder


def _prepare(place: Place, scales: Sequence[int]) -> Stage:
    contestants: list[Contestant] = []
    ratios: list[Ratio] = []
    for scale in scales:
        store = stores.full(place.shelf, scale)
        said = f"{scale} records"
        whole = Contestant("cluster.db", scale, scale, said, partial(_database, store), unit=Unit.BYTES)
        envelopes = Contestant("envelopes", scale, scale, said, partial(_envelopes, store), Role.FLOOR, Unit.BYTES)
        contestants += [whole, envelopes]
        ratios.append(Ratio(whole, envelopes, at_most=1.5))
        for table in _tables(store):
            run = partial(_table, store, table)
            contestants.append(Contestant(f"table {table}", scale, scale, said, run, unit=Unit.BYTES))
    return Stage(contestants, ratios)


def _database(store: Path, folder: Path) -> Trial:
    """Measure the database with everything moved from the write-ahead log into it, which the next writer does."""
    shutil.copytree(store, folder, dirs_exist_ok=True)
    database = StoreFolder(folder).database
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Trial(sum(file.stat().st_size for file in folder.glob("cluster.db*")), f"{len(records_in(folder))} records")


def _envelopes(store: Path, folder: Path) -> Trial:  # noqa: ARG001 - it only reads
    records = records_in(store)
    return Trial(sum(len(envelope) for envelope, _ in records), f"{len(records)} records")


def _tables(store: Path) -> list[str]:
    with closing(sqlite3.connect(StoreFolder(store).database)) as connection:
        rows = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall()
    return [name for (name,) in rows]


def _table(store: Path, table: str, folder: Path) -> Trial:  # noqa: ARG001 - it only reads
    """Measure the pages of a table and of its indexes."""
    with closing(sqlite3.connect(StoreFolder(store).database)) as connection:
        query = """SELECT coalesce(sum(pgsize), 0) FROM dbstat
                   WHERE name IN (SELECT name FROM sqlite_schema WHERE tbl_name = ?)"""
        ((size,),) = connection.execute(query, (table,)).fetchall()
    return Trial(size, f"{len(records_in(store))} records")


QUESTION = Question(
    name="disk",
    title="What an event takes on the disk",
    operation="event",
    scale="events",
    rounds={Size.SMOKE: 1, Size.REAL: 1},
    scales={Size.SMOKE: (100,), Size.REAL: (50_000,)},
    prepare=_prepare,
)
