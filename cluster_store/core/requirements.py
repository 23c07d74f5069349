"""What a cluster demands of its machines. Each refusal names both sides' facts and the cure.

All of it is demanded of a machine that joins. Of members, only the platform version is, wherever two meet; the rest is
watched, not enforced: a member that refused to go on would cut itself off from its own mending. What takes a look at
the network, whether hostnames can be looked up, is asked by the shell (``lookups.py``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from itertools import groupby

from cluster_store.core.cluster import Cluster, Machine
from cluster_store.core.commands import Card
from cluster_store.core.errors import InvalidValue, OverLimit, Refused
from cluster_store.core.limits import NAME_CHARS_MAX
from cluster_store.core.types import MachineId

#: The first platform version on which machines form clusters without a feature key.
FREE_VERSION = (8, 5, 6)
_NUMBERS = re.compile(r"\d+(?:\.\d+)*")


# --- joining ---


def check_join(cluster: Cluster, member: Machine, joiner: MachineId, card: Card) -> None:
    """Refuse a machine that does not fit.

    Another version, no feature key where one is needed, other interface names, no name of the kind that the cluster
    uses, a hostname or serial number that is taken.

    Args:
        cluster: the cluster to be joined.
        member: the machine that lets it in; its facts stand for the cluster's.
        joiner: the id of the machine that asks.
        card: what that machine says of itself.
    """
    if card.version != member.version:
        raise Refused(
            f"{card.hostname} runs version {card.version}, the cluster runs {member.version}",
            "upgrade the older one: a cluster needs one version throughout",
        )
    check_feature_key(card.hostname, card.version, card.feature_key)
    missing, extra = _differing(member.interfaces, card.interfaces)
    if missing or extra:
        raise Refused(
            f"the IP interface names differ: {card.hostname} {_told(missing, extra)}",
            f"give it exactly these, with 'machine set --interface NAME=ADDRESS': {', '.join(member.interfaces)}",
        )
    _check_naming(cluster, card)
    check_unique(cluster, joiner, card.hostname, card.serial)


def _check_naming(cluster: Cluster, card: Card) -> None:
    """Refuse a machine that cannot be named as the cluster names its machines: by hostname or by IP address."""
    if cluster.by == "ip":
        where = next(iter(card.interfaces.values()), card.listen)
        if not is_address(where):
            raise Refused(
                f"the cluster names its machines by IP address, and {card.hostname} has {where or 'none'}",
                "give it one with 'machine set --interface NAME=ADDRESS'",
            )
    elif is_address(card.hostname):
        raise Refused(
            f"the cluster names its machines by hostname, and {card.hostname} is an IP address",
            "give the machine a hostname with 'machine set --hostname NAME'",
        )


def check_unique(cluster: Cluster, machine: MachineId, hostname: str, serial: str) -> None:
    """Refuse a hostname or serial number that another member has.

    A machine that was let in and never came blocks no name: it may have been set up anew under another identity.
    """
    for other in cluster.machines.values():
        if other.id == machine or not other.joined:
            continue
        if other.hostname.casefold() == hostname.casefold():
            raise Refused(
                f"the hostname {hostname} is taken by the machine with serial {other.serial}",
                "give this machine another one with 'machine set --hostname NAME'",
            )
        if other.serial == serial:
            raise Refused(
                f"the serial number {serial} is taken by {other.hostname}",
                "give this machine another one with 'machine set --serial S'",
            )


def is_address(text: str) -> bool:
    """Say whether a text is an IP address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


# --- feature keys ---


def needs_feature_key(version: str) -> bool:
    """Say whether a machine of a platform version forms clusters with a feature key only.

    Versions that begin with 0 are none of a platform's: a machine for which none was given has this program's own.
    """
    found = _NUMBERS.match(version)
    numbers = tuple(int(number[:9]) for number in found[0].split(".")) if found else FREE_VERSION
    return (1,) <= numbers < FREE_VERSION


def check_feature_key(hostname: str, version: str, key: str) -> None:
    """Refuse to let a machine form a cluster that needs a feature key for it and has none."""
    if needs_feature_key(version) and not key:
        free = ".".join(map(str, FREE_VERSION))
        raise Refused(
            f"{hostname} runs version {version} and has no feature key; clusters need one before {free}",
            "give it there with 'cluster-store featurekey KEY', or upgrade the platform",
        )


def check_feature_key_text(key: str) -> str:
    """Return the text of a feature key. Raises InvalidValue and OverLimit."""
    if not key.strip() or not key.isprintable() or key != key.strip():
        raise InvalidValue("a feature key is a text on one line", "give it exactly as it was issued")
    if len(key) > NAME_CHARS_MAX:
        raise OverLimit(
            f"the feature key has {len(key)} characters; {NAME_CHARS_MAX} are allowed", "is it only the key?"
        )
    return key


# --- afterwards ---


def check_reconnect(machine: Machine, me: Machine, heard: Mapping[MachineId, str]) -> None:
    """Refuse to take back a machine of another platform version than this one's.

    ``heard`` is what machines said of their versions when they were met last. Either that or the record may be the
    newer: that of a detached machine's upgrade may not be here yet, or have come round over others since. Where they
    meet, hello has the last word.
    """
    version = heard.get(machine.id, machine.version)
    if me.version not in (version, machine.version):
        raise Refused(
            f"{machine.hostname} runs version {version}, {me.hostname} runs {me.version}",
            f"upgrade the older one first; if {machine.hostname} was upgraded while it was away, reconnect it there",
        )


def unmet(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """Yield what members do not keep of a cluster's demands: a word for scripts and a sentence for people."""
    members = [machine for machine in cluster.machines.values() if machine.joined]
    if not cluster.name or not members:
        return
    yield from _unlike_interfaces(members)
    yield from _unlike_versions(members)
    yield from _shared_serials(members)
    yield from _mixed_naming(cluster, members)


def _unlike_interfaces(members: list[Machine]) -> Iterator[tuple[str, str]]:
    usual = _usual([tuple(sorted(machine.interfaces)) for machine in members])
    most = ", ".join(usual) or "none"
    for machine in members:
        missing, extra = _differing(dict.fromkeys(usual, ""), machine.interfaces)
        if missing or extra:
            told = f"{machine.hostname} {_told(missing, extra)}, most members have {most}"
            yield "interface names differ", f"{told}: what is to listen on one that is not there is silently off"


def _unlike_versions(members: list[Machine]) -> Iterator[tuple[str, str]]:
    versions: dict[str, list[str]] = {}
    for machine in members:
        versions.setdefault(machine.version, []).append(machine.hostname)
    if len(versions) > 1:
        told = "; ".join(f"{version} on {', '.join(names)}" for version, names in sorted(versions.items()))
        yield "versions differ", f"{told}: they make no new links with each other until all run one"


def _shared_serials(members: list[Machine]) -> Iterator[tuple[str, str]]:
    by_serial = sorted((machine.serial, machine.hostname) for machine in members)
    for serial, same in groupby(by_serial, key=lambda entry: entry[0]):
        names = [hostname for _, hostname in same]
        if len(names) > 1:
            yield (
                "machines with one serial number",
                f"{', '.join(names)} have the serial number {serial}: change one with 'machine set --serial'",
            )


def _mixed_naming(cluster: Cluster, members: list[Machine]) -> Iterator[tuple[str, str]]:
    by_ip = cluster.by == "ip"
    for machine in members:
        own = next(iter(machine.interfaces.values()), machine.listen) if by_ip else machine.hostname
        where = machine.address or own
        if is_address(where) != by_ip:
            told = f"the cluster names its machines by {'IP address' if by_ip else 'hostname'}"
            cure = "use one way throughout, with 'clusterconfig communication'"
            yield (
                "hostnames and addresses mixed",
                f"{told}, and {machine.hostname} by {where or 'its hostname'}: {cure}",
            )


def _usual(kinds: list[tuple[str, ...]]) -> tuple[str, ...]:
    """Return what most have; of as many, what sorts first."""
    counts = Counter(kinds)
    return min(counts, key=lambda kind: (-counts[kind], kind))


def _differing(expected: Mapping[str, str], given: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Return the names that are missing and those that are too many."""
    return sorted(expected.keys() - given.keys()), sorted(given.keys() - expected.keys())


def _told(missing: list[str], extra: list[str]) -> str:
    facts = (("lacks", missing), ("has also", extra))
    return " and ".join(f"{verb} {', '.join(names)}" for verb, names in facts if names)
