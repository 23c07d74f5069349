"""What a node does for whoever asks it on this machine or logs in: one operation, one answer.

The same operations are answered by the daemon over its local socket and, where no daemon runs, by the
command itself, which then holds the store for that moment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from cluster_store.core import roles
from cluster_store.core.cluster import Group, Machine
from cluster_store.core.commands import AdmitMachine, AnyCommand, Card, ChangeCommunication, Command
from cluster_store.core.decide import decide
from cluster_store.core.decide_communication import check_announced
from cluster_store.core.decision import Context
from cluster_store.core.errors import InvalidValue, Refused
from cluster_store.core.naming import iso_time, one_line, show_removal
from cluster_store.core.records import machine_id
from cluster_store.core.requirements import is_address
from cluster_store.core.roles import Caller
from cluster_store.core.state import Draft
from cluster_store.core.twins import Sighting
from cluster_store.core.types import Epoch, MachineId
from cluster_store.dialing import address_of
from cluster_store.leaving import departure_of, sentence
from cluster_store.links import Links
from cluster_store.lookups import check_hostnames
from cluster_store.node import Node
from cluster_store.ports import Resolver, announced_user, host_port
from cluster_store.previewing import levels_of, offer

#: Why an epoch begins that an operator should hear of for as long as it lasts.
_MENDED = ("restored", "repaired")
#: What is said of the others on a machine that was removed: its own row says by whom and when.
_OWN_ROW = "this machine was removed"
#: What becomes of changes on a machine that was removed.
_UNHEARD = "until then, what is changed here reaches no member that knows of it"
#: How long it is told that a machine was seen to run twice, milliseconds.
_TWICE_MS = 600_000
#: Called with a sentence while a long operation goes on.
Progress = Callable[[str], None]


def silent(_: str) -> None:
    """Tell nobody."""


class Service:
    """Answers operations with a node and, in a daemon, its links."""

    def __init__(self, node: Node, links: Links | None = None, resolver: Resolver | None = None) -> None:
        """Serve a node.

        Args:
            node: the machine's.
            links: to the other members; without, it is served as far as one can without talking to anybody.
            resolver: looks up hostnames; without, they are taken on trust.
        """
        self.node = node
        self.links = links
        self.resolver = resolver
        #: Transport -> why it does not listen where this machine's record says.
        self.deaf: Mapping[str, str] = {}

    @property
    def me(self) -> Machine:
        """This machine, as it was last if it is no member any more."""
        cluster, me = self.node.replica.cluster, self.node.replica.state.me
        return cluster.machine_or_removed(me) or Machine(id=me)

    async def submit(self, arguments: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        """Carry out a command, given as a message: its builtins, as msgspec makes them."""
        command = command_of(arguments)
        roles.check_command(command, caller)
        if isinstance(command, ChangeCommunication):
            # What cannot be whatever the names lead to is refused for that reason.
            self.rehearsed(command, caller.user)
            await self._check_names(command)
        return await self.node.submit(command, caller.user, caller.auth)

    async def _check_names(self, command: ChangeCommunication) -> None:
        """Refuse a way to reach machines that leads nowhere: a hostname that cannot be looked up here."""
        members = self.node.replica.cluster.machines.values()
        names = [machine.address or machine.hostname for machine in members] if command.by == "hostname" else []
        names += [command.address] if command.address else []
        await self._look_up([name for name in names if not is_address(name)])

    async def answer_person(self, user: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer somebody who logged in from another machine: so far, machines that want to join."""
        if request.get("operation") != "admit":
            raise Refused("there is no such operation", "is that machine of the same version?")
        try:
            command = AdmitMachine(
                card=msgspec.convert(request.get("card"), Card), group=msgspec.convert(request.get("group"), str)
            )
        except msgspec.ValidationError as error:
            raise InvalidValue(f"a machine described itself in a wrong shape: {error}") from error
        auth = self._check_admitter(user, command.card)
        return await self._admit(command, user, auth, dry_run=request.get("dry_run") is True)

    def _check_admitter(self, user: str, card: Card) -> str:
        """Return how whoever asks to let a machine in was authenticated. Raises Refused where they may not."""
        cluster = self.node.replica.cluster
        known = cluster.users_named(user)
        if len(known) == 1 and known[0].role == roles.ADMINISTRATOR:
            return "password"
        for announced in cluster.announced.values():
            if user == announced_user(announced.hostname):
                check_announced(announced, card)
                return "key"
        for machine in cluster.machines.values():
            # It was let in before, and could not fetch the log then.
            if user == announced_user(machine.id) and machine.client_key == card.client_key:
                return "key"
        raise Refused(f"{user} may not let machines in", "ask an administrator")

    async def _admit(self, command: AdmitMachine, user: str, auth: str, *, dry_run: bool) -> dict[str, Any]:
        replica = self.node.replica
        draft = Draft(replica.state)
        decide(command, Context(draft, replica.cluster, replica.state.me, user, self.node.now(), Epoch("")))
        warnings = []
        if replica.cluster.by == "hostname":
            warnings = await self._look_up([command.card.hostname])
        if not dry_run:
            await self.node.submit(command, user, auth)
        cluster = replica.cluster
        me = self.me
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
            "by": cluster.by,
            "warnings": warnings,
            "offer": await self._offer(command.card, group) if dry_run else None,
        }

    async def _offer(self, card: Card, group: Group) -> dict[str, Any]:
        """Return what a machine would do in a group, for a joiner that rehearses."""
        joiner = machine_id(bytes.fromhex(card.key))
        await self.node.load({*levels_of(joiner, group.id)})
        found = offer(Draft(self.node.replica.state), self.node.replica.cluster, joiner, group.id)
        told: dict[str, Any] = msgspec.to_builtins(found)
        return told

    async def _look_up(self, hostnames: Sequence[str]) -> list[str]:
        if self.resolver is None:
            return []
        return await check_hostnames(self.resolver, hostnames, self.me.hostname)

    def rehearsed(self, command: Command, user: str) -> Machine:
        """Return this machine as a command would leave it. Raises what would refuse the command."""
        replica, me = self.node.replica, self.me
        draft = Draft(replica.state)
        context = Context(draft, replica.cluster, me.id, user, self.node.now(), Epoch(""))
        event = decide(command, context).event
        prefix = f"machine/{me.id}/"
        written = {
            write.path.removeprefix(prefix): msgspec.json.decode(write.value)
            for write in (event.writes if event else ())
            if write.path.startswith(prefix) and isinstance(write.value, str)
        }
        return msgspec.convert({**msgspec.to_builtins(me), **written}, Machine)

    def status(self) -> dict[str, Any]:
        """Return what only a running node knows of itself."""
        return {
            "serving": self.links is not None,
            "waiting": dict(self.node.replica.waiting),
            "removed": self._removed(),
            "dismissed": self.dismissed(),
            "deaf": "; ".join(deafness(self.deaf)) or None,
            "astray": self._astray(),
            "twin": self._twin(),
            "reached": dict(self.node.replica.reached),
            # What peers have of this machine's own feeds, and how many records of any they have that are not here.
            "heard": {
                peer: {"own": own, "behind": self._behind(peer)}
                for peer, own in (self.links.heard_of(self.me.id) if self.links else {}).items()
            },
        }

    def _behind(self, peer: MachineId) -> int:
        progress = self.links.progress_when_last_heard(peer) if self.links else None
        return progress[0] if progress else 0

    def _twin(self) -> str | None:
        seen = self.node.replica.twins.seen
        past = seen is None or (not seen.elder and self.node.now() - seen.at > _TWICE_MS)
        return None if past else _twin(seen)

    def _removed(self) -> str | None:
        """Return who removed this machine when, by its own log or else as a peer has shown; None where nobody did."""
        left = departure_of(self.node)
        return sentence(left) if left is not None else self._shown()

    def _shown(self) -> str | None:
        """Return who removed this machine when, by a sealed record that a peer has shown, and what to do about it."""
        dismissals, cluster = self.node.replica.dismissals, self.node.replica.cluster
        if dismissals.shown is None:
            return None
        told = show_removal(dismissals.shown)
        remover = cluster.removed.get(dismissals.author)
        if remover is not None:
            name = one_line(remover.hostname)
            told += (
                f", by a record of {name}, a machine that was itself removed here ({show_removal(remover)}), of which "
                f"others have not heard: give 'clusterconfig removemachine {name}' on another member too"
            )
        return f"{told}; {_alone(self.me)}"

    def dismissed(self) -> str | None:
        """Return that this machine's changes reach nobody, and why, where a peer has shown that; else None."""
        shown = self._shown()
        return None if shown is None or departure_of(self.node) is not None else f"{shown}; {_UNHEARD}"

    def connstatus(self) -> dict[str, Any]:
        """Return the state of the link to every member, in the words of connstatus."""
        cluster = self.node.replica.cluster
        # A machine that is no member any more shows itself, and why.
        shown = {**cluster.machines, self.me.id: self.me}
        return {
            "machines": [
                {
                    "hostname": machine.hostname,
                    "id": machine.id,
                    "group": cluster.groups[machine.group].name if machine.group in cluster.groups else "",
                    **self._link(machine.id),
                }
                for machine in shown.values()
            ]
        }

    def _link(self, machine: MachineId) -> dict[str, Any]:
        member = self.node.replica.cluster.machines.get(machine, self.me)
        facts: dict[str, Any] = {"state": "not serving", "reason": "", "since": None, "last_contact": None}
        facts |= {"behind": None, "ahead": None, "as_of": None, "clock_skew_ms": None}
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
            elif (progress := self.links.progress_when_last_heard(machine)) is not None:
                facts |= {"behind": progress[0], "ahead": progress[1], "as_of": facts["last_contact"]}
        elif self.links is not None:
            facts |= {"state": "connecting"}
        else:
            facts |= {"reason": "no daemon runs here: start it with 'cluster-store serve'"}
        if self.links is not None and self.links.spares(machine):
            facts |= {"state": "not linked", "reason": "no link is needed: others pass on its records"}
        if facts["state"] == "removed" and self._shown() is not None:
            facts["reason"] = _OWN_ROW
        if facts["state"] != "removed" or departure_of(self.node) is not None:
            facts |= self._ruled(member)
        facts["relayed_through"] = self._relay(machine, facts["state"])
        facts["version"] = member.version
        facts |= self._place(member)
        facts["epoch"] = {"reason": member.epoch_reason, "since": iso(member.epoch_begun)}
        if member.epoch_reason in _MENDED and not facts["reason"]:
            facts["reason"] = f"its store was {member.epoch_reason} at {iso(member.epoch_begun)}"
        twice = self.node.replica.twins.peers.get(machine, 0)
        if self.node.now() - twice < _TWICE_MS:
            told = f"runs twice, seen last at {iso(twice)}: stop the copy"
            facts["reason"] = f"{facts['reason']}; {told}" if facts["reason"] else told
        waiting = self.node.replica.waiting.get(machine)
        return facts | ({"reason": f"waiting: {waiting}"} if waiting else {})

    def _relay(self, machine: MachineId, state: str) -> str | None:
        """Return who passes on the records of a machine that there is no link to, None where nobody has."""
        replica = self.node.replica
        relay = replica.relays.get(machine)
        if state == "connected" or relay is None or relay == machine:
            return None
        return replica.cluster.hostname(relay)

    def _place(self, member: Machine) -> dict[str, Any]:
        """Return where a link leads, who dialled, and why it is not where the record says."""
        address = address_of(member, self.node.replica.cluster)
        recorded = host_port(address.host, address.port)
        facts: dict[str, Any] = {"address": recorded, "recorded_address": recorded, "dialled_by": None}
        opened = self.links.by_peer.get(member.id) if self.links is not None else None
        if self.links is None or opened is None:
            return facts
        where = opened.link.where
        facts |= {"address": where, "dialled_by": (self.me if opened.dialled else member).hostname}
        if why := self.links.astray(member.id):
            facts["reason"] = f"{'at' if opened.dialled else 'from'} {where}; {why}"
        return facts

    def _astray(self) -> str | None:
        """Return which links are not where the record says, and why; None where all are."""
        if self.links is None:
            return None
        members = self.node.replica.cluster.machines.values()
        told = [(member.hostname, self.links.astray(member.id)) for member in members]
        return "; ".join(f"the link with {name} stays where it was: {why}" for name, why in told if why) or None

    def _ruled(self, member: Machine) -> dict[str, Any]:
        """Return what the registers say of a link: they have the last word."""
        me, left = self.me, departure_of(self.node)
        facts: dict[str, Any] = {"behind": 0, "ahead": 0} if member.id == me.id else {}
        if left is not None:
            facts |= {"state": "removed", "reason": sentence(left) if member.id == me.id else _OWN_ROW}
        elif member.id == me.id and (shown := self._shown()):
            facts |= {"state": "removed", "reason": shown}
        elif member.detached:
            facts |= {"state": "detached", "reason": _detached(member), "since": iso(member.detached_at)}
        elif me.detached:
            facts |= {"state": "detached", "reason": f"this machine was {_detached(me)}", "since": iso(me.detached_at)}
        elif member.id == me.id:
            facts |= {"state": "connected", "reason": "; ".join(["this machine", *deafness(self.deaf)])}
        elif not member.joined:
            facts |= {"state": "pending", "reason": "let in, but not heard of since"}
        return facts


def _twin(seen: Sighting | None) -> str | None:
    """Return what an operator of a machine that runs twice should know."""
    if seen is None:
        return None
    told = f"a copy of this store runs elsewhere too, seen last at {iso(seen.at)}"
    if seen.elder:
        return f"{told}; this is the younger of the two and takes no changes: stop one, then start the other again"
    return f"{told}; the copy takes no changes: stop it"


def deafness(deaf: Mapping[str, str]) -> list[str]:
    """Return in words where a machine does not listen as its record says: transport -> why."""
    return [f"nobody gets in over {transport.upper()} where the record says: {why}" for transport, why in deaf.items()]


def _alone(me: Machine) -> str:
    return f"'clusterconfig removemachine {me.hostname}' here makes it stand alone, with the settings that it has"


def _detached(machine: Machine) -> str:
    return f"detached by {machine.detached_by} at {iso(machine.detached_at)}"


def iso(milliseconds: int) -> str | None:
    """Return a time in ISO 8601, UTC, None for never."""
    if not milliseconds:
        return None
    return iso_time(milliseconds)


def command_of(message: Mapping[str, Any]) -> Command:
    """Return the command of a message. Raises InvalidValue."""
    try:
        command: Command = msgspec.convert(message, AnyCommand)
    except msgspec.ValidationError as error:
        raise InvalidValue(
            f"the daemon does not understand the command: {error}", "is it of the same version as this program?"
        ) from error
    return command
