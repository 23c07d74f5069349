"""Any flipped bit of a disk is found, and what stands before it can be saved."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from cluster_store.core.digest import lanes_digest
from cluster_store.simulation.damage import examine, flip_document, flip_lane, flip_record, salvaged
from cluster_store.simulation.disk import Disk
from cluster_store.simulation.options import draw
from cluster_store.simulation.run import Run


@pytest.fixture(scope="module")
def disk() -> Disk:
    """A disk that a run left behind, with forks, conflicts, secrets and saved documents."""
    run = Run(2, draw(2, machines=3, events=40, faults=["cut", "restore"]))
    assert run.play().passed
    found = run.fleet.hosts[0].log.disk
    assert found.saved
    return found


@pytest.mark.parametrize("flip", [flip_record, flip_lane, flip_document])
def test_any_flipped_bit_is_found(flip: Callable[[Disk, Random], None], disk: Disk) -> None:
    """An undamaged disk is found to be sound, and one with a single other bit is not."""
    assert examine(disk) == (len(disk.records), "")
    for seed in range(60):
        damaged = disk.copy()
        flip(damaged, Random(seed))
        found = examine(damaged)
        assert found.fault, damaged.damage
        assert found.sound < len(disk.records) if flip is flip_record else found.sound == len(disk.records)


def test_what_is_before_the_damage_is_saved(disk: Disk) -> None:
    """Its records stay as they are, all else follows from them, and the machine has no feed to go on with."""
    whole = salvaged(disk, len(disk.records))
    assert whole.own is None
    assert whole.records == disk.records
    assert lanes_digest(whole) == lanes_digest(disk)
    damaged = disk.copy()
    flip_record(damaged, Random(5))
    sound = examine(damaged).sound
    assert 0 < sound < len(disk.records)
    assert salvaged(damaged, sound).records == disk.records[:sound]
