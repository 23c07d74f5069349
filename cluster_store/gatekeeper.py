"""Who gets in: machines by their pinned keys, people by the cluster's shared user table, guessing slowed down."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from cluster_store.core import public_keys
from cluster_store.core.cluster import User
from cluster_store.core.errors import ClusterStoreError
from cluster_store.core.naming import one_line
from cluster_store.core.types import MachineId
from cluster_store.links import Links
from cluster_store.node import Node
from cluster_store.ports import Conversation, Link

#: Wrong passwords from one place before its next answer is delayed.
_FREE_FAILURES = 2
#: Longest delay, seconds. A login is given up after twenty.
_DELAY_MAX_S = 10.0
#: Places remembered; the one longest quiet is forgotten first.
_PLACES_MAX = 1024
#: Strangers told of in the log within so many milliseconds: a flood of them must not fill a disk.
_STRANGERS_TOLD, _STRANGERS_WITHIN_MS = 10, 60_000
#: Announced machines named in one sentence.
_NAMED_MAX = 8

logger = logging.getLogger("cluster_store")

#: (hash, password) -> whether they match. Takes its time: argon2id is meant to.
Verify = Callable[[str, str], Awaitable[bool]]
#: (user, request) -> reply.
Answer = Callable[[str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
#: Serves a person at the command line until it ends.
Converse = Callable[[Conversation], Awaitable[None]]


async def _no_command_line(conversation: Conversation) -> None:
    conversation.finish(1, "there is no command line here")


class Doorkeeper:
    """Answers a listener's questions from the replica's read model."""

    def __init__(
        self, node: Node, links: Links, verify: Verify, answer: Answer, converse: Converse | None = None
    ) -> None:
        """Keep the door of a node; without ``converse`` there is no command line behind it."""
        self._node = node
        self._links = links
        self._verify = verify
        self._answer = answer
        self._converse = converse or _no_command_line
        self._failures: OrderedDict[tuple[str, str], int] = OrderedDict()
        #: When strangers were told of, milliseconds.
        self._strangers: deque[int] = deque(maxlen=_STRANGERS_TOLD)

    def machine_for_key(self, client_key: str) -> MachineId | None:
        """See ``Gatekeeper``."""
        cluster = self._node.replica.cluster
        # A machine that was removed is let in as far as to be told so.
        for machine in (*cluster.machines.values(), *cluster.removed.values()):
            if machine.client_key == client_key:
                return machine.id
        return None

    def announced_for_key(self, client_key: str) -> str | None:
        """See ``Gatekeeper``."""
        announced = self._node.replica.cluster.announced.values()
        return next((one.hostname for one in announced if one.key == client_key), None)

    def on_stranger(self, client_key: str, source: str) -> None:
        """See ``Gatekeeper``. Told in the log: who announces a machine with another one's key is to find that there."""
        now = self._node.now()
        if len(self._strangers) == _STRANGERS_TOLD and now - self._strangers[0] < _STRANGERS_WITHIN_MS:
            return
        self._strangers.append(now)
        announced = list(self._node.replica.cluster.announced.values())
        known = [f"{one.hostname} with {_fingerprint(one.key)}" for one in announced[:_NAMED_MAX]]
        known += [f"{len(announced) - _NAMED_MAX} more"] * (len(announced) > _NAMED_MAX)
        logger.warning(
            "a machine at %s was not let in over CCS: its key %s is no member's that is known here, and not announced; "
            "announced: %s",
            source,
            _fingerprint(client_key),
            one_line(", ".join(known)) or "nobody",
        )

    def person(self, user: str) -> User | None:
        """See ``Gatekeeper``. A name that two users have lets nobody in until that is settled."""
        found = self._node.replica.cluster.users_named(user)
        return found[0] if len(found) == 1 else None

    def has_key(self, user: str, key: str) -> bool:
        """See ``Gatekeeper``."""
        person = self.person(user)
        kind, _, data = key.partition(" ")
        keys = public_keys.of_lines(person.keys) if person else []
        return any((known.kind, known.data) == (kind, data) for known in keys)

    def needs_both(self, user: str) -> bool:
        """See ``Gatekeeper``."""
        person = self.person(user)
        return person is None or person.both

    async def check_password(self, user: str, password: str, source: str) -> bool:
        """See ``Gatekeeper``. Two wrong passwords are free; each further one doubles the wait for the next answer."""
        place = (user.casefold(), source)
        failures = self._failures.get(place, 0)
        if failures >= _FREE_FAILURES:
            await asyncio.sleep(min(2.0 ** (failures - _FREE_FAILURES), _DELAY_MAX_S))
        person = self.person(user)
        # An unknown one takes as long as a known one.
        stored = person.password if person else ""
        if await self._verify(stored, password):
            self._failures.pop(place, None)
            return True
        self._failures[place] = self._failures.get(place, 0) + 1
        self._failures.move_to_end(place)
        if len(self._failures) > _PLACES_MAX:
            self._failures.popitem(last=False)
        return False

    async def on_conversation(self, conversation: Conversation) -> None:
        """See ``Gatekeeper``."""
        await self._converse(conversation)

    async def on_link(self, link: Link) -> None:
        """See ``Gatekeeper``."""
        await self._links.serve(link, dialled=False)

    async def on_request(self, user: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """See ``Gatekeeper``."""
        person = self.person(user)
        try:
            return {"result": await self._answer(person.name if person else user, request)}
        except ClusterStoreError as error:
            return {"error": {"message": error.message, "hint": error.hint}}


def _fingerprint(line: str) -> str:
    keys = public_keys.of_lines((line,))
    return keys[0].fingerprint if keys else "that is none"
