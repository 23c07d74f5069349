"""``cluster-store demo``: the main job, shown."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.end_to_end.machines import Fleet


@pytest.mark.slow
def test_the_demo_does_what_it_says(machines: Fleet, tmp_path: Path) -> None:
    """It ends with success, having removed its folder. Its commands and daemons are Pythons of their own."""
    before = set(Path(tempfile.gettempdir()).glob("cluster-store-demo-*"))
    told = machines.machine("nobody").do("demo")
    assert "All as promised" in told
    assert set(Path(tempfile.gettempdir()).glob("cluster-store-demo-*")) <= before
