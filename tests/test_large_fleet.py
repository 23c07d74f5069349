"""Nodes and links of a fleet that is too large for a full mesh: who is linked to whom, and what connstatus says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

import pytest
import pytest_asyncio

from cluster_store import dialers
from cluster_store.adapters.memory_transport import MemoryNetwork
from cluster_store.core import commands, overlay, sync
from cluster_store.core.overlay import Overlay
from cluster_store.core.types import MachineId
from tests.sites import SALT, Site
from tests.test_links import join
from tests.waiting import wait_until_async

#: Generous: on a busy machine nothing here is fast.
PATIENCE_S = 60.0


@pytest_asyncio.fixture
async def fleet(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Site]]:
    """Give nine machines where four are the most that are linked to everybody, and nobody waits long for anything."""
    for module in (overlay, sync, dialers):
        monkeypatch.setattr(module, "FULL_MESH_MAX", 4)
    for module in (overlay, dialers):
        monkeypatch.setattr(module, "STAND_IN_S", 0.2)
    monkeypatch.setattr(overlay, "_AVOIDED_FIRST_S", 0.5)
    monkeypatch.setattr(dialers, "_TEND_S", 0.1)
    monkeypatch.setattr(dialers, "_SPARE_S", 0.2)
    network = MemoryNetwork()
    sites = [Site(network, f"m{number}") for number in range(9)]
    for site in sites:
        await site.begin()
    await sites[0].command(commands.CreateCluster(name="americas", by="hostname", salt=SALT))
    for site in sites[1:]:
        await join(site, sites[0])
    yield sites
    for site in sites:
        await site.end()


def linked(site: Site, sites: Collection[Site]) -> set[MachineId]:
    """Return whom a machine is linked to."""
    return {other.id for other in sites if site.links.linked(other.id)}


def is_in_shape(sites: Collection[Site]) -> bool:
    """Say whether machines have the links that they would have if there were no others."""
    return all(linked(site, sites) == set(Overlay(site.id, ids(sites)).wanted((), 0.0)) for site in sites)


def ids(sites: Collection[Site]) -> list[MachineId]:
    """Return the machines' ids."""
    return [site.id for site in sites]


async def test_a_large_fleet_takes_its_shape_and_keeps_it(fleet: list[Site]) -> None:
    """A handful of links each; a change reaches all; others stand in for a machine that is gone until it is back."""
    await wait_until_async(lambda: is_in_shape(fleet), PATIENCE_S, what="all links are those of the rings")
    await fleet[0].set("banner", '"hello"')
    for site in fleet:
        await site.has("banner", '"hello"', PATIENCE_S)
    first, *rest = fleet
    apart = next(other for other in rest if other.id not in linked(first, fleet))
    await wait_until_async(lambda: row(first, apart)["state"] == "not linked", PATIENCE_S)
    assert row(first, apart)["reason"] == "no link is needed: others pass on its records"
    await apart.set("from.apart", "1")
    await first.has("from.apart", "1", PATIENCE_S)
    assert row(first, apart)["relayed_through"] in {site.name for site in rest if site is not apart}

    gone = fleet[4]
    await gone.end()
    left = [site for site in fleet if site is not gone]
    await wait_until_async(lambda: is_in_shape(left), PATIENCE_S, what="others stand in for the machine that is gone")
    await first.set("banner", '"without"')
    for site in left:
        await site.has("banner", '"without"', PATIENCE_S)
    neighbours = [site for site in left if site.id in Overlay(gone.id, ids(fleet)).wanted((), 0.0)]
    assert all(row(site, gone)["state"] in {"unreachable", "dropped", "connecting"} for site in neighbours)

    await gone.open()
    await gone.listen()
    await wait_until_async(lambda: is_in_shape(fleet), PATIENCE_S, what="it has its place again")
    await gone.has("banner", '"without"', PATIENCE_S)


async def test_a_machine_that_is_removed_from_a_large_fleet_loses_its_links(fleet: list[Site]) -> None:
    """Whoever was linked to it tells it; the others close their ranks."""
    await wait_until_async(lambda: is_in_shape(fleet), PATIENCE_S)
    gone, *left = fleet[3], *fleet[:3], *fleet[4:]
    await fleet[0].command(commands.RemoveMachines(machines=(gone.name,)))
    await wait_until_async(lambda: gone.id in gone.node.replica.cluster.removed, PATIENCE_S)
    await wait_until_async(lambda: is_in_shape(left) and not gone.links.open_peers, PATIENCE_S)


async def test_a_detachment_in_a_large_fleet_ends_on_either_side(fleet: list[Site]) -> None:
    """The others do without the machine, which hears of it; both sides change things; whoever takes it back, all do."""
    await wait_until_async(lambda: is_in_shape(fleet), PATIENCE_S)
    apart, *rest = fleet[6], *fleet[:6], *fleet[7:]
    for round_, site in enumerate((fleet[0], apart)):
        await fleet[0].command(commands.DetachMachines(machines=(apart.name,)))
        await wait_until_async(lambda: apart.node.replica.cluster.machines[apart.id].detached, PATIENCE_S)
        await wait_until_async(lambda: is_in_shape(rest) and not apart.links.open_peers, PATIENCE_S)
        await apart.set(f"from.apart{round_}", "1")
        await rest[1].set(f"from.rest{round_}", "1")
        await rest[2].has(f"from.rest{round_}", "1", PATIENCE_S)
        assert rest[2].get(f"from.apart{round_}") is None
        assert apart.get(f"from.rest{round_}") is None
        await site.command(commands.ReconnectMachines(machines=(apart.name,)))
        for other in fleet:
            await other.has(f"from.apart{round_}", "1", PATIENCE_S)
            await other.has(f"from.rest{round_}", "1", PATIENCE_S)


def row(site: Site, other: Site) -> dict[str, object]:
    """Return what a machine's connstatus says of another one."""
    rows = site.service.connstatus()["machines"]
    return next(row for row in rows if row["id"] == other.id)
