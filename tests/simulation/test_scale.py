"""A fleet that is too large for a full mesh, and small enough for every run of the tests."""

from __future__ import annotations

import pytest

from cluster_store.simulation import scale as module
from cluster_store.simulation.scale import Failed, Report, scale


def told(_what: str, _done: int, _total: int) -> None:
    """Tell nobody."""


@pytest.fixture(scope="module")
def report() -> Report:
    """The figures of a fleet."""
    return scale(30, 1, 3, told)


def test_a_change_reaches_all_at_a_bounded_cost(report: Report) -> None:
    """In a second, and nobody sends more than three times its size, acknowledgements included."""
    for spread in (report.single, report.dead_later):
        assert spread.seconds_max < 1
        assert spread.hops_max <= 10
        assert spread.sent_max <= 3
    assert report.burst_sent_mean <= 3
    assert report.dead_at_once.seconds_max < 10


def test_a_large_fleet_has_few_links_and_makes_few_at_a_time(report: Report) -> None:
    """Four each, some more while others stand in, and fewer dials at one moment than there are machines."""
    for connecting in (report.start, report.dead_replaced, report.restart):
        assert connecting.links_max <= 8
        assert connecting.links_mean <= 5
        assert connecting.dialling_max <= 30


def test_a_large_fleet_gets_over_cuts_and_restarts(report: Report) -> None:
    """It agrees soon after it is whole again, and whatever is written while all start is everywhere when all have."""
    assert report.dead == 1
    assert report.half_seconds < 60
    assert report.healed_seconds < 60
    assert report.restart_seconds < 30


def test_the_same_seed_gives_the_same_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, however many dice were thrown."""
    monkeypatch.setattr(module, "_CUT_MS", 70_000)
    monkeypatch.setattr(module, "_SETTLE_MS", 1_000)
    assert scale(22, 5, 1, told) == scale(22, 5, 1, told)


def test_a_fleet_that_does_not_come_to_anything_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it did not come to is said."""
    monkeypatch.setattr(module, "_PATIENCE_MS", 100)
    with pytest.raises(Failed, match="starting: not done after"):
        scale(22, 1, 1, told)
