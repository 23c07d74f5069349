"""What a node does for whoever asks it on this machine or logs in: one operation, one answer.

The same operations are answered by the daemon over its local socket and, where no daemon runs, by the
command itself, which then holds the store for that moment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from cluster_store.core.cluster import ROLES, Machine
from cluster_store.core.commands import AdmitMachine, AnyCommand, Card, Command
from cluster_store.core.decide import decide
from cluster_store.core.decision import Context
from cluster_store.core.errors import InvalidValue, Refused
from cluster_store.core.state import Draft
from cluster_store.core.types import Epoch, MachineId
from cluster_store.links import Links
from cluster_store.node import Node

#: Called with a sentence while a long operation goes on.
Progress = Callable[[str], None]


def silent(_: str) -> None:
    """Tell nobody."""


class Service:
    """Answers operations with a node and, in a daemon, its links."""

    def __init__(self, node: Node, links: Links | None = None) -> None:
        """Serve a node; without links, as far as one can without talking to anybody."""
        self.node = node
        self.links = links

    async def submit(self, arguments: Mapping[str, Any], user: str, auth: str = "local") -> dict[str, Any]:
        """Carry out a command, given as a message: its builtins, as msgspec makes them."""
        return await self.node.submit(command_of(arguments), user, auth)

    async def answer_person(self, user: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer somebody who logged in from another machine: so far, machines that want to join."""
        known = next((found for found in self.node.replica.cluster.users.values() if found.name == user), None)
        if known is None or known.role != ROLES[-1]:
            raise Refused(f"{user} may not let machines in", "ask an administrator")
        if request.get("operation") != "admit":
            raise Refused("there is no such operation", "is that machine of the same version?")
        try:
            command = AdmitMachine(
                card=msgspec.convert(request.get("card"), Card), group=msgspec.convert(request.get("group"), str)
            )
        except msgspec.ValidationError as error:
            raise InvalidValue(f"a machine described itself in a wrong shape: {error}") from error
        return await self._admit(command, user, dry_run=request.get("dry_run") is True)

    async def _admit(self, command: AdmitMachine, user: str, *, dry_run: bool) -> dict[str, Any]:
        replica = self.node.replica
        if dry_run:
            draft = Draft(replica.state)
            decide(command, Context(draft, replica.cluster, replica.state.me, user, self.node.now(), Epoch("")))
        else:
            await self.node.submit(command, user, "password")
        cluster = replica.cluster
        me = cluster.machines[replica.state.me]
        group = cluster.group(command.group) if command.group else next(iter(cluster.groups.values()))
        return {
            "cluster": replica.state.cluster,
            "name": cluster.name,
            "group": group.name,
            "member": me.id,
            "hostname": me.hostname,
            "host_key": me.host_key,
            "groups": [found.name for found in cluster.groups.values()],
            "dry_run": dry_run,
        }

    def status(self) -> dict[str, Any]:
        """Return what only a running node knows of itself."""
        return {"serving": self.links is not None, "waiting": dict(self.node.replica.waiting)}

    def connstatus(self) -> dict[str, Any]:
        """Return the state of the link to every member, in the words of connstatus."""
        cluster = self.node.replica.cluster
        return {
            "machines": [
                {
                    "hostname": machine.hostname,
                    "id": machine.id,
                    "group": cluster.groups[machine.group].name if machine.group in cluster.groups else "",
                    **self._link(machine.id),
                }
                for machine in cluster.machines.values()
            ]
        }

    def _link(self, machine: MachineId) -> dict[str, Any]:
        member = self.node.replica.cluster.machines[machine]
        facts: dict[str, Any] = {"state": "not serving", "reason": "", "since": None, "last_contact": None}
        facts |= {"behind": None, "ahead": None, "clock_skew_ms": None}
        status = self.links.status.get(machine) if self.links else None
        if status is not None and self.links is not None:
            facts |= {
                "state": status.state,
                "reason": status.reason,
                "since": iso(status.since),
                "last_contact": iso(status.last_contact),
                "clock_skew_ms": status.skew if status.last_contact else None,
            }
            progress = self.links.progress(machine)
            if progress is not None:
                facts |= {"behind": progress[0], "ahead": progress[1]}
        elif self.links is not None:
            facts |= {"state": "connecting"}
        else:
            facts |= {"reason": "no daemon runs here: start it with 'cluster-store serve'"}
        if machine == self.node.replica.state.me:
            facts |= {"state": "connected", "reason": "this machine", "behind": 0, "ahead": 0}
        elif not member.joined:
            facts |= {"state": "pending", "reason": "let in, but not heard of since"}
        me = self.node.replica.cluster.machines[self.node.replica.state.me]
        if member.detached:
            facts |= {"state": "detached", "reason": _detached(member)}
        elif me.detached:
            facts |= {"state": "detached", "reason": f"this machine was {_detached(me)}"}
        waiting = self.node.replica.waiting.get(machine)
        return facts | ({"reason": f"waiting: {waiting}"} if waiting else {})


def _detached(machine: Machine) -> str:
    return f"detached by {machine.detached_by} at {iso(machine.detached_at)}"


def iso(milliseconds: int) -> str | None:
    """Return a time in ISO 8601, UTC, None for never."""
    if not milliseconds:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def command_of(message: Mapping[str, Any]) -> Command:
    """Return the command of a message. Raises InvalidValue."""
    try:
        command: Command = msgspec.convert(message, AnyCommand)
    except msgspec.ValidationError as error:
        raise InvalidValue(
            f"the daemon does not understand the command: {error}", "is it of the same version as this program?"
        ) from error
    return command
