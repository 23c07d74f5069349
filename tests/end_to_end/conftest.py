"""Clusters for the tests: one for each module, formed over SSH, and machines for single tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.machines import Fleet, Machine, fleet


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Machine]]:
    """Three machines in one cluster, their daemons running. Tests leave them so, and use keys of their own."""
    with fleet(tmp_path_factory.mktemp("cluster")) as machines:
        yield machines.cluster("mx1", "mx2", "mx3")


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Fleet]:
    """Machines of one test, as many as it makes."""
    with fleet(tmp_path) as opened:
        yield opened
