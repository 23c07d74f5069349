"""Rows found without SQLite: the same as it finds in a whole file, and as many as there are in any other."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster_store.adapters.sqlite_carving import Carved, carve
from cluster_store.adapters.sqlite_schema import PAGE_BYTES
from tests.collisions import in_folder, stored_collision, two_machines

#: Sizes of values: in a row's own page, just over its border, in one page more, in many.
SIZES = (10, 7_000, 7_300, 8_100, 9_000, 20_000, 60_000)


async def store_values(folder: Path) -> None:
    """Leave a store with values and secrets of many sizes."""
    pair = await two_machines(in_folder(folder))
    for number, size in enumerate(SIZES):
        await pair.mx1.set(f"plain.{number}", f'"{"x" * size}"')
        await pair.mx1.set(f"secret.{number}", f'"{"y" * size}"', secret=True)
    # So many that a page of secrets has others above it.
    for number in range(60):
        await pair.mx1.set(f"small.{number}", f'"{"z" * 400}{number}"', secret=True)
    await pair.fleet.pump()
    await pair.fleet.close()


def rows_of(path: Path) -> tuple[list[tuple[int, int, bytes, bytes]], dict[tuple[bytes, str], tuple[bytes, str]]]:
    """Return records and secrets as SQLite finds them."""
    with closing(sqlite3.connect(path)) as connection:
        records = connection.execute("SELECT position, learnt, ifnull(seal, x''), envelope FROM records").fetchall()
        secrets = connection.execute("SELECT record, path, salt, text FROM secrets").fetchall()
    return records, {(record, name): (salt, text) for record, name, salt, text in secrets}


def test_what_sqlite_finds_is_found(tmp_path: Path) -> None:
    """Rows of every size, in pages of their own, and in the inner pages of a tree too."""
    asyncio.run(store_values(tmp_path))
    for name in ("mx1", "mx2"):
        records, secrets = rows_of(tmp_path / name / "cluster.db")
        assert len(secrets) > 60
        carved = carve(tmp_path / name / "cluster.db")
        assert sorted(carved.records) == sorted(records)
        assert carved.secrets == secrets
        assert carved.count == len(records)
        assert sum(carved.feeds.values()) == len(records)


def test_what_stands_in_the_write_ahead_log_is_found(tmp_path: Path) -> None:
    """A change that was not moved into the database yet is as good as any."""
    asyncio.run(stored_collision(tmp_path))
    path = tmp_path / "mx1" / "cluster.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE meta SET count = 12345")
        connection.commit()
        assert carve(path).count == 12345


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A store's file."""
    folder = tmp_path_factory.mktemp("whole")
    asyncio.run(stored_collision(folder))
    return (folder / "mx1" / "cluster.db").read_bytes()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(page=st.integers(0, 40), junk=st.binary(min_size=1, max_size=200), place=st.integers(0, PAGE_BYTES - 1))
def test_any_bytes_are_read(whole: bytes, tmp_path: Path, page: int, junk: bytes, place: int) -> None:
    """Nothing in a file makes the reading fail, and the other pages' rows are found all the same."""
    path = tmp_path / "cluster.db"
    path.write_bytes(whole)
    sound = carve(path).records
    place += page * PAGE_BYTES
    path.write_bytes(whole[:place] + junk + whole[place + len(junk) :])
    touched = range(place // PAGE_BYTES, (place + len(junk) - 1) // PAGE_BYTES + 1)
    elsewhere = {row for row in sound if row[3] in whole and whole.index(row[3]) // PAGE_BYTES not in touched}
    assert elsewhere <= set(carve(path).records)


@pytest.mark.parametrize("content", [b"", b"x", b"\r" * PAGE_BYTES, b"\xff" * 3 * PAGE_BYTES, b"\n" * (PAGE_BYTES + 7)])
def test_a_file_that_is_no_store_has_no_rows(tmp_path: Path, content: bytes) -> None:
    """What is no row is not taken for one."""
    path = tmp_path / "cluster.db"
    path.write_bytes(content)
    assert carve(path) == Carved()
