"""A machine takes back in time what it changed for a while: the next one first, and after a failure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from cluster_store import timekeeping
from cluster_store.adapters.memory_transport import MemoryNetwork
from cluster_store.core import commands
from cluster_store.core.errors import StoreFull
from cluster_store.core.timers import Boot
from tests.sites import SALT, Site

_PATIENCE_S = 30


def since_start() -> Boot:
    """Return a clock that goes as fast as the event loop's."""
    return Boot("one", time.monotonic_ns() // 1_000_000)


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    """Give a machine that stands alone, and keeps the time."""
    site = Site(MemoryNetwork(), "mx1")
    await site.begin()
    site.node.boot = since_start
    keeping = asyncio.create_task(timekeeping.keep(site.node))
    yield site
    keeping.cancel()
    await asyncio.wait({keeping})
    await site.end()


async def set_for(site: Site, key: str, milliseconds: int) -> None:
    """Set a key for a while."""
    await site.command(commands.SetSetting(key=key, value="1", lasts=milliseconds, salt=SALT))


async def gone(site: Site, key: str) -> None:
    """Wait until a key is unset."""
    async with asyncio.timeout(_PATIENCE_S):
        await site.node.wait_for(lambda: site.get(key) is None)


async def test_the_next_one_is_not_kept_waiting_by_a_later_one(site: Site) -> None:
    """Whoever sleeps until a distant time is woken by a change that is over sooner."""
    await set_for(site, "later", 3_600_000)
    await asyncio.sleep(0)
    await set_for(site, "sooner", 30)
    await gone(site, "sooner")
    assert site.get("later") == "1"
    assert site.log.records[-1].record.envelope.user == timekeeping.USER


async def test_what_cannot_be_written_is_tried_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk puts it off."""
    monkeypatch.setattr(timekeeping, "_AGAIN_S", 0.01)
    await set_for(site, "key", 30)
    site.log.failure = StoreFull("the disk is full", "make room")
    await gone(site, "key")
    assert site.log.failure is None


async def test_a_change_that_comes_when_nothing_was_left_is_seen(site: Site) -> None:
    """With nothing to take back, it waits for a change and not for a time."""
    await set_for(site, "one", 20)
    await gone(site, "one")
    await set_for(site, "two", 20)
    await gone(site, "two")
