"""How a machine becomes a member: ask to be let in, take the whole log like any other peer would, say so, be heard.

There is no snapshot format. A join is a sync from an empty vector into a store of its own, with the same
checks as every later one; only when all of it is durable does it take the place of the machine's former store.
A join that fails on the way leaves the machine as it was, and can be repeated: it is let in under the same id.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from cluster_store.core.commands import BeginEpoch, Card
from cluster_store.core.errors import LinkError, Malformed, PeerError, Refused
from cluster_store.core.naming import counted
from cluster_store.core.types import MachineId
from cluster_store.links import Links
from cluster_store.node import Node, open_node
from cluster_store.ports import EventLog, PeerAddress, Transport
from cluster_store.previewing import Offer

#: How long a peer may send nothing new before the join is given up, seconds.
_STALLED_S = 30.0
#: How long the first record of a new member may take to arrive at the one that let it in, seconds.
_HEARD_S = 10.0


@dataclass(frozen=True, slots=True)
class Invitation:
    """Where to join, as whom, into which group (empty: the only one there is)."""

    host: str
    port: int
    user: str
    password: str
    group: str
    #: Whether over CCS: then by this machine's key, which was announced there, and nobody logs in.
    ccs: bool = False


class Admission(msgspec.Struct, frozen=True):
    """A member's answer to a machine that asked to be let in."""

    cluster: str
    name: str
    group: str
    member: MachineId
    hostname: str
    host_key: str
    groups: list[str]
    #: Whether this was only a rehearsal.
    dry_run: bool = False
    #: How members name each other: ``hostname`` or ``ip``.
    by: str = "ip"
    #: What the member's operators would want to know, and does not stop anything.
    warnings: list[str] = []
    #: What this machine would do in the cluster, where that was rehearsed.
    offer: Offer | None = None


async def ask(
    invitation: Invitation,
    card: Card,
    transport: Transport,
    accept_key: Callable[[str], Awaitable[bool]],
    *,
    dry_run: bool = False,
) -> Admission:
    """Ask a member to let this machine in. Raises LinkError, or Refused in the member's words."""
    request = {
        "operation": "admit",
        "card": msgspec.to_builtins(card),
        "group": invitation.group,
        "dry_run": dry_run,
    }
    try:
        reply = await _asked(invitation, transport, accept_key, request)
    except LinkError as refused:
        raise _explained(refused, invitation) from refused
    error = reply.get("error")
    if isinstance(error, dict):
        raise Refused(str(error.get("message")), str(error.get("hint", "")))
    try:
        return msgspec.convert(reply.get("result"), Admission)
    except msgspec.ValidationError as wrong:
        raise Malformed(f"{invitation.host} gave an answer that is none: {wrong}", "is it a cluster-store?") from wrong


async def _asked(
    invitation: Invitation,
    transport: Transport,
    accept_key: Callable[[str], Awaitable[bool]],
    request: Mapping[str, Any],
) -> Mapping[str, Any]:
    host, port = invitation.host, invitation.port
    if invitation.ccs:
        return await transport.ask_by_key(host, port, accept_key, request)
    return await transport.ask(host, port, invitation.user, invitation.password, accept_key, request)


def _explained(refused: LinkError, invitation: Invitation) -> LinkError:
    """Return why a machine could not ask to be let in, with what helps somebody who joins rather than a member."""
    if refused.state == "authentication failed" and invitation.ccs:
        return LinkError(
            refused.state,
            f"{refused.message}: its key is not announced there",
            "compare 'clusterconfig prepjoin print' here with 'clusterconfig prepjoin list' there",
        )
    if refused.state == "authentication failed":
        return LinkError(refused.state, refused.message, "check the user name and the password")
    if refused.state == "dropped":
        return LinkError(
            refused.state,
            refused.message,
            "see that it is a cluster-store that answers there: 'cluster-store status' on that machine shows its ports",
        )
    return refused


async def fetch(
    member: PeerAddress,
    me: MachineId,
    sign: Callable[[bytes], bytes],
    transport: Transport,
    log: EventLog,
    clock: Callable[[], int],
    progress: Callable[[str], None],
) -> None:
    """Fill an empty log with the cluster's and begin this machine's feed in it. The log is closed at the end.

    Args:
        member: the machine that let this one in.
        me: this machine.
        sign: signs with its identity.
        transport: how to dial.
        log: empty, made for the cluster's id.
        clock: the wall clock in milliseconds.
        progress: called with a sentence now and then.

    Raises:
        PeerError: the member stopped, or sent what cannot be accepted; the log is of no use then.
    """
    node = await open_node(log, me, sign, clock, reason="joined")
    links = Links(node, transport, me)
    serving: asyncio.Task[None] | None = None
    try:
        await node.start()
        link = await transport.dial(member)
        serving = asyncio.create_task(links.serve(link, dialled=True))
        await catch_up(node, member.machine, serving, links, progress)
        await node.submit(BeginEpoch(reason="joined"), f"machine:{me}", "key")
        with contextlib.suppress(TimeoutError):
            # If it is not heard now, the daemon brings it at its first contact.
            async with asyncio.timeout(_HEARD_S):
                await node.wait_for(lambda: links.progress(member.machine) in (None, (0, 0)))
    finally:
        await links.stop()
        if serving is not None:
            await serving
        await node.close()


async def catch_up(
    node: Node, member: MachineId, serving: asyncio.Task[None], links: Links, progress: Callable[[str], None]
) -> None:
    """Wait until all that a member has is here, and that this machine is one.

    Args:
        node: takes it in.
        member: whose log it is.
        serving: the link to the member.
        links: of the node.
        progress: called with a sentence now and then.

    Raises:
        PeerError: the member closed the link, or stopped sending.
    """

    def complete() -> bool:
        sessions = [session for session in node.replica.sessions.values() if session.peer == member]
        caught_up = any(session.caught_up_received and not session.behind(node.replica.state) for session in sessions)
        return serving.done() or (caught_up and node.replica.state.me in node.replica.cluster.machines)

    while not complete():
        before = node.replica.state.position
        if before:
            progress(f"taken so far: {counted(before, 'record')}")

        def advanced(at: int = before) -> bool:
            return complete() or node.replica.state.position > at + 1000

        advancing = asyncio.create_task(node.wait_for(advanced))
        await asyncio.wait({serving, advancing}, timeout=_STALLED_S, return_when=asyncio.FIRST_COMPLETED)
        advancing.cancel()
        if node.replica.state.position == before and not complete():
            raise LinkError("dropped", "the member stopped sending its log", "try again, or another member")
    if serving.done():
        status = links.status.get(member)
        why = f": {status.reason}" if status and status.reason else ""
        raise PeerError(f"the member closed the link before its log was here{why}", "see the log of its daemon")


def summary(admission: Admission) -> dict[str, Any]:
    """Return what a join tells its caller."""
    return {"cluster": admission.name, "group": admission.group, "through": admission.hostname}
