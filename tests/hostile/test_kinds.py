"""Every kind of bad input leaves the store, its documents and the honest members as they should be."""

from __future__ import annotations

import pytest

from tests.hostile.catalogue import KINDS
from tests.hostile.kinds import Kind, run
from tests.hostile.stage import watch_encoder


@pytest.fixture(autouse=True)
def _watched(monkeypatch: pytest.MonkeyPatch) -> None:
    watch_encoder(monkeypatch)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_bad_input_does_no_harm(kind: Kind) -> None:
    """It ends as the table says; a commit after it is taken, and everybody honest gets everything."""
    seen = run(kind)
    assert seen["tried"]
