"""Who gets in: machines by their pinned keys, people by the cluster's shared user table, guessing slowed down."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from cluster_store.core.errors import ClusterStoreError
from cluster_store.core.types import MachineId
from cluster_store.links import Links
from cluster_store.node import Node
from cluster_store.ports import Link

#: Wrong passwords from one place before its next answer is delayed.
_FREE_FAILURES = 2
#: Longest delay, seconds. A login is given up after twenty.
_DELAY_MAX_S = 10.0
#: Places remembered; the one longest quiet is forgotten first.
_PLACES_MAX = 1024

#: (hash, password) -> whether they match. Takes its time: argon2id is meant to.
Verify = Callable[[str, str], Awaitable[bool]]
#: (user, request) -> reply.
Answer = Callable[[str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


class Doorkeeper:
    """Answers a listener's questions from the replica's read model."""

    def __init__(self, node: Node, links: Links, verify: Verify, answer: Answer) -> None:
        """Keep the door of a node."""
        self._node = node
        self._links = links
        self._verify = verify
        self._answer = answer
        self._failures: OrderedDict[tuple[str, str], int] = OrderedDict()

    def machine_for_key(self, client_key: str) -> MachineId | None:
        """See ``Gatekeeper``."""
        for machine in self._node.replica.cluster.machines.values():
            if machine.client_key == client_key:
                return machine.id
        return None

    async def check_password(self, user: str, password: str, source: str) -> bool:
        """See ``Gatekeeper``. Two wrong passwords are free; each further one doubles the wait for the next answer."""
        place = (user, source)
        failures = self._failures.get(place, 0)
        if failures >= _FREE_FAILURES:
            await asyncio.sleep(min(2.0 ** (failures - _FREE_FAILURES), _DELAY_MAX_S))
        known = [found for found in self._node.replica.cluster.users.values() if found.name == user]
        # A name that two users hold cannot log in until that is settled; an unknown one takes as long as a known one.
        stored = known[0].password if len(known) == 1 else ""
        if await self._verify(stored, password):
            self._failures.pop(place, None)
            return True
        self._failures[place] = self._failures.get(place, 0) + 1
        self._failures.move_to_end(place)
        if len(self._failures) > _PLACES_MAX:
            self._failures.popitem(last=False)
        return False

    async def on_link(self, link: Link) -> None:
        """See ``Gatekeeper``."""
        await self._links.serve(link, dialled=False)

    async def on_request(self, user: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """See ``Gatekeeper``."""
        try:
            return {"result": await self._answer(user, request)}
        except ClusterStoreError as error:
            return {"error": {"message": error.message, "hint": error.hint}}
