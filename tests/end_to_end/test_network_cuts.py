"""Machines that cannot reach each other although nobody wanted it: cut cables, missing routes, dead daemons."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.both_sides import BothSides
from tests.end_to_end.gates import Gates, gates
from tests.end_to_end.load import writers
from tests.end_to_end.machines import PATIENCE_S, Fleet, Machine, converged, fleet, form
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three machines behind gates."""
    with fleet(tmp_path_factory.mktemp("site")) as opened:
        for number in (1, 2, 3):
            opened.machine(f"mx{number}", f"127.0.0.{number}", listen=f"127.0.1.{number}").init()
        yield opened


@pytest.fixture(scope="module")
def network(site: Fleet) -> Iterator[Gates]:
    """The gates between them."""
    with gates(list(site.machines.values())) as opened:
        yield opened


@pytest.fixture(scope="module")
def cluster(site: Fleet, network: Gates) -> list[Machine]:
    """The three machines in one cluster, the third in a group of its own."""
    machines = form(list(site.machines.values()))
    machines[0].do("clusterconfig", "addgroup", "Paris")
    machines[0].do("clusterconfig", "setgroup", machines[2].hostname, "Paris")
    converged(*machines)
    return machines


def test_both_sides_of_a_cut_go_on_and_meet_again(cluster: list[Machine], network: Gates) -> None:
    """When the network is whole again, the machines converge by themselves and nothing is lost."""
    mx1, mx2, mx3 = cluster
    network.cut_off(mx3)
    wait_until(lambda: mx1.link(mx3) != "connected", PATIENCE_S, what="mx1 to notice the cut")
    changes = BothSides(mx1, mx3, "Paris", "cut")
    changes.change()
    converged(mx1, mx2)
    assert mx1.status()["digest"] != mx3.status()["digest"]
    network.heal()
    changes.check(cluster)


def test_changes_go_round_a_missing_link(cluster: list[Machine], network: Gates) -> None:
    """With the first and the third machine unable to talk, what either changes reaches the other through the second."""
    mx1, mx2, mx3 = cluster
    network.block(mx1, mx3)
    wait_until(lambda: mx1.link(mx3) != "connected", PATIENCE_S, what="mx1 to notice the cut")
    mx1.set("round.there", "from mx1")
    mx3.set("round.back", "from mx3")
    converged(*cluster)
    assert mx3.get("round.there") == "from mx1"
    assert mx1.get("round.back") == "from mx3"
    assert (mx1.link(mx2), mx1.link(mx3)) in {("connected", "dropped"), ("connected", "unreachable")}
    network.heal()


def test_a_killed_machine_is_changed_and_meets_the_others_again(cluster: list[Machine], network: Gates) -> None:
    """What was changed on a machine whose daemon was killed, and elsewhere meanwhile, is merged when it is back."""
    mx1, mx2, mx3 = cluster
    mx3.kill()
    changes = BothSides(mx1, mx3, "Paris", "killed")
    changes.change()
    converged(mx1, mx2)
    mx3.serve()
    changes.check(cluster)


def test_links_that_break_all_the_time_still_carry_everything(cluster: list[Machine], network: Gates) -> None:
    """Connections that are cut after some bytes, wherever that is, again and again, damage nothing and lose nothing."""
    mx1, mx2, mx3 = cluster
    network.cut_off(mx3)
    with writers([mx1, mx3]) as writing:
        for writer in writing.values():
            writer.wait_for(200)
    network.heal()
    for size in (700, 3_000, 9_000):
        network.allow(size)
        wait_until(lambda: network.allowance == 0, PATIENCE_S, what=f"{size} bytes to pass")
    network.heal()
    converged(*cluster)
    everything = {event["id"] for event in mx2.events()}
    assert {event for writer in writing.values() for event in writer.acknowledged} <= everything
