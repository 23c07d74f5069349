"""Stores to tamper with."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.collisions import stored_collision, stored_pair
from tests.verify.tampering import Copy, copied


@pytest.fixture(scope="package")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two machines that were apart: secrets, conflicts, sets, documents with saved forms and tails."""
    folder = tmp_path_factory.mktemp("stores")
    asyncio.run(stored_collision(folder, save=True))
    return folder / "mx1" / "cluster.db"


@pytest.fixture(scope="package")
def small_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a few records of two machines."""
    folder = tmp_path_factory.mktemp("small")
    asyncio.run(stored_pair(folder))
    return folder / "mx1" / "cluster.db"


@pytest.fixture
def small(small_database: Path) -> Iterator[Copy]:
    """A copy of the small store to tamper with."""
    with copied(small_database) as found:
        yield found


@pytest.fixture
def copy(database: Path) -> Iterator[Copy]:
    """A copy of that store to tamper with."""
    with copied(database) as found:
        yield found
