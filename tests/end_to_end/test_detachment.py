"""A machine detached on purpose: changed on both sides, taken back from either."""

from __future__ import annotations

import pytest

from tests.end_to_end.both_sides import BothSides
from tests.end_to_end.machines import PATIENCE_S, Machine, converged
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def in_paris(cluster: list[Machine]) -> list[Machine]:
    """The cluster, its third machine in a group of its own."""
    cluster[0].do("clusterconfig", "addgroup", "Paris")
    cluster[0].do("clusterconfig", "setgroup", cluster[2].hostname, "Paris")
    converged(*cluster)
    return cluster


def detach(here: Machine, machine: Machine) -> None:
    """Detach a machine and wait until it knows."""
    here.do("clusterconfig", "disconnect", machine.hostname)
    wait_until(lambda: machine.status()["detached"], PATIENCE_S, what=f"{machine.name} to hear that it is detached")


@pytest.mark.parametrize("taken_back_by", [0, 2], ids=["the rest", "the detached machine"])
def test_a_detached_machine_is_changed_and_taken_back(in_paris: list[Machine], taken_back_by: int) -> None:
    """After a reconnect on either side all digests are equal, nothing is lost, and each collision has both lanes."""
    mx1, mx2, mx3 = in_paris
    detach(mx1, mx3)
    changes = BothSides(mx1, mx3, "Paris", f"detached{taken_back_by}")
    changes.change()
    converged(mx1, mx2)
    assert mx1.status()["digest"] != mx3.status()["digest"]
    assert mx3.link(mx1) == "detached"
    assert mx1.link(mx3) == "detached"
    in_paris[taken_back_by].do("clusterconfig", "reconnect", mx3.hostname)
    changes.check(in_paris)
    assert not mx1.status()["detached"]
    assert mx1.link(mx3) == "connected"


def test_a_detachment_outlives_the_daemons(in_paris: list[Machine]) -> None:
    """What is detached stays so when its daemon, or another's, starts again; and learns that it is, if it was down."""
    mx1, _, mx3 = in_paris
    mx3.stop()
    mx1.do("clusterconfig", "disconnect", mx3.hostname)
    mx1.set("outlived", "by the rest")
    mx3.serve()
    wait_until(lambda: mx3.status()["detached"], PATIENCE_S, what="mx3 to hear that it is detached")
    mx3.run("get", "outlived").expect(1)
    mx1.stop()
    mx1.serve()
    mx3.set("outlived", "by the detached")
    mx1.set("outlived.too", "here")
    assert mx1.get("outlived") == "by the rest"
    mx3.do("clusterconfig", "reconnect", mx3.hostname)
    converged(*in_paris)
    assert mx1.get("outlived") == "by the detached"


def test_both_sides_may_take_a_machine_back_at_once(in_paris: list[Machine]) -> None:
    """Two reconnects that do not know of each other end one detachment; so do two detachments and one reconnect."""
    mx1, mx2, mx3 = in_paris
    detach(mx1, mx3)
    both = [
        mx1.start("clusterconfig", "reconnect", mx3.hostname),
        mx3.start("clusterconfig", "reconnect", mx3.hostname),
    ]
    for command in both:
        command.communicate(timeout=PATIENCE_S)
    # One of them may have heard of the other's before it began.
    assert 0 in {command.returncode for command in both}
    mx3.set("taken.back", "twice")
    converged(*in_paris)
    detach(mx1, mx2)
    detach(mx3, mx3)
    mx1.do("clusterconfig", "reconnect", mx2.hostname)
    mx3.do("clusterconfig", "reconnect", mx3.hostname)
    mx1.set("taken.back", "both")
    converged(*in_paris)
    assert mx2.get("taken.back") == "both"
