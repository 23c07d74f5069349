"""The switch that lets situations be told anew: ``pytest tests/scenarios --rewrite``."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--rewrite``."""
    parser.addoption("--rewrite", action="store_true", help="write what the situations come to now into their files")


@pytest.fixture
def rewrite(pytestconfig: pytest.Config) -> bool:
    """Whether the recorded outcomes are to be replaced. Unknown to a run that began above this folder."""
    return bool(pytestconfig.getoption("--rewrite", default=False))
