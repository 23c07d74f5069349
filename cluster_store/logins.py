"""Who is logged in at the command line: how many at once, by which token their processes are known, and when it ends.

A login is a conversation with a process that speaks for one user. What that process asks the daemon for carries the
login's token, and counts as that user's: its role is looked up at every request. A login ends when its user is deleted,
renamed, given another role, or given other credentials by anybody else.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec

from cluster_store.core.cluster import User
from cluster_store.core.errors import OverLimit, Refused
from cluster_store.core.limits import LOGINS_MAX, LOGINS_PER_USER_MAX
from cluster_store.core.roles import Caller
from cluster_store.node import Node
from cluster_store.ports import Conversation

_TOKEN_BYTES = 16


@dataclass(eq=False, slots=True)
class Login:
    """One person at the command line."""

    token: str
    auth: str
    #: As they were when they logged in, or since they last changed their own password.
    user: User
    #: Set when they may go on no more.
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    #: Requests of theirs that are being answered.
    at_work: int = 0


#: (conversation, token, ended) -> done: runs the command line for a login until either side has enough.
Run = Callable[[Conversation, str, asyncio.Event], Awaitable[None]]


class Logins:
    """The logins of one machine."""

    def __init__(self, node: Node, run: Run) -> None:
        """Begin with nobody."""
        self._node = node
        self._run = run
        self._open: dict[str, Login] = {}

    async def serve(self, conversation: Conversation) -> None:
        """Serve somebody who has proven who they are, until it ends."""
        try:
            login = self._begin(conversation.user, conversation.auth)
        except Refused as error:
            conversation.finish(1, error.describe())
            return
        try:
            await self._run(conversation, login.token, login.ended)
        finally:
            del self._open[login.token]

    def _begin(self, name: str, auth: str) -> Login:
        found = self._node.replica.cluster.users_named(name)
        if len(found) != 1:
            raise Refused(f"there is no user {name} any more")
        (user,) = found
        its_own = sum(login.user.id == user.id for login in self._open.values())
        if len(self._open) >= LOGINS_MAX or its_own >= LOGINS_PER_USER_MAX:
            raise OverLimit("too many people are logged in here", "try again later, or on another machine")
        login = Login(os.urandom(_TOKEN_BYTES).hex(), auth, user)
        self._open[login.token] = login
        return login

    def recognise(self, token: str) -> Caller:
        """Return who a token is of. Raises Refused where that login has ended."""
        login = self._open.get(token)
        user = self._node.replica.cluster.users.get(login.user.id) if login else None
        if login is None or user is None or login.ended.is_set():
            raise Refused("this login has ended", "log in again")
        return Caller(user.name, user.role, login.auth, token)

    @contextmanager
    def answering(self, caller: Caller) -> Iterator[None]:
        """Let a login change its own password and keys without ending by it."""
        login = self._open.get(caller.login)
        if login is None:
            yield
            return
        login.at_work += 1
        try:
            yield
        finally:
            login.at_work -= 1
            now = self._node.replica.cluster.users.get(login.user.id)
            if now is not None and _standing(now) == _standing(login.user):
                login.user = now

    async def watch(self) -> None:
        """End logins as their users change; runs until it is cancelled."""
        while True:
            await self._node.wait_for(lambda: any(map(self._stale, self._open.values())))
            for login in filter(self._stale, list(self._open.values())):
                login.ended.set()

    def _stale(self, login: Login) -> bool:
        if login.ended.is_set():
            return False
        user = self._node.replica.cluster.users.get(login.user.id)
        if user is None or _standing(user) != _standing(login.user):
            return True
        return user != login.user and not login.at_work


def _standing(user: User) -> User:
    """Return a user without what proves who they are: what is left, nobody changes and goes on as before."""
    return msgspec.structs.replace(user, password="", keys=(), both=False)
