"""More real daemons than have links to all others. It takes minutes: CLUSTER_STORE_LARGE_FLEET=1 asks for it."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.end_to_end.machines import Fleet, Machine, converged
from tests.waiting import wait_until

#: Everything takes its time where so many processes share a host.
PATIENCE_S = 400.0


def states(machine: Machine) -> Counter[str]:
    """Return how many of the links of a machine are in which state, without the one that is itself."""
    rows = [row for row in machine.links().values() if row["reason"] != "this machine"]
    return Counter(row["state"] for row in rows)


@pytest.mark.skipif(os.environ.get("CLUSTER_STORE_LARGE_FLEET") != "1", reason="CLUSTER_STORE_LARGE_FLEET=1 runs it")
def test_two_dozen_daemons_keep_a_handful_of_links_each(machines: Fleet) -> None:
    """A full mesh becomes sparse as machines join; changes reach all, round the dead too, who catch up when back."""
    fleet = machines.cluster(*(f"mx{number}" for number in range(1, 25)))
    wait_until(lambda: all(states(one)["connected"] <= 6 for one in fleet), PATIENCE_S, what="spare links to end")
    assert all(states(one)["not linked"] >= 12 for one in fleet)
    fleet[0].set("far.and", "wide")
    converged(*fleet, timeout=PATIENCE_S)
    dead, alive = fleet[5:7], fleet[:5] + fleet[7:]
    for machine in dead:
        machine.kill()
    fleet[-1].set("round.the", "dead")
    converged(*alive, timeout=PATIENCE_S)
    for machine in dead:
        machine.serve()
    converged(*fleet, timeout=PATIENCE_S)
    assert dead[0].get("round.the") == "dead"
