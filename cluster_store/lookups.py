"""Whether machines can be found by their names, as a cluster that names them by hostname demands.

Forward is required: a name that leads nowhere cannot be dialled. Backwards is a courtesy, so a warning: other programs
than this one look up who connects to them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cluster_store.core.errors import Refused
from cluster_store.ports import Resolver

#: Names looked up at once.
_AT_ONCE = 16
#: Names in a refusal.
_NAMED_MAX = 4


async def check_hostnames(resolver: Resolver, hostnames: Sequence[str], where: str) -> list[str]:
    """Refuse hostnames that cannot be looked up; return warnings about those that lead nowhere backwards.

    Args:
        resolver: looks up.
        hostnames: of machines.
        where: the machine on which they are looked up, for people.

    Raises:
        Refused: at least one leads nowhere.
    """
    turn = asyncio.Semaphore(_AT_ONCE)

    async def look(hostname: str) -> tuple[list[str], str]:
        async with turn:
            addresses = await resolver.addresses(hostname)
            return addresses, await resolver.hostname(addresses[0]) if addresses else ""

    found = await asyncio.gather(*map(look, hostnames))
    unknown = [hostname for hostname, (addresses, _) in zip(hostnames, found, strict=True) if not addresses]
    if unknown:
        more = f" and {len(unknown) - _NAMED_MAX} more" if len(unknown) > _NAMED_MAX else ""
        raise Refused(
            f"{where} cannot look up {', '.join(unknown[:_NAMED_MAX])}{more}, and the cluster names its machines by "
            "hostname",
            "add the names to DNS or to the hosts file there, or have the cluster use IP addresses throughout",
        )
    return [
        f"{addresses[0]}, the address of {hostname}, leads back to {back or 'no name'} on {where}"
        for hostname, (addresses, back) in zip(hostnames, found, strict=True)
        if back.rstrip(".").casefold() != hostname.rstrip(".").casefold()
    ]
