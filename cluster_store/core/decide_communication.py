"""Decisions about how machines reach each other: the transport, ports, addresses, and who is awaited over CCS."""

from __future__ import annotations

import base64
import binascii
from hashlib import sha256
from ipaddress import ip_address

import msgspec

from cluster_store.core import commands
from cluster_store.core.cluster import TRANSPORTS, Announced, Machine
from cluster_store.core.decision import Context, Decision, replace, require_cluster, to_text
from cluster_store.core.errors import InvalidValue, NotFound, Refused
from cluster_store.core.events import Event
from cluster_store.core.json_text import excerpt
from cluster_store.core.limits import FORMER_PORTS_MAX
from cluster_store.core.registers import Write
from cluster_store.core.types import Path
from cluster_store.core.values import check_name

#: How machines name each other.
NAMINGS = ("hostname", "ip")

_KEY_TYPE = "ssh-ed25519"
#: What the blob of such a key begins with, and its length.
_KEY_HEAD, _KEY_BYTES = b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20", 51


def check_client_key(line: str) -> str:
    """Return an OpenSSH public key line without its comment. Raises InvalidValue where it is no ed25519 key."""
    words = line.split()
    try:
        blob = base64.b64decode(words[1], validate=True) if len(words) > 1 else b""
    except (binascii.Error, ValueError):
        blob = b""
    if words[:1] != [_KEY_TYPE] or len(blob) != _KEY_BYTES or not blob.startswith(_KEY_HEAD):
        raise InvalidValue(
            f"'{excerpt(line)}' is no machine's key",
            "'clusterconfig prepjoin print' on the machine that is to join shows what to give here",
        )
    return f"{_KEY_TYPE} {words[1]}"


def announce(command: commands.AnnounceMachine, context: Context) -> Decision:
    """Announce a machine, which may then join over CCS without a password."""
    require_cluster(context)
    hostname = check_name(command.hostname, "hostname")
    serial = check_name(command.serial, "serial number")
    key = check_client_key(command.key)
    cluster = context.cluster
    for machine in cluster.machines.values():
        if machine.client_key == key:
            raise Refused(f"{machine.hostname} has this key and is a member", "it need not be announced")
        if machine.joined and machine.hostname.casefold() == hostname.casefold():
            raise Refused(f"the hostname {hostname} is taken by a member", "announce the machine under its own name")
        if machine.joined and machine.serial.casefold() == serial.casefold():
            raise Refused(
                f"the serial number {serial} is that of {machine.hostname}", "announce the machine under its own"
            )
    for other in cluster.announced.values():
        if other.hostname.casefold() == hostname.casefold() or other.key == key:
            raise Refused(
                f"{other.hostname} is announced already, with serial {other.serial}",
                f"take that back first, with 'clusterconfig prepjoin delete {other.hostname}'",
            )
    told = to_text({"hostname": hostname, "serial": serial, "key": key})
    write = replace(context.registers, _announced_path(key), told)
    return Decision(Event("MachineAnnounced", (write,), {"hostname": hostname, "serial": serial}))


def withdraw(command: commands.WithdrawAnnouncement, context: Context) -> Decision:
    """Take back the announcement of a machine."""
    require_cluster(context)
    found = [
        one for one in context.cluster.announced.values() if one.hostname.casefold() == command.hostname.casefold()
    ]
    if not found:
        known = ", ".join(one.hostname for one in context.cluster.announced.values())
        raise NotFound(f"no machine named '{command.hostname}' is announced", f"announced: {known or 'none'}")
    writes = tuple(replace(context.registers, Path(f"announced/{one.id}"), None) for one in found)
    return Decision(Event("AnnouncementWithdrawn", writes, {"hostname": found[0].hostname}))


def _announced_path(key: str) -> Path:
    return Path(f"announced/{sha256(key.encode()).hexdigest()[:32]}")


def fulfilled(card: commands.Card, context: Context) -> list[Write]:
    """Return the writes that clear the announcements of a machine that is let in."""
    return [
        replace(context.registers, Path(f"announced/{one.id}"), None)
        for one in context.cluster.announced.values()
        if one.key == card.client_key or one.hostname.casefold() == card.hostname.casefold()
    ]


def check_announced(announced: Announced, card: commands.Card) -> None:
    """Refuse a machine that is not the one that was announced with its key."""
    for what, expected, given in (
        ("hostname", announced.hostname, card.hostname),
        ("serial number", announced.serial, card.serial),
        ("key", announced.key, card.client_key),
    ):
        if expected.casefold() != given.casefold():
            raise Refused(
                f"the machine was announced with the {what} {excerpt(expected)} and comes with {excerpt(given)}",
                f"announce it anew on a member: 'clusterconfig prepjoin delete {announced.hostname}', then 'new'",
            )


def change(command: commands.ChangeCommunication, context: Context) -> Decision:
    """Change how the machines of a running cluster reach each other."""
    require_cluster(context)
    cluster, registers = context.cluster, context.registers
    by = cluster.by if command.by is None else command.by
    over = cluster.over if command.over is None else command.over
    if by not in NAMINGS:
        raise Refused(f"'{excerpt(by)}' is no way to name machines", "use hostname or ip")
    if over not in TRANSPORTS:
        raise Refused(f"'{excerpt(over)}' is no way to talk", "use ssh or ccs")
    machine = None if command.machine is None else cluster.machine(command.machine)
    if command.address is not None and machine is None:
        raise Refused("an address belongs to one machine", "name it with --machine")
    after = {one.id: one for one in cluster.machines.values()}
    for one in [machine] if machine else after.values():
        after[one.id] = _changed(one, TRANSPORTS[over], command)
    _check_addresses(list(after.values()), by, cluster.by)
    writes = [
        replace(registers, Path(f"cluster/{name}"), to_text(value))
        for name, value, before in (("by", by, cluster.by), ("over", over, cluster.over))
        if value != before
    ]
    for one in after.values():
        writes += [
            replace(registers, Path(f"machine/{one.id}/{name}"), to_text(getattr(one, name)))
            for name in ("address", "ccs_port", "former_ports", "ssh_port")
            if getattr(one, name) != getattr(cluster.machines[one.id], name)
        ]
    if not writes:
        return Decision(None)
    told = {name: value for name, value in msgspec.to_builtins(command).items() if name not in ("type", "comment")}
    return Decision(Event("CommunicationChanged", tuple(writes), {k: v for k, v in told.items() if v is not None}))


def _changed(machine: Machine, port: str, command: commands.ChangeCommunication) -> Machine:
    if command.port is not None:
        machine = with_port(machine, port, command.port)
    if command.address is not None:
        machine = msgspec.structs.replace(machine, address=command.address)
    return machine


def with_port(machine: Machine, name: str, port: int) -> Machine:
    """Return a machine with another port. It keeps the former ones, for who has not heard of the change is there."""
    before = getattr(machine, name)
    if before == port:
        return machine
    former = [one for one in (before, *machine.former_ports) if one != port]
    kept = tuple(dict.fromkeys(former))[:FORMER_PORTS_MAX]
    return msgspec.structs.replace(machine, **{name: port, "former_ports": kept})


def _check_addresses(machines: list[Machine], by: str, before: str) -> None:
    """Refuse a cluster whose machines are named partly by hostname and partly by address."""
    for machine in machines:
        if machine.address and _is_ip(machine.address) != (by == "ip"):
            raise Refused(
                f"the cluster would name its machines by {by} and dial {machine.hostname} at {machine.address}",
                "hostnames and IP addresses are never mixed: change --by, or that machine's --address",
            )
        if by == "hostname" != before and not machine.address and _is_ip(machine.hostname):
            raise Refused(
                f"the hostname of {machine.hostname} is an IP address",
                "give it a name, with 'machine set --hostname NAME' there: hostnames and IP addresses are never mixed",
            )
        if by == "ip" and not (machine.address or machine.interfaces or machine.listen):
            raise Refused(
                f"{machine.hostname} has no IP address on record",
                f"give one: 'clusterconfig communication --machine {machine.hostname} --address ADDRESS'",
            )


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
