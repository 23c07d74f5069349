"""The transport between real machines: SSH, by asyncssh, which only the ``ssh`` modules here import."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from cluster_store.adapters import ssh_client
from cluster_store.adapters.keys import Keys
from cluster_store.adapters.ssh_link import SshLink, Times
from cluster_store.adapters.ssh_server import SshListener
from cluster_store.ports import Gatekeeper, PeerAddress


class SshTransport:
    """Listens and dials with one machine's keys; implements ``ports.Transport``."""

    def __init__(self, keys: Keys, times: Times | None = None) -> None:
        self._keys = keys
        self._times = times or Times()

    async def listen(
        self, address: str, port: int, gatekeeper: Gatekeeper, *, machines_only: bool = False
    ) -> SshListener:
        """Listen on one address; port 0 takes a free one."""
        listener = SshListener(gatekeeper, self._times, machines_only=machines_only)
        await listener.open(address, port, self._keys)
        return listener

    async def dial(self, peer: PeerAddress) -> SshLink:
        """Connect to a member by key, accepting only its pinned host key."""
        return await ssh_client.dial(peer, self._keys, self._times)

    async def ask(
        self,
        host: str,
        port: int,
        user: str,
        password: str,
        accept_key: Callable[[str], Awaitable[bool]],
        request: Mapping[str, Any],
    ) -> Mapping[str, Any]:
        """Log in as a person, send one request, return the reply."""
        return await ssh_client.ask(host, port, user, password, accept_key, request, self._times)

    async def ask_by_key(
        self, host: str, port: int, accept_key: Callable[[str], Awaitable[bool]], request: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Log in as an announced machine, send one request, return the reply."""
        return await ssh_client.ask_by_key(host, port, self._keys, accept_key, request, self._times)
