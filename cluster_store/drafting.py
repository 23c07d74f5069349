"""The operations on drafts: a change is staged, all that is staged is committed, or dropped.

One of them at a time, so that two sessions of one person lose nothing of each other's. A commit first makes the event
durable and then drops the draft; where the process ends in between, the next commit finds everything so already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from cluster_store.adapters.drafts import Draft, Drafts
from cluster_store.core import decide_commit, roles
from cluster_store.core.commands import CommitConfig
from cluster_store.core.decide import scopes_of
from cluster_store.core.decision import Context
from cluster_store.core.errors import InvalidValue, Refused
from cluster_store.core.roles import Caller
from cluster_store.core.state import Draft as Registers
from cluster_store.core.types import Epoch
from cluster_store.node import Node
from cluster_store.service import Service, command_of


class Drafting:
    """Keeps the drafts of one store."""

    def __init__(self, drafts: Drafts) -> None:
        """Begin with what is there."""
        self._drafts = drafts
        self._lock = asyncio.Lock()

    async def stage(self, node: Node, arguments: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        """Put a command, given as ``submit`` takes it, into the caller's draft if it could be committed with it now.

        Returns:
            What the command would tell, ``staged`` as what the draft has more by it: nothing where all is so already.
        """
        command = command_of(arguments)
        roles.check_command(command, caller)
        async with self._lock:
            draft = self._drafts.load(caller.user).staged
            cluster, me = node.replica.cluster, node.replica.state.me
            await node.load({*scopes_of(CommitConfig(staged=draft), cluster, me), *scopes_of(command, cluster, me)})
            registers = Registers(node.replica.state)
            context = Context(registers, node.replica.cluster, me, caller.user, node.now(), Epoch(""))
            staged, result = decide_commit.stage(draft, command, context)
            if staged is not None:
                self._drafts.save(caller.user, (*draft, staged))
        return {"event": None, "changed": False, "staged": staged is not None, **result}

    async def commit(self, service: Service, arguments: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        """Commit a draft as its owner looked at it: ``command`` as ``submit`` takes it, the draft's ``revision``."""
        given = arguments.get("command")
        command = command_of(given if isinstance(given, Mapping) else {})
        if not isinstance(command, CommitConfig):
            raise InvalidValue("only a draft can be committed", "is this program of the same version as the daemon?")
        async with self._lock:
            self._reviewed(arguments, caller)
            result = await service.submit(given or {}, caller)
            self._drafts.drop(caller.user)
        return result

    async def clear(self, arguments: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        """Drop a draft as its owner has looked at it, ``revision`` of it."""
        async with self._lock:
            dropped = self._reviewed(arguments, caller)
            self._drafts.drop(caller.user)
        return {"dropped": len(dropped.staged)}

    def _reviewed(self, arguments: Mapping[str, Any], caller: Caller) -> Draft:
        draft = self._drafts.load(caller.user)
        if draft.revision != arguments.get("revision"):
            raise Refused("the draft was changed meanwhile, by another session", "look at it again with 'diff'")
        return draft
