"""Where a machine lets others in: as its record says, as far as that can be had, and never nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio

from cluster_store.adapters.keys import Keys
from cluster_store.adapters.memory_transport import MemoryNetwork, MemoryTransport
from cluster_store.core.cluster import Machine
from cluster_store.core.errors import LinkError, Refused
from cluster_store.core.types import MachineId
from cluster_store.listening import CCS, SSH, Listeners
from cluster_store.service import deafness
from tests.adapters.ssh_site import PASSWORD, Node

MACHINE = Machine(id=MachineId("a" * 32), hostname="mx1", listen="mx1", ssh_port=22, ccs_port=2222)


class Site:
    """One machine's listeners, and somebody else on the same host who may have taken its ports."""

    def __init__(self) -> None:
        self.transport = MemoryTransport(MemoryNetwork(), "mx1", Keys.generate())
        self.listeners = Listeners(self.transport, Node("no machine's key"))

    async def take(self, port: int) -> None:
        """Let somebody else have a port."""
        await self.transport.listen("mx1", port, Node("no machine's key"))

    async def answers(self, port: int) -> bool:
        """Say whether people can log in at a port."""

        async def accept(_fingerprint: str) -> bool:
            return True

        try:
            return bool(await self.transport.ask("mx1", port, "admin", PASSWORD, accept, {}))
        except LinkError:
            return False


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    """Give a machine that does not listen yet."""
    site = Site()
    yield site
    await site.listeners.close()


def moved(**ports: int) -> Machine:
    """Return the machine with other ports."""
    return msgspec.structs.replace(MACHINE, **ports)


async def test_people_and_machines_have_a_port_each(site: Site) -> None:
    """Nobody logs in with a password where only machines are let in."""
    await site.listeners.open(MACHINE)
    assert site.listeners.places == {SSH: ("mx1", 22), CCS: ("mx1", 2222)}
    assert await site.answers(22)
    assert not await site.answers(2222)


async def test_without_its_ccs_port_a_machine_still_serves(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """It says so, and can be reached over SSH; without its SSH port it refuses to begin."""
    await site.take(2222)
    await site.listeners.open(MACHINE)
    assert "CCS is off" in caplog.text
    assert (site.listeners.port(SSH), site.listeners.port(CCS)) == (22, None)
    assert deafness(site.listeners.deaf) == [
        "nobody gets in over CCS where the record says: cannot listen on mx1:2222: address already in use"
    ]
    await site.listeners.follow(moved(ccs_port=2333))
    assert not site.listeners.deaf
    other = Listeners(site.transport, Node("no machine's key"))
    with pytest.raises(Refused):
        await other.open(MACHINE)
    await other.close()


async def test_a_move_that_cannot_be_made_changes_nothing(site: Site) -> None:
    """One port of two is free: neither is taken, and both old ones answer."""
    await site.listeners.open(MACHINE)
    await site.take(2333)
    with pytest.raises(Refused, match="2333"):
        await site.listeners.move(MACHINE, moved(ssh_port=23, ccs_port=2333))
    assert site.listeners.places == {SSH: ("mx1", 22), CCS: ("mx1", 2222)}
    assert await site.answers(22)
    await site.listeners.move(MACHINE, moved(ssh_port=23))
    assert await site.answers(23)
    assert not await site.answers(22)


async def test_a_port_that_was_never_had_stands_in_no_other_s_way(site: Site) -> None:
    """While CCS is off, the SSH port can be moved, and what changes nothing here is no move."""
    await site.take(2222)
    await site.listeners.open(MACHINE)
    await site.listeners.move(MACHINE, MACHINE)
    await site.listeners.move(MACHINE, moved(ssh_port=23))
    assert site.listeners.places == {SSH: ("mx1", 23)}


async def test_what_another_machine_wrote_is_followed_as_far_as_it_can_be_had(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """A port that is taken leaves that listener where it was; the other one moves."""
    await site.listeners.open(MACHINE)
    await site.take(23)
    await site.listeners.follow(moved(ssh_port=23, ccs_port=2444))
    assert site.listeners.places == {SSH: ("mx1", 22), CCS: ("mx1", 2444)}
    assert "cannot be reached where its record says" in caplog.text
    assert await asyncio.wait_for(site.answers(22), 10)
