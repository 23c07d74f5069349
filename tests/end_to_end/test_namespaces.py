"""Five machines in network namespaces: a network that goes silent, is slow, loses, or is not what it was yesterday.

What connstatus says is checked on both sides of every cut, and the machines' agreement after it. Needs root. In the
environment, ``CLUSTER_STORE_DIVERGENCE=1000`` has both sides of the great cut make so many changes each, and
``CLUSTER_STORE_OWN_TIMES=1`` leaves the daemon its own times.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import product

import pytest

from tests.end_to_end.both_sides import BothSides
from tests.end_to_end.cables import Switch, switch
from tests.end_to_end.load import Writer, writers
from tests.end_to_end.machines import Machine, converged, fleet, form
from tests.waiting import wait_until

pytestmark = [pytest.mark.netns, pytest.mark.timeout(600)]

OWN_TIMES = os.environ.get("CLUSTER_STORE_OWN_TIMES") == "1"
#: Changes on each side of the great cut.
DIVERGENCE = int(os.environ.get("CLUSTER_STORE_DIVERGENCE", "50"))
#: How long it may take until a silent peer is given up, and until all is as it should be after healing, seconds.
NOTICED_S = 180.0 if OWN_TIMES else 60.0
HEALED_S = 120.0 if OWN_TIMES else 60.0
#: How connstatus calls a link that is down and should not be.
DOWN = {"unreachable", "dropped", "connecting"}


@pytest.fixture(scope="module")
def plugged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[Machine], Switch]]:
    """Five machines at one switch, in one cluster, the last in a group of its own."""
    with fleet(tmp_path_factory.mktemp("namespaces")) as site:
        plants = () if OWN_TIMES else ("impatient",)
        machines = [site.machine(f"mx{number}", f"10.99.0.{number}", plants=plants) for number in range(1, 6)]
        with switch(machines) as network:
            form([machine.init() for machine in machines])
            machines[0].do("clusterconfig", "addgroup", "Paris")
            machines[0].do("clusterconfig", "setgroup", machines[4].hostname, "Paris")
            yield machines, network
            site.close()


@pytest.fixture
def network(plugged: tuple[list[Machine], Switch]) -> Iterator[Switch]:
    """The switch, healed after each test."""
    _, network = plugged
    yield network
    network.heal()


@pytest.fixture
def five(plugged: tuple[list[Machine], Switch], network: Switch) -> list[Machine]:
    """The machines, agreeing and all linked."""
    machines, _ = plugged
    linked(machines, machines)
    converged(*machines, timeout=HEALED_S)
    return machines


def linked(some: Sequence[Machine], others: Sequence[Machine]) -> None:
    """Wait until each of some machines says that it is connected with each of others, with nothing outstanding."""

    def wanting() -> list[str]:
        rows = {(one.name, other.name): one.links()[other.name] for one, other in product(some, others)}
        facts = ("state", "behind", "ahead", "reason", "since")
        told = {between: tuple(row[fact] for fact in facts) for between, row in rows.items()}
        return [f"{one} of {other}: {row}" for (one, other), row in told.items() if row[:3] != ("connected", 0, 0)]

    try:
        wait_until(lambda: not wanting(), HEALED_S, what="all links to be up")
    except AssertionError as error:
        raise AssertionError(f"{error}; now {wanting()}") from error


def cut(some: Sequence[Machine], others: Sequence[Machine]) -> None:
    """Wait until both sides of a cut say that every link over it is down, and why; who is on one side stays linked."""
    both_ways = (*product(some, others), *product(others, some))

    def silent() -> list[str]:
        rows = {f"{one.name} of {other.name}": one.links()[other.name] for one, other in both_ways}
        return [ends for ends, row in rows.items() if row["state"] not in DOWN or not row["reason"]]

    wait_until(lambda: not silent(), NOTICED_S, what="both sides of a cut to say so")
    for one, other in both_ways:
        row = one.links()[other.name]
        # What is told is of the time when they last spoke.
        assert row["as_of"] == row["last_contact"]


def recorded(writing: dict[str, Writer], machines: Sequence[Machine]) -> None:
    """Insist that every change that was acknowledged is in every machine's log."""
    acknowledged = {event for writer in writing.values() for event in writer.acknowledged}
    for machine in machines:
        assert acknowledged <= {event["id"] for event in machine.events()}, machine.name


def test_two_and_three_machines_apart(
    five: list[Machine], network: Switch, record_property: Callable[[str, object], None]
) -> None:
    """Each side goes on by itself, knows who is away, and after healing everything of both sides is on all five."""
    here, there = five[:3], five[3:]
    network.set_apart(*there)
    changes = BothSides(five[0], five[4], "Paris", "apart")
    changes.change()
    with writers([five[0], five[4]]) as writing:
        for writer in writing.values():
            writer.wait_for(DIVERGENCE)
    cut(here, there)
    linked(here, here)
    linked(there, there)
    assert converged(*here) != converged(*there)
    network.heal()
    converged(*five, timeout=HEALED_S + DIVERGENCE / 20)
    linked(five, five)
    changes.check(five)
    recorded(writing, five)
    made = [len(writer.acknowledged) for writer in writing.values()]
    record_property("figures", f"{made[0]} and {made[1]} changes apart, then equal on five machines")


def test_packets_lost_in_one_direction(five: list[Machine], network: Switch) -> None:
    """Where one machine's packets do not reach another, both say so, and what they write goes round over the rest."""
    mx1, mx2, *rest = five
    network.drop_packets(mx1, mx2)
    cut([mx1], [mx2])
    events = {mx1.set("one-way.there", "from mx1"), mx2.set("one-way.back", "from mx2")}
    converged(*five)
    linked([mx1, mx2], rest)
    assert events <= {event["id"] for event in mx1.events()} & {event["id"] for event in mx2.events()}
    network.heal()
    linked(five, five)


def test_only_one_side_can_dial(five: list[Machine], network: Switch) -> None:
    """One direction in which connections can be made is enough; without any, both sides say so."""
    mx1, *others = five
    mx1.kill()
    # The others are linked with each other since before.
    for machine in five:
        network.drop_dialling(machine)
    mx1.serve()
    cut([mx1], others)
    network.let_pass(mx1)
    linked(five, five)
    mx1.set("dialled", "by mx1")
    converged(*five)


def test_a_cable_pulled_and_put_back_all_the_time(five: list[Machine], network: Switch) -> None:
    """A link that flaps damages nothing, and when it stays everything is everywhere."""
    *_, mx5 = five
    with writers([five[0], mx5]) as writing:
        for _ in range(8):
            network.pull(mx5)
            writing["mx5"].wait_for(5)
            network.push(mx5)
            writing["mx1"].wait_for(5)
    converged(*five, timeout=HEALED_S)
    linked(five, five)
    recorded(writing, five)


@pytest.mark.parametrize("by", ["narrow", "netem"])
def test_a_network_that_delays_and_loses(five: list[Machine], network: Switch, by: str) -> None:
    """Over lines with a delay and 3 % loss all machines converge while they are written to, and no link is given up."""
    if by == "netem":
        network.delay("delay", "60ms", "20ms", "loss", "3%")
    else:
        network.narrow("1mbit", "32kb")
        network.lose(0.03)
    with writers([five[1], five[3]]) as writing:
        for writer in writing.values():
            writer.wait_for(60)
    converged(*five, timeout=2 * HEALED_S)
    linked(five, five)
    recorded(writing, five)


def test_a_machine_that_moves_to_another_address(five: list[Machine], network: Switch) -> None:
    """The others find it at its new address, also if it cannot dial them; and if it moved while nobody reached it."""
    *others, mx5 = five
    move(network, mx5, "10.99.0.55")
    network.drop_dialling(mx5)
    network.remove_address(mx5, "10.99.0.5")
    mx5.set("moved", "once")
    converged(*five, timeout=HEALED_S)
    linked(five, five)
    network.heal()

    network.pull(mx5)
    cut([mx5], others)
    network.remove_address(mx5, "10.99.0.55")
    move(network, mx5, "10.99.0.5")
    others[0].set("moved", "twice")
    network.push(mx5)
    converged(*five, timeout=HEALED_S)
    linked(five, five)
    assert others[0].get("moved") == mx5.get("moved") == "twice"


def move(network: Switch, machine: Machine, address: str) -> None:
    """Have a machine listen at another address and say so."""
    network.add_address(machine, address)
    machine.do("machine", "set", "--interface", f"Management={address}", "--listen", address)
    machine.address = address
