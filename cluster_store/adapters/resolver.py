"""Names looked up as this host looks them up: DNS, its hosts file, and whatever else it is set up with."""

from __future__ import annotations

import asyncio
import socket

#: How long a lookup may take before it counts as leading nowhere, seconds: a resolver tries each server several times.
_PATIENCE_S = 10.0


class SystemResolver:
    """Implements ``ports.Resolver``."""

    async def addresses(self, hostname: str) -> list[str]:
        """Return the addresses of a name, none where it leads nowhere."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                found = await asyncio.get_running_loop().getaddrinfo(hostname, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError, TimeoutError):
            return []
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    async def hostname(self, address: str) -> str:
        """Return the name of an address, ``""`` where it has none."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                name, _ = await asyncio.get_running_loop().getnameinfo((address, 0), socket.NI_NAMEREQD)
        except (OSError, UnicodeError, TimeoutError):
            return ""
        return name
