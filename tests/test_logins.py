"""Who is logged in at the command line: how many, as what, and what ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cluster_store.adapters.memory_transport import MemoryNetwork
from cluster_store.core import commands
from cluster_store.core.errors import Refused
from cluster_store.core.limits import LOGINS_MAX, LOGINS_PER_USER_MAX
from cluster_store.core.roles import Caller
from cluster_store.gatekeeper import Doorkeeper
from cluster_store.logins import Logins
from cluster_store.ports import Conversation
from tests.adapters.test_login_process import Person
from tests.core.keyring import key_line
from tests.sites import SALT, Site, plain_verify
from tests.waiting import wait_until_async

HASH = "$argon2id$bob"


class Hall:
    """A machine with users, and those who are logged in there."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.logins = Logins(site.node, self._run)
        self.watching = asyncio.create_task(self.logins.watch())
        #: Tokens of those who are in, the newest last.
        self.tokens: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def _run(self, conversation: Conversation, token: str, ended: asyncio.Event) -> None:
        self.tokens.append(token)
        await ended.wait()
        conversation.finish(1, "ended")

    async def enter(self, user: str = "bob") -> str:
        """Let somebody log in; return their token."""
        person = Person()
        person.user = user
        known = len(self.tokens)
        self.tasks.append(asyncio.create_task(self.logins.serve(person)))
        await wait_until_async(lambda: len(self.tokens) > known, 30)
        return self.tokens[-1]

    async def change(self, **more: Any) -> None:
        """Change bob."""
        await self.site.command(commands.ChangeUser(user="bob", salt=SALT, **more))

    async def ends(self, number: int = -1) -> None:
        """Wait until a login has ended."""
        await asyncio.wait_for(self.tasks[number], 30)


@pytest.fixture
async def hall() -> AsyncIterator[Hall]:
    """A machine with the operator bob."""
    site = Site(MemoryNetwork(), "mx1")
    await site.begin()
    await site.command(commands.AddUser(name="bob", role="operator", password=HASH, salt=SALT))
    opened = Hall(site)
    yield opened
    for task in (opened.watching, *opened.tasks):
        task.cancel()
    await asyncio.gather(opened.watching, *opened.tasks, return_exceptions=True)
    await site.end()


async def test_a_token_stands_for_its_user(hall: Hall) -> None:
    """With the role of now, in the spelling of the table, and the way in which they logged in."""
    token = await hall.enter("BOB")
    assert hall.logins.recognise(token) == Caller("bob", "operator", "key", token)
    with pytest.raises(Refused, match="has ended"):
        hall.logins.recognise(token[:-1])


@pytest.mark.parametrize(
    "change",
    [{"role": "guest"}, {"role": "administrator"}, {"rename": "robert"}, {"password": "$argon2id$new"}],
    ids=lambda change: str(*change),
)
async def test_a_login_ends_when_its_user_is_changed(hall: Hall, change: dict[str, str]) -> None:
    """Another role, another name, other credentials; its token is worth nothing from then on."""
    token = await hall.enter()
    await hall.change(**change)
    await hall.ends()
    with pytest.raises(Refused):
        hall.logins.recognise(token)


async def test_a_login_ends_when_its_user_is_deleted(hall: Hall) -> None:
    """And nobody of that name gets in any more."""
    await hall.enter()
    await hall.site.command(commands.DeleteUser(user="bob", salt=SALT))
    await hall.ends()
    late = Person()
    late.user = "bob"
    await hall.logins.serve(late)
    assert late.end == (1, "there is no user bob any more")


async def test_whoever_changes_their_own_password_stays(hall: Hall) -> None:
    """That login goes on; the same user's other one ends."""
    other = await hall.enter()
    own = await hall.enter()
    with hall.logins.answering(hall.logins.recognise(own)):
        await hall.site.command(commands.ChangePassword(user="bob", password="$argon2id$own", salt=SALT))
    await hall.ends(0)
    with pytest.raises(Refused):
        hall.logins.recognise(other)
    assert hall.logins.recognise(own).user == "bob"
    # By now it is another's change again that ends it.
    await hall.change(password="$argon2id$other")
    await hall.ends(1)


async def test_a_change_of_somebody_else_ends_nothing(hall: Hall) -> None:
    """Settings and other users are no business of a login."""
    token = await hall.enter()
    await hall.site.command(commands.AddUser(name="carol", role="guest", password=HASH, salt=SALT))
    await hall.site.set("a", "1")
    assert hall.logins.recognise(token).user == "bob"


async def test_logins_are_bounded_for_each_user_and_in_all(hall: Hall) -> None:
    """One more is told so; when one has gone, there is room again."""
    for _ in range(LOGINS_PER_USER_MAX):
        await hall.enter()
    more = Person()
    more.user = "bob"
    await hall.logins.serve(more)
    assert more.end is not None
    assert "too many people are logged in here" in more.end[1]
    for _ in range(LOGINS_MAX - LOGINS_PER_USER_MAX):
        await hall.enter("admin")
    more = Person()
    more.user = "admin"
    await hall.logins.serve(more)
    assert more.end is not None
    hall.tasks[0].cancel()
    await asyncio.gather(hall.tasks[0], return_exceptions=True)
    await hall.enter()


async def test_the_door_knows_people_by_the_shared_table(hall: Hall) -> None:
    """Keys and passwords in any spelling of a name; one that two have opens nothing; strangers need everything."""
    node = hall.site.node
    door = Doorkeeper(node, hall.site.links, plain_verify, hall.site.service.answer_person, hall.logins.serve)
    await hall.change(add_keys=(key_line("bob", "at home"),))
    assert door.has_key("Bob", key_line("bob"))
    assert not door.has_key("bob", key_line("eve"))
    assert not door.has_key("eve", key_line("bob"))
    assert await door.check_password("bob", HASH, "here")
    assert not door.needs_both("bob")
    assert door.needs_both("eve")
    await hall.change(both=True)
    assert door.needs_both("BOB")
    twin = next(iter(node.replica.cluster.users.values()))
    node.replica.cluster.users["twin"] = type(twin)(id="twin", name="BOB", role="guest", password=HASH)
    assert not door.has_key("bob", key_line("bob"))
    assert not await door.check_password("bob", HASH, "there")
