"""Several machines with links in memory: forming a cluster, relaying, detaching, who may come in."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from cluster_store import joining
from cluster_store.adapters.memory_log import MemoryLog
from cluster_store.adapters.memory_transport import MemoryNetwork
from cluster_store.core import commands
from cluster_store.core.errors import LinkError, Refused
from cluster_store.core.registers import CLUSTER, setting_path
from cluster_store.links import address_of
from cluster_store.ports import PeerAddress
from tests.sites import PASSWORD, SALT, Site
from tests.waiting import wait_until_async


async def accept(_fingerprint: str) -> bool:
    """Trust the host key that is shown."""
    return True


async def join(site: Site, member: Site, password: str = PASSWORD) -> None:
    """Make a machine a member, as the daemon does."""
    invitation = joining.Invitation(member.name, 22, "admin", password, "")
    admission = await joining.ask(invitation, site.card(), site.transport, accept)
    log = MemoryLog(admission.cluster)
    address = PeerAddress(admission.member, member.name, 22, admission.host_key)
    await joining.fetch(address, site.id, site.keys.sign, site.transport, log, lambda: next(site.clock), print)
    await site.end()
    site.log = log
    await site.open()
    await site.listen()


class Trio:
    """Three members of one cluster."""

    def __init__(self, sites: list[Site]) -> None:
        """Name them."""
        self.a, self.b, self.c = self.sites = sites

    def equal(self) -> bool:
        """Say whether all have the same records."""
        return len({frozenset(added.record.id for added in site.log.records) for site in self.sites}) == 1


@pytest_asyncio.fixture
async def trio() -> AsyncIterator[Trio]:
    """Give three machines that have formed a cluster."""
    network = MemoryNetwork()
    sites = [Site(network, name) for name in ("a", "b", "c")]
    for site in sites:
        await site.begin()
    await sites[0].command(commands.CreateCluster(name="americas", by="hostname", salt=SALT))
    for site in sites[1:]:
        await join(site, sites[0])
    trio = Trio(sites)
    await wait_until_async(trio.equal)
    yield trio
    for site in sites:
        await site.end()


async def test_a_change_anywhere_is_readable_everywhere(trio: Trio) -> None:
    """Every member writes, every member reads."""
    for number, site in enumerate(trio.sites):
        await site.set(f"from.{site.name}", str(number))
    for site in trio.sites:
        for number, other in enumerate(trio.sites):
            await site.has(f"from.{other.name}", str(number))


async def test_a_member_that_was_away_catches_up_and_brings_what_it_did(trio: Trio) -> None:
    """Stopping and coming back needs nobody's help, each way."""
    await trio.b.end()
    await trio.a.set("while.away", "1")
    await trio.b.open()
    await trio.b.set("offline", "2")
    await trio.b.listen()
    await trio.b.has("while.away", "1")
    await trio.c.has("offline", "2")
    await wait_until_async(trio.equal)


async def test_records_take_the_way_round(trio: Trio) -> None:
    """With a and c unable to reach each other, b relays."""
    for one, other in ((trio.a, trio.c), (trio.c, trio.a)):
        real = one.transport.dial

        async def blocked(peer: PeerAddress, *, far: Site = other, real=real):  # type: ignore[no-untyped-def]  # noqa: ANN202, ANN001
            if peer.machine == far.id:
                raise LinkError("unreachable", "blocked", "")
            return await real(peer)

        one.transport.dial = blocked  # type: ignore[method-assign]
    opened = trio.a.links._by_peer[trio.c.id]
    await opened.link.close()
    await wait_until_async(lambda: not trio.a.links.linked(trio.c.id))
    await trio.a.set("round", '"about"')
    await trio.c.has("round", '"about"')
    assert not trio.a.links.linked(trio.c.id)


@pytest.mark.parametrize("where", ["a", "c"])
async def test_a_detachment_ends_by_a_reconnect_on_either_side(trio: Trio, where: str) -> None:
    """Both sides change things meanwhile, and all of it is everywhere afterwards."""
    await trio.a.command(commands.DetachMachines(machines=("c",)))
    await wait_until_async(lambda: trio.c.node.replica.cluster.machines[trio.c.id].detached)
    await wait_until_async(lambda: not trio.c.links.linked(trio.a.id) and not trio.c.links.linked(trio.b.id))
    await trio.a.set("side", '"a"')
    await trio.c.set("side", '"c"')
    await trio.b.has("side", '"a"')
    assert trio.c.get("side") == '"c"'
    site = trio.a if where == "a" else trio.c
    await site.command(commands.ReconnectMachines(machines=("c",)))
    await wait_until_async(trio.equal, what="all have all records")
    lanes = [site.node.replica.state.lanes[setting_path(CLUSTER, "side")] for site in trio.sites]
    assert all(len(standing) == 2 for standing in lanes)
    assert len({trio.a.get("side"), trio.b.get("side"), trio.c.get("side")}) == 1


async def test_a_wrong_password_lets_nobody_in(trio: Trio) -> None:
    """A machine without the cluster's password stays as it was."""
    stranger = Site(trio.a.network, "stranger")
    await stranger.begin()
    with pytest.raises(LinkError, match="does not let admin in"):
        await join(stranger, trio.a, "a guess")
    assert stranger.name not in [machine.hostname for machine in trio.a.node.replica.cluster.machines.values()]
    assert not stranger.node.replica.cluster.name
    await stranger.end()


async def test_a_taken_hostname_is_refused_at_the_join(trio: Trio) -> None:
    """Two machines with one name would be told apart by nobody."""
    twin = Site(trio.a.network, "b2")
    twin.name = "b"
    before = len(trio.a.log.records)
    invitation = joining.Invitation("a", 22, "admin", PASSWORD, "")
    with pytest.raises(Refused, match="hostname"):
        await joining.ask(invitation, twin.card(), twin.transport, accept)
    assert len(trio.a.log.records) == before


async def test_a_stranger_with_a_key_of_its_own_is_not_served(trio: Trio) -> None:
    """A machine that no record let in gets no link."""
    stranger = Site(trio.a.network, "stranger")
    cluster = trio.a.node.replica.cluster
    with pytest.raises(LinkError) as refused:
        await stranger.transport.dial(address_of(cluster.machines[trio.a.id], cluster))
    assert refused.value.state == "authentication failed"


async def test_connstatus_tells_the_truth(trio: Trio) -> None:
    """Each machine has a state, and a machine that is down is not called connected."""
    await wait_until_async(lambda: all(trio.a.links.linked(site.id) for site in (trio.b, trio.c)))
    await trio.b.end()

    def states() -> dict[str, str]:
        return {row["hostname"]: row["state"] for row in trio.a.service.connstatus()["machines"]}

    await wait_until_async(lambda: states() == {"a": "connected", "b": "unreachable", "c": "connected"}, what="states")
    await trio.b.open()
    await trio.b.listen()
    await wait_until_async(lambda: states()["b"] == "connected")
