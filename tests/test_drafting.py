"""Drafts of one machine with several people and sessions: nothing staged is lost, nobody sees what is another's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from cluster_store.adapters.drafts import Drafts
from cluster_store.adapters.memory_transport import MemoryNetwork
from cluster_store.core import commands
from cluster_store.core.commands import Command, CommitConfig
from cluster_store.core.errors import InvalidValue, Refused
from cluster_store.core.roles import GUEST, Caller
from cluster_store.drafting import Drafting
from tests.sites import SALT, Site

ALICE, BOB = Caller("alice"), Caller("bob")


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    """Give a machine that stands alone."""
    site = Site(MemoryNetwork(), "mx1")
    await site.begin()
    yield site
    await site.end()


def set_to(key: str, value: str) -> dict[str, Any]:
    """Return a command as it is asked for."""
    return message(commands.SetSetting(key=key, value=value, salt=SALT))


def message(command: Command) -> dict[str, Any]:
    """Return a command's builtins."""
    told: dict[str, Any] = msgspec.to_builtins(command)
    return told


def keys_of(drafts: Drafts, caller: Caller) -> list[str]:
    """Return the keys that somebody has staged."""
    return [getattr(one.command, "key", "") for one in drafts.load(caller.user).staged]


async def test_sessions_lose_nothing_of_each_other(site: Site, tmp_path: Path) -> None:
    """Whatever many sessions of some people stage at once is staged, each for its own person, also after a restart."""
    drafts = Drafts(tmp_path / "drafts")
    drafting = Drafting(drafts)
    staging = [
        drafting.stage(site.node, set_to(f"{caller.user}.{number}", "1"), caller)
        for number in range(12)
        for caller in (ALICE, BOB)
    ]
    told = await asyncio.gather(*staging)
    assert all(one["staged"] for one in told)
    assert keys_of(Drafts(tmp_path / "drafts"), ALICE) == [f"alice.{number}" for number in range(12)]
    assert keys_of(Drafts(tmp_path / "drafts"), BOB) == [f"bob.{number}" for number in range(12)]
    assert len(site.log.records) == 1


async def test_a_commit_is_one_event_of_whose_draft_it_is(site: Site, tmp_path: Path) -> None:
    """It has their name and comment, and leaves the others' drafts alone."""
    drafts = Drafts(tmp_path / "drafts")
    drafting = Drafting(drafts)
    for caller in (ALICE, BOB):
        for key in ("a", "b"):
            await drafting.stage(site.node, set_to(key, f'"{caller.user}"'), caller)
    draft = drafts.load("alice")
    command = CommitConfig(staged=draft.staged, comment="both")
    given = {"command": message(command), "revision": draft.revision}
    result = await drafting.commit(site.service, given, ALICE)
    (envelope,) = [added.record.envelope for added in site.log.records if added.record.id == result["event"]]
    assert (envelope.user, envelope.comment, envelope.kind) == ("alice", "both", "ConfigCommitted")
    assert (site.get("a"), site.get("b")) == ('"alice"', '"alice"')
    assert (keys_of(drafts, ALICE), keys_of(drafts, BOB)) == ([], ["a", "b"])
    with pytest.raises(Refused, match="changed meanwhile, by another session"):
        await drafting.commit(site.service, given, ALICE)


async def test_what_is_dropped_is_what_was_looked_at(site: Site, tmp_path: Path) -> None:
    """A draft to which another session has added something is not dropped unseen."""
    drafts = Drafts(tmp_path / "drafts")
    drafting = Drafting(drafts)
    await drafting.stage(site.node, set_to("a", "1"), ALICE)
    seen = drafts.load("alice").revision
    await drafting.stage(site.node, set_to("b", "1"), ALICE)
    with pytest.raises(Refused, match="changed meanwhile"):
        await drafting.clear({"revision": seen}, ALICE)
    assert await drafting.clear({"revision": drafts.load("alice").revision}, ALICE) == {"dropped": 2}
    assert drafts.load("alice").staged == ()


async def test_nobody_stages_what_they_may_not_change(site: Site, tmp_path: Path) -> None:
    """A guest nothing; and nothing but settings waits in a draft."""
    drafting = Drafting(Drafts(tmp_path / "drafts"))
    with pytest.raises(Refused, match="gus is a guest"):
        await drafting.stage(site.node, set_to("a", "1"), Caller("gus", GUEST))
    with pytest.raises(Refused, match="only changes of settings"):
        await drafting.stage(site.node, message(commands.AddGroup(name="rome")), ALICE)
    with pytest.raises(InvalidValue, match="only a draft"):
        await drafting.commit(site.service, {"command": set_to("a", "1"), "revision": ""}, ALICE)
    with pytest.raises(InvalidValue, match="does not understand"):
        await drafting.commit(site.service, {}, ALICE)
    assert not (tmp_path / "drafts").exists()
