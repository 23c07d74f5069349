"""What a cluster demands of a machine that wants to join. Each refusal names both sides' facts and the cure."""

from __future__ import annotations

from cluster_store.core.cluster import Cluster, Machine
from cluster_store.core.commands import Card
from cluster_store.core.errors import Refused
from cluster_store.core.types import MachineId


def check_join(cluster: Cluster, member: Machine, joiner: MachineId, card: Card) -> None:
    """Refuse a machine that does not fit: another version, other interface names, a name or serial that is taken.

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
    missing = sorted(member.interfaces.keys() - card.interfaces.keys())
    extra = sorted(card.interfaces.keys() - member.interfaces.keys())
    if missing or extra:
        facts = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has also {', '.join(extra)}"] * bool(extra)
        raise Refused(
            f"the IP interface names differ: {card.hostname} {' and '.join(facts)}",
            f"give it exactly these, with 'machine set --interface NAME=ADDRESS': {', '.join(member.interfaces)}",
        )
    check_unique(cluster, joiner, card.hostname, card.serial)


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
