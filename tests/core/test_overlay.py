"""Whom machines of a large fleet are linked to: all are connected, nobody has many links, little changes at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from hashlib import sha256
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_store.core.overlay import FULL_MESH_MAX, STAND_IN_S, Overlay, Rings, pushed_to
from cluster_store.core.types import MachineId

#: Long after everything that was left alone may be tried again.
MUCH_LATER = 1e9

ids = st.text("0123456789abcdef", min_size=32, max_size=32).map(MachineId)
fleets = st.lists(ids, min_size=2, max_size=80, unique=True)


def fleet(size: int) -> list[MachineId]:
    """Return so many machines; a larger fleet has those of a smaller one, and more."""
    return [MachineId(sha256(f"machine {number}".encode()).hexdigest()[:32]) for number in range(size)]


def miss(overlay: Overlay, machine: MachineId, now: float = 0.0) -> bool:
    """Let a machine not be reached for as long as it takes until another one stands in for it."""
    return overlay.failed(machine, now - STAND_IN_S, now, 1.0)


def links_of(members: Collection[MachineId], dead: Collection[MachineId] = ()) -> dict[MachineId, set[MachineId]]:
    """Return who ends up linked to whom when each that lives has found out which of the others do not."""
    rings = Rings(members)
    linked: dict[MachineId, set[MachineId]] = {machine: set() for machine in members if machine not in dead}
    for machine, peers in linked.items():
        overlay = Overlay(machine)
        overlay.settle(rings)
        for _ in members:
            lost = [other for other in overlay.wanted(peers, 0.0) if other in dead]
            if not lost:
                break
            for other in lost:
                miss(overlay, other)
        for other in overlay.wanted(peers, 0.0):
            if other not in dead:
                peers.add(other)
                linked[other].add(machine)
    return linked


def distances(linked: Mapping[MachineId, Collection[MachineId]], origin: MachineId) -> dict[MachineId, int]:
    """Return how many links away from a machine every machine is that can be reached at all."""
    found = {origin: 0}
    edge = [origin]
    while edge:
        edge = _next(linked, edge, found)
    return found


def _next(
    linked: Mapping[MachineId, Collection[MachineId]], edge: list[MachineId], found: dict[MachineId, int]
) -> list[MachineId]:
    fresh = []
    for machine in edge:
        for other in linked[machine]:
            if other not in found:
                found[other] = found[machine] + 1
                fresh.append(other)
    return fresh


@given(st.lists(ids, min_size=1, max_size=FULL_MESH_MAX, unique=True))
def test_a_small_fleet_is_a_full_mesh(members: list[MachineId]) -> None:
    """Up to twenty members everybody wants everybody, in the order in which they were given, whatever fails."""
    overlay = Overlay(members[0], members)
    for other in members[1:] * 5:
        assert not miss(overlay, other)
    assert overlay.wanted((), 0.0) == members[1:]
    assert overlay.start_spread == 0.0


@given(fleets)
@settings(max_examples=40)
def test_any_fleet_is_connected_and_nobody_has_many_links(members: list[MachineId]) -> None:
    """From any machine all others can be reached; beyond the full mesh with four links each at most, wanted by both."""
    linked = links_of(members)
    assert distances(linked, members[0]).keys() == set(members)
    if len(members) > FULL_MESH_MAX:
        assert max(map(len, linked.values())) <= 4
        rings = Rings(members)
        for machine in members:
            overlay = Overlay(machine)
            overlay.settle(rings)
            assert set(overlay.wanted((), 0.0)) == linked[machine]


@given(fleets, st.randoms(use_true_random=False), st.sampled_from((0.05, 0.3, 0.6)))
@settings(max_examples=40, deadline=None)
def test_those_who_live_find_each_other(members: list[MachineId], dice: Random, share: float) -> None:
    """However many are dead, whoever lives is connected to all who do once each has passed over those that are dead."""
    dead = set(dice.sample(members, min(len(members) - 1, round(share * len(members)))))
    linked = links_of(members, dead)
    assert distances(linked, next(iter(linked))).keys() == linked.keys()
    if len(members) > FULL_MESH_MAX:
        assert max(map(len, linked.values())) <= 4


@pytest.mark.parametrize(("size", "steps"), [(21, 5), (100, 7), (300, 8), (1000, 10)])
def test_no_machine_is_far_from_any_other(size: int, steps: int) -> None:
    """The longest of the shortest ways grows like a logarithm."""
    members = fleet(size)
    linked = links_of(members)
    assert max(max(distances(linked, origin).values()) for origin in members[::25]) <= steps


def test_a_machine_that_joins_moves_six_links_at_most() -> None:
    """It puts itself between two others on each ring: two links more, one less."""
    members = fleet(60)
    before = links_of(members[:40])
    for size in range(41, 61):
        after = links_of(members[:size])
        pairs = [{frozenset((one, other)) for one in linked for other in linked[one]} for linked in (before, after)]
        assert len(pairs[0] ^ pairs[1]) <= 6
        before = after


def test_a_machine_that_cannot_be_reached_is_tried_again_and_then_takes_its_place() -> None:
    """Another one stands in after some seconds; the first choice is wanted again later, and for good if it is back."""
    members = fleet(40)
    overlay = Overlay(members[0], members)
    first = overlay.wanted((), 0.0)
    assert not overlay.failed(first[0], 0.0, STAND_IN_S / 2, 1.0)
    assert overlay.wanted((), 0.0) == first
    assert overlay.failed(first[0], STAND_IN_S / 2, STAND_IN_S, 1.0)
    assert overlay.avoids(first[0])
    stand_in = overlay.wanted((), STAND_IN_S)
    assert first[0] not in stand_in
    assert len(stand_in) == len(first)
    assert overlay.wanted((), MUCH_LATER) == first
    assert miss(overlay, first[0], MUCH_LATER)
    overlay.reached(first[0])
    assert overlay.wanted((), MUCH_LATER) == first
    assert not overlay.avoids(first[0])


def test_a_machine_that_starts_again_is_waited_for() -> None:
    """Refusals within some seconds change nothing, and are forgotten once it is there."""
    members = fleet(40)
    overlay = Overlay(members[0], members)
    first = overlay.wanted((), 0.0)
    for start in (0.0, 1000.0):
        for tenth in range(29):
            assert not overlay.failed(first[0], start + tenth / 10, start + tenth / 10, 1.0)
        overlay.reached(first[0])
    assert overlay.wanted((), 1003.0) == first


def test_the_network_is_back_when_one_is_back() -> None:
    """A link to a machine that could not be reached makes all the others worth a try at once."""
    members = fleet(40)
    overlay = Overlay(members[0], members)
    first = overlay.wanted((), 0.0)
    for other in first:
        miss(overlay, other)
    assert not set(first).intersection(overlay.wanted((), 0.0))
    overlay.reached(first[2])
    assert overlay.wanted((), 0.0) == first


def test_a_machine_that_reaches_nobody_asks_everybody_and_goes_on() -> None:
    """Four at a time, each machine once before the first is asked again, and there is always somebody to ask."""
    members = fleet(200)
    overlay = Overlay(members[0], members)
    asked: dict[MachineId, int] = {}
    now = 0.0
    while len(asked) < len(members) - 1:
        wanted = overlay.wanted((), now)
        assert 1 <= len(wanted) <= 4
        for other in wanted:
            asked[other] = asked.get(other, 0) + 1
            miss(overlay, other, now)
        now += 2.0
        assert now < 3600
    assert max(asked.values()) <= 8


def test_a_link_that_is_there_counts_although_its_machine_failed_before() -> None:
    """Whoever cannot be dialled may dial this machine; then nobody has to stand in."""
    members = fleet(40)
    overlay = Overlay(members[0], members)
    first = overlay.wanted((), 0.0)
    miss(overlay, first[1])
    assert overlay.wanted({first[1]}, 0.0) == first


def test_what_is_remembered_of_machines_goes_with_them() -> None:
    """A machine that was away from the fleet begins anew."""
    members = fleet(40)
    overlay = Overlay(members[0], members)
    first = overlay.wanted((), 0.0)
    miss(overlay, first[0])
    overlay.settle(Rings(other for other in members if other != first[0]))
    overlay.settle(Rings(members))
    assert overlay.wanted((), 0.0) == first


def test_a_whole_fleet_that_starts_takes_its_time() -> None:
    """The first dials are spread over longer, the larger the fleet is, up to a minute."""
    spreads = [Overlay(fleet(1)[0], fleet(size)).start_spread for size in (20, 21, 100, 1000)]
    assert spreads == sorted(spreads)
    assert spreads[0] == 0.0 < spreads[1]
    assert spreads[-1] <= 60.0


@given(fleets)
@settings(max_examples=40)
def test_what_is_new_is_pushed_all_the_way_round(members: list[MachineId]) -> None:
    """Everybody pushes to two peers at most, and those who do are a way from any machine to all others."""
    linked = links_of(members)
    pushed = {machine: set(pushed_to(machine, peers)) for machine, peers in linked.items()}
    assert all(len(peers) <= 2 and peers <= linked[machine] for machine, peers in pushed.items())
    assert distances(pushed, members[0]).keys() == set(members)


def test_a_machine_without_peers_pushes_to_nobody() -> None:
    """It may be starting."""
    assert pushed_to(fleet(1)[0], ()) == ()
