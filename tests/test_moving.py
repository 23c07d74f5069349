"""Links of a running cluster that move to where the record says by now, or stay where they are and say why."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cluster_store import links, moving
from cluster_store.core import commands
from cluster_store.core.errors import LinkError
from cluster_store.core.types import MachineId
from cluster_store.dialing import address_of
from cluster_store.gatekeeper import Doorkeeper
from cluster_store.ports import Link, PeerAddress
from tests.sites import Site, plain_verify
from tests.test_links import Trio, trio
from tests.waiting import wait_until_async

__all__ = ["trio"]

#: A transport's way to open a link.
Dial = Callable[[PeerAddress], Awaitable[Link]]


class Moves:
    """Three members that listen on both ports, and what becomes of the links between them."""

    def __init__(self, trio: Trio) -> None:
        """Take note of every state that a link is said to be in from now on."""
        self.trio = trio
        self.told: list[str] = []
        for site in trio.sites:
            note = site.links.status.note

            def noted(machine: MachineId, state: str, reason: str, note: Callable[..., None] = note) -> None:
                self.told.append(state)
                note(machine, state, reason)

            site.links.status.note = noted  # type: ignore[method-assign]

    async def listen(self, port: int) -> None:
        """Let all three be reached on one more port."""
        for site in self.trio.sites:
            door = Doorkeeper(site.node, site.links, plain_verify, site.service.answer_person)
            await site.transport.listen(site.name, port, door)

    def row(self, of: Site, on: Site) -> dict[str, Any]:
        """Return what one machine's connstatus says of another."""
        return next(row for row in on.service.connstatus()["machines"] if row["id"] == of.id)

    def are_at(self, port: int) -> bool:
        """Say whether every link is up, and was dialled by one of its ends at a port."""
        for one, other in itertools.combinations(self.trio.sites, 2):
            rows = {one.name: self.row(other, one), other.name: self.row(one, other)}
            by = {row["dialled_by"] for row in rows.values()}
            far = {one.name: other.name, other.name: one.name}
            if len(by) != 1 or by == {None}:
                return False
            (dialler,) = by
            if rows[dialler]["address"] != f"{far[dialler]}:{port}" or not one.links.linked(other.id):
                return False
        return self.trio.linked()

    def numbers(self) -> list[dict[MachineId, int]]:
        """Return which links are up on each machine."""
        return [{peer: opened.number for peer, opened in site.links.by_peer.items()} for site in self.trio.sites]

    async def end(self) -> None:
        """Wait until nobody is about to move a link any more."""
        moves = [site.links._dialers._moving._moves for site in self.trio.sites]
        under_way = [task for one in moves for _, task in one.values()]
        _, pending = await asyncio.wait(under_way, timeout=30.0)
        assert not pending


@pytest.fixture
def moves(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> Moves:
    """Give the three, who wait for little before they move a link."""
    monkeypatch.setattr(links, "_SIMULTANEOUS_S", 0.0)
    monkeypatch.setattr(moving, "_FIRST_S", 0.05)
    monkeypatch.setattr(moving, "_SECOND_S", 0.5)
    return Moves(trio)


async def test_links_move_to_where_the_record_says(trio: Trio, moves: Moves) -> None:
    """Nothing is lost, no machine is called anything but connected meanwhile, and once there they stay."""
    await moves.listen(2222)
    await trio.a.command(commands.ChangeCommunication(over="ccs"))
    for number in range(20):
        await trio.sites[number % 3].set(f"meanwhile.{number}", "1")
    await wait_until_async(lambda: moves.are_at(2222), 30.0, what="the links to move")
    moved = moves.numbers()
    await moves.end()
    await trio.b.set("afterwards", "1")
    for site in trio.sites:
        await site.has("afterwards", "1")
        for number in range(20):
            await site.has(f"meanwhile.{number}", "1")
    assert moves.numbers() == moved
    assert set(moves.told) <= {"connected"}
    assert moves.row(trio.b, trio.a)["recorded_address"] == "b:2222"


async def test_a_link_whose_new_place_does_not_answer_stays_and_says_so(trio: Trio, moves: Moves) -> None:
    """Both who was dialled and who dialled notices a wrong address, nobody is cut off, and a right one ends it."""
    before = moves.numbers()
    await trio.a.command(commands.ChangeCommunication(machine="b", port=9))
    others = (trio.a, trio.c)

    def is_told() -> bool:
        rows = [moves.row(trio.b, on) for on in others]
        return all("b:9 is unreachable: connection refused" in row["reason"] for row in rows)

    await wait_until_async(is_told, 30.0, what="the wrong port to be told")
    for on in others:
        row = moves.row(trio.b, on)
        assert (row["state"], row["recorded_address"]) == ("connected", "b:9")
        assert row["reason"].startswith(f"{'at' if row['dialled_by'] == on.name else 'from'} {row['address']}; b:9 is ")
        assert on.service.status()["astray"].startswith("the link with b stays where it was: b:9 is unreachable")
    assert trio.b.service.status()["astray"] is None
    await trio.b.set("still", "1")
    await trio.a.has("still", "1")
    await trio.c.command(commands.ChangeCommunication(machine="b", port=22))
    await wait_until_async(lambda: not any(moves.row(trio.b, on)["reason"] for on in others))
    assert moves.numbers() == before


async def test_a_link_moves_though_only_one_end_can_reach_the_new_place(trio: Trio, moves: Moves) -> None:
    """Where the machine that goes first cannot dial, the other one does."""
    await moves.listen(2222)
    first, second = sorted((trio.a, trio.b), key=lambda site: site.id)
    real = first.transport.dial

    async def blocked(peer: PeerAddress) -> Link:
        if peer.machine == second.id:
            raise LinkError("unreachable", "blocked")
        return await real(peer)

    first.transport.dial = blocked  # type: ignore[method-assign, assignment]
    await trio.c.command(commands.ChangeCommunication(over="ccs"))
    await wait_until_async(lambda: moves.are_at(2222), 30.0, what="the links to move")
    assert moves.row(first, second)["dialled_by"] == second.name
    await wait_until_async(lambda: not moves.row(second, first)["reason"])
    await moves.end()
    assert moves.are_at(2222)
    assert set(moves.told) <= {"connected"}


async def test_of_two_ends_that_move_a_link_at_once_the_lower_id_s_stays(
    trio: Trio, moves: Moves, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both dial before either has heard of the other's dialling, and both end up with the same one link."""
    monkeypatch.setattr(links, "_SIMULTANEOUS_S", 5.0)
    monkeypatch.setattr(moving, "_SECOND_S", 0.05)
    await moves.listen(2222)
    lower, upper = sorted((trio.a, trio.b), key=lambda site: site.id)
    both, waiting = asyncio.Event(), set[MachineId]()
    for one, other in ((lower, upper), (upper, lower)):
        real = one.transport.dial

        async def held(peer: PeerAddress, me: Site = one, far: Site = other, real: Dial = real) -> Link:
            if peer.machine == far.id:
                waiting.add(me.id)
                if len(waiting) == 2:
                    both.set()
                await both.wait()
            return await real(peer)

        one.transport.dial = held  # type: ignore[method-assign, assignment]
    await trio.c.command(commands.ChangeCommunication(over="ccs"))
    await wait_until_async(both.is_set, 30.0, what="both to dial")
    await wait_until_async(lambda: moves.are_at(2222), 30.0, what="the links to move")
    await moves.end()
    await wait_until_async(lambda: moves.row(upper, lower)["dialled_by"] == lower.name)
    await wait_until_async(lambda: moves.are_at(2222))
    await lower.set("through", "1")
    await upper.has("through", "1")
    assert len(lower.links.by_peer) == len(lower.links.open_peers)


async def test_a_link_that_does_not_greet_takes_no_place(trio: Trio, moves: Moves) -> None:
    """The one that is there goes on, whatever becomes of the new one; of those that wait there is one at most."""
    before, cluster = moves.numbers(), trio.a.node.replica.cluster
    silent = [await trio.a.transport.dial(address_of(cluster.machines[trio.b.id], cluster)) for _ in range(2)]
    for link in silent:
        assert await link.receive() is not None
    assert await silent[0].receive() is None
    await silent[1].close()
    await wait_until_async(lambda: trio.b.links.open_peers.count(trio.a.id) == 1)
    await trio.a.set("through", "1")
    await trio.b.has("through", "1")
    assert moves.numbers() == before
    assert not moves.told
