"""How a machine leaves its cluster for good: a fresh log under a fresh identity, with what it did as its own settings.

It leaves once its own log tells that it was removed, or that the cluster was dissolved; what a peer merely says is no
reason. Whoever is still linked gets the record, and all before it, first.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

from cluster_store.core.cluster import Removed
from cluster_store.core.commands import Card
from cluster_store.core.errors import Refused
from cluster_store.core.naming import show_removal
from cluster_store.core.standalone import legacy, parts, subject
from cluster_store.core.state import Draft
from cluster_store.node import Node


class Departure(msgspec.Struct, frozen=True):
    """What became of a machine that left."""

    #: Who removed it when, as a sentence.
    told: str
    #: The file that its former log is kept in.
    former: str
    #: What has to be set again: keys of secrets whose values were not here, and what no command could have written.
    lost: list[str]

    def result(self) -> dict[str, Any]:
        """Return what whoever asked for it is told."""
        return {"former": self.former, "lost": self.lost}


async def furnish(fresh: Node, former: Node, left: Removed, card: Card) -> list[str]:
    """Begin a fresh log with what a machine that left was and did; return what could not be taken along.

    Args:
        fresh: an empty store, under the identity that the card shows.
        former: the store of the machine that left.
        left: how it left.
        card: the same machine with its new keys.

    Raises:
        ClusterStoreError: the fresh log cannot be written.
    """
    cluster = former.replica.cluster
    await former.load(set(cluster.levels_for(left.id)))
    found = legacy(Draft(former.replica.state), cluster, left, card, os.urandom(16))
    lost = list(found.lost)
    first, *rest = found.commands
    user = f"machine:{fresh.replica.state.me}"
    await fresh.submit(first, user, "key")
    rest.reverse()
    while rest:
        command = rest.pop()
        try:
            await fresh.submit(command, user, "key")
        except Refused:
            pieces = parts(command)
            rest += reversed(pieces)
            if not pieces:
                lost.append(subject(command))
    return lost


def departure_of(node: Node) -> Removed | None:
    """Return how this machine left, as its own log tells; None where it did not."""
    return node.replica.cluster.departure(node.replica.state.me)


def sentence(left: Removed) -> str:
    """Return who removed this machine when."""
    return show_removal(left, "this machine")
