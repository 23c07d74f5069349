"""Hostnames are looked up where a cluster names its machines by them: at a join, and when it begins to."""

from __future__ import annotations

import pytest

from cluster_store import joining
from cluster_store.adapters.memory_transport import MemoryNetwork
from cluster_store.adapters.resolver import SystemResolver
from cluster_store.core import commands
from cluster_store.core.errors import Refused
from cluster_store.core.roles import Caller
from cluster_store.lookups import check_hostnames
from tests.sites import PASSWORD, SALT, Site


class Book:
    """A resolver that knows what is written in it."""

    def __init__(self, forward: dict[str, str], backward: dict[str, str] | None = None) -> None:
        self.forward, self.backward = forward, backward or {}

    async def addresses(self, hostname: str) -> list[str]:
        """See ``ports.Resolver``."""
        return [self.forward[hostname]] if hostname in self.forward else []

    async def hostname(self, address: str) -> str:
        """See ``ports.Resolver``."""
        return self.backward.get(address, "")


async def test_names_that_lead_nowhere_are_named_with_who_looked_them_up() -> None:
    """All that are asked about; of many the first."""
    names = [f"mx{number}" for number in range(6)]
    with pytest.raises(Refused) as refused:
        await check_hostnames(Book({"mx1": "192.0.2.1"}), names, "edge")
    assert refused.value.describe() == (
        "edge cannot look up mx0, mx2, mx3, mx4 and 1 more, and the cluster names its machines by hostname\n"
        "add the names to DNS or to the hosts file there, or have the cluster use IP addresses throughout"
    )


async def test_an_address_that_leads_elsewhere_is_a_warning() -> None:
    """A name in another case of letters, or with the root's dot, is the same."""
    book = Book(
        {"mx1": "192.0.2.1", "mx2": "192.0.2.2", "mx3": "192.0.2.3"}, {"192.0.2.1": "MX1.", "192.0.2.2": "other"}
    )
    assert await check_hostnames(book, ["mx1", "mx2", "mx3"], "edge") == [
        "192.0.2.2, the address of mx2, leads back to other on edge",
        "192.0.2.3, the address of mx3, leads back to no name on edge",
    ]
    assert await check_hostnames(book, [], "edge") == []


async def test_the_system_looks_up_what_it_can() -> None:
    """An address is its own; what cannot be a name leads nowhere, and neither raises."""
    system = SystemResolver()
    assert await system.addresses("127.0.0.1") == ["127.0.0.1"]
    assert await system.addresses("no..name") == []
    assert await system.addresses("x" * 300) == []
    assert await system.hostname("no address") == ""


async def founded(by: str) -> tuple[Site, Site]:
    """Return a machine that made a cluster, and one that wants to join."""
    network = MemoryNetwork()
    member, joiner = Site(network, "mx1"), Site(network, "mx2")
    await member.begin()
    await joiner.open()
    await member.command(commands.CreateCluster(name="americas", by="hostname", salt=SALT))
    if by == "ip":
        await member.command(commands.ChangeCommunication(by="ip", machine="mx1", address="192.0.2.1"))
    return member, joiner


async def _yes(_: str) -> bool:
    return True


async def ask(joiner: Site, *, dry_run: bool = False) -> joining.Admission:
    """Ask the member to be let in."""
    invitation = joining.Invitation("mx1", 22, "admin", PASSWORD, "")
    return await joining.ask(invitation, joiner.card(), joiner.transport, _yes, dry_run=dry_run)


@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_joiner_s_name_must_lead_somewhere_on_the_member(*, dry_run: bool) -> None:
    """Otherwise nothing is written; where it does, but not back, the join goes on with a warning."""
    member, joiner = await founded("hostname")
    try:
        member.service.resolver = Book({})
        before = member.node.replica.state.position
        with pytest.raises(Refused, match="mx1 cannot look up mx2, and the cluster names its machines by hostname"):
            await ask(joiner, dry_run=dry_run)
        assert member.node.replica.state.position == before
        member.service.resolver = Book({"mx2": "192.0.2.2"})
        admission = await ask(joiner, dry_run=dry_run)
        assert (admission.by, admission.warnings) == (
            "hostname",
            ["192.0.2.2, the address of mx2, leads back to no name on mx1"],
        )
    finally:
        await joiner.end()
        await member.end()


async def test_a_cluster_that_uses_addresses_looks_nothing_up() -> None:
    """Names need not lead anywhere then."""
    member, joiner = await founded("ip")
    try:
        member.service.resolver = Book({})
        with pytest.raises(Refused, match="mx2 has mx2"):
            await ask(joiner)
        joiner.name = "192.0.2.2"
        assert (await ask(joiner)).by == "ip"
    finally:
        await joiner.end()
        await member.end()


async def test_a_cluster_begins_to_use_names_only_if_all_lead_somewhere() -> None:
    """Also those that were given to machines as their addresses."""
    member, joiner = await founded("hostname")
    try:
        owner = Caller("os:root")

        async def change(**fields: str) -> None:
            await member.service.submit({"type": "ChangeCommunication", **fields}, owner)

        member.service.resolver = Book({"mx1": "192.0.2.1"})
        await change(by="hostname")
        with pytest.raises(Refused, match=r"mx1 cannot look up mx1\.vpn"):
            await change(machine="mx1", address="mx1.vpn")
        member.service.resolver = Book({})
        with pytest.raises(Refused, match="mx1 cannot look up mx1"):
            await change(by="hostname")
    finally:
        await joiner.end()
        await member.end()
