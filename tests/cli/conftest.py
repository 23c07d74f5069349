"""Stores for the commands to work on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.stores import Store


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLUSTER_STORE", raising=False)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """The store of a machine that is in no cluster."""
    return Store(tmp_path / "mx1").init()


@pytest.fixture
def member(store: Store) -> Store:
    """The store of a machine in a cluster with two groups, both of which it knows alone so far."""
    store.do("clusterconfig", "create", "americas", "--by", "ip")
    store.do("clusterconfig", "addgroup", "paris")
    return store
