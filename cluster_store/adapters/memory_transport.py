"""A transport between machines that live in one process, for tests and for trying things out.

It keeps the promises of ``ports.Transport`` by the same means as SSH where that matters to a caller: keys decide who is
let in, a host key that is not the pinned one is refused, passwords are asked for after the fingerprint, what is sent
and not read is bounded, and requests pass through JSON.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from cluster_store.adapters import link_errors
from cluster_store.adapters.keys import Keys
from cluster_store.core import limits
from cluster_store.core.errors import OverLimit, Refused
from cluster_store.core.types import MachineId
from cluster_store.ports import MACHINE_USER, Gatekeeper, PeerAddress, announced_user, host_port

#: A sender waits while this much has not been read.
_UNREAD_BYTES_MAX = 512 * 1024
#: The first of the ports that operating systems give away themselves.
_FREE_PORT_FIRST = 49152


class MemoryNetwork:
    """Which machine listens where. A name exists once something has listened at it."""

    def __init__(self) -> None:
        self._listeners: dict[tuple[str, int], MemoryListener] = {}
        self._names: set[str] = set()
        self._ports = itertools.count(_FREE_PORT_FIRST)

    def add(self, host: str, port: int, listener: MemoryListener) -> int:
        """Register a listener and return its port. Raises Refused when the port is taken."""
        port = port or next(self._ports)
        if (host, port) in self._listeners:
            raise Refused(f"cannot listen on {host_port(host, port)}: address already in use", "Choose a free port.")
        self._listeners[host, port] = listener
        self._names.add(host)
        return port

    def remove(self, listener: MemoryListener) -> None:
        """Forget a listener."""
        self._listeners = {place: other for place, other in self._listeners.items() if other is not listener}

    def find(self, host: str, port: int) -> MemoryListener:
        """Return who listens there. Raises LinkError as a real network would."""
        if host not in self._names:
            raise link_errors.no_such_name(host_port(host, port), "nothing has ever listened at that name")
        if (host, port) not in self._listeners:
            raise link_errors.unreachable(host_port(host, port), "connection refused")
        return self._listeners[host, port]


class MemoryListener:
    """One place at which a machine listens; implements ``ports.Listener``."""

    port: int

    def __init__(
        self, network: MemoryNetwork, gatekeeper: Gatekeeper, keys: Keys, *, machines_only: bool = False
    ) -> None:
        self.gatekeeper = gatekeeper
        self.machines_only = machines_only
        self.host_key = keys.host_key_line
        self._network = network
        self._served: dict[asyncio.Task[None], MemoryLink] = {}

    def serve(self, link: MemoryLink) -> None:
        """Have the gatekeeper serve a link that was dialled."""
        task = asyncio.get_running_loop().create_task(self._serve(link))
        self._served[task] = link
        task.add_done_callback(self._end)

    async def _serve(self, link: MemoryLink) -> None:
        try:
            await self.gatekeeper.on_link(link)
        finally:
            await link.close()

    def _end(self, task: asyncio.Task[None]) -> None:
        del self._served[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            task.get_loop().call_exception_handler({"message": "serving a link failed", "exception": error})

    async def close(self) -> None:
        """Stop listening and drop every link that was accepted."""
        self._network.remove(self)
        served = dict(self._served)
        for task, link in served.items():
            await link.drop("the other side stopped listening")
            task.cancel()
        await asyncio.gather(*served, return_exceptions=True)


class MemoryTransport:
    """One machine's end of a memory network; implements ``ports.Transport``."""

    def __init__(self, network: MemoryNetwork, host: str, keys: Keys) -> None:
        """Join a network; ``host`` is the name that others see this machine come from."""
        self._network = network
        self._host = host
        self._keys = keys
        self._calls = itertools.count(1)

    async def listen(
        self, address: str, port: int, gatekeeper: Gatekeeper, *, machines_only: bool = False
    ) -> MemoryListener:
        """Listen at a name; port 0 takes a free one."""
        listener = MemoryListener(self._network, gatekeeper, self._keys, machines_only=machines_only)
        listener.port = self._network.add(address, port, listener)
        return listener

    async def dial(self, peer: PeerAddress) -> MemoryLink:
        """Open a link to a member, accepting only its pinned host key."""
        where = host_port(peer.host, peer.port)
        listener = self._network.find(peer.host, peer.port)
        if listener.host_key != peer.host_key:
            pinned, offered = Keys.fingerprint(peer.host_key), Keys.fingerprint(listener.host_key)
            raise link_errors.host_key_changed(where, pinned, offered)
        caller = listener.gatekeeper.machine_for_key(self._keys.client_key_line)
        if caller is None:
            if listener.machines_only:
                listener.gatekeeper.on_stranger(self._keys.client_key_line, self._host)
            raise link_errors.authentication_failed(where, "this machine")
        here = host_port(self._host, next(self._calls))
        there, back = _Direction(where), _Direction(here)
        listener.serve(MemoryLink(peer=caller, where=here, incoming=there, outgoing=back))
        return MemoryLink(peer=peer.machine, where=where, incoming=back, outgoing=there)

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

        async def log_in(listener: MemoryListener) -> str | None:
            keeper = listener.gatekeeper
            if listener.machines_only:
                raise link_errors.another_service(host_port(host, port), user, "SSH", "CCS")
            if user == MACHINE_USER or keeper.needs_both(user):
                return None
            return user if await keeper.check_password(user, password, self._host) else None

        return await self._ask(host, port, user, log_in, accept_key, request)

    async def ask_by_key(
        self, host: str, port: int, accept_key: Callable[[str], Awaitable[bool]], request: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Log in as an announced machine, send one request, return the reply."""

        async def log_in(listener: MemoryListener) -> str | None:
            key, keeper, who = self._keys.client_key_line, listener.gatekeeper, "this machine"
            if not listener.machines_only:
                raise link_errors.another_service(host_port(host, port), who, "CCS", "SSH")
            name = keeper.machine_for_key(key) or keeper.announced_for_key(key)
            if name is None:
                keeper.on_stranger(key, self._host)
                raise link_errors.authentication_failed(host_port(host, port), who)
            return announced_user(name)

        return await self._ask(host, port, "this machine", log_in, accept_key, request)

    async def _ask(
        self,
        host: str,
        port: int,
        who: str,
        log_in: Callable[[MemoryListener], Awaitable[str | None]],
        accept_key: Callable[[str], Awaitable[bool]],
        request: Mapping[str, Any],
    ) -> Mapping[str, Any]:
        where = host_port(host, port)
        frame = orjson.dumps(request)
        listener = self._network.find(host, port)
        fingerprint = Keys.fingerprint(listener.host_key)
        if not await accept_key(fingerprint):
            raise link_errors.host_key_refused(where, fingerprint)
        user = await log_in(listener)
        if user is None:
            raise link_errors.authentication_failed(where, who)
        reply = await listener.gatekeeper.on_request(user, orjson.loads(frame))
        answer: dict[str, Any] = orjson.loads(orjson.dumps(reply))
        return answer


class _Direction:
    """The frames on their way from one end to the other, and how that came to an end."""

    def __init__(self, reader: str) -> None:
        self._reader = reader
        self._frames: deque[bytes] = deque()
        self._unread_bytes = 0
        self._ended = False
        self._why_dropped = ""
        self._changed = asyncio.Condition()

    async def put(self, frame: bytes) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._ended or self._unread_bytes < _UNREAD_BYTES_MAX)
            if self._ended:
                raise link_errors.dropped(self._reader, self._why_dropped or "it was closed")
            self._frames.append(frame)
            self._unread_bytes += len(frame)
            self._changed.notify_all()

    async def get(self, writer: str) -> bytes | None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._ended or self._frames)
            if self._frames:
                frame = self._frames.popleft()
                self._unread_bytes -= len(frame)
                self._changed.notify_all()
                return frame
        if self._why_dropped:
            raise link_errors.dropped(writer, self._why_dropped)
        return None

    async def end(self, why_dropped: str = "") -> None:
        async with self._changed:
            if not self._ended:
                self._ended, self._why_dropped = True, why_dropped
                self._changed.notify_all()


@dataclass(frozen=True, slots=True, eq=False)
class MemoryLink:
    """One end of a link; implements ``ports.Link``."""

    peer: MachineId
    where: str
    incoming: _Direction
    outgoing: _Direction

    async def send(self, frame: bytes) -> None:
        """Send one frame, waiting while the peer has much to read."""
        if len(frame) > limits.FRAME_BYTES_MAX:
            raise OverLimit(f"a frame of {len(frame)} bytes is over the limit of {limits.FRAME_BYTES_MAX}")
        await self.outgoing.put(frame)

    async def receive(self) -> bytes | None:
        """Return the next frame, None at the end."""
        return await self.incoming.get(self.where)

    async def close(self) -> None:
        """Close both directions."""
        await self.outgoing.end()
        await self.incoming.end()

    async def drop(self, why: str) -> None:
        """End the link without closing it, which the other end hears of as a failure."""
        await self.outgoing.end(why)
        await self.incoming.end()
