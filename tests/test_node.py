"""The shell of one machine: commands in groups, failures of the log, stopping."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from cluster_store.adapters.memory_transport import MemoryNetwork
from cluster_store.core import commands
from cluster_store.core.errors import NotFound, StoreError, StoreFull
from tests.sites import Site


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    """Give a machine that stands alone."""
    site = Site(MemoryNetwork(), "mx1")
    await site.begin()
    yield site
    await site.end()


async def test_commands_that_come_together_share_one_seal(site: Site) -> None:
    """Callers that wait at the same time are appended as one run: only its last record is signed."""
    await asyncio.gather(*(site.set(f"key.{number}", str(number)) for number in range(20)))
    seals = [bool(added.record.seal) for added in site.log.records]
    assert len(seals) == 21
    assert sum(seals) < 10
    assert seals[-1]
    assert [site.get(f"key.{number}") for number in range(20)] == [str(number) for number in range(20)]


async def test_a_refused_command_in_a_group_does_not_touch_the_others(site: Site) -> None:
    """Each caller gets its own answer, also when the last is refused and another record is sealed instead."""
    good = [site.set(f"key.{number}", "1") for number in range(3)]
    bad = site.command(commands.UnsetSetting(key="nothing.there"))
    *results, refusal = await asyncio.gather(*good, bad, return_exceptions=True)
    assert all(isinstance(result, dict) and result["changed"] for result in results)
    assert isinstance(refusal, NotFound)
    assert site.log.records[-1].record.seal


async def test_a_failed_append_changes_nothing_and_says_so(site: Site) -> None:
    """A full disk refuses the change; the next one, when there is room, is whole."""
    site.log.failure = StoreFull("the disk is full", "make room")
    with pytest.raises(StoreFull):
        await site.set("a", "1")
    assert site.get("a") is None
    assert len(site.log.records) == 1
    await site.set("a", "2")
    assert site.get("a") == "2"
    assert [added.record.envelope.seq for added in site.log.records] == [1, 2]


async def test_setting_what_is_set_already_writes_no_event(site: Site) -> None:
    """A script that runs twice leaves one event."""
    first = await site.set("a", "1")
    again = await site.set("a", "1")
    assert first["changed"]
    assert not again["changed"]
    assert len(site.log.records) == 2


async def test_documents_hold_what_the_registers_say(site: Site) -> None:
    """After each answered command the documents are up to date with the log."""
    await site.set("a", "1")
    await site.set("a", "2")
    await site.command(commands.AddElements(key="tags", elements=('"x"',)))
    state = site.node.replica.state
    lanes = {(path, lane.id) for path, lanes in state.lanes.items() for lane in lanes}
    held = set()
    for name in site.log.tails.keys() | site.log.saved.keys():
        for key in (await site.node.documents.get(name)).items():
            path, _, record = key.rpartition("@")
            held.add((path, record))
    assert held == lanes


async def test_a_stopping_node_refuses_instead_of_hanging(site: Site) -> None:
    """Whoever asks a node that is going down hears so."""
    await site.node.close()
    with pytest.raises(StoreError):
        await site.set("a", "1")


async def test_a_restart_goes_on_where_the_log_ends(site: Site) -> None:
    """A reopened node writes the next number of the same feed."""
    await site.set("a", "1")
    await site.end()
    await site.open()
    await site.set("b", "2")
    assert [added.record.envelope.seq for added in site.log.records] == [1, 2, 3]
    assert site.get("a") == "1"


async def test_a_fault_of_the_program_leaves_nobody_waiting(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the node is told, to begin anew with what is durable; all callers get an answer."""
    told = asyncio.Event()
    site.node.on_failure = told.set

    def failing(_given: object) -> None:
        raise KeyError("a fault")

    monkeypatch.setattr(site.node.replica, "step", failing)
    results = await asyncio.gather(site.set("a", "1"), site.set("b", "1"), return_exceptions=True)
    assert all(isinstance(result, StoreError) for result in results)
    assert told.is_set()
    assert isinstance(site.node.failure, KeyError)
    with pytest.raises(StoreError):
        await site.set("c", "1")
